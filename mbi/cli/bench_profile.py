"""``mbi bench profile``: where the processor time of a node goes under load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from mbi.bench.flame import flame_graph
from mbi.bench.plan import Phase, Plan
from mbi.bench.profile import (
    ROWS_SHOWN,
    choose_node,
    parse_stacks,
    profiler,
    sampled,
    tables,
)
from mbi.bench.report import write_report
from mbi.bench.runner import Run, run_benchmark
from mbi.bench.statistics import steady_window
from mbi.cli.base import Session, any_path, pass_session
from mbi.cli.bench import command_line, default_directory, end_by, load_options, run_fast
from mbi.cli.bench_network import Choice, network_options, network_up
from mbi.cli.bench_output import BenchDisplay, show_run
from mbi.cli.output import Output

RATE_DEFAULT: Final = 3000.0
"""Most of what four validators carry on two cores: a node that idles has another profile."""
STACKS: Final = "stacks.txt"


@click.command("profile")
@click.option(
    "--rate",
    type=click.FloatRange(min=0.1),
    default=RATE_DEFAULT,
    show_default=True,
    help="Transactions per second.",
)
@click.option("--duration", type=click.FloatRange(min=5, max=400), default=20.0, show_default=True)
@load_options
@click.option("--report", type=any_path(), help="Directory for the files (default: bench-TIME).")
@pass_session
@network_options
def profile(
    session: Session,
    /,
    choose: Callable[[], Choice],
    rate: float,
    duration: float,
    batch: int,
    workload: str,
    senders: int,
    accounts: int,
    report: Path | None,
) -> None:
    r"""Show which functions of a node take its processor time under load.

    Measures like `mbi bench run`, and reads the stacks of one validator on this machine from
    outside (py-spy, of the extra dev) in the steady window. Besides the report it writes
    profile.txt with tables, flame.svg, and stacks.txt for other tools. Reading slows that node
    down: take figures from `mbi bench run`.

    \b
    Examples:
      mbi bench profile --report out
      mbi bench profile --rate 1500 --batch 1 --localnet demo
    """
    profiler()
    directory = report or default_directory()
    directory.mkdir(parents=True, exist_ok=True)
    plan = Plan.open_loop([Phase(rate, duration)], batch, senders, workload, accounts)
    name, run = run_fast(_measure(session.output, choose(), plan, directory))
    run.result["command"] = command_line()
    write_report(directory, run)
    stacks = parse_stacks((directory / STACKS).read_text(encoding="utf-8"))
    (directory / "profile.txt").write_text(tables(stacks), encoding="utf-8")
    title = f"{name} at {rate:g} transactions/s: {stacks.total} readings of running threads"
    (directory / "flame.svg").write_text(flame_graph(stacks, title), encoding="utf-8")
    session.output.document({"node": name, "directory": str(directory), "result": run.result})
    session.output.text(f"{name}: {tables(stacks, ROWS_SHOWN)}")
    show_run(session.output, run.result, directory)
    end_by(session.output, [run.result])


async def _measure(output: Output, choice: Choice, plan: Plan, directory: Path) -> tuple[str, Run]:
    """Return the name of the node that was watched, and the run."""
    window = steady_window(0.0, plan.duration_s)
    async with network_up(output, choice) as bed:
        name, process = choose_node(bed.target)
        watching = sampled(process, window[0], window[1] - window[0], directory / STACKS)
        with output.progress() as progress:
            display = BenchDisplay(output, progress)
            return name, await run_benchmark(bed.target, plan, display, during=watching)
