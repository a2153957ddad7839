"""Which network a benchmark measures: given by URL, on disk, or made for the run."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from ledger.crypto import SigningKey
from mbi.bench.faults import Start
from mbi.bench.target import Target, TargetNode, nodes_of_network, resolve_target
from mbi.calls import parse_node_url
from mbi.cli.base import Session, any_path
from mbi.cli.output import Output
from mbi.cli.secret_input import keys_option, open_store
from mbi.errors import UsageError
from mbi.localnet.builder import build_network
from mbi.localnet.genesis import DEV_ASSET, ISSUER
from mbi.localnet.layout import Network, NodeEntry, load_network
from mbi.localnet.ports import demand_free
from mbi.localnet.processes import start_detached
from mbi.localnet.readiness import READY_TIMEOUT_S, wait_ready
from mbi.localnet.supervisor import Supervisor
from mbi.localnet.topology import PORT_DEFAULT, plan

R = TypeVar("R")

_OPTIONS: Final = (
    click.option("--url", "urls", multiple=True, help="Node to load; repeat it for each node."),
    click.option("--localnet", "directory", type=any_path(), help="Load the local network in DIR."),
    click.option(
        "--validators", default=4, show_default=True, help="Of a network made for this run."
    ),
    click.option(
        "--observers", default=0, show_default=True, help="Of a network made for this run."
    ),
    click.option("--port", default=PORT_DEFAULT, show_default=True, help="Of a network made here."),
    click.option(
        "--funder", default=ISSUER, show_default=True, help="Key that pays for the accounts."
    ),
    click.option("--asset", default=DEV_ASSET, show_default=True),
)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which network to measure, as the command line has it."""

    urls: tuple[str, ...]
    network: Network | None
    funder: SigningKey | None
    """None for a network made for the run, whose key is not known yet."""
    asset: str
    validators: int
    observers: int
    port: int


@dataclass(frozen=True, slots=True)
class Bed:
    """A network that is up."""

    target: Target
    start: Start | None
    """Starts one of its nodes again; None for nodes of another machine."""


def network_options(function: Callable[..., R]) -> Callable[..., R]:
    """Add the options that name the network, and pass them on as one ``choice``."""

    @functools.wraps(function)
    def wrapper(
        session: Session,
        /,
        *,
        urls: tuple[str, ...],
        directory: Path | None,
        validators: int,
        observers: int,
        port: int,
        funder: str,
        asset: str,
        keys_directory: Path | None,
        passphrase_file: Path | None,
        **options: Any,
    ) -> R:
        def choose() -> Choice:
            given = urls or ((session.node_url,) if session.has_node_flag else ())
            if given and directory is not None:
                raise UsageError("give either node URLs or --localnet")
            network = None if directory is None else load_network(directory)
            key: SigningKey | None = None
            if given or network is not None:
                folder = keys_directory or (network.accounts_directory if network else None)
                key = open_store(session, folder, passphrase_file).open(funder)
            parsed = tuple(map(parse_node_url, given))
            return Choice(parsed, network, key, asset, validators, observers, port)

        return function(session, choose=choose, **options)

    for option in reversed(_OPTIONS):
        wrapper = option(wrapper)
    return keys_option(wrapper)


@contextlib.asynccontextmanager
async def network_up(output: Output, choice: Choice) -> AsyncIterator[Bed]:
    """Yield the chosen network; one made for the run is gone afterwards."""
    if choice.funder is None:
        async with _own_network(output, choice) as (network, supervisor):
            accounts = network.accounts
            seed = next(item.private_key for item in accounts if item.name == ISSUER)
            funder = SigningKey.from_seed(bytes.fromhex(seed))
            nodes = nodes_of_network(network)
            yield Bed(await resolve_target(nodes, funder, choice.asset), supervisor.start)
    elif choice.network is not None:
        nodes = nodes_of_network(choice.network)
        yield Bed(await resolve_target(nodes, choice.funder, choice.asset), _start_detached)
    else:
        nodes = tuple(TargetNode(url, url, None) for url in choice.urls)
        yield Bed(await resolve_target(nodes, choice.funder, choice.asset), None)


async def _start_detached(node: NodeEntry) -> None:
    await asyncio.to_thread(start_detached, node)


@contextlib.asynccontextmanager
async def _own_network(output: Output, choice: Choice) -> AsyncIterator[tuple[Network, Supervisor]]:
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
            yield network, supervisor
