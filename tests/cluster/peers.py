"""Edits the list of peers in the configuration of a node."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet

from tests.cluster.cluster import Node


def keep_peers(node: Node, names: AbstractSet[str]) -> str:
    """Leave only these peers on a node's list; return the configuration as it was."""
    path = node.home / "config.toml"
    before = path.read_text()
    head, *peers = re.split(r"(?=^\[\[p2p\.peers\]\]$)", before, flags=re.MULTILINE)
    kept = [peer for peer in peers if any(f'name = "{name}"' in peer for name in names)]
    path.write_text(head + "".join(kept))
    return before


def connected(node: Node) -> set[str]:
    """Return the names of the peers that a node is connected to."""
    peers = node.api.get("/v1/peers")["items"]
    return {peer["name"] for peer in peers if peer["connected"]}
