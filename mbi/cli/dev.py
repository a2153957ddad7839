"""``mbi dev``: a throw-away local network that lives as long as the command."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import click

from mbi.cli.base import MbiCommand, Session, any_path, pass_session
from mbi.cli.output import Output
from mbi.errors import ExitCode, ProcessFailed
from mbi.keyfiles import replace_private_file
from mbi.localnet.builder import build_network
from mbi.localnet.layout import Network
from mbi.localnet.ports import demand_free
from mbi.localnet.processes import stop_nodes
from mbi.localnet.readiness import READY_TIMEOUT_S, wait_ready
from mbi.localnet.supervisor import Supervisor
from mbi.localnet.topology import PORT_DEFAULT, Topology, plan, quorum_text


@click.command(cls=MbiCommand)
@click.option("--validators", default=4, show_default=True, help="Nodes that vote.")
@click.option("--observers", default=1, show_default=True, help="Nodes that only follow.")
@click.option("--port", default=PORT_DEFAULT, show_default=True, help="First port; ten per node.")
@click.option("--seed", help="Any text: the same text gives the same keys and chain id.")
@click.option("--keep", type=any_path(), metavar="DIR", help="Make it in DIR and keep it.")
@click.option("--ready-file", type=any_path(), help="Write the JSON of --json here when ready.")
@pass_session
def dev(
    session: Session,
    validators: int,
    observers: int,
    port: int,
    seed: str | None,
    keep: Path | None,
    ready_file: Path | None,
) -> None:
    r"""Run a local network until Ctrl-C; its data is deleted at the end.

    Validators alternate between the government and the commercial chamber. Everything listens on
    127.0.0.1 only. The keys shown are for development.

    \b
    Examples:
      mbi dev
      mbi dev --validators 7 --observers 2 --seed demo
      mbi dev --json --ready-file ready.json &
    """
    topology = plan(validators, observers, port)
    demand_free(topology.ports)
    directory = keep or Path(tempfile.mkdtemp(prefix="mbi-dev-"))
    try:
        with session.output.busy("making keys, genesis and databases"):
            network = build_network(directory, topology, seed)
        code = asyncio.run(
            _run(session.output, network, topology, ready_file, session.wait_s(READY_TIMEOUT_S))
        )
    finally:
        if keep is None:
            shutil.rmtree(directory, ignore_errors=True)
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)
    if keep is not None:
        session.output.note(f"kept in {keep}; run it again with: mbi localnet start {keep}")
    if code:
        raise click.exceptions.Exit(code)


async def _run(
    output: Output,
    network: Network,
    topology: Topology,
    ready_file: Path | None,
    ready_timeout_s: float,
) -> int:
    """Run until asked to stop; return the exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Under nohup the end of the terminal is to be ignored, and stays so.
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop.set)
    supervisor = Supervisor()
    stopping = asyncio.create_task(stop.wait())
    try:
        for node in network.nodes:
            await supervisor.start(node)
        if not await _become_ready(supervisor, network, stopping, ready_timeout_s):
            return ExitCode.INTERRUPTED
        document = network.to_json(supervisor.pids)
        if ready_file is not None:
            replace_private_file(ready_file, (json.dumps(document, indent=2) + "\n").encode())
        output.document(document)
        _banner(output, network, topology)
        await _report_deaths(output, supervisor, stopping)
        return ExitCode.OK
    finally:
        stopping.cancel()
        await _stop(output, supervisor, network)


async def _become_ready(
    supervisor: Supervisor, network: Network, stopping: asyncio.Task[bool], timeout_s: float
) -> bool:
    """Wait until all nodes are ready; False if asked to stop before."""
    ready = asyncio.create_task(wait_ready(network.nodes, timeout_s))
    death = asyncio.create_task(supervisor.wait_exit())
    try:
        await asyncio.wait({ready, death, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if death.done():
            raise ProcessFailed(death.result().description)
        if ready.done():
            ready.result()
        return ready.done()
    finally:
        ready.cancel()
        death.cancel()


async def _report_deaths(
    output: Output, supervisor: Supervisor, stopping: asyncio.Task[bool]
) -> None:
    """Tell about nodes that end, until asked to stop; the others go on."""
    while not stopping.done():
        death = asyncio.create_task(supervisor.wait_exit())
        await asyncio.wait({death, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not death.done():
            death.cancel()
            return
        ended = death.result()
        directory = ended.node.home_path.parent.parent
        output.warn(ended.description)
        output.note(f"start it again: mbi localnet node start {ended.node.name} --dir {directory}")


async def _stop(output: Output, supervisor: Supervisor, network: Network) -> None:
    output.note("stopping the nodes")
    killed = await supervisor.stop_all()
    # Nodes that were started again by hand are no children of ours, but belong to this network.
    killed += await asyncio.to_thread(stop_nodes, network.nodes)
    if killed:
        output.warn(f"did not stop in time and were killed: {', '.join(killed)}")
    output.note("all nodes stopped")


def _banner(output: Output, network: Network, topology: Topology) -> None:
    quorum = quorum_text(topology.chamber_size("government"), topology.chamber_size("commercial"))
    output.text("MBI development network is ready", "bold green")
    output.fields({"chain id": network.chain_id, "quorum": quorum, "data": network.directory})
    output.text("")
    output.table(
        ("node", "role", "chamber", "http"),
        ((node.name, node.role, node.chamber, node.http) for node in network.nodes),
    )
    output.text("")
    output.text("Funded accounts (development keys, known to everyone who sees this)", "bold")
    output.table(
        ("name", "address", "private key", "balance", "asset"),
        ((a.name, a.address, a.private_key, a.balance, a.asset) for a in network.accounts),
    )
    first, second = network.accounts[0], network.accounts[1]
    output.text("")
    output.text("Try in another terminal:", "bold")
    output.text(f"  export MBI_KEYS={network.accounts_directory} MBI_NODE={network.nodes[0].http}")
    output.text(
        f"  {_own_name()} tx send --from {first.name} --to {second.name} --asset {first.asset} "
        "--amount 100 --wait"
    )
    output.text(f"  curl {network.nodes[0].http}/v1/status")
    output.text("Ctrl-C stops everything.")


def _own_name() -> str:
    """Return how the command is called here: its name if the shell finds it, else its path."""
    return "mbi" if shutil.which("mbi") else os.path.relpath(sys.argv[0])
