"""The directory of a local network and the ``network.json`` that describes it.

::

    DIR/network.json          nodes and funded accounts (mode 0600: it holds their private keys)
    DIR/genesis.json          the same file that every node has
    DIR/ca/ca.crt, ca.pem     certificate and key of the network's authority
    DIR/accounts/NAME.pem     key files of the funded accounts and of the organisations' admins
    DIR/council/NAME.pem      key files of the recovery council, if the network has one
    DIR/nodes/NAME/           home of a node; node.log and node.pid while it runs
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mbi.errors import UsageError

if TYPE_CHECKING:
    from mbi.localnet.topology import Chamber, Role

NETWORK_FILE: Final = "network.json"
LAYOUT_VERSION: Final = 1


class NotANetwork(UsageError):
    """The directory holds no local network."""

    code = "not_a_network"


@dataclass(frozen=True, slots=True)
class NodeEntry:
    """One node of a network on disk."""

    name: str
    role: Role
    chamber: Chamber | None
    http: str
    """Base URL of the HTTP API."""
    p2p: str
    """host:port of the channel between nodes."""
    home: str
    """Absolute path."""

    @property
    def ports(self) -> tuple[int, int]:
        """Ports of the two listeners."""
        return int(self.p2p.rpartition(":")[2]), int(self.http.rpartition(":")[2])

    @property
    def home_path(self) -> Path:
        """Home as a path."""
        return Path(self.home)

    @property
    def log_path(self) -> Path:
        """File that collects what the process prints."""
        return self.home_path / "node.log"

    @property
    def pid_path(self) -> Path:
        """File that names the process while it runs."""
        return self.home_path / "node.pid"


@dataclass(frozen=True, slots=True)
class FundedAccount:
    """A development account with its key; never on a production network."""

    name: str
    address: str
    private_key: str
    """Seed in hex. Development only; this is the one place where a key is shown unasked."""
    asset: str
    balance: str
    """Minor units, decimal."""

    def __repr__(self) -> str:
        return f"FundedAccount({self.name}, {self.address}, {self.asset} {self.balance})"


@dataclass(frozen=True, slots=True)
class Network:
    """A local network as it lies on disk."""

    directory: Path
    chain_id: str
    genesis_hash: str
    nodes: tuple[NodeEntry, ...]
    accounts: tuple[FundedAccount, ...]

    def node(self, name: str) -> NodeEntry:
        """Return a node by name; raises :class:`UsageError` listing the names there are."""
        for node in self.nodes:
            if node.name == name:
                return node
        names = ", ".join(node.name for node in self.nodes)
        raise UsageError(f"no node named {name!r} in {self.directory}; there are: {names}")

    @property
    def accounts_directory(self) -> Path:
        """Where the key files of the funded accounts lie."""
        return self.directory / "accounts"

    def to_json(self, pids: dict[str, int | None]) -> dict[str, Any]:
        """Return the document of ``mbi dev --json`` and ``--ready-file``."""
        return {
            "chain_id": self.chain_id,
            "genesis_hash": self.genesis_hash,
            "accounts": [asdict(account) for account in self.accounts],
            "nodes": [
                {
                    "name": node.name,
                    "role": node.role,
                    "chamber": node.chamber,
                    "http": node.http,
                    "p2p": node.p2p,
                    "pid": pids.get(node.name),
                    "home": node.home,
                }
                for node in self.nodes
            ],
        }


def save_network(network: Network) -> bytes:
    """Return the content of ``network.json``."""
    document = {
        "version": LAYOUT_VERSION,
        "chain_id": network.chain_id,
        "genesis_hash": network.genesis_hash,
        "nodes": [asdict(node) for node in network.nodes],
        "accounts": [asdict(account) for account in network.accounts],
    }
    return (json.dumps(document, indent=2) + "\n").encode()


def load_network(directory: Path) -> Network:
    """Read ``network.json``; raises :class:`NotANetwork` saying how to make one."""
    path = directory / NETWORK_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["version"] != LAYOUT_VERSION:
            found = document["version"]
            raise NotANetwork(f"{path}: layout version {found}, expected {LAYOUT_VERSION}")
        return Network(
            directory=directory,
            chain_id=document["chain_id"],
            genesis_hash=document["genesis_hash"],
            nodes=tuple(NodeEntry(**entry) for entry in document["nodes"]),
            accounts=tuple(FundedAccount(**entry) for entry in document["accounts"]),
        )
    except FileNotFoundError as error:
        raise NotANetwork(
            f"{directory} holds no local network; make one with: mbi localnet init {directory}"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise NotANetwork(
            f"{path} is damaged ({type(error).__name__}); make the network again: "
            "mbi localnet init in a new directory"
        ) from error
