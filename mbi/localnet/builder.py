"""Makes a whole local network on disk: keys, certificates, genesis, homes and databases."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from ledger.address import format_address
from ledger.genesis import Genesis, chain_id, genesis_json
from mbi.errors import UsageError
from mbi.keyfiles import create_private_file, write_key
from mbi.localnet.certificates import make_authority, write_channel_keys
from mbi.localnet.config_file import PeerText, config_text
from mbi.localnet.genesis import (
    DEV_ACCOUNTS,
    DEV_ASSET,
    FAUCET,
    account_address,
    admin_label,
    council_label,
    dev_genesis,
    genesis_hash,
    reporter_label,
)
from mbi.localnet.identities import KeySource
from mbi.localnet.layout import (
    NETWORK_FILE,
    FundedAccount,
    Network,
    NodeEntry,
    load_network,
    save_network,
)
from mbi.localnet.processes import initialise_databases
from mbi.localnet.topology import PlannedNode, Topology

FAUCET_SEED_FILE: Final = "keys/faucet.seed"
"""Below the home of a node; only development networks have a faucet."""


def build_network(
    directory: Path, topology: Topology, seed: str | None, *, with_council: bool = False
) -> Network:
    """Write a new network into ``directory`` and create the nodes' databases.

    ``with_council`` also names a recovery council in its genesis; its keys are in ``council/``.
    Raises :class:`UsageError` if the directory is not empty: keys and chains are never overwritten.
    """
    _claim(directory)
    source = KeySource(seed)
    genesis = dev_genesis(topology, source, with_council=with_council)
    network = Network(
        directory=directory,
        chain_id=chain_id(genesis).hex(),
        genesis_hash=genesis_hash(genesis).hex(),
        nodes=tuple(_entry(directory, node) for node in topology.nodes),
        accounts=_accounts(source),
    )
    authority_seed = source.seed("ca")
    authority = make_authority(authority_seed, genesis.network)
    _write_shared(network, genesis, authority_seed, authority, source)
    for node, entry in zip(topology.nodes, network.nodes, strict=True):
        _write_home(entry, node, topology, source, authority_seed, authority, genesis)
    initialise_databases(network.nodes)
    # Last, so that a network that was interrupted half-way is never taken for a whole one.
    create_private_file(directory / NETWORK_FILE, save_network(network))
    return network


def keep_or_build_network(
    directory: Path, topology: Topology, seed: str | None, *, with_council: bool = False
) -> Network:
    """Return the network in ``directory`` if it has these nodes; build it if there is none.

    For a service that runs before each start of the nodes. Raises :class:`UsageError` if the
    directory holds something else.
    """
    if not (directory / NETWORK_FILE).exists():
        return build_network(directory, topology, seed, with_council=with_council)
    network = load_network(directory)
    found = [node.name for node in network.nodes]
    wanted = [node.name for node in topology.nodes]
    if found != wanted:
        raise UsageError(
            f"{directory} holds a network of {', '.join(found)}, not of {', '.join(wanted)}; "
            "who validates is part of the genesis: remove the old network first"
        )
    return network


def reset_network(network: Network) -> None:
    """Delete every chain and log, and create empty databases; the nodes must be stopped."""
    for node in network.nodes:
        shutil.rmtree(node.home_path / "data", ignore_errors=True)
        for name in ("signer.json", "fence.json", "node.log", "node.pid"):
            (node.home_path / name).unlink(missing_ok=True)
    initialise_databases(network.nodes)


def _claim(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Empty directories hold nothing to overwrite: mounted volumes leave them here.
        if any(not path.is_dir() for path in directory.rglob("*")):
            raise UsageError(
                f"{directory} is not empty; choose a new directory, or run the network in it with: "
                f"mbi localnet start {directory}"
            )
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise UsageError(f"{directory} cannot be used: {error.strerror}") from error


def _entry(directory: Path, node: PlannedNode) -> NodeEntry:
    return NodeEntry(
        name=node.name,
        role=node.role,
        chamber=node.chamber,
        http=f"http://{node.host}:{node.http_port}",
        p2p=f"{node.host}:{node.p2p_port}",
        home=str((directory / "nodes" / node.name).resolve()),
    )


def _accounts(source: KeySource) -> tuple[FundedAccount, ...]:
    return tuple(
        FundedAccount(
            name=account.name,
            address=format_address(account_address(source, account)),
            private_key=source.seed(account.label).hex(),
            asset=DEV_ASSET,
            balance=str(account.balance),
        )
        for account in DEV_ACCOUNTS
    )


def _write_shared(
    network: Network, genesis: Genesis, authority_seed: bytes, authority: bytes, source: KeySource
) -> None:
    (network.directory / "genesis.json").write_bytes(genesis_json(genesis))
    folder = network.directory / "ca"
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "ca.crt").write_bytes(authority)
    write_key(folder / "ca.pem", authority_seed, None)
    network.accounts_directory.mkdir(mode=0o700, exist_ok=True)
    labels = {account.name: account.label for account in DEV_ACCOUNTS}
    labels |= {f"{item.id}-admin": admin_label(item.id) for item in genesis.organisations}
    for name, label in labels.items():
        write_key(network.accounts_directory / f"{name}.pem", source.seed(label), None)
    if genesis.council is not None:
        folder = network.directory / "council"
        folder.mkdir(mode=0o700, exist_ok=True)
        for member in genesis.council.members:
            seed = source.seed(council_label(member.name))
            write_key(folder / f"{member.name}.pem", seed, None)


def _write_home(
    entry: NodeEntry,
    node: PlannedNode,
    topology: Topology,
    source: KeySource,
    authority_seed: bytes,
    authority: bytes,
    genesis: Genesis,
) -> None:
    keys = entry.home_path / "keys"
    keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    (entry.home_path / "genesis.json").write_bytes(genesis_json(genesis))
    (entry.home_path / "config.toml").write_text(node_config(node, topology, source))
    if node.role == "validator":
        write_key(keys / "validator.pem", source.seed(f"validator/{node.name}"), None)
        write_key(keys / "reporter.pem", source.seed(reporter_label(node.name)), None)
    node_seed = source.seed(f"node/{node.name}")
    write_channel_keys(keys, node.name, node_seed, authority_seed, authority)
    if not _gives(node):
        return
    faucet_seed = source.seed(f"account/{FAUCET}").hex()
    create_private_file(entry.home_path / FAUCET_SEED_FILE, f"{faucet_seed}\n".encode())


def _gives(node: PlannedNode) -> bool:
    """Tell whether a node has the faucet; in containers a validator has only its own keys."""
    return not node.in_container or node.role == "observer"


def node_config(node: PlannedNode, topology: Topology, source: KeySource) -> str:
    """Return the ``config.toml`` of one node: its listeners and all other nodes as peers."""
    peers = [
        PeerText(
            peer.name,
            source.key(f"node/{peer.name}").public_key.hex(),
            f"{peer.host}:{peer.p2p_port}",
        )
        for peer in topology.nodes
        if peer.name != node.name
    ]
    return config_text(node, peers, faucet_seed_file=FAUCET_SEED_FILE if _gives(node) else None)
