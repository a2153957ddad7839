"""``mbi bench``: measure a network."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
from rich.progress import Progress, TaskID

from ledger.crypto import SigningKey
from mbi.bench.report import write_report
from mbi.bench.runner import Plan, Run, run_benchmark
from mbi.bench.target import TargetNode, nodes_of_network, resolve_target
from mbi.calls import parse_node_url
from mbi.cli.base import MbiGroup, Session, any_path, pass_session
from mbi.cli.output import Output
from mbi.cli.secret_input import keys_option, open_store
from mbi.errors import IntegrityViolation, UsageError
from mbi.localnet.builder import build_network
from mbi.localnet.genesis import DEV_ASSET, ISSUER
from mbi.localnet.layout import Network, load_network
from mbi.localnet.ports import demand_free
from mbi.localnet.readiness import READY_TIMEOUT_S, wait_ready
from mbi.localnet.supervisor import Supervisor
from mbi.localnet.topology import PORT_DEFAULT, plan

RATE_DEFAULT: Final = 500.0
SENDERS_DEFAULT: Final = 250
BATCH_MAX: Final = 1000
"""What a node takes in one request."""


@click.group(cls=MbiGroup)
def bench() -> None:
    """Measure throughput and latency to finality."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which network to measure, as the command line has it."""

    urls: tuple[str, ...]
    network: Network | None
    funder: SigningKey | None
    asset: str
    validators: int
    observers: int
    port: int


@bench.command("run")
@click.option("--rate", type=click.FloatRange(min=0.1), help="Open loop: transactions per second.")
@click.option("--closed", type=click.IntRange(min=1), help="Closed loop: this many in flight.")
@click.option("--duration", type=click.FloatRange(min=1, max=400), default=20.0, show_default=True)
@click.option(
    "--batch",
    type=click.IntRange(1, BATCH_MAX),
    default=100,
    show_default=True,
    help="Transactions per request; 1 posts them singly.",
)
@click.option("--workload", type=click.Choice(["transfer"]), default="transfer", show_default=True)
@click.option("--senders", type=click.IntRange(1, 5000), default=SENDERS_DEFAULT, show_default=True)
@click.option("--url", "urls", multiple=True, help="Node to load; repeat it for each node.")
@click.option("--localnet", "directory", type=any_path(), help="Load the local network in DIR.")
@click.option("--validators", default=4, show_default=True, help="Of a network made for this run.")
@click.option("--observers", default=0, show_default=True, help="Of a network made for this run.")
@click.option("--port", default=PORT_DEFAULT, show_default=True, help="Of a network made for it.")
@click.option("--funder", default=ISSUER, show_default=True, help="Key that pays for the accounts.")
@click.option("--asset", default=DEV_ASSET, show_default=True)
@click.option("--report", type=any_path(), help="Directory for result.json and latencies.csv.")
@keys_option
@pass_session
def run(
    session: Session,
    /,
    rate: float | None,
    closed: int | None,
    duration: float,
    batch: int,
    workload: str,
    senders: int,
    urls: tuple[str, ...],
    directory: Path | None,
    validators: int,
    observers: int,
    port: int,
    funder: str,
    asset: str,
    report: Path | None,
    keys_directory: Path | None,
    passphrase_file: Path | None,
) -> None:
    r"""Send signed transfers to all nodes in turn and count what becomes final.

    Without --url, --localnet or --node a fresh network is made for the run. Exit code 5 if the
    nodes disagree, a transaction is missing, or the balances do not add up.

    \b
    Examples:
      mbi bench run --rate 1000 --duration 30 --report out
      mbi bench run --closed 2000 --localnet demo
      mbi bench run --rate 50 --batch 1 --url http://127.0.0.1:26101 --url http://127.0.0.1:26111
    """
    if rate is not None and closed is not None:
        raise UsageError("give either --rate or --closed")
    if closed is not None and closed < batch:
        raise UsageError(f"--closed {closed} must be at least --batch {batch}")
    if rate is None and closed is None:
        rate = RATE_DEFAULT
    given = urls or ((session.node_url,) if session.has_node_flag else ())
    if given and directory is not None:
        raise UsageError("give either node URLs or --localnet")
    network = None if directory is None else load_network(directory)
    key: SigningKey | None = None
    if given or network is not None:
        keys_directory = keys_directory or (network.accounts_directory if network else None)
        key = open_store(session, keys_directory, passphrase_file).open(funder)
    choice = Choice(
        tuple(map(parse_node_url, given)), network, key, asset, validators, observers, port
    )
    measurement = Plan(rate, closed, duration, batch, senders, workload)
    with asyncio.Runner(loop_factory=_fast_loop()) as runner:
        measured = runner.run(_measure(session.output, choice, measurement))
    directory = report or Path(f"bench-{time.strftime('%Y%m%d-%H%M%S')}")
    write_report(
        directory,
        measured.result,
        measured.prepared,
        measured.sent,
        measured.watch.final_s,
        measured.watch.heights,
    )
    session.output.document(measured.result)
    _summary(session.output, measured, directory)
    if not measured.integrity.passed:
        raise IntegrityViolation("; ".join(measured.integrity.problems[:3]))


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory where it is installed: the generator shares the machine."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _measure(output: Output, choice: Choice, measurement: Plan) -> Run:
    async with contextlib.AsyncExitStack() as stack:
        nodes, funder = await _target_nodes(output, choice, stack)
        target = await resolve_target(nodes, funder, choice.asset)
        with output.progress() as progress:
            return await run_benchmark(target, measurement, _Display(output, progress))


async def _target_nodes(
    output: Output, choice: Choice, stack: contextlib.AsyncExitStack
) -> tuple[tuple[TargetNode, ...], SigningKey]:
    if choice.funder is not None and choice.network is not None:
        return nodes_of_network(choice.network), choice.funder
    if choice.funder is not None:
        return tuple(TargetNode(url, url, None) for url in choice.urls), choice.funder
    network = await stack.enter_async_context(_own_network(output, choice))
    key = next(account.private_key for account in network.accounts if account.name == ISSUER)
    return nodes_of_network(network), SigningKey.from_seed(bytes.fromhex(key))


@contextlib.asynccontextmanager
async def _own_network(output: Output, choice: Choice) -> AsyncIterator[Network]:
    """Make and run a network for one benchmark."""
    topology = plan(choice.validators, choice.observers, choice.port)
    demand_free(topology.ports)
    output.note(f"starting a network of {len(topology.nodes)} nodes for this run")
    with tempfile.TemporaryDirectory(prefix="mbi-bench-", ignore_cleanup_errors=True) as scratch:
        network = await asyncio.to_thread(build_network, Path(scratch) / "network", topology, None)
        async with Supervisor() as supervisor:
            for node in network.nodes:
                await supervisor.start(node)
            await wait_ready(network.nodes, READY_TIMEOUT_S)
            yield network


class _Display:
    """Progress on stderr."""

    def __init__(self, output: Output, progress: Progress) -> None:
        self._output = output
        self._progress = progress
        self._task: TaskID | None = None

    def stage(self, text: str, total: int | None = None) -> None:
        """Begin a stage."""
        self._output.note(text)
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(text, total=total)

    def advance(self, steps: int) -> None:
        """Go on by some steps."""
        if self._task is not None:
            self._progress.advance(self._task, steps)


def _summary(output: Output, measured: Run, directory: Path) -> None:
    result = measured.result
    latency, counts = result["latency_ms"], result["transactions"]
    output.text("Benchmark", "bold")
    output.fields(
        {
            "offered": _number(result["offered_per_s"], "/s") or "closed loop",
            "finalized": _number(result["throughput"]["transactions_per_s"], "/s") or "unknown",
            "latency p50": _number(latency["p50"], "ms") or "unknown",
            "latency p99": _number(latency["p99"], "ms") or "unknown",
            "transactions": ", ".join(
                f"{counts[name]} {name}"
                for name in ("sent", "accepted", "finalized", "failed", "rejected", "unknown")
            ),
            "integrity": "passed" if measured.integrity.passed else "VIOLATED",
            "report": directory,
        }
    )
    output.table(
        ("node", "cpu s", "us per transaction", "rss MiB"),
        (
            (node["name"], node["cpu_s"], node["cpu_us_per_transaction"], _mebibytes(node))
            for node in result["nodes"]
        ),
    )


def _number(value: Any, unit: str) -> str | None:
    return None if value is None else f"{value:,.1f} {unit}"


def _mebibytes(node: dict[str, Any]) -> int | None:
    return None if node["rss_bytes"] is None else node["rss_bytes"] // 1024**2
