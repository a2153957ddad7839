"""The report: every figure of the result stands on the page, and the page loads nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbi.bench.compare import compare, load_result
from mbi.bench.html import report_html
from mbi.bench.ramp import Limits, ramp_result, step_of
from mbi.bench.report import write_result
from mbi.bench.svg import Series, bar_chart, figure, line_chart, ticks
from mbi.errors import UsageError
from tests.unit.mbi.bench_results import run_result

VOID = {"meta", "br", "hr", "img", "line", "circle", "polyline", "rect"}


def ramp() -> dict[str, Any]:
    limits = Limits(2000.0)
    runs = [run_result(), run_result()]
    runs[1]["offered_per_s"] = 15.0
    return ramp_result(runs, [step_of(run, limits) for run in runs], limits)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from leaves(item, f"{path}.{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, f"{path}[{index}]")
    else:
        yield path, value


class Page(HTMLParser):
    """Collects the words of table cells and checks that tags are nested properly."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.tags: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open or "th" in self.open:
            self.cells.append(data)


@pytest.mark.parametrize("result", [run_result(), ramp()], ids=["run", "ramp"])
def test_every_figure_of_the_result_is_on_the_page(result: dict[str, Any]) -> None:
    page = Page(report_html(result))
    text = "\n".join(page.cells)
    missing = [path for path, value in leaves(result) if figure(value) not in text]
    assert missing == []
    assert page.open == []


def test_a_changed_figure_changes_the_page() -> None:
    """The page is made from the result, not beside it."""
    result = run_result()
    before = report_html(result)
    result["nodes"][0]["signatures_verified"] = 987_654
    after = report_html(result)
    assert "987,654" in after
    assert "987,654" not in before


@pytest.mark.parametrize("result", [run_result(), ramp()], ids=["run", "ramp"])
def test_page_loads_nothing(result: dict[str, Any]) -> None:
    text = report_html(result)
    page = Page(text)
    assert not page.tags & {"script", "link", "img", "iframe", "object", "embed", "base"}
    assert not {name for name, _ in page.attributes} & {"src", "href", "srcset", "data", "style"}
    assert not re.search(r"url\(|@import", text)


def test_page_escapes_what_it_shows() -> None:
    result = run_result()
    result["faults"][0]["event"] = "<script>alert(1)</script>"
    text = report_html(result)
    assert "<script>" not in text
    assert escape("<script>alert(1)</script>") in text
    assert escape("mbi bench run --rate 10 <&>") in text


def test_fault_is_marked_in_the_plots() -> None:
    plots = report_html(run_result()).split('<div class="tables">')[0]
    assert plots.count("com-1 killed") >= 3


def test_violated_integrity_is_loud() -> None:
    result = run_result()
    assert "VIOLATED" not in report_html(result)
    result["integrity"]["verdict"] = "violated"
    assert "VIOLATED" in report_html(result)
    result["integrity"]["verdict"] = "incomplete"
    assert "not fully checked" in report_html(result)


def test_plots_without_measurements_say_so() -> None:
    assert "nothing was measured" in line_chart("t", "x", "y", [Series("a", [(0.0, None)])])
    assert "nothing was measured" in bar_chart("t", "x", "y", [])


def test_a_gap_interrupts_the_line() -> None:
    points = [(0.0, 1.0), (1.0, 2.0), (2.0, None), (3.0, 1.0), (4.0, 1.0)]
    assert line_chart("t", "x", "y", [Series("a", points)]).count("<polyline") == 2


@given(st.floats(1e-6, 1e12))
def test_ticks_are_few_even_and_reach_the_highest_value(high: float) -> None:
    found = ticks(high)
    assert found[0] == 0.0
    assert found[-1] >= high * 0.99
    assert 2 <= len(found) <= 8


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (True, "yes"), (1234567, "1,234,567"), (0.5, "0.5"), (1.0, "1"),
     (12.345, "12.35"), (1000.4, "1,000"), (100.0, "100"), ("a", "a")],
)  # fmt: skip
def test_figures_read_the_same_everywhere(value: object, text: str) -> None:
    assert figure(value) == text


def test_result_is_complete() -> None:
    """INTERFACES 4: what a report has to state."""
    result = run_result()
    counts = result["transactions"]
    assert (counts["sent"], counts["accepted"], counts["finalized"]) == (100, 99, 99)
    assert (counts["rejected"], counts["rejected_by_code"]) == (1, {"mempool_full": 1})
    assert (counts["failed"], counts["unknown"], result["offered_per_s"]) == (0, 0, 10.0)
    assert [result["latency_ms"][p] for p in ("p50", "p90", "p95", "p99", "max")] == [62.5] * 5
    assert result["blocks"]["interval_ms"]["p50"] == 100
    assert result["blocks"]["bytes"]["p50"] == 183
    node = result["nodes"][0]
    assert node["cpu_s"] == 1.25
    assert node["cpu_us_per_transaction"] == round(1.25e6 / 99, 1)
    assert (node["disk_growth_bytes"], node["rss_bytes"]) == (10_000, 64 * 2**20 + 10)
    assert node["loop_lag_ms"]["p99_at_most"] == 10.0
    assert result["nodes"][1]["cpu_s"] is None
    assert {"cpu_model", "cores", "memory_bytes", "kernel", "python"} <= result["machine"].keys()
    assert {"mbi", "nodes", "libraries", "commit"} <= result["versions"].keys()
    assert "coordinated omission" in result["definitions"]["open_loop"]
    assert "monotonic" in result["definitions"]["clock"]


def test_files_are_read_back_by_compare(tmp_path: Path) -> None:
    result = run_result()
    write_result(tmp_path, result)
    assert load_result(tmp_path) == json.loads(json.dumps(result))
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == report_html(result)


def test_equal_results_have_ratio_one_and_no_differences() -> None:
    result = run_result()
    result["versions"]["commit_modified"] = False
    found = compare(result, result)
    assert {row.ratio for row in found.rows if row.a} == {1.0}
    assert found.differences == []


def test_ratio_is_b_by_a() -> None:
    a, b = run_result(), run_result()
    b["throughput"]["transactions_per_s"] = 2.5 * a["throughput"]["transactions_per_s"]
    rows = {row.name: row for row in compare(a, b).rows}
    assert rows["finalized per s"].ratio == pytest.approx(2.5)
    assert rows["rejected"].ratio == 1.0
    assert rows["unknown"].ratio is None


@pytest.mark.parametrize(
    ("section", "name", "value", "word"),
    [
        ("machine", "cpu_model", "another", "machine: cpu_model"),
        ("parameters", "batch", 7, "parameters: batch"),
        ("topology", "nodes", 9, "topology"),
        ("integrity", "passed", False, "integrity: B"),
        ("versions", "commit_modified", True, "versions: B"),
    ],
)
def test_what_makes_results_incomparable_is_said(
    section: str, name: str, value: object, word: str
) -> None:
    a, b = run_result(), run_result()
    a["versions"]["commit_modified"] = b["versions"]["commit_modified"] = False
    b[section][name] = value
    found = compare(a, b).differences
    assert len(found) == 1
    assert found[0].startswith(word)


def test_ramps_are_compared_by_their_knees() -> None:
    rows = {row.name: row.a for row in compare(ramp(), ramp()).rows}
    assert rows["highest rate carried per s"] == 15.0
    with pytest.raises(UsageError, match="cannot be compared"):
        compare(ramp(), run_result())


@pytest.mark.parametrize("text", [None, "{", "[]", '{"version": 1}', '{"version": 3, "kind": "x"}'])
def test_what_is_no_result_is_refused(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "result.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError):
        load_result(file)
