"""Timers and back-off (docs/protocol-consensus.md, Timers)."""

from __future__ import annotations

from consensus.timing import Backoff, Timing, jittered


def test_waiting_is_capped_however_long_a_halt_was() -> None:
    """C14, section 5 row 33: no timer grows to hours (Besu: 4096 s)."""
    backoff = Backoff()
    for _ in range(10_000):
        backoff.grow()
    assert backoff.scaled(Timing().view_ms) == 16_000


def test_waiting_decays_slowly_with_finalised_blocks() -> None:
    """A reset to 1 would fail every second view on a slow network."""
    backoff = Backoff()
    for _ in range(3):
        backoff.grow()
    grown = backoff.factor
    backoff.decay()
    assert grown * 0.89 < backoff.factor < grown * 0.91
    for _ in range(100):
        backoff.decay()
    assert backoff.scaled(800) == 800


def test_jitter_is_within_a_tenth_and_spreads() -> None:
    periods = {jittered(1000, who, attempt) for who in range(20) for attempt in range(20)}
    assert min(periods) >= 900
    assert max(periods) <= 1100
    assert len(periods) > 50


def test_jitter_is_a_function_of_who_and_how_often() -> None:
    assert jittered(1000, 3, 7) == jittered(1000, 3, 7)
