"""``mbi bench table``: one command for what networks of several sizes carry on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import click

from mbi.bench.plan import Phase, Plan
from mbi.bench.report import write_result
from mbi.bench.runner import run_benchmark
from mbi.bench.svg import figure
from mbi.bench.table import COLUMNS, markdown, row_of, table_result
from mbi.cli.base import Session, any_path, pass_session
from mbi.cli.bench import DURATION_S_MAX, command_line, default_directory, end_by, run_fast
from mbi.cli.bench_network import Choice, network_up
from mbi.cli.bench_output import BenchDisplay
from mbi.cli.output import Output
from mbi.errors import UsageError
from mbi.localnet.genesis import DEV_ASSET
from mbi.localnet.topology import PORT_DEFAULT

BATCH: Final = 250
"""Transactions per request: what a request costs is shared by enough of them."""
SENDERS: Final = 1000
"""So that the limit of pending transactions per account is never what is measured."""
IN_FLIGHT: Final = 4000
"""About a second of work: more only waits, less leaves nodes without work now and then."""
HALF_RATE_MIN: Final = 1.0
"""Transactions per second offered to a network that finalised next to nothing."""


@click.command("table")
@click.option(
    "--validators",
    default="1,4,7,10",
    show_default=True,
    metavar="N,...",
    help="Sizes of the networks, one after the other.",
)
@click.option(
    "--duration",
    type=click.FloatRange(min=5, max=DURATION_S_MAX),
    default=20.0,
    show_default=True,
    help="Of each of the two runs for a size, in seconds.",
)
@click.option("--port", default=PORT_DEFAULT, show_default=True, help="Of the networks made here.")
@click.option("--report", type=any_path(), help="Directory for the reports (default: bench-TIME).")
@pass_session
def table(
    session: Session, /, validators: str, duration: float, port: int, report: Path | None
) -> None:
    r"""Measure networks of several sizes: the highest rate, and latency at half of it.

    Each size has a fresh network and two runs of single transfers in batches: a closed loop with
    4,000 transactions in flight, then an open loop at half the rate that it reached. DIR gets
    table.md, table.json, and the report of every run. Nothing else may run on the machine.

    \b
    Examples:
      mbi bench table --report out
      mbi bench table --validators 1,4 --duration 60
    """
    sizes = parse_sizes(validators)
    directory = report or default_directory()
    rows, runs = [], []
    for size in sizes:
        full, half = run_fast(_measure(session.output, size, duration, port, directory))
        rows.append(row_of(size, full, half))
        runs += [full, half]
    result = table_result(rows, runs, command_line())
    (directory / "table.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (directory / "table.md").write_text(markdown(result), encoding="utf-8")
    session.output.document(result)
    session.output.table(
        list(COLUMNS.values()), ([figure(row[key]) for key in COLUMNS] for row in rows)
    )
    end_by(session.output, runs)


def parse_sizes(text: str) -> list[int]:
    """Return the numbers of validators; raises :class:`UsageError`."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise UsageError(f"expected numbers of validators like 1,4,7,10, got {text!r}")
    return [int(word) for word in words]


async def _measure(
    output: Output, validators: int, duration_s: float, port: int, directory: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the results of the closed loop and of the open loop at half its rate."""
    choice = Choice((), None, None, DEV_ASSET, validators, 0, port)
    async with network_up(output, choice) as bed:
        with output.progress() as progress:
            display = BenchDisplay(output, progress)
            full = await run_benchmark(
                bed.target, Plan((), IN_FLIGHT, duration_s, BATCH, SENDERS), display
            )
            write_result(directory / f"{validators}-full", full.result)
            highest = full.result["throughput"]["transactions_per_s"] or 0.0
            phase = Phase(max(HALF_RATE_MIN, round(highest / 2)), duration_s)
            half = await run_benchmark(bed.target, Plan.open_loop([phase], BATCH, SENDERS), display)
            write_result(directory / f"{validators}-half", half.result)
    return full.result, half.result
