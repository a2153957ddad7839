"""The home of a node: its files, how a new one is initialised, and how an existing one is opened.

::

    HOME/config.toml          settings of this node (``node.config``)
    HOME/genesis.json         the network's genesis, the same on every node
    HOME/keys/validator.pem   consensus key; absent on an observer
    HOME/keys/node.pem, node.crt, ca.crt   identity of the channel to other nodes
    HOME/data/                the database
    HOME/signer.json          which database signed here last; kept apart on purpose
    HOME/halt-TIME.json       evidence, written if consensus stops for good (``node.forensics``)

A database is only ever made by :func:`init_home`. Opening never creates: an empty database with a
validator's key could sign against what it signed before.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from consensus.config import Restored
from consensus.inputs import PeerId
from ledger.block import Block, Header, block_hash
from ledger.block_rules import UsedNonces
from ledger.crypto import SigningKey
from ledger.errors import LedgerError
from ledger.genesis import Genesis, chain_id, genesis_block, parse_genesis
from ledger.history import History
from ledger.state import State
from ledger.transaction import decode_transaction
from ledger.transition import execute_genesis
from ledger.types import Digest
from mbi.keyfiles import read_key, read_passphrase_file
from node.block_pool import PoolBlock
from node.config import NodeConfig
from node.errors import HomeError
from p2p.config import NetworkConfig, PeerConfig
from p2p.identity import load_identity
from storage.chain_store import ChainStore, ExecutedBlock
from storage.leveldb import LevelDBStore
from storage.metadata import create_database, open_database
from storage.state_store import StateStore
from storage.vote_store import VoteStore

NONCE_BYTES: Final = 16
VALIDATOR_KEY: Final = "keys/validator.pem"
NODE_KEY: Final = "keys/node.pem"
NODE_CERTIFICATE: Final = "keys/node.crt"
CA: Final = "keys/ca.crt"
DATA: Final = "data"
MARKER: Final = "signer.json"


@dataclass(slots=True)
class OpenHome:
    """Everything a node starts from."""

    config: NodeConfig
    genesis: Genesis
    chain_id: Digest
    genesis_header: Header
    store: LevelDBStore
    chain: ChainStore
    votes: VoteStore
    state: State
    used: UsedNonces
    """(sender, nonce) pairs of the executed blocks within the validity window."""
    validator_key: SigningKey | None
    """None on an observer."""
    quarantine: str | None
    """Why this node must not vote yet."""

    def network_config(self) -> NetworkConfig:
        """Return what the network part needs."""
        config = self.config
        return NetworkConfig(
            host=config.p2p.host,
            port=config.p2p.port,
            node_key_path=config.home / NODE_KEY,
            certificate_path=config.home / NODE_CERTIFICATE,
            ca_path=config.home / CA,
            peers=tuple(
                PeerConfig(peer.name, PeerId(peer.node_id), peer.host or "", peer.port)
                for peer in config.p2p.peers
            ),
            genesis_hash=self.chain_id,
        )

    def restore(self) -> Restored:
        """Return what consensus knew before the restart."""
        return self.votes.restore(nonce=secrets.token_bytes(NONCE_BYTES))

    def unfinished_blocks(self, count: int) -> list[PoolBlock]:
        """Return the newest blocks stored above the head; they were verified before."""
        newest = sorted(self.chain.unfinished(), key=lambda block: block.header.view)[-count:]
        return [self._pool_block(block) for block in newest]

    def _pool_block(self, block: Block) -> PoolBlock:
        digest = block_hash(self.chain_id, block.header)
        transactions = [decode_transaction(self.chain_id, wire) for wire in block.transactions]
        return PoolBlock(digest, block.header, block.parent_certificate, transactions)

    def close(self) -> None:
        """Release the database."""
        self.store.close()


def init_home(home: Path, *, rejoin: bool) -> str:
    """Create the database of a node from its genesis file; return a line that says so.

    Raises:
        HomeError: the genesis file is missing or invalid.
        OpenError: there is a database, or there was one and ``rejoin`` is not given.
    """
    genesis = read_genesis(home)
    identity = chain_id(genesis)
    create_database(
        home / DATA,
        home / MARKER,
        identity,
        genesis_block(genesis),
        execute_genesis(genesis),
        rejoin=rejoin,
    )
    return f"initialised {home / DATA} for chain {identity.hex()}"


def read_genesis(home: Path) -> Genesis:
    """Read and check ``genesis.json``.

    Raises:
        HomeError: it is missing or breaks a rule; the message names the place in the file.
    """
    path = home / "genesis.json"
    try:
        return parse_genesis(path.read_bytes())
    except OSError as error:
        raise HomeError(
            f"{path}: {error.strerror}; copy the network's genesis file here"
        ) from error
    except LedgerError as error:
        raise HomeError(f"{path}: {error}") from error


def open_home(config: NodeConfig) -> OpenHome:
    """Open a home that :func:`init_home` has made, and count the start.

    Raises:
        HomeError: genesis is unusable, or a key does not fit the network.
        KeyFileError: the validator key cannot be read.
        OpenError: the database is missing, locked, damaged, or of another chain.
    """
    home = config.home
    genesis = read_genesis(home)
    identity = chain_id(genesis)
    key = _validator_key(config, genesis)
    _check_node_key(config, genesis, key)
    store, session = open_database(home / DATA, home / MARKER, identity)
    try:
        chain = ChainStore(store, identity)
        states = StateStore(store)
        history = History.load(chain.head().height + 1, states.history_page)
        state = State.load(identity, states, states.records(), history)
        _check_head(chain.head(), state)
        genesis_block = chain.require_executed(0)
        return OpenHome(
            config=config,
            genesis=genesis,
            chain_id=identity,
            genesis_header=genesis_block.header,
            store=store,
            chain=chain,
            votes=VoteStore(store, chain),
            state=state,
            used=_used_nonces(chain, genesis, identity),
            validator_key=key,
            quarantine=session.quarantine,
        )
    except BaseException:
        store.close()
        raise


def _validator_key(config: NodeConfig, genesis: Genesis) -> SigningKey | None:
    path = config.home / VALIDATOR_KEY
    if not path.exists():
        return None
    passphrase = None
    if config.passphrase_file is not None:
        passphrase = read_passphrase_file(config.passphrase_file)
    key = SigningKey.from_seed(read_key(path, passphrase, demand_encryption=not genesis.dev))
    if all(validator.consensus_key != key.public_key for validator in genesis.validators):
        raise HomeError(
            f"{path}: public key {key.public_key.hex()} is no validator of this genesis; remove "
            "the file to run as an observer, or use the key that was registered"
        )
    return key


def _check_node_key(config: NodeConfig, genesis: Genesis, key: SigningKey | None) -> None:
    """Refuse a channel key that is another node's, or not the one registered for this validator."""
    path = config.home / NODE_KEY
    node_key = load_identity(path, config.home / NODE_CERTIFICATE, config.home / CA).node_id
    for index, peer in enumerate(config.p2p.peers):
        if peer.node_id == node_key:
            raise HomeError(
                f"{path}: key {node_key.hex()} is also that of p2p.peers[{index}] ({peer.name}); "
                "every node needs a key of its own"
            )
    for validator in genesis.validators:
        is_ours = key is not None and validator.consensus_key == key.public_key
        if is_ours != (bytes(validator.node_key) == node_key):
            raise HomeError(
                f"{path}: node key {node_key.hex()} and the key in {VALIDATOR_KEY} do not belong "
                f"to one validator; {validator.name} is registered with node key "
                f"{validator.node_key.hex()}"
            )


def _check_head(head: ExecutedBlock, state: State) -> None:
    if (head.state_root, head.history_root) != (state.root, state.history.root):
        raise HomeError(
            f"the records on disk give state root {state.root.hex()}, block {head.height} left "
            f"{head.state_root.hex()}: the data directory is damaged; restore a backup, or move it "
            "away and run `mbi node init --rejoin`"
        )


def _used_nonces(chain: ChainStore, genesis: Genesis, identity: Digest) -> UsedNonces:
    """Rebuild the window of used (sender, nonce) pairs from the blocks it covers."""
    head = chain.head()
    window_ms = genesis.parameters.validity_window_ms
    used = UsedNonces()
    first = head.height
    for executed in chain.executed_blocks(0, head.height, reverse=True):
        if executed.header.time_ms < head.header.time_ms - window_ms:
            break
        first = executed.height
    for block in chain.blocks(first, head.height):
        decoded = [decode_transaction(identity, wire) for wire in block.transactions]
        used.add_block(block.header.time_ms, decoded)
    return used
