"""Numbers from measurements: percentiles, steady window, throughput. Pure functions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

PERCENTILES: Final = (50, 90, 95, 99)
WARM_UP_SHARE: Final = 0.2
WARM_UP_S_MAX: Final = 5.0
"""The first fifth of a run, at most five seconds: queues fill, code warms, connections open."""


MINUTE_S: Final = 60.0
MEMORY_WARM_UP_S: Final = 180.0
"""For as long a node's memory grows with the rate: it remembers used nonces, minute by minute,
until their transactions are no longer valid (two minutes in a benchmark)."""
MEMORY_WARM_UP_SHARE: Final = 0.5
SLOPE_SAMPLES_MIN: Final = 10
"""Fewer give no line worth drawing."""


@dataclass(frozen=True, slots=True)
class ObservedBlock:
    """A finalized block as the observer saw it."""

    height: int
    time_ms: int
    """Of its header."""
    observed_s: float
    """Observer's monotonic clock when it learned of the block."""
    transactions: int
    """All transactions in it."""
    ours: int
    """Those that this benchmark sent."""


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile of ascending values: a value that was really measured.

    Raises ``ValueError`` without values: no number stands for no measurement.
    """
    if not ordered:
        raise ValueError("no values, no percentile")
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def summarise(values: Sequence[float]) -> dict[str, Any]:
    """Return count, p50 to p99, mean and extremes; all None without values."""
    ordered = sorted(values)
    names = [f"p{percent}" for percent in PERCENTILES]
    if not ordered:
        return {"count": 0, **dict.fromkeys([*names, "min", "max", "mean"])}
    ranks = [percentile(ordered, percent) for percent in PERCENTILES]
    return {
        "count": len(ordered),
        **dict(zip(names, ranks, strict=True)),
        "min": ordered[0],
        "max": ordered[-1],
        "mean": math.fsum(ordered) / len(ordered),
    }


def steady_window(started_s: float, load_ended_s: float) -> tuple[float, float]:
    """Return the part of a run that counts: after the warm-up and while load was offered."""
    duration = load_ended_s - started_s
    return started_s + min(WARM_UP_SHARE * duration, WARM_UP_S_MAX), load_ended_s


def throughput(blocks: Sequence[ObservedBlock], window: tuple[float, float]) -> dict[str, Any]:
    """Return transactions per second: those in blocks observed in the window, by its whole length.

    The whole window counts, so a network that stalls in it cannot look fast.
    """
    inside = [block for block in blocks if window[0] < block.observed_s <= window[1]]
    counted = sum(block.ours for block in inside)
    span_s = window[1] - window[0]
    return {
        "transactions_per_s": counted / span_s if span_s > 0 else None,
        "transactions": counted,
        "blocks": len(inside),
        "window_s": span_s,
    }


def minutes(blocks: Sequence[ObservedBlock], window: tuple[float, float]) -> dict[str, Any]:
    """Return throughput of the first and of the last minute of a window, and their ratio.

    All None for a window shorter than two minutes.
    """
    if window[1] - window[0] < 2 * MINUTE_S:
        return dict.fromkeys(("first_minute_per_s", "last_minute_per_s", "last_by_first_minute"))
    first = throughput(blocks, (window[0], window[0] + MINUTE_S))["transactions_per_s"]
    last = throughput(blocks, (window[1] - MINUTE_S, window[1]))["transactions_per_s"]
    return {
        "first_minute_per_s": first,
        "last_minute_per_s": last,
        "last_by_first_minute": last / first if first else None,
    }


def memory_window(started_s: float, load_ended_s: float) -> tuple[float, float]:
    """Return the part of a run in which memory should not grow any more."""
    warm_up_s = min(MEMORY_WARM_UP_S, MEMORY_WARM_UP_SHARE * (load_ended_s - started_s))
    return started_s + warm_up_s, load_ended_s


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Return the slope of the line with the least squares; None for too few points."""
    if len(points) < SLOPE_SAMPLES_MIN:
        return None
    mean_x = math.fsum(x for x, _ in points) / len(points)
    mean_y = math.fsum(y for _, y in points) / len(points)
    spread = math.fsum((x - mean_x) ** 2 for x, _ in points)
    return math.fsum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else None


def block_summary(
    blocks: Sequence[ObservedBlock], window: tuple[float, float], body_bytes: Mapping[int, int]
) -> dict[str, Any]:
    """Return interval, fill and size of the blocks observed in the window.

    ``body_bytes`` is by height; a height that is not in it has no known size.
    """
    inside = [block for block in blocks if window[0] <= block.observed_s <= window[1]]
    pairs = itertools.pairwise(inside)
    return {
        "interval_ms": summarise([after.time_ms - before.time_ms for before, after in pairs]),
        "transactions": summarise([block.transactions for block in inside]),
        "bytes": summarise(
            [body_bytes[block.height] for block in inside if block.height in body_bytes]
        ),
    }


def latency_summary(
    intended_s: Sequence[float], final_s: Sequence[float], window: tuple[float, float]
) -> dict[str, Any]:
    """Return latencies in milliseconds of what was due in the window and became final.

    ``final_s`` is NaN where finality was never seen; those are counted as ``unseen`` beside the
    percentiles, because leaving them out would hide the worst.
    """
    due = [
        (intended, final)
        for intended, final in zip(intended_s, final_s, strict=True)
        if window[0] <= intended <= window[1]
    ]
    seen = [(final - intended) * 1000 for intended, final in due if not math.isnan(final)]
    return {**summarise(seen), "unseen": len(due) - len(seen)}
