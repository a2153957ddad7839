"""The search for the knee, against a network that queues on a clock of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbi.bench.ramp import (
    CARRIED_MIN,
    PRECISION,
    STEPS_MAX,
    Limits,
    Step,
    find_knee,
    knee_of,
    step_of,
)
from tests.unit.mbi.bench_results import run_result

DURATION_S = 10.0
LIMITS = Limits(p99_ms_max=2000.0)


class VirtualNetwork:
    """One queue with a fixed rate; nothing takes real time."""

    def __init__(self, capacity: float, breaks_above: float = float("inf")) -> None:
        self._capacity = capacity
        self._breaks_above = breaks_above
        self.clock_s = 0.0
        self.rates: list[float] = []

    async def measure(self, rate: float) -> Step:
        self.rates.append(rate)
        started_s = self.clock_s
        # What exceeds the capacity waits; the last transaction waits the longest.
        wait_s = max(0.0, (rate - self._capacity) * DURATION_S / self._capacity)
        self.clock_s = started_s + DURATION_S + wait_s
        finalized = min(rate, self._capacity)
        carried, p99_ms = finalized / rate, 50.0 + wait_s * 1000 * 0.99
        return Step(
            offered_per_s=rate,
            finalized_per_s=finalized,
            finalized_of_offered=carried,
            p50_ms=50.0,
            p99_ms=p99_ms,
            rejected=0,
            unknown=0,
            cpu_us_per_transaction=70.0,
            integrity_passed=rate <= self._breaks_above,
            holds=LIMITS.hold(carried, p99_ms),
        )


@settings(deadline=None)
@given(st.floats(100, 50_000), st.floats(50, 5_000))
async def test_knee_is_below_the_true_limit_and_near_it(capacity: float, start: float) -> None:
    network = VirtualNetwork(capacity)
    steps = await find_knee(start, network.measure)
    limit = capacity / CARRIED_MIN
    knee = knee_of(steps)
    if knee is None:
        assert min(network.rates) > limit
        return
    assert knee.offered_per_s <= limit * 1.0001
    assert knee.offered_per_s >= limit * (1 - PRECISION) * 0.999
    assert network.clock_s >= DURATION_S * len(steps)


async def test_rate_grows_until_a_step_fails_and_then_the_gap_is_halved() -> None:
    network = VirtualNetwork(1000.0)
    await find_knee(500.0, network.measure)
    assert network.rates[:3] == [500.0, 750.0, 1125.0]
    assert network.rates[3] == pytest.approx((750.0 + 1125.0) / 2)


async def test_a_start_above_the_knee_goes_down() -> None:
    network = VirtualNetwork(100.0)
    steps = await find_knee(4000.0, network.measure)
    assert network.rates[:3] == [4000.0, 1000.0, 250.0]
    assert knee_of(steps) is not None


async def test_a_network_that_carries_nothing_has_no_knee() -> None:
    steps = await find_knee(500.0, VirtualNetwork(0.001).measure)
    assert knee_of(steps) is None
    assert len(steps) < STEPS_MAX


async def test_search_ends_where_the_network_never_fails() -> None:
    steps = await find_knee(1.0, VirtualNetwork(1e12).measure)
    assert len(steps) == STEPS_MAX


async def test_a_violated_integrity_ends_the_search_and_is_no_knee() -> None:
    """A fast wrong network has no rate."""
    network = VirtualNetwork(10_000.0, breaks_above=800.0)
    steps = await find_knee(500.0, network.measure)
    assert network.rates == [500.0, 750.0, 1125.0]
    knee = knee_of(steps)
    assert knee is not None
    assert knee.offered_per_s == 750.0


@pytest.mark.parametrize(
    ("carried", "p99_ms", "holds"),
    [
        (1.0, 2000.0, True),
        (CARRIED_MIN, 10.0, True),
        (0.949, 10.0, False),
        (1.0, 2000.1, False),
        (None, 10.0, False),
        (1.0, None, False),
    ],
)
def test_limits(carried: float | None, p99_ms: float | None, *, holds: bool) -> None:
    assert LIMITS.hold(carried, p99_ms) is holds


def test_step_takes_the_figures_of_its_run() -> None:
    result = run_result()
    step = step_of(result, LIMITS)
    assert step.offered_per_s == result["offered_per_s"]
    assert step.finalized_per_s == result["throughput"]["transactions_per_s"]
    assert step.p99_ms == result["latency_ms"]["p99"]
    assert step.holds
    assert replace(step, holds=False) == step_of(result, Limits(p99_ms_max=1.0))


def test_transactions_nobody_saw_final_are_slower_than_any_limit() -> None:
    result = run_result()
    result["transactions"]["unknown"] = 1
    assert not step_of(result, LIMITS).holds
