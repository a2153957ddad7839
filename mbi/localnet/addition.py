"""Adds a node to a local network that is there: for development, where one person owns all keys.

In production every organisation makes its own keys, and only public parts travel
(``docs/operations.md``, section 7).
"""

from __future__ import annotations

import re
import shutil
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ledger.crypto import SigningKey
from mbi.errors import UsageError
from mbi.keyfiles import read_key, replace_private_file, write_key
from mbi.localnet.certificates import write_channel_keys
from mbi.localnet.config_file import PeerText, config_text, peer_text
from mbi.localnet.identities import KeySource
from mbi.localnet.layout import NETWORK_FILE, Network, NodeEntry, save_network
from mbi.localnet.processes import initialise_databases, send_signal
from mbi.localnet.topology import LOOPBACK, PORT_MAX, PORT_STEP, PlannedNode

if TYPE_CHECKING:
    from pathlib import Path

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
"""The name becomes a directory and a name in a certificate."""


def add_node(network: Network, name: str) -> tuple[Network, NodeEntry]:
    """Lay out one more node, make its database, and tell the others; return the larger network.

    It has a consensus key, and observes until a validator set names it. It is not started.

    Raises:
        UsageError: the name is taken or malformed, or the network's nodes have other machines.
        ProcessFailed: the database could not be made; nothing is left behind.
    """
    node = _planned(network, name)
    entry = NodeEntry(
        name=name,
        role="observer",
        chamber=None,
        http=f"http://{node.host}:{node.http_port}",
        p2p=f"{node.host}:{node.p2p_port}",
        home=str((network.directory / "nodes" / name).resolve()),
    )
    peers = [PeerText(other.name, _node_id(other), other.p2p) for other in network.nodes]
    try:
        _write_home(network.directory, entry, config_text(node, peers, faucet_seed_file=None))
        initialise_databases([entry])
    except BaseException:
        shutil.rmtree(entry.home_path, ignore_errors=True)
        raise
    larger = replace(network, nodes=(*network.nodes, entry))
    replace_private_file(network.directory / NETWORK_FILE, save_network(larger))
    block = peer_text(PeerText(name, _node_id(entry), entry.p2p))
    for other in network.nodes:
        with (other.home_path / "config.toml").open("a", encoding="utf-8") as file:
            file.write(f"\n{block}\n")
        # A node that runs reads its peers again; one that does not will when it starts.
        send_signal(other, signal.SIGHUP)
    return larger, entry


def _planned(network: Network, name: str) -> PlannedNode:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"node name {name[:80]!r}: expected a lower-case letter, then up to 31 lower-case "
            "letters, digits and dashes"
        )
    home = network.directory / "nodes" / name
    if any(node.name == name for node in network.nodes) or home.exists():
        raise UsageError(f"{network.directory} has a node {name!r} already")
    if any(node.p2p.rpartition(":")[0] != LOOPBACK for node in network.nodes):
        raise UsageError(f"the nodes of {network.directory} have machines of their own")
    port = max(node.ports[0] for node in network.nodes) + PORT_STEP
    if port >= PORT_MAX:
        raise UsageError(f"there is no port left for a further node: {port} exceeds {PORT_MAX}")
    return PlannedNode(name, "observer", None, port, port + 1)


def _node_id(node: NodeEntry) -> str:
    return SigningKey.from_seed(
        read_key(node.home_path / "keys" / "node.pem", None)
    ).public_key.hex()


def _write_home(directory: Path, entry: NodeEntry, config: str) -> None:
    """Write keys from the operating system, a certificate of the network's CA, and settings."""
    source, keys = KeySource(), entry.home_path / "keys"
    keys.mkdir(mode=0o700, parents=True)
    entry.home_path.chmod(0o700)
    shutil.copyfile(directory / "genesis.json", entry.home_path / "genesis.json")
    (entry.home_path / "config.toml").write_text(config, encoding="utf-8")
    write_key(keys / "validator.pem", source.seed("validator"), None)
    authority = (directory / "ca" / "ca.crt").read_bytes()
    authority_seed = read_key(directory / "ca" / "ca.pem", None)
    write_channel_keys(keys, entry.name, source.seed("node"), authority_seed, authority)
