"""Processor time per transaction: stages, what no stage covers, and the limit."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from mbi.bench import internals
from mbi.bench.compare import compare
from mbi.bench.html import report_html
from mbi.bench.internals import Counters, Readings
from mbi.bench.stages import costs, limit_us, stage_means, summary
from mbi.bench.svg import Stack, stacked_chart
from mbi.bench.target import TargetNode
from mbi.bench.yardstick import signature_us
from tests.unit.mbi.bench_results import run_result

GROWN = {
    "mbi_node_stage_cpu_seconds_total{signature}": 0.060,
    "mbi_node_stage_cpu_seconds_total{write}": 0.003,
    "mbi_process_cpu_seconds_total": 0.105,
    "mbi_chain_transactions_total{ok}": 990.0,
    "mbi_chain_transactions_total{failed}": 10.0,
}

ALONE = (55.0, 57.0)
"""A signature check without other work, before and after a run."""


def node(signature_us: float, total_us: float) -> dict[str, Any]:
    """Return what a result says of a node with these costs in the steady window."""
    grown = GROWN | {
        "mbi_node_stage_cpu_seconds_total{signature}": signature_us / 1000,
        "mbi_process_cpu_seconds_total": total_us / 1000,
    }
    return {"name": "gov-1", "steady": costs(grown)}


def test_stages_and_rest_are_all_that_the_process_used() -> None:
    found = costs(GROWN)
    assert found is not None
    assert found["transactions"] == 1000
    assert found["stages_us_per_transaction"] == {"signature": 60.0, "write": 3.0, "rest": 42.0}
    assert found["cpu_us_per_transaction"] == 105.0
    assert sum(found["stages_us_per_transaction"].values()) == found["cpu_us_per_transaction"]


def test_ratio_is_to_the_signature_of_the_same_window_and_fifteen_microseconds() -> None:
    """On a host at half speed both double: the ratio stays about the program."""
    found = costs(GROWN)
    assert found is not None
    assert found["by_building_blocks"] == 1.4
    assert limit_us(found) == 101.25


@pytest.mark.parametrize(
    "missing", ["mbi_chain_transactions_total", "mbi_process_cpu", "mbi_node_stage_cpu"]
)
def test_nothing_is_invented_where_a_counter_is_missing(missing: str) -> None:
    grown = {key: value for key, value in GROWN.items() if not key.startswith(missing)}
    assert costs(grown) is None


def test_the_worst_node_decides_about_the_limit() -> None:
    good, bad = node(85.0, 120.0), node(85.0, 140.0)
    unseen: dict[str, Any] = {"name": "far", "steady": None}
    found = summary([good, bad, unseen], ALONE)
    assert (found["ratio_mean"], found["ratio_worst"]) == (1.3, 1.4)
    assert (found["cpu_us_per_transaction"], found["signature_us"]) == (130.0, 85.0)
    assert found["within_limit"] is False
    assert summary([good], ALONE)["within_limit"] is True
    assert summary([unseen], ALONE)["within_limit"] is None
    assert stage_means([good, bad, unseen])["rest"] == 42.0
    assert stage_means([unseen]) == {}


def test_the_steady_window_counts_what_the_node_itself_executed() -> None:
    """The whole run counts by what became final, with warm-up and drain; the window does not."""
    steady = run_result()["nodes"][0]["steady"]
    assert steady["transactions"] == 40
    assert steady["stages_us_per_transaction"] == {"decode": 5.0, "signature": 60.0, "rest": 35.0}
    assert run_result()["building_blocks"]["ratio_mean"] == round(100 / 75, 3)
    assert run_result()["nodes"][1]["steady"] is None


def test_stages_are_compared() -> None:
    a, b = run_result(), run_result()
    b["nodes"][0]["steady"]["stages_us_per_transaction"]["decode"] = 10.0
    rows = {row.name.strip(): row for row in compare(a, b).rows}
    assert rows["of it decode"].ratio == 2.0
    assert rows["of it rest"].ratio == 1.0
    assert rows["cpu by building blocks"].a == round(100 / 75, 3)


def test_a_stack_is_as_high_as_its_parts_together() -> None:
    text = stacked_chart("t", "x", "y", [Stack("n", {"a": 30.0, "b": 20.0, "c": -1.0}, 60.0)])
    found = re.findall(r'<rect class="part c(\d)"[^>]* y="([\d.]+)"[^>]* height="([\d.]+)"', text)
    (colour_a, top_a, high_a), (colour_b, top_b, high_b) = found
    assert (colour_a, colour_b) == ("0", "1")
    assert float(high_a) / float(high_b) == pytest.approx(1.5, rel=0.01)
    assert float(top_b) + float(high_b) == pytest.approx(float(top_a), abs=0.11)
    assert "n, b: 20" in text
    assert "n, limit: 60" in text
    assert "nothing was measured" in stacked_chart("t", "x", "y", [Stack("n", {"a": 0.0})])


def test_the_page_shows_the_stages_of_each_node() -> None:
    plots = report_html(run_result()).split('<div class="tables">')[0]
    assert "gov-1, signature: 60" in plots
    assert "gov-1, limit: 101.25" in plots
    assert "far, signature" not in plots


def test_a_host_that_has_become_slower_is_named() -> None:
    a, b = run_result(), run_result()
    a["versions"]["commit_modified"] = b["versions"]["commit_modified"] = False
    b["building_blocks"]["signature_alone_us"]["after"] = 67.0
    assert compare(a, b).differences == []
    b["building_blocks"]["signature_alone_us"]["after"] = 90.0
    assert compare(a, b).differences == [
        "machine: a signature check cost 56 us and 72.5 us when idle"
    ]


def test_a_signature_costs_what_a_signature_can_cost() -> None:
    """No machine checks Ed25519 in 5 us, none that runs a node needs a millisecond."""
    assert 5 < signature_us() < 1000


async def test_a_moment_at_which_a_node_is_silent_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def read(node: TargetNode) -> Readings | None:
        return None if node.name == "silent" else Readings({"name": float(len(node.name))})

    monkeypatch.setattr(internals, "_read", read)
    counters = Counters([TargetNode("silent", "", None), TargetNode("a", "", None)])
    await counters.read("before")
    later = asyncio.create_task(counters.read_in(60.0, "steady_from"))
    await asyncio.sleep(0)
    later.cancel()
    await asyncio.gather(later, return_exceptions=True)
    assert [set(taken) for taken in counters.taken] == [set(), {"before"}]
