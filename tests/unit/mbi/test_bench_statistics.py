"""Numbers of a benchmark: they may be unknown, but never better than what was measured."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbi.bench.statistics import (
    ObservedBlock,
    block_summary,
    latency_summary,
    memory_window,
    minutes,
    percentile,
    slope,
    steady_window,
    summarise,
    throughput,
)

values = st.lists(st.floats(0, 1e6, allow_nan=False), min_size=1, max_size=200)


def block(height: int, observed_s: float, ours: int = 10) -> ObservedBlock:
    return ObservedBlock(height, int(observed_s * 1000), observed_s, ours + 1, ours)


@given(values, st.floats(0.1, 100))
def test_percentile_is_a_measured_value_with_enough_below(found: list[float], rank: float) -> None:
    ordered = sorted(found)
    value = percentile(ordered, rank)
    assert value in found
    assert sum(other <= value for other in found) >= rank / 100 * len(found) - 1e-9


def test_percentiles_of_a_known_list() -> None:
    ordered = [float(number) for number in range(1, 101)]
    assert [percentile(ordered, p) for p in (50, 90, 99, 100)] == [50.0, 90.0, 99.0, 100.0]
    assert percentile([7.0], 99) == 7.0


def test_no_values_give_no_numbers() -> None:
    assert summarise([]) == {"count": 0} | dict.fromkeys(
        ["p50", "p90", "p95", "p99", "min", "max", "mean"]
    )
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


@pytest.mark.parametrize(("duration", "cut"), [(10.0, 2.0), (25.0, 5.0), (100.0, 5.0)])
def test_warm_up_is_cut(duration: float, cut: float) -> None:
    assert steady_window(50.0, 50.0 + duration) == (50.0 + cut, 50.0 + duration)


def test_throughput_counts_our_transactions_over_the_whole_window() -> None:
    blocks = [block(h, float(h)) for h in range(1, 11)]
    found = throughput(blocks, (0.0, 10.0))
    assert found["transactions_per_s"] == 10.0
    assert found["blocks"] == 10


def test_a_stall_inside_the_window_lowers_the_rate() -> None:
    """A network that stops half-way must not be rated by its good half."""
    blocks = [block(h, float(h)) for h in range(1, 6)]
    assert throughput(blocks, (0.0, 10.0))["transactions_per_s"] == 5.0


def test_blocks_outside_the_window_do_not_count() -> None:
    blocks = [block(1, 0.5, 1000), block(2, 1.5), block(3, 2.5, 1000)]
    assert throughput(blocks, (1.0, 2.0))["transactions"] == 10


def test_no_window_gives_no_rate() -> None:
    assert throughput([], (1.0, 1.0))["transactions_per_s"] is None


def test_latency_counts_from_the_intended_time_and_shows_what_was_never_seen() -> None:
    found = latency_summary([0.0, 1.0, 2.0], [0.5, 1.25, math.nan], (0.0, 2.0))
    assert (found["min"], found["max"], found["count"], found["unseen"]) == (250.0, 500.0, 2, 1)


def test_latency_of_what_was_never_sent_does_not_count() -> None:
    found = latency_summary([math.nan, 1.0], [math.nan, 1.5], (0.0, 2.0))
    assert (found["count"], found["unseen"]) == (1, 0)


def test_block_intervals_come_from_the_headers() -> None:
    found = block_summary(
        [block(1, 1.0), block(2, 1.25), block(3, 2.0)], (0.0, 9.0), {1: 100, 3: 300}
    )
    assert (found["interval_ms"]["min"], found["interval_ms"]["max"]) == (250, 750)
    assert found["transactions"]["p50"] == 11
    assert (found["bytes"]["count"], found["bytes"]["mean"]) == (2, 200)


def test_slope_is_that_of_the_line_with_the_least_squares() -> None:
    noise = [0.5, -0.5] * 10
    line = [(float(x), 3.0 + 0.25 * x) for x in range(20)]
    assert slope(line) == pytest.approx(0.25)
    noisy = [(x, y + n) for (x, y), n in zip(line, noise, strict=True)]
    assert slope(noisy) == pytest.approx(0.25, abs=0.02)
    assert slope([(x, 7.0) for x, _ in line]) == 0.0


def test_few_points_or_one_moment_have_no_slope() -> None:
    assert slope([(float(x), 0.0) for x in range(9)]) is None
    assert slope([(1.0, float(x)) for x in range(20)]) is None


@pytest.mark.parametrize(("duration", "cut"), [(20.0, 10.0), (600.0, 180.0)])
def test_memory_counts_after_its_own_warm_up(duration: float, cut: float) -> None:
    assert memory_window(50.0, 50.0 + duration) == (50.0 + cut, 50.0 + duration)


def test_last_minute_is_compared_with_the_first() -> None:
    blocks = [block(h, float(h), 100 if h <= 150 else 50) for h in range(1, 201)]
    found = minutes(blocks, (5.0, 200.0))
    assert (found["first_minute_per_s"], found["last_minute_per_s"]) == (
        100.0,
        pytest.approx((10 * 100 + 50 * 50) / 60),
    )
    assert found["last_by_first_minute"] == pytest.approx(found["last_minute_per_s"] / 100)


def test_short_runs_have_no_minutes_to_compare() -> None:
    assert set(minutes([block(1, 1.0)], (0.0, 119.0)).values()) == {None}
