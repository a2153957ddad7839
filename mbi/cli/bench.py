"""``mbi bench``: measure a network."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from mbi.bench.plan import Plan
from mbi.bench.report import write_report
from mbi.bench.runner import Run, run_benchmark
from mbi.bench.workload import WORKLOADS
from mbi.cli.base import MbiGroup, Session, any_path, pass_session
from mbi.cli.bench_network import Choice, network_options, network_up
from mbi.cli.bench_output import BenchDisplay, show_run
from mbi.cli.output import Output
from mbi.errors import IntegrityViolation, UsageError

RATE_DEFAULT: Final = 500.0
SENDERS_DEFAULT: Final = 250
BATCH_MAX: Final = 1000
"""What a node takes in one request."""
ACCOUNTS_MAX: Final = 1_000_000

R = TypeVar("R")

_LOAD_OPTIONS: Final = (
    click.option(
        "--batch",
        type=click.IntRange(1, BATCH_MAX),
        default=100,
        show_default=True,
        help="Transactions per request at most (fewer at low rates, so that ten requests are due "
        "in every second); 1 posts them singly.",
    ),
    click.option(
        "--workload",
        type=click.Choice(list(WORKLOADS)),
        default="transfer",
        show_default=True,
        help="; ".join(f"{name}: {item.meaning}" for name, item in WORKLOADS.items()) + ".",
    ),
    click.option(
        "--senders", type=click.IntRange(1, 5000), default=SENDERS_DEFAULT, show_default=True
    ),
    click.option(
        "--accounts",
        type=click.IntRange(0, ACCOUNTS_MAX),
        default=0,
        help="Register this many accounts first, so that the state is large.",
    ),
)


@click.group(cls=MbiGroup)
def bench() -> None:
    """Measure throughput and latency to finality."""


def load_options(function: Callable[..., R]) -> Callable[..., R]:
    """Add the options that say what is sent."""
    for option in reversed(_LOAD_OPTIONS):
        function = option(function)
    return function


@bench.command("run")
@click.option("--rate", type=click.FloatRange(min=0.1), help="Open loop: transactions per second.")
@click.option("--closed", type=click.IntRange(min=1), help="Closed loop: this many in flight.")
@click.option("--duration", type=click.FloatRange(min=1, max=400), default=20.0, show_default=True)
@load_options
@click.option(
    "--kill-at",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Kill one validator this long after the load begins; it is started again after 5 s.",
)
@click.option("--report", type=any_path(), help="Directory for the report (default: bench-TIME).")
@pass_session
@network_options
def run(
    session: Session,
    /,
    choose: Callable[[], Choice],
    rate: float | None,
    closed: int | None,
    duration: float,
    batch: int,
    workload: str,
    senders: int,
    accounts: int,
    kill_at: float | None,
    report: Path | None,
) -> None:
    r"""Send signed transactions to all nodes in turn and count what becomes final.

    Without --url, --localnet or --node a fresh network is made for the run. The report is
    report.html, result.json and latencies.csv. Exit code 5 if the nodes disagree, a transaction is
    missing, or the balances do not add up.

    \b
    Examples:
      mbi bench run --rate 1000 --duration 30 --report out
      mbi bench run --closed 2000 --localnet demo
      mbi bench run --rate 500 --duration 30 --kill-at 10
      mbi bench run --rate 50 --batch 1 --url http://127.0.0.1:26101 --url http://127.0.0.1:26111
    """
    if rate is not None and closed is not None:
        raise UsageError("give either --rate or --closed")
    if closed is not None and closed < batch:
        raise UsageError(f"--closed {closed} must be at least --batch {batch}")
    if rate is None and closed is None:
        rate = RATE_DEFAULT
    if kill_at is not None and kill_at >= duration:
        raise UsageError(f"--kill-at {kill_at:g} must be less than --duration {duration:g}")
    plan = Plan(rate, closed, duration, batch, senders, workload, accounts, kill_at)
    measured = run_fast(_measure(session.output, choose(), plan))
    directory = report or default_directory()
    write_report(directory, measured)
    session.output.document(measured.result)
    show_run(session.output, measured.result, directory)
    if not measured.integrity.passed:
        raise IntegrityViolation("; ".join(measured.integrity.problems[:3]))


def default_directory() -> Path:
    """Return a directory named after the moment."""
    return Path(f"bench-{time.strftime('%Y%m%d-%H%M%S')}")


def run_fast(work: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine on uvloop where it is installed: the generator shares the machine."""
    try:
        import uvloop
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


async def _measure(output: Output, choice: Choice, plan: Plan) -> Run:
    async with network_up(output, choice) as bed:
        with output.progress() as progress:
            return await run_benchmark(bed.target, plan, BenchDisplay(output, progress), bed.start)
