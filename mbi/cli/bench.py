"""``mbi bench``: measure a network."""

from __future__ import annotations

import asyncio
import shlex
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from mbi.bench.compare import compare, load_result
from mbi.bench.plan import Phase, Plan, parse_steps
from mbi.bench.ramp import Limits, Step, find_knee, ramp_result, step_of
from mbi.bench.report import write_report, write_result
from mbi.bench.runner import Run, run_benchmark
from mbi.bench.workload import WORKLOADS
from mbi.cli.base import MbiGroup, Session, any_path, pass_session
from mbi.cli.bench_network import Choice, network_options, network_up
from mbi.cli.bench_output import BenchDisplay, show_comparison, show_ramp, show_run, show_step
from mbi.cli.output import Output
from mbi.errors import ExitCode, UsageError

RATE_DEFAULT: Final = 500.0
P99_MS_DEFAULT: Final = 2000.0
"""A queue that takes two seconds to pass only grows."""
SENDERS_DEFAULT: Final = 250
BATCH_MAX: Final = 1000
"""What a node takes in one request."""
ACCOUNTS_MAX: Final = 1_000_000
DURATION_S_DEFAULT: Final = 20.0
DURATION_S_MAX: Final = 3600

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


@click.group(
    cls=MbiGroup,
    lazy={"profile": "mbi.cli.bench_profile:profile", "table": "mbi.cli.bench_table:table"},
)
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
@click.option(
    "--steps",
    metavar="RATExSECONDS,...",
    help="Open loop at several rates one after the other, each reported for itself.",
)
@click.option(
    "--duration",
    type=click.FloatRange(min=1, max=DURATION_S_MAX),
    help=f"Seconds of load; the sum of --steps, otherwise {DURATION_S_DEFAULT:g} by default.",
)
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
    steps: str | None,
    duration: float | None,
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
    missing, or the balances do not add up; 4 if the network did not come to rest, so that this
    could not be found out.

    \b
    Examples:
      mbi bench run --rate 1000 --duration 30 --report out
      mbi bench run --steps 1000x20,4000x60,1000x15
      mbi bench run --closed 2000 --localnet demo
      mbi bench run --rate 500 --duration 30 --kill-at 10
      mbi bench run --rate 50 --batch 1 --url http://127.0.0.1:26101 --url http://127.0.0.1:26111
    """
    plan = _plan(rate, closed, steps, duration, batch, senders, workload, accounts, kill_at)
    measured = run_fast(_measure(session.output, choose(), plan))
    measured.result["command"] = command_line()
    directory = report or default_directory()
    write_report(directory, measured)
    session.output.document(measured.result)
    show_run(session.output, measured.result, directory)
    end_by(session.output, [measured.result])


def _plan(
    rate: float | None,
    closed: int | None,
    steps: str | None,
    duration: float | None,
    batch: int,
    senders: int,
    workload: str,
    accounts: int,
    kill_at: float | None,
) -> Plan:
    """Return what the options say; raises :class:`UsageError` where they contradict."""
    if sum(option is not None for option in (rate, closed, steps)) > 1:
        raise UsageError("give one of --rate, --closed and --steps")
    if steps is not None and duration is not None:
        raise UsageError("--steps says how long each step lasts, so give no --duration")
    if closed is not None and closed < batch:
        raise UsageError(f"--closed {closed} must be at least --batch {batch}")
    if steps is not None:
        phases = parse_steps(steps)
    elif closed is None:
        phases = (Phase(rate or RATE_DEFAULT, duration or DURATION_S_DEFAULT),)
    else:
        phases = ()
    length_s = sum(phase.duration_s for phase in phases) or duration or DURATION_S_DEFAULT
    if kill_at is not None and kill_at >= length_s:
        raise UsageError(f"--kill-at {kill_at:g} must be less than the duration, {length_s:g}")
    return Plan(phases, closed, length_s, batch, senders, workload, accounts, kill_at)


def end_by(output: Output, results: Sequence[dict[str, Any]]) -> None:
    """End the command with the exit code that the integrity of its runs asks for.

    The document of the command is printed already, so there is no second one with the error.
    """
    for code, what, key in (
        (ExitCode.INTEGRITY, "integrity violated", "problems"),
        (ExitCode.UNKNOWN, "integrity not fully checked", "unfinished"),
    ):
        found = [line for result in results for line in result["integrity"][key]]
        if found:
            output.error(f"{what}: {'; '.join(found[:3])}")
            raise click.exceptions.Exit(code)


def command_line() -> str:
    """Return the command that repeats this measurement."""
    return shlex.join(["mbi", *sys.argv[1:]])


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


@bench.command("ramp")
@click.option(
    "--from",
    "start",
    type=click.FloatRange(min=1),
    default=RATE_DEFAULT,
    show_default=True,
    help="First rate, transactions per second.",
)
@click.option(
    "--p99",
    type=click.FloatRange(min=1),
    default=P99_MS_DEFAULT,
    show_default=True,
    help="Highest latency p99 that still counts as carried, in milliseconds.",
)
@click.option(
    "--duration",
    type=click.FloatRange(min=1, max=DURATION_S_MAX),
    default=10.0,
    show_default=True,
    help="Of each step, in seconds.",
)
@load_options
@click.option("--report", type=any_path(), help="Directory for the report (default: bench-TIME).")
@pass_session
@network_options
def ramp(
    session: Session,
    /,
    choose: Callable[[], Choice],
    start: float,
    p99: float,
    duration: float,
    batch: int,
    workload: str,
    senders: int,
    accounts: int,
    report: Path | None,
) -> None:
    r"""Raise the rate step by step until the network no longer carries it.

    A rate is carried while at least 95 % of what is offered becomes final in the steady window and
    the 99th percentile of latency stays below --p99. Every step is a whole run with its own
    integrity check; exit code 5 if one fails.

    \b
    Examples:
      mbi bench ramp --report out
      mbi bench ramp --from 2000 --duration 20 --validators 1
    """
    plan = Plan.open_loop([Phase(start, duration)], batch, senders, workload, accounts)
    limits = Limits(p99)
    results, steps = run_fast(_ramp(session.output, choose(), plan, limits))
    result = {**ramp_result(results, steps, limits), "command": command_line()}
    directory = report or default_directory()
    write_result(directory, result)
    session.output.document(result)
    show_ramp(session.output, result, directory)
    end_by(session.output, results)


@bench.command("compare")
@click.argument("a", type=any_path())
@click.argument("b", type=any_path())
@pass_session
def compare_command(session: Session, /, a: Path, b: Path) -> None:
    """Show the main figures of two results and their ratios, B by A.

    A and B are files result.json or directories of reports. It says when machine, parameters or
    versions differ; the exit code is 0 whatever the figures are.
    """
    found = compare(load_result(a), load_result(b))
    session.output.document(found.to_json())
    show_comparison(session.output, found)


async def _ramp(
    output: Output, choice: Choice, plan: Plan, limits: Limits
) -> tuple[list[dict[str, Any]], list[Step]]:
    """Return the results of all runs, and what each means."""
    results: list[dict[str, Any]] = []
    async with network_up(output, choice) as bed:
        with output.progress() as progress:
            display = BenchDisplay(output, progress)

            async def measure(rate: float) -> Step:
                # The state grows once, before the first step.
                accounts = 0 if results else plan.accounts
                phases = (Phase(rate, plan.duration_s),)
                step_plan = replace(plan, phases=phases, accounts=accounts)
                measured = await run_benchmark(bed.target, step_plan, display)
                results.append(measured.result)
                step = step_of(measured.result, limits)
                show_step(output, step)
                return step

            steps = await find_knee(plan.rate or RATE_DEFAULT, measure)
    return results, steps
