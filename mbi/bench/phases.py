"""The parts of an open loop one by one, and how soon latency was normal again. Pure functions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from mbi.bench.load import Refusal, Sent
from mbi.bench.plan import Phase
from mbi.bench.statistics import (
    ObservedBlock,
    latency_summary,
    percentile,
    steady_window,
    throughput,
)

SLICE_S: Final = 0.5
"""Latency is looked at in slices of this length: some five blocks."""
NORMAL_FACTOR: Final = 1.5
"""A slice is normal if its median is no more than this multiple of the normal median; slices of an
undisturbed run differ by as much."""


def describe_phases(
    phases: Sequence[Phase], sent: Sent, final_s: Sequence[float], blocks: Sequence[ObservedBlock]
) -> list[dict[str, Any]]:
    """Return what became of each phase.

    Finalized per second counts the blocks observed in the phase; in the first one after its
    warm-up. Latencies and refusals stand in the phase in which their transaction was due.
    """
    start_s = sent.started_s
    rows: list[dict[str, Any]] = []
    for index, phase in enumerate(phases):
        window = (start_s, start_s + phase.duration_s)
        counted = steady_window(*window) if index == 0 else window
        latency = latency_summary(sent.intended_s, final_s, counted)
        refused = [
            refusal
            for number, refusal in sent.refusals.items()
            if window[0] <= sent.intended_s[number] < window[1]
        ]
        rows.append(
            {
                "offered_per_s": phase.rate,
                "from_s": round(window[0] - sent.started_s, 3),
                "to_s": round(window[1] - sent.started_s, 3),
                "finalized_per_s": throughput(blocks, counted)["transactions_per_s"],
                "latency_p50_ms": latency["p50"],
                "latency_p99_ms": latency["p99"],
                "latency_max_ms": latency["max"],
                **describe_refusals(refused),
                "normal_after_s": None,
            }
        )
        start_s = window[1]
    for index in range(1, len(phases)):
        if phases[index].rate < phases[index - 1].rate:
            rows[index]["normal_after_s"] = _normal_after_s(index, rows, sent, final_s)
    return rows


def describe_refusals(refused: Sequence[Refusal]) -> dict[str, Any]:
    """Return how many were refused, why, and what the nodes said about sending again."""
    waits = [item.retry_after_s for item in refused if item.retry_after_s is not None]
    by_code = Counter(refusal.code for refusal in refused)
    return {
        "rejected": len(refused),
        "rejected_by_code": dict(sorted(by_code.items())),
        "rejected_with_retry_after": len(waits),
        "retry_after_s_max": max(waits, default=None),
    }


def _normal_after_s(
    index: int, rows: Sequence[dict[str, Any]], sent: Sent, final_s: Sequence[float]
) -> float | None:
    """Return how long after a phase with a higher rate latency was normal again; None if never.

    Normal is the median of the earlier phase with the same rate, or without one that of the last
    third of the phase itself.
    """
    row = rows[index]
    start_s, end_s = sent.started_s + row["from_s"], sent.started_s + row["to_s"]
    due = [
        (intended, final)
        for intended, final in zip(sent.intended_s, final_s, strict=True)
        if start_s <= intended < end_s
    ]
    like = [r for r in rows[:index] if r["offered_per_s"] == row["offered_per_s"]]
    normal = (
        like[0]["latency_p50_ms"] if like else _median(due, start_s + (end_s - start_s) * 2 / 3)
    )
    if normal is None:
        return None
    slices = math.floor((end_s - start_s) / SLICE_S)
    for number in range(slices):
        first_s = start_s + number * SLICE_S
        median = _median(due, first_s, first_s + SLICE_S)
        if median is not None and median <= NORMAL_FACTOR * normal:
            return number * SLICE_S
    return None


def _median(
    due: Sequence[tuple[float, float]], first_s: float, end_s: float = math.inf
) -> float | None:
    """Return the median latency of what was due in a time; what was never final took for ever."""
    latencies = sorted(
        math.inf if math.isnan(final) else (final - intended) * 1000
        for intended, final in due
        if first_s <= intended < end_s
    )
    return percentile(latencies, 50) if latencies else None
