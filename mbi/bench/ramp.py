"""Finds the knee: the highest offered rate that a network carries. Logic only, no input or output.

The rate grows by a factor until a step fails, or falls until one holds; then the gap between the
highest rate that held and the lowest that failed is halved until it is small. A step holds if
enough of what was offered became final while it was offered, and the 99th percentile of latency
stayed below its limit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

GROWTH: Final = 1.5
"""From one step to the next while all is well."""
DESCENT: Final = 4.0
DESCENTS: Final = 4
"""Steps down if the first rate fails: to a 256th of it."""
PRECISION: Final = 0.1
"""The search ends when the gap is this share of the rate; single runs differ by as much."""
STEPS_MAX: Final = 30
"""1.5 to the power of 25 is 25,251: no sensible start is further away from the knee."""
CARRIED_MIN: Final = 0.95
"""Least share of the offered transactions that are final within the steady window."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one rate gave."""

    offered_per_s: float
    finalized_per_s: float | None
    finalized_of_offered: float | None
    p50_ms: float | None
    p99_ms: float | None
    rejected: int
    unknown: int
    cpu_us_per_transaction: float | None
    """Mean of the nodes."""
    integrity_passed: bool
    holds: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """What a rate has to keep."""

    p99_ms_max: float
    carried_min: float = CARRIED_MIN

    def hold(self, carried: float | None, p99_ms: float | None) -> bool:
        """Tell whether a step holds; what was not measured does not."""
        if carried is None or p99_ms is None:
            return False
        return carried >= self.carried_min and p99_ms <= self.p99_ms_max


Measure = Callable[[float], Awaitable[Step]]


async def find_knee(start: float, measure: Measure) -> list[Step]:
    """Measure rates from ``start`` on and return the steps in the order they were made.

    Ends early when a step violates integrity: such a network has no rate.
    """
    steps: list[Step] = []
    rate: float | None = start
    while rate is not None:
        steps.append(await measure(rate))
        rate = next_rate(steps)
    return steps


def next_rate(steps: Sequence[Step]) -> float | None:
    """Return the rate to measure after these steps, or None when the knee is known."""
    if len(steps) >= STEPS_MAX or not steps[-1].integrity_passed:
        return None
    held = [step.offered_per_s for step in steps if step.holds]
    failed = [step.offered_per_s for step in steps if not step.holds]
    if not failed:
        return max(held) * GROWTH
    if not held:
        return min(failed) / DESCENT if len(failed) <= DESCENTS else None
    low, high = max(held), min(failed)
    return (low + high) / 2 if (high - low) / high > PRECISION and low < high else None


def knee_of(steps: list[Step]) -> Step | None:
    """Return the highest step that held, or None."""
    held = [step for step in steps if step.holds and step.integrity_passed]
    return max(held, key=lambda step: step.offered_per_s, default=None)


def step_of(result: Mapping[str, Any], limits: Limits) -> Step:
    """Return what matters of one run."""
    latency, counts = result["latency_ms"], result["transactions"]
    rates, integrity = result["throughput"], result["integrity"]
    costs = [node["cpu_us_per_transaction"] for node in result["nodes"]]
    known = [cost for cost in costs if cost is not None]
    carried = rates["finalized_of_offered"]
    # What was never seen final was slower than any limit.
    p99_ms = None if counts["unknown"] else latency["p99"]
    return Step(
        offered_per_s=result["offered_per_s"],
        finalized_per_s=rates["transactions_per_s"],
        finalized_of_offered=carried,
        p50_ms=latency["p50"],
        p99_ms=latency["p99"],
        rejected=counts["rejected"],
        unknown=counts["unknown"],
        cpu_us_per_transaction=round(sum(known) / len(known), 1) if known else None,
        # A step that did not come to rest is not carried, and no reason to end the search.
        integrity_passed=integrity["verdict"] != "violated",
        holds=integrity["passed"] and limits.hold(carried, p99_ms),
    )


def ramp_result(
    results: Sequence[Mapping[str, Any]], steps: list[Step], limits: Limits
) -> dict[str, Any]:
    """Return the document of a ramp made of these runs."""
    first, last = results[0], results[-1]
    knee = knee_of(steps)
    of_one_rate = ("rate", "steps", "in_flight", "kill_at_s", "request_size")
    parameters = {k: v for k, v in first["parameters"].items() if k not in of_one_rate}
    kept = ("version", "versions", "machine", "topology", "definitions")
    return {
        "kind": "ramp",
        **{name: first[name] for name in kept},
        "finished": last["finished"],
        "parameters": {**parameters, **asdict(limits)},
        "knee": dict.fromkeys(Step.__dataclass_fields__) if knee is None else asdict(knee),
        "steps": [asdict(step) for step in steps],
    }
