"""``config.toml`` of a node of a local network."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mbi.localnet.topology import PlannedNode


@dataclass(frozen=True, slots=True)
class PeerText:
    """One entry of a node's list of peers."""

    name: str
    node_id: str
    """Key of its channel, in hex."""
    address: str
    """host:port"""


def config_text(
    node: PlannedNode, peers: Iterable[PeerText], *, faucet_seed_file: str | None
) -> str:
    """Return the settings of one node: its listeners and its peers."""
    http: dict[str, Any] = {"host": node.listen, "port": node.http_port}
    if node.in_container:
        http["allowed_hosts"] = [node.host]
    blocks = [
        _block("[node]", {"name": node.name}),
        _block("[http]", http),
        _block("[p2p]", {"host": node.listen, "port": node.p2p_port}),
        _block("[log]", {"level": "info", "format": "json"}),
        *map(peer_text, peers),
    ]
    if faucet_seed_file is not None:
        blocks.insert(3, _block("[keys]", {"faucet_seed_file": faucet_seed_file}))
    return "\n\n".join(blocks) + "\n"


def peer_text(peer: PeerText) -> str:
    """Return the table of one peer, without a line end."""
    return _block("[[p2p.peers]]", asdict(peer))


def _block(head: str, table: dict[str, Any]) -> str:
    # JSON strings without control characters, numbers and lists of them are TOML ones too.
    return "\n".join([head, *(f"{key} = {json.dumps(value)}" for key, value in table.items())])
