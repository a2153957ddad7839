"""What the nodes say of themselves at ``/metrics``: before, during and after the load."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from prometheus_client.parser import text_string_to_metric_families

from mbi.bench.connection import Pool
from mbi.bench.http import request_bytes
from mbi.bench.stages import Samples, costs
from mbi.bench.target import TargetNode
from mbi.errors import Unreachable

HTTP_OK: Final = 200
LAG: Final = "mbi_node_loop_lag_seconds"
SIGNATURES: Final = "mbi_node_signatures_verified_total"

Moment = Literal["before", "steady_from", "steady_to", "after"]
"""Before the load; at the end of the warm-up; when the load has ended; after the drain."""


@dataclass(slots=True)
class Readings:
    """Counters of one node."""

    values: Samples = field(default_factory=dict)
    lag_buckets: dict[float, float] = field(default_factory=dict)
    """Cumulative count of timer delays up to each bound, in seconds."""


def parse_readings(text: str) -> Readings:
    """Return the counters in a page of Prometheus text; raises ``ValueError`` for other text."""
    readings = Readings()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == f"{LAG}_bucket":
                readings.lag_buckets[float(sample.labels["le"])] = sample.value
            elif not sample.name.endswith("_bucket"):
                readings.values[_key(sample.name, sample.labels)] = sample.value
    return readings


class Counters:
    """The readings of all nodes at the moments that matter."""

    def __init__(self, nodes: Sequence[TargetNode]) -> None:
        self._nodes = nodes
        self.taken: list[dict[Moment, Readings]] = [{} for _ in nodes]
        """Of each node; a moment at which it did not answer is missing."""

    async def read(self, moment: Moment) -> None:
        """Ask every node now."""
        found = await asyncio.gather(*(_read(node) for node in self._nodes))
        for taken, readings in zip(self.taken, found, strict=True):
            if readings is not None:
                taken[moment] = readings

    async def read_in(self, seconds: float, moment: Moment) -> None:
        """Ask every node some time from now."""
        await asyncio.sleep(seconds)
        await self.read(moment)


def describe(taken: Mapping[Moment, Readings], transactions: int) -> dict[str, Any]:
    """Return loop lag, signatures and processor time per stage of one node.

    ``transactions`` became final in the whole run. In the steady window those count that the node
    itself executed between the two readings.
    """
    return {
        **_totals(taken.get("before"), taken.get("after"), transactions),
        "steady": _steady(taken.get("steady_from"), taken.get("steady_to")),
    }


def _steady(before: Readings | None, after: Readings | None) -> dict[str, Any] | None:
    if before is None or after is None:
        return None
    return costs(_grown(before.values, after.values))


def _totals(before: Readings | None, after: Readings | None, transactions: int) -> dict[str, Any]:
    if before is None or after is None:
        return dict.fromkeys(("loop_lag_ms", "signatures_verified", "stages_us_per_transaction"))
    grown = _grown(before.values, after.values)
    found = costs(grown, transactions)
    buckets = {
        bound: count - before.lag_buckets.get(bound, 0.0)
        for bound, count in after.lag_buckets.items()
    }
    if min(buckets.values(), default=0.0) < 0:
        buckets = after.lag_buckets
    return {
        "loop_lag_ms": lag_summary(
            buckets, grown.get(f"{LAG}_sum", 0.0), grown.get(f"{LAG}_count", 0.0)
        ),
        "signatures_verified": int(grown.get(SIGNATURES, 0.0)),
        "stages_us_per_transaction": None if found is None else found["stages_us_per_transaction"],
    }


def lag_summary(buckets: dict[float, float], sum_s: float, count: float) -> dict[str, Any]:
    """Return mean, and upper bounds of p50, p99 and maximum: the bucket that holds each.

    A bound is None where the value lies above the last bucket.
    """
    return {
        "count": int(count),
        "mean": round(sum_s / count * 1000, 3) if count else None,
        **{
            f"{name}_at_most": _bound_ms(buckets, share * count) if count else None
            for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
        },
    }


def _bound_ms(buckets: dict[float, float], rank: float) -> float | None:
    for bound, count in sorted(buckets.items()):
        if count >= rank and bound != float("inf"):
            return bound * 1000
    return None


def _grown(before: Samples, after: Samples) -> Samples:
    """Return the increases; a counter that fell was started again from zero."""
    return {
        key: value - before.get(key, 0.0) if value >= before.get(key, 0.0) else value
        for key, value in after.items()
    }


def _key(name: str, labels: dict[str, str]) -> str:
    text = ",".join(value for _, value in sorted(labels.items()))
    return f"{name}{{{text}}}" if text else name


async def _read(node: TargetNode) -> Readings | None:
    pool = Pool(node.url, 1)
    try:
        answer = await pool.request(request_bytes(node.url, "GET", "/metrics", accept="text/plain"))
        if answer.status != HTTP_OK:
            return None
        return parse_readings(answer.body.decode("utf-8", errors="replace"))
    except (Unreachable, ValueError):
        return None
    finally:
        pool.close()
