"""What a benchmark runs against: node URLs, the chain, and an account that can fund others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger.address import address_of, format_address
from ledger.crypto import SigningKey
from ledger.types import Digest
from mbi.client import AsyncClient
from mbi.errors import IntegrityViolation, UsageError
from mbi.localnet.layout import Network, NodeEntry
from mbi.localnet.processes import state_of


@dataclass(frozen=True, slots=True)
class LocalProcess:
    """A node process on this machine whose resources can be read."""

    entry: NodeEntry

    @property
    def pid(self) -> int | None:
        """Process id at this moment; None while the node is down."""
        return state_of(self.entry).pid

    @property
    def home(self) -> Path:
        """Home of the node."""
        return self.entry.home_path


@dataclass(frozen=True, slots=True)
class TargetNode:
    """One node of the network under test."""

    name: str
    url: str
    process: LocalProcess | None
    """None for a node on another machine."""


@dataclass(frozen=True, slots=True)
class Target:
    """The network under test."""

    nodes: tuple[TargetNode, ...]
    chain_id: Digest
    funder: SigningKey
    """Admin of its organisation that also holds the asset."""
    organisation: str
    asset: str
    software: str
    """Version that the first node reports."""


def nodes_of_network(network: Network) -> tuple[TargetNode, ...]:
    """Return the running nodes of a local network."""
    found = [
        TargetNode(node.name, node.http, LocalProcess(node))
        for node in network.nodes
        if state_of(node).pid is not None
    ]
    if not found:
        raise UsageError(
            f"no node of {network.directory} runs; start it: mbi localnet start {network.directory}"
        )
    return tuple(found)


async def resolve_target(nodes: Sequence[TargetNode], funder: SigningKey, asset: str) -> Target:
    """Ask every node who it is; all must be on one chain, and the funder must be registered."""
    statuses: list[dict[str, Any]] = []
    for node in nodes:
        async with AsyncClient(node.url) as client:
            statuses.append(await client.status())
    chains = {str(status["chain_id"]) for status in statuses}
    if len(chains) != 1:
        raise IntegrityViolation(f"the nodes are on different chains: {', '.join(sorted(chains))}")
    address = format_address(address_of(funder.public_key))
    async with AsyncClient(nodes[0].url) as client:
        account = await client.account(address)
    return Target(
        nodes=tuple(
            TargetNode(str(status.get("name") or node.name), node.url, node.process)
            for node, status in zip(nodes, statuses, strict=True)
        ),
        chain_id=Digest(bytes.fromhex(chains.pop())),
        funder=funder,
        organisation=str(account["organisation"]),
        asset=asset,
        software=str(statuses[0].get("version", "unknown")),
    )
