"""``mbi drill``: what it prints, which exit code it ends with, and that faults are undone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from mbi import cli
from mbi.cli import drill as command
from mbi.drill.bed import Bed
from mbi.drill.engine import CommandFailed, run, surely
from mbi.drill.judge import Limits, Result, Seconds
from mbi.drill.plan import DRILLS, Drill
from mbi.drill.project import Project
from mbi.errors import ExitCode

LIMITS = Limits(gap_s=5.0, block_s=5.0, agree_s=10.0)
PROJECT = Project("p", (), Path(), {})

Outcome = Callable[[Drill], Result]


def green(drill: Drill) -> Result:
    return Result(drill.name, Seconds(0.3, 0.1, 6.1), LIMITS, 9, counts={"acknowledged": 940})


def late(drill: Drill) -> Result:
    result = green(drill)
    result.late.append("new block after 7.0 s, limit 5")
    return result


def unsafe(drill: Drill) -> Result:
    result = green(drill)
    result.unsafe.append("height 2: b has another block")
    return result


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> list[Outcome]:
    """Replace engine, network and drills; tests fill in one outcome per drill."""
    found: list[Outcome] = []

    async def nothing() -> None:
        return None

    async def find(*_: object) -> Project:
        return PROJECT

    @contextlib.asynccontextmanager
    async def lay(project: Project, note: Callable[[str], None]) -> AsyncIterator[Bed]:
        yield Bed(project, (), (), note)

    async def run_drill(drill: Drill, bed: Bed, rate: int) -> Result:
        return found.pop(0)(drill)

    monkeypatch.setattr(command, "require_engine", nothing)
    monkeypatch.setattr(command, "running_project", find)
    monkeypatch.setattr(command, "lay", lay)
    monkeypatch.setattr(command, "run_drill", run_drill)
    return found


def test_list_shows_every_drill(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["drill", "list"]) == ExitCode.OK
    lines = capsys.readouterr().out
    assert all(drill.name in lines for drill in DRILLS)
    assert cli.run(["drill", "list", "--json"]) == ExitCode.OK
    assert len(json.loads(capsys.readouterr().out)) == len(DRILLS)


def test_green_run_ends_with_a_table_and_exit_code_0(
    outcomes: list[Outcome], capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes += [green, green]
    assert cli.run(["drill", "run", "pause", "delay"]) == ExitCode.OK
    printed = capsys.readouterr()
    rows = [line.split() for line in printed.out.splitlines()]
    assert rows[-2:] == [
        [name, "SAFE", "yes", "0.3", "0.1", "6.1", "940"] for name in ("pause", "delay")
    ]
    assert "SAFE pause: longest gap 0.3 s, new block after 0.1 s" in printed.err


@pytest.mark.parametrize(
    ("each", "code"),
    [([green, late], ExitCode.FAILED), ([unsafe, late], ExitCode.INTEGRITY)],
)
def test_exit_code_is_that_of_the_worst_drill_and_all_are_run(
    outcomes: list[Outcome],
    capsys: pytest.CaptureFixture[str],
    each: list[Outcome],
    code: ExitCode,
) -> None:
    outcomes += each
    assert cli.run(["drill", "run", "pause", "delay"]) == code
    assert outcomes == []
    assert "limit 5" in capsys.readouterr().err


def test_report_and_json_hold_every_drill(
    outcomes: list[Outcome], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    outcomes += [green] * 4
    words = ["drill", "run", "--short", "--json", "--report", str(tmp_path / "out")]
    assert cli.run(words) == ExitCode.OK
    document = json.loads(capsys.readouterr().out)
    assert (document["safe"], document["recovered"], document["rate"]) == (True, True, 50)
    assert [item["verdict"] for item in document["drills"]] == ["SAFE"] * 4
    assert json.loads((tmp_path / "out" / "drills.json").read_text()) == document


def test_drill_that_cannot_be_carried_out_is_late_and_the_next_one_follows(
    outcomes: list[Outcome], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    healed: list[str] = []

    def broken(drill: Drill) -> Result:
        raise CommandFailed("docker pause: exit code 1")

    async def heal(project: Project, **_: Any) -> None:
        healed.append(project.name)

    monkeypatch.setattr(command, "heal", heal)
    outcomes += [broken, green]
    assert cli.run(["drill", "run", "pause", "delay"]) == ExitCode.FAILED
    printed = capsys.readouterr()
    assert "could not be carried out: docker pause" in printed.err
    assert printed.out.splitlines()[-1].split()[:3] == ["delay", "SAFE", "yes"]
    assert healed == ["p"]


def test_usage_errors_are_found_before_the_engine_is_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.run(["drill", "run"]) == ExitCode.USAGE
    assert cli.run(["drill", "run", "pauze"]) == ExitCode.USAGE
    assert "no drill pauze; there are: kill-leader" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_drill_undoes_its_fault(
    outcomes: list[Outcome], monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """An undo is a command of the engine: it has to be awaited after the interrupt."""
    undone: list[str] = []

    async def run_drill(*_: object) -> Result:
        try:
            os.kill(os.getpid(), number)
            await asyncio.sleep(30)
        finally:
            undone.append((await run("echo", "undone")).strip())
        raise AssertionError("not interrupted")

    monkeypatch.setattr(command, "run_drill", run_drill)
    assert cli.run(["drill", "run", "pause"]) == ExitCode.INTERRUPTED
    assert undone == ["undone"]


async def test_undo_is_carried_to_its_end_although_it_is_interrupted() -> None:
    steps: list[str] = []

    async def undo() -> None:
        steps.append(await run("sh", "-c", "sleep 0.1; echo first"))
        steps.append(await run("echo", "second"))

    task = asyncio.create_task(surely(undo()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps == ["first\n", "second\n"]


async def test_commands_of_the_engine_are_not_in_the_terminals_group() -> None:
    """Ctrl-C reaches every process of the terminal's group: it must not end an undo."""
    group = await run("python3", "-c", "import os; print(os.getpgrp())")
    assert int(group) != os.getpgrp()


async def test_failed_command_says_what_it_said() -> None:
    with pytest.raises(CommandFailed, match="exit code 3: out of luck"):
        await run("sh", "-c", "echo out of luck >&2; exit 3")
    with pytest.raises(CommandFailed, match="cannot be run"):
        await run("no-such-command-here")
    with pytest.raises(CommandFailed, match=r"not done after 0\.1 s"):
        await run("sleep", "30", timeout_s=0.1)
