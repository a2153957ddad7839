"""The table of networks of several sizes: figures of the runs, and the bound that they allow."""

from __future__ import annotations

from typing import Any

import pytest

from mbi.bench.table import COLUMNS, markdown, row_of, table_result
from mbi.cli.bench_table import parse_sizes
from mbi.errors import UsageError
from tests.unit.mbi.bench_results import run_result


def full() -> dict[str, Any]:
    result = run_result()
    result["building_blocks"] |= {
        "signature_us": 85.0,
        "cpu_us_per_transaction": 150.0,
        "ratio_mean": 1.5,
    }
    result["generator"]["cpu_us_per_transaction"] = 100.0
    result["machine"]["cores_usable"] = 2
    result["throughput"]["transactions_per_s"] = 2000.0
    return result


def test_bound_is_what_the_building_blocks_allow() -> None:
    """Two cores; four nodes of 85 + 15 us and a generator of 100 us: 4,000 transactions."""
    row = row_of(4, full(), run_result())
    assert row["bound_per_s"] == pytest.approx(4000.0)
    assert row["of_bound"] == pytest.approx(0.5)
    assert (row["half_p50_ms"], row["finalized_per_s"]) == (62.5, 2000.0)
    assert set(row) == set(COLUMNS)


def test_nodes_that_count_nothing_leave_the_bound_open() -> None:
    unknown = full()
    unknown["building_blocks"]["signature_us"] = None
    row = row_of(4, unknown, run_result())
    assert (row["bound_per_s"], row["of_bound"]) == (None, None)


def test_one_bad_run_shows_in_its_row() -> None:
    half = run_result()
    half["integrity"]["verdict"] = "violated"
    assert row_of(4, full(), half)["integrity"] == "passed and violated"


def test_text_names_machine_commit_and_command() -> None:
    rows = [row_of(n, full(), run_result()) for n in (1, 4)]
    text = markdown(table_result(rows, [full(), run_result()], "mbi bench table --report out"))
    lines = text.splitlines()
    assert "mbi bench table --report out" in lines[0]
    assert "2 cores" in lines[0]
    assert str(full()["versions"]["commit"])[:7] in lines[0]
    assert [line.count("|") for line in lines[2:]] == [len(COLUMNS) + 1] * 4
    assert lines[4].startswith("| 1 | 2,000 |")


def test_sizes_are_numbers() -> None:
    assert parse_sizes("1, 4,10") == [1, 4, 10]
    for text in ("", "0", "4,", "four", "-1"):
        with pytest.raises(UsageError, match="numbers of validators"):
            parse_sizes(text)
