"""A chain on disk through several validator sets: real execution, signatures and database.

Blocks are made by the rules of consensus without running it: the leader's turn, the certificate of
the parent, deferred execution, and a boundary block as soon as the executed height covers a set
that the chain has scheduled.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from consensus.certificates import certificate_hash, encoded_signers
from consensus.leader import leader, leader_order
from consensus.types import Certificate
from ledger.address import address_of
from ledger.block import Block, Header, block_hash
from ledger.block_rules import transactions_root
from ledger.crypto import SigningKey
from ledger.encoding import encode
from ledger.era import EraStart
from ledger.genesis import RecoveryCouncil, chain_id, genesis_block, genesis_json
from ledger.history import History
from ledger.operations import Operation, ProposeChange, VoteChange
from ledger.operations.governance import sign_readiness
from ledger.records import AddValidator, Change, ProposalStatus, RemoveValidator, RotateKey
from ledger.state import State
from ledger.transaction import decode_transaction, sign_transaction
from ledger.transition import BlockExecution
from ledger.types import (
    ZERO_DIGEST,
    Digest,
    Epoch,
    Era,
    Height,
    ProposalId,
    TimeMs,
    View,
)
from ledger.validators import Validator, ValidatorSet
from ledger.votes import Value, VoteKind
from node.epochs import schedules_from
from node.home import DATA, init_home
from storage.chain_store import ChainStore
from storage.leveldb import LevelDBStore
from storage.schedule_store import ScheduleStore
from storage.state_store import StateStore
from tests.unit.certifying import certify
from tests.unit.ledger.builders import GENESIS_TIME_MS, make_key
from tests.unit.ledger.electorate import NOTICE_MS, consensus_key, make_network, validator

BLOCK_MS = 1_000
EXECUTION_LAG = 2
"""Heights between a block and the executed height in its header."""


class StoredChain:
    """Writes the chain of one network into the database of a node's home."""

    def __init__(self, home: Path, council: RecoveryCouncil | None = None) -> None:
        home.mkdir(parents=True)
        self.home = home
        self.genesis = msgspec.structs.replace(make_network(2, 3), council=council)
        (home / "genesis.json").write_bytes(genesis_json(self.genesis))
        init_home(home, rejoin=False)
        self.chain_id = chain_id(self.genesis)
        self.store = LevelDBStore.open(home / DATA)
        self.chain = ChainStore(self.store, self.chain_id)
        self.schedules = ScheduleStore(self.store)
        reader = StateStore(self.store)
        history = History.load(1, reader.history_page)
        self.state = State.load(self.chain_id, reader, reader.records(), history)
        self.base = genesis_block(self.genesis)
        self.era = Era(0)
        self.start: EraStart | None = None
        """What the next block is executed with, if it is the first of an era."""
        self.certified_every = 1
        """Only every so many blocks have a finalization of their own."""
        self.lag = EXECUTION_LAG
        self.is_everybody_there = True
        """Otherwise another member misses each certificate."""
        self.honours_schedules = True
        """Whether boundary blocks come where they are due."""
        self.ids: list[Digest] = []
        """Transactions that took effect."""
        self._keys = {
            consensus_key(m.name, n).public_key: consensus_key(m.name, n)
            for m in (*self.genesis.validators, validator("gov-8"), validator("com-8"))
            for n in range(3)
        }
        self._nonce = 0

    def __enter__(self) -> StoredChain:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.store.close()

    @property
    def members(self) -> ValidatorSet:
        start = self.start
        return ValidatorSet(self.state.validators.members if start is None else start.members)

    @property
    def epoch(self) -> Epoch:
        """Of the next block."""
        return self.state.validators.epoch if self.start is None else self.start.epoch

    def change_era(self, start: EraStart) -> None:
        """Go on from the head in the era of a plan."""
        self.start, self.era, self.base = start, start.era, self.chain.head().header

    def key_of(self, member: Validator) -> SigningKey:
        """Return the consensus key of a validator."""
        return self._keys[member.consensus_key]

    # --- blocks ---

    def block(self, *wires: bytes) -> Header:
        """Add a block; boundary blocks come before it as long as one is due."""
        while self.due():
            self._add((), self.due())
        return self._add(wires, ())

    def blocks(self, count: int) -> None:
        """Add empty blocks, and boundary blocks where they are due."""
        for _ in range(count):
            self._add((), self.due())

    def add_boundary(self, members: Sequence[Validator]) -> Header:
        """Add a boundary block with this set, due or not."""
        return self._add((), ValidatorSet(members).members)

    def due(self) -> tuple[Validator, ...]:
        """Return the set that the next block must bring; empty if it is no boundary block."""
        if not self.honours_schedules:
            return ()
        executed = self._executed_height()
        latest = self.schedules.schedule_at(executed)
        above = schedules_from(self.base, self.era)
        return latest[1] if latest is not None and latest[0] > above else ()

    def _executed_height(self) -> Height:
        head = self.chain.head().header
        return Height(max(head.height - self.lag, head.executed_height, 0))

    def next_block(
        self, wires: Sequence[bytes] = (), next_members: tuple[Validator, ...] = ()
    ) -> Block:
        """Return the next block without executing it."""
        head = self.chain.head()
        members, epoch = self.members, self.epoch
        base_hash = block_hash(self.chain_id, self.base)
        is_first = head.block_hash == base_hash
        view = View(1 if is_first else head.header.view + 1)
        parent = None if is_first else self.certify(head.header, VoteKind.NOTARIZE)
        decoded = [decode_transaction(self.chain_id, wire) for wire in wires]
        executed = self.chain.require_executed(self._executed_height())
        header = Header(
            version=1,
            era=self.era,
            epoch=epoch,
            height=Height(head.height + 1),
            view=view,
            parent_hash=head.block_hash,
            proposer=leader(leader_order(self.chain_id, self.era, epoch, members), view),
            time_ms=TimeMs(GENESIS_TIME_MS + (head.height + 1) * BLOCK_MS),
            transactions_root=transactions_root([item.wire_hash for item in decoded]),
            transaction_count=len(wires),
            body_bytes=sum(map(len, wires)),
            parent_certificate_hash=certificate_hash(parent),
            validator_set_hash=members.hash,
            executed_height=executed.height,
            state_root=executed.state_root,
            history_root=executed.history_root,
            next_validator_set_hash=ValidatorSet(next_members).hash
            if next_members
            else ZERO_DIGEST,
            previous_boundary_hash=base_hash,
        )
        return Block(header, encode(parent) if parent else b"", list(wires), next_members)

    def _add(self, wires: Sequence[bytes], next_members: tuple[Validator, ...]) -> Header:
        body = self.next_block(wires, next_members)
        header = body.header
        certificate = self.certify(header)
        mask = encoded_signers(body.parent_certificate)
        execution = BlockExecution(self.state, header, mask, next_members, self.start)
        self.start = None
        decoded = [decode_transaction(self.chain_id, wire) for wire in wires]
        receipts = [execution.apply(item) for item in decoded]
        outcome = execution.finish()
        assert all(receipt.code == "ok" for receipt in receipts), receipts
        self.ids += [item.id for item in decoded]
        is_certified = bool(next_members) or header.height % self.certified_every == 0
        batch = self.store.batch()
        digest = block_hash(self.chain_id, header)
        self.chain.add_finalized(
            batch, digest, body, outcome, certificate if is_certified else None
        )
        self.schedules.add(batch, outcome)
        self.store.write(batch, sync=True)
        self.state.stored(header.height)
        if next_members:
            self.base = header
        return header

    def certify(self, header: Header, kind: VoteKind = VoteKind.FINALIZE) -> Certificate:
        """Return a certificate of the members over a block of the present epoch."""
        members = self.members
        value = Value(View(header.view - 1), block_hash(self.chain_id, header))
        away = None if self.is_everybody_there else header.height % len(members)
        return certify(
            self.chain_id,
            members,
            [index for index in range(len(members)) if index != away],
            (kind, header.era, header.epoch, header.view, value),
            lambda member, message: self._keys[member.consensus_key].sign(message),
        )

    # --- transactions ---

    def wire(self, sender: str, operation: Operation) -> bytes:
        """Return a transaction of the account that belongs to a name."""
        self._nonce += 1
        until = self.chain.head().header.time_ms + 120_000
        key = make_key(sender)
        return sign_transaction(
            self.chain_id, address_of(key.public_key), self._nonce, until, [operation], "", [key]
        )

    def approve(self, change: Change) -> None:
        """Propose a change, let organisations vote for it, and wait until it is in force."""
        epoch = self.state.validators.epoch
        self.request(change)
        self.blocks(NOTICE_MS // BLOCK_MS + 2 * EXECUTION_LAG + 2)
        assert self.state.validators.epoch == Epoch(epoch + 1)

    def request(self, change: Change) -> None:
        """Propose a change, and let organisations vote until it is approved."""
        voters = sorted(member.name for member in self.members)
        self.block(self.wire(voters[0], ProposeChange(None, change)))
        number = ProposalId(self.state.agenda.proposals)
        for name in voters[1:]:
            proposal = self.state.proposal(number)
            if proposal is None or proposal.status is not ProposalStatus.OPEN:
                return
            self.block(self.wire(name, VoteChange(None, number, approve=True)))

    def ready(self, who: Validator, key: SigningKey) -> None:
        """Post that a validator's node is ready."""
        expires = TimeMs(self.chain.head().header.time_ms + 15_000)
        operation = sign_readiness(self.chain_id, who, expires, key)
        self.block(self.wire(who.organisation, operation))

    def run(self) -> StoredChain:
        """Go through three set changes: one validator leaves, one comes, one has new keys."""
        self.blocks(3)
        self.approve(RemoveValidator(consensus_key("com-3").public_key))
        self.ready(validator("gov-8"), consensus_key("gov-8"))
        self.approve(AddValidator(validator("gov-8")))
        fresh = validator("com-1", 1)
        self.ready(fresh, consensus_key("com-1", 1))
        old = consensus_key("com-1").public_key
        self.approve(RotateKey(old, fresh.consensus_key, fresh.node_key))
        self.blocks(3)
        return self
