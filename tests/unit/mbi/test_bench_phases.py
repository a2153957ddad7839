"""Phases of a run: what was offered, finalized and refused, and when all was well again."""

from __future__ import annotations

import math
from array import array

import pytest

from mbi.bench.load import ACCEPTED, REJECTED, Refusal, Sent
from mbi.bench.phases import describe_phases
from mbi.bench.plan import Phase
from mbi.bench.statistics import ObservedBlock

STARTED_S = 100.0
PHASES = (Phase(10.0, 20.0), Phase(50.0, 10.0), Phase(10.0, 10.0))


def overload(normal_ms: float, slow_until_s: float) -> tuple[Sent, array[float]]:
    """Return a run in which a fifth of the second phase is refused.

    Latency is 2 s from the beginning of the second phase until ``slow_until_s`` of the run.
    """
    due = array("d")
    start = STARTED_S
    for phase in PHASES:
        due.extend(start + n / phase.rate for n in range(phase.transactions))
        start += phase.duration_s
    sent = Sent(due, array("b", [ACCEPTED] * len(due)), started_s=STARTED_S, ended_s=start)
    final = array("d")
    for number, intended in enumerate(due):
        offset = intended - STARTED_S
        is_slow = 20.0 <= offset < slow_until_s
        final.append(intended + (2.0 if is_slow else normal_ms / 1000))
        if 20.0 <= offset < 30.0 and number % 5 == 0:
            sent.outcome[number] = REJECTED
            sent.refusals[number] = Refusal("mempool_full", 1 if number % 2 else None)
            final[number] = math.nan
    return sent, final


def blocks() -> list[ObservedBlock]:
    ours = [30 if 20 <= second < 30 else 10 for second in range(40)]
    return [ObservedBlock(s, s, STARTED_S + s + 0.5, ours[s], ours[s]) for s in range(40)]


def test_each_phase_has_its_own_figures() -> None:
    sent, final = overload(62.5, 30.0)
    rows = describe_phases(PHASES, sent, final, blocks())
    assert [row["offered_per_s"] for row in rows] == [10.0, 50.0, 10.0]
    assert [(row["from_s"], row["to_s"]) for row in rows] == [(0, 20), (20, 30), (30, 40)]
    assert [row["finalized_per_s"] for row in rows] == [10.0, 30.0, 10.0]
    assert [row["latency_p50_ms"] for row in rows] == pytest.approx([62.5, 2000.0, 62.5])
    assert [row["rejected"] for row in rows] == [0, 100, 0]
    assert rows[1]["rejected_by_code"] == {"mempool_full": 100}
    assert rows[1]["rejected_with_retry_after"] == 50
    assert [row["retry_after_s_max"] for row in rows] == [None, 1, None]


@pytest.mark.parametrize(("slow_until_s", "after_s"), [(30.0, 0.0), (31.9, 2.0), (38.3, 8.5)])
def test_time_until_latency_is_normal_again(slow_until_s: float, after_s: float) -> None:
    sent, final = overload(62.5, slow_until_s)
    rows = describe_phases(PHASES, sent, final, blocks())
    assert [row["normal_after_s"] for row in rows] == [None, None, after_s]


def test_network_that_does_not_recover_has_no_such_time() -> None:
    sent, final = overload(62.5, math.inf)
    assert describe_phases(PHASES, sent, final, blocks())[2]["normal_after_s"] is None


def test_what_never_became_final_is_not_normal() -> None:
    sent, final = overload(62.5, 30.0)
    for number, intended in enumerate(sent.intended_s):
        if 30.0 <= intended - STARTED_S < 33.0:
            final[number] = math.nan
    assert describe_phases(PHASES, sent, final, blocks())[2]["normal_after_s"] == 3.0


def test_without_a_phase_of_the_same_rate_its_own_end_is_normal() -> None:
    sent, final = overload(62.5, 33.0)
    rows = describe_phases((Phase(12.0, 20.0), *PHASES[1:]), sent, final, blocks())
    assert rows[2]["normal_after_s"] == 3.0
