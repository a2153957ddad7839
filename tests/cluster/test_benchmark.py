"""``mbi bench run`` on networks of its own: every kind of load ends in balances that add up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cluster import free_port
from tests.cluster.programs import COMMAND_S, MBI, run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]


def bench(tmp_path: Path, validators: int, *options: str) -> tuple[int, dict[str, Any], str]:
    """Run the command and return its exit code, its document and what it said."""
    port = free_port(validators)
    network = ["--validators", str(validators), "--port", str(port)]
    words = ("--json", "bench", "run", *network, "--report", str(tmp_path), *options)
    result = run(*MBI, *words, limit_s=2 * COMMAND_S)
    return result.returncode, json.loads(result.stdout), result.stderr


def test_mixed_load_in_steps_ends_well(tmp_path: Path) -> None:
    """All operations of a development network at once: no node differs and no unit is missing."""
    steps = ["--workload", "mixed", "--steps", "60x3,120x3,60x3", "--senders", "20"]
    code, result, said = bench(tmp_path, 4, *steps)
    assert code == 0, said
    counts = result["transactions"]
    assert result["integrity"]["verdict"] == "passed"
    assert (counts["sent"], counts["finalized"], counts["failed"]) == (720, 720, 0)
    assert [phase["offered_per_s"] for phase in result["phases"]] == [60.0, 120.0, 60.0]
    assert len(set(result["integrity"]["found_per_node"].values())) == 1
    assert json.loads((tmp_path / "result.json").read_text()) == result


def test_settlements_posted_one_by_one_to_one_validator(tmp_path: Path) -> None:
    """Two signatures in each transaction, one request for each, and a network of one."""
    single = ["--workload", "settlement", "--rate", "100", "--batch", "1", "--duration", "4"]
    code, result, said = bench(tmp_path, 1, *single, "--senders", "10")
    assert code == 0, said
    assert result["transactions"]["finalized"] == 400
    assert result["nodes"][0]["signatures_verified"] >= 800
    assert result["integrity"]["moved"] == "800"
