"""``mbi drill``: inflict faults on a running compose network and judge how it bore them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import click

from mbi.cli.base import MbiGroup, Session, any_path, pass_session
from mbi.cli.output import Output
from mbi.drill.bed import Bed, heal, lay
from mbi.drill.engine import require_engine
from mbi.drill.judge import Result, Verdict, worst_exit_code
from mbi.drill.plan import DRILLS, Drill, choose
from mbi.drill.project import Project, new_project, running, running_project
from mbi.drill.runner import failed, run_drill
from mbi.errors import ExitCode, IntegrityViolation, MbiError, OperationFailed, UsageError

RATE_DEFAULT: Final = 50
RATE_MAX: Final = 500
"""More would measure the machine; `mbi bench` does that."""
COMPOSE_FILE: Final = Path("docker-compose.yml")
REPORT_FILE: Final = "drills.json"


@click.group(cls=MbiGroup)
def drill() -> None:
    """Inflict faults on a compose network and judge how it bears them."""


@drill.command("list")
@pass_session
def list_command(session: Session, /) -> None:
    """Show all drills with what each must hold."""
    session.output.document(
        [{"name": d.name, "summary": d.summary, "short": d.is_short} for d in DRILLS]
    )
    session.output.table(
        ("drill", "short", "new block within", "all agree within", "what happens"),
        (
            (
                d.name,
                "yes" if d.is_short else "",
                f"{d.limits.block_s if d.limits.gap_s is None else d.limits.gap_s:g} s",
                f"{d.limits.agree_s:g} s",
                d.summary,
            )
            for d in DRILLS
        ),
    )


@drill.command("run")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "is_all", is_flag=True, help="Every drill.")
@click.option("--short", "is_short", is_flag=True, help="The set that is run for every change.")
@click.option(
    "--project", metavar="NAME", help="Compose project (default: the only network that runs)."
)
@click.option(
    "--compose-file",
    "files",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="Compose file of the network (default: as it was started).",
)
@click.option("--fresh", is_flag=True, help="Build and start a network for the run; remove it.")
@click.option(
    "--rate",
    type=click.IntRange(1, RATE_MAX),
    default=RATE_DEFAULT,
    show_default=True,
    help="Transactions per second.",
)
@click.option("--report", type=any_path(), help=f"Directory for {REPORT_FILE}.")
@pass_session
def run(
    session: Session,
    /,
    names: tuple[str, ...],
    is_all: bool,
    is_short: bool,
    project: str | None,
    files: tuple[Path, ...],
    fresh: bool,
    rate: int,
    report: Path | None,
) -> None:
    r"""Run drills one after the other and judge each.

    SAFE: all nodes have one chain, everything that was called final or acknowledged is on every
    node, nothing became final without a quorum, and no node holds a proof against an honest one.
    UNSAFE ends the run with exit code 5, a recovery beyond the drill's limit with 1. Only
    development networks: the load is paid from their funded accounts. Ctrl-C undoes the fault.

    \b
    Examples:
      mbi drill run --all
      mbi drill run kill-leader partition-2-2 --project mbi
      mbi drill run --short --fresh --report out
    """
    drills = choose(names, is_all=is_all, is_short=is_short)
    if fresh and len(files) > 1:
        raise UsageError("--fresh takes one compose file")
    results = asyncio.run(_run_all(session.output, drills, project, files, fresh, rate))
    document = {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "rate": rate,
        "safe": all(result.verdict is Verdict.SAFE for result in results),
        "recovered": not any(result.late for result in results),
        "drills": [result.to_json() for result in results],
    }
    if report is not None:
        report.mkdir(parents=True, exist_ok=True)
        (report / REPORT_FILE).write_text(json.dumps(document, indent=2) + "\n")
    session.output.document(document)
    show_results(session.output, results)
    _raise_worst(results)


async def _run_all(
    output: Output,
    drills: Sequence[Drill],
    name: str | None,
    files: tuple[Path, ...],
    is_fresh: bool,
    rate: int,
) -> list[Result]:
    """Run the drills on one network; what they did to it is undone however this ends."""
    # A supervisor's SIGTERM undoes faults as Ctrl-C does.
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, os.kill, os.getpid(), signal.SIGINT)
    await require_engine()
    results: list[Result] = []
    async with _network(output, name, files, is_fresh) as project, lay(project, output.note) as bed:
        for number, chosen in enumerate(drills, start=1):
            output.note(f"[{number}/{len(drills)}] {chosen.name}: {chosen.summary}", "bold")
            results.append(await _run_one(output, chosen, bed, rate))
    return results


async def _run_one(output: Output, chosen: Drill, bed: Bed, rate: int) -> Result:
    try:
        result = await run_drill(chosen, bed, rate)
    except MbiError as error:
        result = failed(chosen, f"could not be carried out: {error}")
        with contextlib.suppress(MbiError):
            await heal(bed.project, keep_relay=True)
    style = "green" if result.exit_code is ExitCode.OK else "red"
    output.note(f"{result.verdict} {chosen.name}: {seconds_text(result)}", style)
    for reason in (*result.unsafe, *result.late):
        output.note(f"  {reason}", "red")
    return result


@contextlib.asynccontextmanager
async def _network(
    output: Output, name: str | None, files: tuple[Path, ...], is_fresh: bool
) -> AsyncIterator[Project]:
    if not is_fresh:
        yield await running_project(name, files)
        return
    output.note("building and starting a network for this run")
    file = files[0] if files else COMPOSE_FILE
    project = new_project(name or f"mbi-drill-{os.getpid()}", file, _free_port())
    async with running(project):
        yield project


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def seconds_text(result: Result) -> str:
    """Return the measured seconds in words."""
    seconds = result.seconds
    return (
        f"longest gap {_number(seconds.gap)} s, new block after {_number(seconds.new_block)} s, "
        f"all agree after {_number(seconds.all_agree)} s"
    )


def show_results(output: Output, results: Sequence[Result]) -> None:
    """Print the table at the end of a run."""
    output.table(
        ("drill", "verdict", "recovered", "gap s", "new block s", "all agree s", "acknowledged"),
        (
            (
                result.name,
                result.verdict.value,
                "no" if result.late else "yes",
                _number(result.seconds.gap),
                _number(result.seconds.new_block),
                _number(result.seconds.all_agree),
                result.counts.get("acknowledged", 0),
            )
            for result in results
        ),
    )


def _number(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f}"


def _raise_worst(results: Sequence[Result]) -> None:
    """End with the exit code of the worst drill."""
    code = worst_exit_code(results)
    reasons: list[Any] = [
        f"{result.name}: {reason}" for result in results for reason in result.unsafe
    ]
    if code is ExitCode.INTEGRITY:
        raise IntegrityViolation("; ".join(reasons[:3]))
    if code is ExitCode.FAILED:
        late = [f"{result.name}: {reason}" for result in results for reason in result.late]
        raise OperationFailed("; ".join(late[:3]))
