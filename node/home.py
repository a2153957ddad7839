"""The home of a node: its files, how a new one is initialised, and how an existing one is opened.

::

    HOME/config.toml          settings of this node (``node.config``)
    HOME/genesis.json         the network's genesis, the same on every node
    HOME/keys/validator.pem   consensus key; absent on an observer
    HOME/keys/validator-next.pem   the key that follows it, while keys are being rotated
    HOME/keys/reporter.pem    key of the account that reports evidence; optional
    HOME/keys/node.pem, node.crt, ca.crt   identity of the channel to other nodes
    HOME/data/                the database
    HOME/signer.json          which database signed here last; kept apart on purpose
    HOME/fence.json           eras in which this node never votes again (``node.recovery``)
    HOME/halt-TIME.json       evidence, written if consensus stops for good (``node.forensics``)

A database is only ever made by :func:`init_home`. Opening never creates: an empty database with a
validator's key could sign against what it signed before.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from consensus.config import Restored
from consensus.inputs import PeerId
from consensus.recovery import RecoveryPlan
from ledger.block import Block, Header, block_hash
from ledger.block_rules import UsedNonces
from ledger.crypto import SigningKey
from ledger.errors import LedgerError
from ledger.genesis import Genesis, chain_id, genesis_block, parse_genesis
from ledger.history import History
from ledger.records import VALIDITY_WINDOW_MS_MAX
from ledger.state import State
from ledger.transaction import decode_transaction
from ledger.transition import execute_genesis
from ledger.types import Digest, Epoch, Era
from ledger.validators import Validator, ValidatorSet
from mbi.keyfiles import read_key, read_passphrase_file
from node.block_pool import PoolBlock
from node.config import NodeConfig, PeerEntry
from node.epochs import plan_on
from node.errors import HomeError
from node.recovery import finish_eras, is_fenced, renew_fence
from p2p.config import NetworkConfig, PeerConfig
from p2p.identity import load_identity
from storage.chain_store import ChainStore, ExecutedBlock
from storage.evidence_store import EvidenceStore
from storage.kv import KeyValueStore
from storage.leveldb import LevelDBStore
from storage.metadata import create_database, open_database
from storage.recovery_store import RecoveryStore
from storage.schedule_store import ScheduleStore
from storage.state_store import StateStore
from storage.vote_store import VoteStore

NONCE_BYTES: Final = 16
VALIDATOR_KEY: Final = "keys/validator.pem"
NEXT_VALIDATOR_KEY: Final = "keys/validator-next.pem"
REPORTER_KEY: Final = "keys/reporter.pem"
NODE_KEY: Final = "keys/node.pem"
NODE_CERTIFICATE: Final = "keys/node.crt"
CA: Final = "keys/ca.crt"
DATA: Final = "data"
MARKER: Final = "signer.json"
FENCE: Final = "fence.json"


@dataclass(frozen=True, slots=True)
class Seat:
    """A node's place in a validator set."""

    index: int
    key: SigningKey
    """Signs its votes."""


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
    schedules: ScheduleStore
    evidence: EvidenceStore
    plans: tuple[RecoveryPlan, ...]
    """Recovery plans that were accepted here, oldest era first."""
    state: State
    used: UsedNonces
    """(sender, nonce) pairs of the executed blocks within the validity window."""
    validator_keys: tuple[SigningKey, ...]
    """None of them on an observer; two while keys are being rotated."""
    reporter_key: SigningKey | None
    """Of the account that reports evidence, if this node has it."""
    node_id: PeerId
    """Key of its channel."""
    quarantine: str | None
    """Why this node must not vote yet."""

    def plan_after(self, era: Era) -> RecoveryPlan | None:
        """Return the accepted plan that ends an era, if any."""
        return next((plan for plan in self.plans if plan.era > era), None)

    def is_fenced(self, era: Era) -> bool:
        """Tell whether this node has promised never to vote in an era again."""
        return is_fenced(self.votes, era)

    def network_config(self) -> NetworkConfig:
        """Return what the network part needs."""
        config = self.config
        return NetworkConfig(
            host=config.p2p.host,
            port=config.p2p.port,
            node_key_path=config.home / NODE_KEY,
            certificate_path=config.home / NODE_CERTIFICATE,
            ca_path=config.home / CA,
            peers=peer_configs(config.p2p.peers),
            genesis_hash=self.chain_id,
        )

    def seat_in(self, validators: ValidatorSet) -> Seat | None:
        """Return this node's place in a set; None if it only observes the epoch of this set.

        A key that was put into the home after the start is found when the set names it.
        """
        index = validators.index_of_node(self.node_id)
        if index is None:
            return None
        consensus_key = validators[index].consensus_key
        key = _find_key(self.validator_keys, consensus_key)
        if key is None:
            self.validator_keys = validator_keys(self.config, self.genesis)
            key = _find_key(self.validator_keys, consensus_key)
        return None if key is None else Seat(index, key)

    def restore(self) -> Restored:
        """Return what consensus knew before the restart."""
        return self.votes.restore(nonce=new_nonce())

    def unfinished_blocks(self, epoch: Epoch, count: int) -> list[PoolBlock]:
        """Return the newest blocks of an epoch stored above the head; they were verified before."""
        blocks = [block for block in self.chain.unfinished() if block.header.epoch == epoch]
        newest = sorted(blocks, key=lambda block: block.header.view)[-count:]
        return [self._pool_block(block) for block in newest]

    def _pool_block(self, block: Block) -> PoolBlock:
        digest = block_hash(self.chain_id, block.header)
        transactions = [decode_transaction(self.chain_id, wire) for wire in block.transactions]
        return PoolBlock(
            digest, block.header, block.parent_certificate, transactions, block.next_validators
        )

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
    keys = validator_keys(config, genesis)
    reporter = config.home / REPORTER_KEY
    reporter_key = SigningKey.from_seed(read_key(reporter, None)) if reporter.exists() else None
    node_id = _node_id(config)
    store, session = open_database(home / DATA, home / MARKER, identity)
    try:
        chain, schedules = ChainStore(store, identity), ScheduleStore(store)
        state = load_state(store, chain, identity)
        votes, plans = VoteStore(store, chain), tuple(RecoveryStore(store).plans())
        renew_fence(home / FENCE, store, votes)
        finish_eras(plans, store, chain, schedules, state)
        members = _members(state, chain, plans)
        _check_seat(config, members, keys, node_id, is_behind=session.quarantine is not None)
        genesis_block = chain.require_executed(0)
        return OpenHome(
            config=config,
            genesis=genesis,
            chain_id=identity,
            genesis_header=genesis_block.header,
            store=store,
            chain=chain,
            votes=votes,
            schedules=schedules,
            evidence=EvidenceStore(store),
            plans=plans,
            state=state,
            used=_used_nonces(chain, identity),
            validator_keys=keys,
            reporter_key=reporter_key,
            node_id=node_id,
            quarantine=session.quarantine,
        )
    except BaseException:
        store.close()
        raise


def peer_configs(entries: Sequence[PeerEntry]) -> tuple[PeerConfig, ...]:
    """Return configured peers in the form in which the network takes them."""
    return tuple(PeerConfig(e.name, PeerId(e.node_id), e.host or "", e.port) for e in entries)


def load_state(store: KeyValueStore, chain: ChainStore, identity: Digest) -> State:
    """Return the state of the head of a chain; raises HomeError if it is damaged."""
    states = StateStore(store)
    history = History.load(chain.head().height + 1, states.history_page)
    state = State.load(identity, states, states.records(), history)
    _check_head(chain.head(), state)
    return state


def _members(
    state: State, chain: ChainStore, plans: tuple[RecoveryPlan, ...]
) -> tuple[Validator, ...]:
    """Return who votes on the next block: the set of a plan on its base, which no state has yet."""
    plan = plan_on(plans, Digest(chain.head().block_hash))
    return state.validators.members if plan is None else plan.members


def new_nonce() -> bytes:
    """Return fresh random bytes that prove an answer to be of this start."""
    return secrets.token_bytes(NONCE_BYTES)


def _find_key(keys: tuple[SigningKey, ...], public_key: bytes) -> SigningKey | None:
    return next((key for key in keys if key.public_key == public_key), None)


def validator_keys(config: NodeConfig, genesis: Genesis) -> tuple[SigningKey, ...]:
    """Return the consensus keys in a home; raises KeyFileError."""
    paths = [config.home / name for name in (VALIDATOR_KEY, NEXT_VALIDATOR_KEY)]
    passphrase = None
    if config.passphrase_file is not None:
        passphrase = read_passphrase_file(config.passphrase_file)
    return tuple(
        SigningKey.from_seed(read_key(path, passphrase, demand_encryption=not genesis.dev))
        for path in paths
        if path.exists()
    )


def _node_id(config: NodeConfig) -> PeerId:
    """Return the key of the channel; refuse one that is also a peer's."""
    path = config.home / NODE_KEY
    node_id = load_identity(path, config.home / NODE_CERTIFICATE, config.home / CA).node_id
    for index, peer in enumerate(config.p2p.peers):
        if peer.node_id == node_id:
            raise HomeError(
                f"{path}: key {node_id.hex()} is also that of p2p.peers[{index}] ({peer.name}); "
                "every node needs a key of its own"
            )
    return node_id


def _check_seat(
    config: NodeConfig,
    members: tuple[Validator, ...],
    keys: tuple[SigningKey, ...],
    node_id: PeerId,
    *,
    is_behind: bool,
) -> None:
    """Refuse half of a member: its consensus key without its node key, or the reverse.

    A node that lost its database (``is_behind``) may begin in an epoch for which it had another
    consensus key, which it need not keep for ever.
    """
    for member in members:
        is_ours = _find_key(keys, member.consensus_key) is not None
        if is_behind and not is_ours:
            continue
        if is_ours != (bytes(member.node_key) == node_id):
            raise HomeError(
                f"{config.home / NODE_KEY}: node key {node_id.hex()} and the keys in "
                f"{VALIDATOR_KEY} and {NEXT_VALIDATOR_KEY} do not belong to one validator; "
                f"{member.name} votes with consensus key {member.consensus_key.hex()} and node key "
                f"{member.node_key.hex()}"
            )


def _check_head(head: ExecutedBlock, state: State) -> None:
    if (head.state_root, head.history_root) != (state.root, state.history.root):
        raise HomeError(
            f"the records on disk give state root {state.root.hex()}, block {head.height} left "
            f"{head.state_root.hex()}: the data directory is damaged; move "
            "it away and run `mbi node init --rejoin`"
        )


def _used_nonces(chain: ChainStore, identity: Digest) -> UsedNonces:
    """Rebuild the window of used (sender, nonce) pairs from the blocks it covers.

    The longest window that any parameters allow: the present one may have been longer before.
    """
    head = chain.head()
    window_ms = VALIDITY_WINDOW_MS_MAX
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
