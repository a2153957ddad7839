"""Replays a whole data directory and compares everything that can be computed again.

From nothing but the genesis file: every block's hash and place, every signature, every
certificate, every rule for bodies, every receipt and every root, and every change of the validator
set: that the chain scheduled it, that the block which had to bring it did, and that a quorum of
the set before finalised that block, or a recovery plan did. What the database claims is never
believed; the first difference is reported with its height and ends the replay. What the replay has
no use for, such as indexes and votes, is read once, so that its checksums are verified too. The
node must be stopped.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, TextIO

from consensus.certificates import signers, verify_certificate
from consensus.errors import ConsensusError
from consensus.light import LightClient
from consensus.recovery import RecoveryPlan
from consensus.types import Certificate
from consensus.validity import check_header, check_parent_certificate, is_boundary
from ledger.block import PARENT_CERTIFICATE_BYTES_MAX, Block, Header, block_hash
from ledger.block_rules import UsedBefore, UsedNonces, check_body
from ledger.crypto import verify, verify_many
from ledger.encoding import StrictDecoder
from ledger.errors import InvariantViolation, LedgerError
from ledger.genesis import Genesis, chain_id, genesis_block
from ledger.history import History
from ledger.receipt import Receipt
from ledger.state import State, tree_of
from ledger.transaction import DecodedTransaction, decode_transaction
from ledger.transition import BlockExecution, BlockOutcome, execute_genesis
from ledger.types import ZERO_DIGEST, Digest, Height
from ledger.validators import Validator, ValidatorSet
from node.epochs import schedules_from
from node.home import DATA, read_genesis
from storage.chain_store import ChainStore, ExecutedBlock
from storage.kv import HIGHEST_KEY, LOWEST_KEY, KeyValueStore
from storage.leveldb import LevelDBStore
from storage.memory import MemoryStore
from storage.metadata import read_identity
from storage.recovery_store import RecoveryStore
from storage.schedule_store import ScheduleStore
from storage.state_store import StateStore, put_state

PROGRESS_BLOCKS: Final = 500
"""Blocks between two lines of progress."""

_decode_certificate = StrictDecoder(Certificate, PARENT_CERTIFICATE_BYTES_MAX).decode


class Mismatch(Exception):
    """What the database says differs from what was computed."""


@dataclass(slots=True)
class AuditReport:
    """What was verified, and the first thing that did not hold."""

    chain_id: str
    height: int = 0
    """Last block that was verified."""
    epoch: int = 0
    """Changes of the validator set that were verified."""
    transactions: int = 0
    signatures: int = 0
    certificates: int = 0
    state_root: str = ""
    problem: str | None = None

    @property
    def is_intact(self) -> bool:
        """Whether everything held."""
        return self.problem is None

    def to_json(self) -> str:
        """Return one JSON document."""
        return json.dumps({**asdict(self), "intact": self.is_intact})

    def to_text(self) -> str:
        """Return lines for people."""
        verdict = "INTACT" if self.is_intact else f"NOT INTACT: {self.problem}"
        return (
            f"{verdict}\nchain {self.chain_id}\nblocks 0 to {self.height}, {self.epoch} changes of "
            f"the validator set, {self.transactions} transactions, {self.signatures} signatures, "
            f"{self.certificates} certificates verified\nstate root {self.state_root}"
        )


def audit_home(home: Path, progress: TextIO) -> AuditReport:
    """Replay the data directory of a stopped node.

    Raises:
        HomeError: no usable genesis file.
        OpenError: no usable database.
        StoreCorrupt: a record cannot be read, whatever it is for.
    """
    genesis = read_genesis(home)
    store = LevelDBStore.open(home / DATA)
    try:
        identity = chain_id(genesis)
        read_identity(store, identity)
        replay = _Replay(genesis, store)
        replay.run(_Progress(progress))
        for _record in store.iterate(LOWEST_KEY, HIGHEST_KEY):
            pass  # Reading verifies its checksum.
        return replay.report
    finally:
        store.close()


class _Progress:
    """Tells how far the replay is, as long as anybody reads it; the verdict needs no reader."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream

    def tell(self, line: str) -> None:
        """Write one line."""
        if self._stream is None:
            return
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except BrokenPipeError:
            self._stream = None


class _Replay:
    """One pass over the chain, with a state of its own in memory."""

    def __init__(self, genesis: Genesis, store: KeyValueStore) -> None:
        self._genesis = genesis
        self._chain_id = chain_id(genesis)
        self._client = LightClient.from_genesis(genesis)
        self._plans = tuple(RecoveryStore(store).plans())
        self._chain = ChainStore(store, self._chain_id)
        self._schedules = ScheduleStore(store)
        self._records = StateStore(store)
        self._memory = MemoryStore()
        self._used = UsedNonces()
        self._parent = genesis_block(genesis)
        self._roots: list[tuple[bytes, bytes]] = []
        self._scheduled: list[tuple[Height, tuple[Validator, ...]]] = []
        self._state = self._first_state()
        self.report = AuditReport(self._chain_id.hex())

    def _first_state(self) -> State:
        outcome = execute_genesis(self._genesis)
        self._write(outcome)
        reader = StateStore(self._memory)
        history = History.load(1, reader.history_page)
        self._roots.append((outcome.state_root, outcome.history_root))
        return State.load(self._chain_id, reader, reader.records(), history)

    def _write(self, outcome: BlockOutcome) -> None:
        batch = self._memory.batch()
        put_state(batch, outcome.state_writes, outcome.history_writes)
        self._memory.write(batch, sync=False)

    def run(self, progress: _Progress) -> None:
        """Verify block after block; stops at the first difference."""
        report = self.report
        head = self._chain.head()
        try:
            self._demand(
                self._chain.require_executed(0).block_hash, self._hash_of_parent(), "genesis"
            )
            uncertified = 0
            for executed in self._chain.executed_blocks(1, head.height):
                uncertified = 0 if self._verify_block(executed) else uncertified + 1
                report.height = executed.height
                if executed.height % PROGRESS_BLOCKS == 0:
                    progress.tell(f"block {executed.height} of {head.height}")
            if uncertified and not self._change_era(None):
                raise Mismatch(f"no finalization covers the last {uncertified} blocks")
            stored_root = tree_of(self._records.records()).root
            self._demand(stored_root, self._state.root, "root of the stored state records")
            self._demand(list(self._schedules.schedules(-1)), self._scheduled, "scheduled sets")
        except (Mismatch, LedgerError, ConsensusError, InvariantViolation) as error:
            report.problem = f"after block {report.height}: {error}"
        report.state_root = self._state.root.hex()

    def _change_era(self, header: Header | None) -> RecoveryPlan | None:
        """Follow the plans that continue from the last block; return the last of them.

        ``header`` is of the first block of the new era; None if there is none yet.
        """
        followed: RecoveryPlan | None = None
        last = self._hash_of_parent()
        for plan in self._plans:
            is_due = plan.base_hash == last if header is None else plan.era <= header.era
            if is_due and self._client.era < plan.era:
                self._client.advance(self._parent, plan, plan.members)
                self.report.epoch = self._client.epoch
                followed = plan
        return followed

    def _verify_block(self, executed: ExecutedBlock) -> bool:
        """Verify one block wholly; return whether it has a finalization of its own."""
        height = executed.height
        block = self._chain.block(executed.block_hash)
        if block is None:
            raise Mismatch(f"block {height} has no body")
        plan = self._change_era(block.header)
        parent_certificate = self._verify_header(block, executed)
        transactions = [decode_transaction(self._chain_id, wire) for wire in block.transactions]
        self._verify_signatures(transactions)
        used = UsedBefore(block.header.time_ms, [self._used])
        check_body(block.header, transactions, self._state.parameters, used)
        self._used.add_block(block.header.time_ms, transactions)
        mask = 0 if parent_certificate is None else signers(parent_certificate)
        start = None if plan is None else plan.start
        execution = BlockExecution(self._state, block.header, mask, block.next_validators, start)
        for transaction in transactions:
            execution.apply(transaction)
        outcome = execution.finish()
        self._write(outcome)
        self._state.stored(height)
        self._verify_outcome(outcome, executed, self._chain.receipts(height))
        self._roots.append((outcome.state_root, outcome.history_root))
        if outcome.schedule is not None:
            self._scheduled.append(outcome.schedule)
        self._parent = block.header
        self.report.transactions += len(transactions)
        return self._verify_finalization(block)

    def _verify_header(self, block: Block, executed: ExecutedBlock) -> Certificate | None:
        """Verify a header by the rules of its epoch; return the certificate of its parent."""
        header = block.header
        self._demand(block_hash(self._chain_id, header), executed.block_hash, "block hash")
        self._demand(header, executed.header, "header")
        rules = self._client.rules
        check_header(header, self._parent, self._hash_of_parent(), rules)
        certified = (header.state_root, header.history_root)
        self._demand(certified, self._roots[header.executed_height], "certified roots")
        self._verify_next_set(block)
        certificate = None
        if block.parent_certificate:
            certificate = _decode_certificate(block.parent_certificate)
        check_parent_certificate(header, certificate, rules)
        if certificate is not None:
            verify_certificate(
                certificate, self._chain_id, rules.validators, rules.era, rules.epoch, verify
            )
            self.report.certificates += 1
        return certificate

    def _verify_next_set(self, block: Block) -> None:
        """V5: a block brings the latest set scheduled since the epoch's base, and no other."""
        header = block.header
        opened = schedules_from(self._client.base, self._client.era)
        due = [
            members
            for height, members in self._scheduled
            if opened < height <= header.executed_height
        ]
        members = due[-1] if due else ()
        expected = ValidatorSet(members).hash if members else ZERO_DIGEST
        where = f"block {header.height}"
        self._demand(header.next_validator_set_hash, expected, f"{where}: next validator set")
        self._demand(block.next_validators, members, f"{where}: next validators")

    def _verify_signatures(self, transactions: list[DecodedTransaction]) -> None:
        items = [item for transaction in transactions for item in transaction.signature_items()]
        if not all(verify_many(items)):
            raise Mismatch("a transaction's signature does not verify")
        self.report.signatures += len(items)

    def _verify_outcome(
        self, outcome: BlockOutcome, executed: ExecutedBlock, receipts: list[Receipt]
    ) -> None:
        self._demand(outcome.receipts, receipts, f"receipts of block {executed.height}")
        ours = (outcome.state_root, outcome.history_root, outcome.receipts_root)
        theirs = (executed.state_root, executed.history_root, executed.receipts_root)
        self._demand(theirs, ours, f"roots of block {executed.height}")

    def _verify_finalization(self, block: Block) -> bool:
        """Verify the block's own finalization, which a boundary block must have."""
        header = block.header
        certificate = self._chain.certificate(header.height)
        if is_boundary(header):
            closing = certificate or self._plan_of(header)
            if closing is None:
                raise Mismatch(f"boundary block {header.height} has no finalization")
            self._client.advance(header, closing, block.next_validators)
            self.report.epoch = self._client.epoch
        elif certificate is None:
            return False
        else:
            self._client.check_final(header, certificate)
        self.report.certificates += 1
        return True

    def _plan_of(self, header: Header) -> RecoveryPlan | None:
        """Return the plan that made a block final; None if there is none."""
        digest = block_hash(self._chain_id, header)
        return next((plan for plan in self._plans if plan.base_hash == digest), None)

    def _hash_of_parent(self) -> Digest:
        return block_hash(self._chain_id, self._parent)

    @staticmethod
    def _demand(found: object, expected: object, what: str) -> None:
        if found != expected:
            raise Mismatch(f"{what}: expected {_shown(expected)}, found {_shown(found)}")


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)[:200]
