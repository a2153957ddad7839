"""Replays a whole data directory and compares everything that can be computed again.

From nothing but the genesis file: every block's hash and place, every signature, every
finalization certificate, every rule for bodies, every receipt and every root. What the database
claims is never believed; the first difference is reported with its height and ends the replay.
The node must be stopped.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, TextIO

from consensus.certificates import certificate_hash, encoded_signers, verify_certificate
from consensus.errors import ConsensusError
from consensus.types import Certificate
from ledger.block import PARENT_CERTIFICATE_BYTES_MAX, Block, block_hash
from ledger.block_rules import UsedBefore, UsedNonces, check_body
from ledger.crypto import verify, verify_many
from ledger.encoding import StrictDecoder
from ledger.errors import LedgerError
from ledger.genesis import Genesis, chain_id, genesis_block
from ledger.history import History
from ledger.receipt import Receipt
from ledger.state import State, tree_of
from ledger.transaction import DecodedTransaction, decode_transaction
from ledger.transition import BlockExecution, BlockOutcome, execute_genesis
from ledger.types import Epoch, Era
from ledger.validators import ValidatorSet
from ledger.votes import VoteKind
from node.home import DATA, read_genesis
from storage.chain_store import ChainStore, ExecutedBlock
from storage.leveldb import LevelDBStore
from storage.memory import MemoryStore
from storage.metadata import read_identity
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
            f"{verdict}\nchain {self.chain_id}\nblocks 0 to {self.height}, {self.transactions} "
            f"transactions, {self.signatures} signatures, {self.certificates} certificates verified"
            f"\nstate root {self.state_root}"
        )


def audit_home(home: Path, progress: TextIO) -> AuditReport:
    """Replay the data directory of a stopped node.

    Raises:
        HomeError: no usable genesis file.
        OpenError: no usable database.
    """
    genesis = read_genesis(home)
    store = LevelDBStore.open(home / DATA)
    try:
        identity = chain_id(genesis)
        read_identity(store, identity)
        replay = _Replay(genesis, ChainStore(store, identity), StateStore(store))
        replay.run(progress)
        return replay.report
    finally:
        store.close()


class _Replay:
    """One pass over the chain, with a state of its own in memory."""

    def __init__(self, genesis: Genesis, chain: ChainStore, records: StateStore) -> None:
        self._genesis = genesis
        self._chain_id = chain_id(genesis)
        self._validators = ValidatorSet(genesis.validators)
        self._chain = chain
        self._records = records
        self._memory = MemoryStore()
        self._used = UsedNonces()
        self._parent = genesis_block(genesis)
        self._roots: list[tuple[bytes, bytes]] = []
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

    def run(self, progress: TextIO) -> None:
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
                    progress.write(f"block {executed.height} of {head.height}\n")
            if uncertified:
                raise Mismatch(f"no finalization covers the last {uncertified} blocks")
            stored_root = tree_of(self._records.records()).root
            self._demand(stored_root, self._state.root, "root of the stored state records")
        except (Mismatch, LedgerError, ConsensusError) as error:
            report.problem = f"after block {report.height}: {error}"
        report.state_root = self._state.root.hex()

    def _verify_block(self, executed: ExecutedBlock) -> bool:
        """Verify one block wholly; return whether it has a finalization of its own."""
        height = executed.height
        block = self._chain.block(executed.block_hash)
        if block is None:
            raise Mismatch(f"block {height} has no body")
        self._verify_header(block, executed)
        transactions = [decode_transaction(self._chain_id, wire) for wire in block.transactions]
        self._verify_signatures(transactions)
        used = UsedBefore(block.header.time_ms, [self._used])
        check_body(block.header, transactions, self._state.parameters, used)
        self._used.add_block(block.header.time_ms, transactions)
        execution = BlockExecution(
            self._state,
            block.header,
            encoded_signers(block.parent_certificate),
            block.next_validators or None,
        )
        for transaction in transactions:
            execution.apply(transaction)
        outcome = execution.finish()
        self._write(outcome)
        self._state.stored(height)
        self._verify_outcome(outcome, executed, self._chain.receipts(height))
        self._roots.append((outcome.state_root, outcome.history_root))
        self._parent = block.header
        self.report.transactions += len(transactions)
        return self._verify_finalization(executed)

    def _verify_header(self, block: Block, executed: ExecutedBlock) -> None:
        header = block.header
        self._demand(block_hash(self._chain_id, header), executed.block_hash, "block hash")
        self._demand(header, executed.header, "header")
        self._demand(header.height, self._parent.height + 1, "height")
        self._demand(header.parent_hash, self._hash_of_parent(), "parent hash")
        self._demand(header.validator_set_hash, self._validators.hash, "validator set")
        if header.time_ms <= self._parent.time_ms:
            raise Mismatch(f"block {header.height}: time does not grow")
        if header.executed_height >= header.height:
            raise Mismatch(f"block {header.height} certifies itself or a later block")
        certified = (header.state_root, header.history_root)
        self._demand(certified, self._roots[header.executed_height], "certified roots")
        parent_certificate = None
        if block.parent_certificate:
            parent_certificate = _decode_certificate(block.parent_certificate)
            self._verify_certificate(parent_certificate, header.parent_hash)
        self._demand(
            certificate_hash(parent_certificate),
            header.parent_certificate_hash,
            "hash of the parent's certificate",
        )

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

    def _verify_finalization(self, executed: ExecutedBlock) -> bool:
        certificate = self._chain.certificate(executed.height)
        if certificate is None:
            return False
        if certificate.kind is not VoteKind.FINALIZE:
            raise Mismatch(f"block {executed.height}: its certificate is no finalization")
        self._verify_certificate(certificate, executed.block_hash)
        return True

    def _verify_certificate(self, certificate: Certificate, digest: bytes) -> None:
        self._demand(certificate.value.block_hash, digest, "block of a certificate")
        verify_certificate(certificate, self._chain_id, self._validators, Era(0), Epoch(0), verify)
        self.report.certificates += 1

    def _hash_of_parent(self) -> bytes:
        return block_hash(self._chain_id, self._parent)

    @staticmethod
    def _demand(found: object, expected: object, what: str) -> None:
        if found != expected:
            raise Mismatch(f"{what}: expected {_shown(expected)}, found {_shown(found)}")


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)[:200]
