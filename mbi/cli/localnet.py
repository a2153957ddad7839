"""Commands for a persistent local network in the background: ``mbi localnet``."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import click

from mbi.cli.base import MbiGroup, Session, any_path, pass_session
from mbi.errors import OperationFailed, UsageError
from mbi.localnet.addition import add_node
from mbi.localnet.builder import build_network, keep_or_build_network, reset_network
from mbi.localnet.compose import COMPOSE_FILE, demand_publishable, write_compose
from mbi.localnet.layout import NETWORK_FILE, Network, load_network
from mbi.localnet.ports import demand_free
from mbi.localnet.processes import log_tail, send_signal, start_detached, state_of, stop_nodes
from mbi.localnet.readiness import READY_TIMEOUT_S, NodeReport, report_all, wait_ready
from mbi.localnet.topology import PORT_DEFAULT, advice, plan, plan_containers

DIRECTORY_DEFAULT: Final = Path("localnet")
WATCH_S: Final = 1.0
"""Between two pictures: faster ones cannot be read."""
FOLLOW_S: Final = 0.2
"""Between two looks at a log file: the standard library cannot wait for a file to grow."""
LOG_LINES: Final = 50

Decorated = Callable[..., Any]


def directory_argument(function: Decorated) -> Decorated:
    """Add ``[DIR]`` and the equal option ``--dir``."""
    function = click.argument("directory", type=any_path(), required=False)(function)
    return directory_option(function)


def directory_option(function: Decorated) -> Decorated:
    """Add ``--dir``."""
    return click.option(
        "--dir",
        "directory_flag",
        type=any_path(),
        help="Directory of the network (default: this one if it holds one, otherwise ./localnet).",
    )(function)


def find_network(*given: Path | None) -> Network:
    """Load the network that the command line names, or the one that is near.

    Raises :class:`UsageError` if it is one for containers: its nodes are no processes of ours.
    """
    here = Path() if Path(NETWORK_FILE).exists() else DIRECTORY_DEFAULT
    directory = next((one for one in given if one is not None), here)
    network = load_network(directory)
    if (directory / COMPOSE_FILE).exists():
        raise UsageError(
            f"the nodes of {directory} run in containers; use: "
            f"docker-compose -f {directory / COMPOSE_FILE} up -d | stop | ps | logs"
        )
    return network


@click.group(cls=MbiGroup)
def localnet() -> None:
    r"""Make and run a network of nodes on this machine, in the background.

    \b
    Example:
      mbi localnet init demo && mbi localnet start demo
      mbi localnet status demo
      mbi localnet node stop gov-2 --dir demo
      mbi localnet stop demo

    Validators alternate between the government and the commercial chamber. A block needs more than
    two thirds of all validators and at least half of each chamber. An odd number in each chamber is
    recommended for production: then not even a whole chamber that lies can cause a fork.
    """


@localnet.command()
@click.argument("directory", type=any_path(), default=DIRECTORY_DEFAULT)
@click.option("--validators", default=4, show_default=True, help="Nodes that vote.")
@click.option("--government", type=int, help="How many of them are government (default: half).")
@click.option("--observers", default=1, show_default=True, help="Nodes that only follow.")
@click.option("--port", default=PORT_DEFAULT, show_default=True, help="First port; ten per node.")
@click.option("--seed", help="Any text: the same text gives the same keys and chain id.")
@click.option(
    "--containers",
    is_flag=True,
    help="Each node has a machine of its own under its name; a network that is there is kept.",
)
@click.option(
    "--compose",
    is_flag=True,
    help="For containers on this machine: write DIRECTORY/docker-compose.yml, too.",
)
@click.option(
    "--council",
    is_flag=True,
    help="Name a recovery council in the genesis; its keys are in DIRECTORY/council.",
)
@pass_session
def init(
    session: Session,
    directory: Path,
    validators: int,
    government: int | None,
    observers: int,
    port: int,
    seed: str | None,
    containers: bool,
    compose: bool,
    council: bool,
) -> None:
    r"""Write keys, genesis, certificates and homes of a new network into DIRECTORY.

    \b
    Example:
      mbi localnet init demo --validators 7 --observers 2
      mbi localnet init demo --validators 7 --government 4 --compose
      mbi localnet init /network --containers
    """
    if containers and compose:
        raise UsageError("give either --containers or --compose")
    if containers and port != PORT_DEFAULT:
        raise UsageError(f"--port has no use with --containers: every node has {PORT_DEFAULT}")
    if containers or compose:
        topology = plan_containers(validators, observers, government)
    else:
        topology = plan(validators, observers, port, government)
    if compose:
        demand_publishable(topology, port)
    make = keep_or_build_network if containers else build_network
    with session.output.busy("making keys, genesis and databases"):
        network = make(directory, topology, seed, with_council=council)
    if compose:
        write_compose(directory, topology, f"mbi-node:{metadata.version('mbi-node')}", port)
    session.output.document(network.to_json({}))
    session.output.text(
        f"network {network.chain_id[:16]} with {len(network.nodes)} nodes: {directory}"
    )
    if compose:
        session.output.note(f"start it: docker-compose -f {directory / COMPOSE_FILE} up -d")
    elif not containers:
        session.output.note(f"start it with: mbi localnet start {directory}")
    hint = advice(topology.chamber_size("government"), topology.chamber_size("commercial"))
    if hint:
        session.output.note(hint)


@localnet.command()
@directory_argument
@click.option("--no-wait", is_flag=True, help="Do not wait until the nodes are ready.")
@pass_session
def start(
    session: Session, directory: Path | None, directory_flag: Path | None, no_wait: bool
) -> None:
    """Start every node that is not running, and wait until all are ready."""
    network = find_network(directory, directory_flag)
    stopped = [node for node in network.nodes if state_of(node).pid is None]
    demand_free([port for node in stopped for port in node.ports])
    for node in stopped:
        start_detached(node)
    if not no_wait:
        with session.output.busy("waiting until the nodes are ready"):
            asyncio.run(wait_ready(network.nodes, session.wait_s(READY_TIMEOUT_S)))
    _show(session, network)


@localnet.command()
@directory_argument
@pass_session
def stop(session: Session, directory: Path | None, directory_flag: Path | None) -> None:
    """Stop every node."""
    network = find_network(directory, directory_flag)
    running = [node for node in network.nodes if state_of(node).pid is not None]
    killed = stop_nodes(network.nodes)
    session.output.document({"stopped": [node.name for node in running], "killed": killed})
    session.output.text(f"stopped {len(running)} nodes")
    _report_killed(session, killed)


@localnet.command()
@directory_argument
@click.option("--watch", is_flag=True, help="Show it again every second until Ctrl-C.")
@pass_session
def status(
    session: Session, directory: Path | None, directory_flag: Path | None, watch: bool
) -> None:
    """Show every node: state, process and height."""
    network = find_network(directory, directory_flag)
    while watch:
        reports = report_all(network.nodes)
        session.output.clear()
        session.output.stream_item(_status_document(network, reports))
        _table(session, reports)
        time.sleep(WATCH_S)
    _show(session, network)


@localnet.command()
@click.argument("name", metavar="NODE")
@directory_option
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C.")
@click.option("--lines", default=LOG_LINES, show_default=True, help="How many of the last lines.")
@pass_session
def logs(
    session: Session, name: str, directory_flag: Path | None, follow: bool, lines: int
) -> None:
    r"""Print the log of a node.

    \b
    Example:
      mbi localnet logs -f gov-1
    """
    path = find_network(directory_flag).node(name).log_path
    for line in log_tail(path, lines):
        click.echo(line)
    if not follow:
        return
    with path.open("rb") as file:
        file.seek(0, 2)
        while True:
            if block := file.read():
                click.echo(block.decode(errors="replace"), nl=False)
            else:
                time.sleep(FOLLOW_S)


@localnet.command()
@directory_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_session
def reset(session: Session, directory: Path | None, directory_flag: Path | None, yes: bool) -> None:
    """Stop the network and delete its chain; genesis, keys and ports stay."""
    network = find_network(directory, directory_flag)
    if not yes and not session.output.is_json:
        click.confirm(f"Delete the chain of {network.directory}?", abort=True, err=True)
    _report_killed(session, stop_nodes(network.nodes))
    with session.output.busy("making databases"):
        reset_network(network)
    session.output.document({"reset": str(network.directory)})
    session.output.text(f"{network.directory} is back at its genesis")


@localnet.group("node")
def one_node() -> None:
    """Stop, start or pause one node, to see what the others do; add one."""


@one_node.command("stop")
@click.argument("name", metavar="NODE")
@directory_option
@click.option("--kill", is_flag=True, help="Kill it without warning (SIGKILL).")
@pass_session
def node_stop(session: Session, name: str, directory_flag: Path | None, kill: bool) -> None:
    """Stop one node."""
    node = find_network(directory_flag).node(name)
    if state_of(node).pid is None:
        raise OperationFailed(f"node {name} is {state_of(node).state}, there is nothing to stop")
    killed = stop_nodes([node], grace_s=0.0) if kill else stop_nodes([node])
    session.output.document({"name": name, "state": "stopped"})
    session.output.text(f"node {name} {'killed' if kill else 'stopped'}")
    if not kill:
        _report_killed(session, killed)


@one_node.command("start")
@click.argument("name", metavar="NODE")
@directory_option
@pass_session
def node_start(session: Session, name: str, directory_flag: Path | None) -> None:
    """Start one node, or let a paused one go on."""
    node = find_network(directory_flag).node(name)
    process = state_of(node)
    if process.state == "running":
        raise OperationFailed(f"node {name} runs already (process {process.pid})")
    if process.state == "paused":
        send_signal(node, signal.SIGCONT)
    else:
        demand_free(node.ports)
        start_detached(node)
    session.output.document({"name": name, "state": "running", "pid": state_of(node).pid})
    session.output.text(f"node {name} started (process {state_of(node).pid})")


@one_node.command("pause")
@click.argument("name", metavar="NODE")
@directory_option
@pass_session
def node_pause(session: Session, name: str, directory_flag: Path | None) -> None:
    """Freeze one node (SIGSTOP); `node start` lets it go on."""
    node = find_network(directory_flag).node(name)
    if state_of(node).state != "running":
        raise OperationFailed(f"node {name} is {state_of(node).state}, not running")
    send_signal(node, signal.SIGSTOP)
    session.output.document({"name": name, "state": "paused", "pid": state_of(node).pid})
    session.output.text(f"node {name} paused")


@one_node.command("add")
@click.argument("name", metavar="NODE")
@directory_option
@click.option("--no-start", is_flag=True, help="Do not start it.")
@pass_session
def node_add(session: Session, name: str, directory_flag: Path | None, no_start: bool) -> None:
    r"""Add a node with keys of its own, and start it; for development only.

    It observes until the organisations make it a validator (mbi gov). In production an
    organisation makes its own keys: docs/operations.md.

    \b
    Example:
      mbi localnet node add com-3 --dir demo
    """
    with session.output.busy("making keys and a database"):
        network, node = add_node(find_network(directory_flag), name)
    if not no_start:
        demand_free(node.ports)
        start_detached(node)
        with session.output.busy("waiting until it is ready"):
            asyncio.run(wait_ready([node], session.wait_s(READY_TIMEOUT_S)))
    process = state_of(node)
    session.output.document(
        {
            "name": name,
            "role": node.role,
            "http": node.http,
            "p2p": node.p2p,
            "home": node.home,
            "state": process.state,
            "pid": process.pid,
        }
    )
    where = f"{node.http} (process {process.pid})" if process.pid else "not started"
    session.output.text(f"node {name} observes: {where}")
    home = network.directory / "nodes" / name
    session.output.note(f"to make it a validator: mbi gov validator --home {home} --help")


def _show(session: Session, network: Network) -> None:
    reports = report_all(network.nodes)
    session.output.document(_status_document(network, reports))
    _table(session, reports)


def _status_document(network: Network, reports: list[NodeReport]) -> dict[str, Any]:
    return {
        "chain_id": network.chain_id,
        "directory": str(network.directory.resolve()),
        "nodes": [report.to_json() for report in reports],
    }


def _table(session: Session, reports: list[NodeReport]) -> None:
    columns = ("name", "role", "chamber", "state", "height", "pid", "http")
    session.output.table(
        columns,
        ([report.to_json()[column] for column in columns] for report in reports),
    )
    for report in reports:
        if report.detail:
            session.output.note(f"{report.node.name}: {report.detail}")


def _report_killed(session: Session, killed: list[str]) -> None:
    if killed:
        session.output.warn(f"did not stop in time and were killed: {', '.join(killed)}")
