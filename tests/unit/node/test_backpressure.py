"""How many may wait: as many as have become final in about a second, and never too few."""

from __future__ import annotations

from ledger.types import TimeMs
from node.backpressure import RATE_WINDOW_MS, WAIT_S_MAX, WAITING_MIN, FinalRate

START = 1_700_000_000_000
RATE = 10 * WAITING_MIN


def busy(seconds: int) -> FinalRate:
    """Return the rate of a network that has made ``RATE`` a second final, ten blocks a second."""
    rate = FinalRate()
    for block in range(seconds * 10):
        rate.note(RATE // 10, TimeMs(START + block * 100))
    return rate


def test_a_network_of_unknown_rate_lets_a_burst_in() -> None:
    assert FinalRate().waiting_max() == WAITING_MIN


def test_as_many_may_wait_as_become_final_in_the_time_allowed() -> None:
    assert busy(20).waiting_max() == RATE // 10 * 10 * WAIT_S_MAX


def test_a_rate_that_was_is_forgotten() -> None:
    rate = busy(20)
    end = START + 20_000
    rate.note(0, TimeMs(end + RATE_WINDOW_MS // 2))
    assert WAITING_MIN < rate.waiting_max() <= RATE * WAIT_S_MAX * 0.6
    rate.note(0, TimeMs(end + RATE_WINDOW_MS))
    assert rate.waiting_max() == WAITING_MIN


def test_empty_blocks_count_for_nothing() -> None:
    rate = FinalRate()
    for second in range(10):
        rate.note(0, TimeMs(START + second * 1000))
    assert rate.waiting_max() == WAITING_MIN
