"""The run second by second, and how latencies are distributed. Pure functions for the plots."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, Final

from mbi.bench.statistics import ObservedBlock, percentile

LATENCY_BOUNDS_MS: Final = (
    10, 20, 30, 40, 50, 60, 75, 100, 125, 150, 200, 250, 300, 400, 500, 750, 1000, 1500, 2000, 3000,
    5000, 10_000, 20_000, 30_000,
)  # fmt: skip
"""Upper bounds of the classes; the last class has none. Finer where networks usually are."""


def seconds(
    intended_s: Sequence[float],
    final_s: Sequence[float],
    blocks: Sequence[ObservedBlock],
    started_s: float,
) -> list[dict[str, Any]]:
    """Return one row per second since the first request was due.

    The rows end when nothing was offered and nothing of ours became final any more. Latencies stand
    in the second in which their transaction was due, blocks and finalized transactions in the
    second in which they were observed.
    """
    offered: dict[int, int] = {}
    latencies: dict[int, list[float]] = {}
    for intended, final in zip(intended_s, final_s, strict=True):
        if math.isnan(intended):
            continue
        second = math.floor(intended - started_s)
        offered[second] = offered.get(second, 0) + 1
        if not math.isnan(final):
            latencies.setdefault(second, []).append((final - intended) * 1000)
    seen: dict[int, list[ObservedBlock]] = {}
    for block in blocks:
        seen.setdefault(math.floor(block.observed_s - started_s), []).append(block)
    gaps = _gaps_ms(blocks)
    busy = (second for second, found in seen.items() if any(block.ours for block in found))
    last = max([*offered, *busy], default=-1)
    return [
        {
            "s": second,
            "offered": offered.get(second, 0),
            "finalized": sum(block.ours for block in seen.get(second, ())),
            "latency_p50_ms": _rank(latencies.get(second, []), 50),
            "latency_p99_ms": _rank(latencies.get(second, []), 99),
            "blocks": len(seen.get(second, ())),
            "block_transactions_mean": _mean([b.transactions for b in seen.get(second, ())]),
            "block_interval_ms_mean": _mean(
                [gaps[b.height] for b in seen.get(second, ()) if b.height in gaps]
            ),
        }
        for second in range(last + 1)
    ]


def latency_classes(
    intended_s: Sequence[float], final_s: Sequence[float], window: tuple[float, float]
) -> list[dict[str, Any]]:
    """Return how many transactions due in the window fell into each class of latency."""
    counts = [0] * (len(LATENCY_BOUNDS_MS) + 1)
    for intended, final in zip(intended_s, final_s, strict=True):
        if window[0] <= intended <= window[1] and not math.isnan(final):
            counts[bisect_left(LATENCY_BOUNDS_MS, (final - intended) * 1000)] += 1
    bounds: list[int | None] = [*LATENCY_BOUNDS_MS, None]
    return [
        {"ms_at_most": bound, "transactions": count}
        for bound, count in zip(bounds, counts, strict=True)
    ]


def _gaps_ms(blocks: Sequence[ObservedBlock]) -> dict[int, int]:
    """Return the time from the block before, by height."""
    pairs = itertools.pairwise(blocks)
    return {after.height: after.time_ms - before.time_ms for before, after in pairs}


def _rank(values: list[float], percent: float) -> float | None:
    return round(percentile(sorted(values), percent), 3) if values else None


def _mean(values: Sequence[int]) -> float | None:
    return round(sum(values) / len(values), 1) if values else None
