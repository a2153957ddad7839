"""The command line: what it prints about a failed seed, and its exit code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.simulation import campaign
from tests.simulation.__main__ import main
from tests.simulation.simulation import Result

if TYPE_CHECKING:
    from pathlib import Path

    from tests.simulation.options import Options


@pytest.fixture
def failing_seed(monkeypatch: pytest.MonkeyPatch) -> int:
    """Make one seed fail without running any engine."""

    def run(options: Options) -> Result:
        if options.seed == 11:
            return Result(11, invariant="I1", detail="two final blocks at height 3", at_ms=1234)
        return Result(options.seed, virtual_ms=3_600_000, healed_ms=options.seed)

    monkeypatch.setattr(campaign, "run", run)
    return 11


def test_failed_seed_is_explained_with_options_and_replay_command(failing_seed: int) -> None:
    text = campaign.explain(campaign.run_seed(failing_seed))
    assert "seed 11 violates I1 at 1234 ms: two final blocks at height 3" in text
    assert "loss_percent=" in text
    assert "python -m tests.simulation --seed 11 --trace" in text


@pytest.mark.usefixtures("failing_seed")
def test_command_exits_with_1_and_names_the_failed_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "10..13", "--json"]) == 1
    printed = capsys.readouterr()
    summary = json.loads(printed.out)
    assert summary["failed"] == [11]
    assert summary["seeds"] == 3
    assert summary["virtual_hours"] == 2
    assert summary["failure_rate_below"] is None
    assert "replay" in printed.err


@pytest.mark.usefixtures("failing_seed")
def test_command_exits_with_0_if_all_seeds_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--seeds", "0..5", "--out", str(tmp_path / "summary.json")]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["healing_ms"]["worst"] == 4
    assert summary["failure_rate_below"] == 3 / 5
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
