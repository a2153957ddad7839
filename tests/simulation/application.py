"""The simulated application: what the node's ledger is to consensus, reduced to its rules.

Transactions are opaque bytes, identified by their hash, and valid if they start with
:data:`TRANSACTION_PREFIX`. Execution chains hashes. The rules that consensus leaves to the
application are all here, numbered as in ``docs/protocol.md``: V2 the clock, V3 the roots, V4
back-pressure and V6 transactions. Everything on the node's disk that is not a vote or a certificate
is written here.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import msgspec

from consensus.inputs import Verdict
from ledger.block import HEADER_VERSION, Block, Header, block_hash
from ledger.types import ZERO_DIGEST, Digest, Epoch, Era, Height, TimeMs, View

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from consensus.types import Certificate
    from tests.simulation.disk import Batch, Disk

TRANSACTION_PREFIX: Final = b"\x01"
"""First byte of every well-formed transaction."""

BLOCK_TRANSACTIONS_MAX: Final = 16
"""Transactions per block; small, so that bursts need several blocks."""

CLOCK_AHEAD_MS: Final = 500
"""A block may be this far ahead of a validator's clock (V2)."""

EXECUTION_LAG_MAX: Final = 8
"""A block further ahead of its executed height must be empty (V4)."""

GENESIS_TIME_MS: Final = 1_000_000
"""Time of the genesis block; nodes' clocks start a little later."""

Roots = tuple[Digest, Digest]
"""State root and history root after a height."""


def transaction_hash(wire: bytes) -> Digest:
    """Return the hash by which blocks name a transaction."""
    return Digest(sha256(b"transaction" + wire).digest())


def transactions_root(hashes: Iterable[Digest]) -> Digest:
    """Return the commitment of a header to its transactions."""
    return Digest(sha256(b"root" + b"".join(hashes)).digest())


def split_payload(payload: bytes) -> list[Digest]:
    """Return the transaction hashes of a proposal; a ragged end becomes a short, unknown hash."""
    return [Digest(payload[i : i + 32]) for i in range(0, len(payload), 32)]


def is_payload_of(payload: bytes, header: Header) -> bool:
    """Tell whether a payload is the list of transactions that a header commits to."""
    return transactions_root(split_payload(payload)) == header.transactions_root


def certificate_hash(encoded: bytes) -> Digest:
    """Return what a header says about its parent's certificate: zeros if there is none."""
    return Digest(sha256(encoded).digest()) if encoded else ZERO_DIGEST


def execute(roots: Roots, block_digest: Digest, block: Block) -> Roots:
    """Return the roots after a block: a chain of hashes over everything executed."""
    state = sha256(b"state" + roots[0] + b"".join(block.transactions)).digest()
    history = sha256(b"history" + roots[1] + block_digest + state).digest()
    return Digest(state), Digest(history)


def genesis_header(validator_set_hash: Digest) -> Header:
    """Return the block of height 0."""
    return Header(
        version=HEADER_VERSION,
        era=Era(0),
        epoch=Epoch(0),
        height=Height(0),
        view=View(0),
        parent_hash=ZERO_DIGEST,
        proposer=0,
        time_ms=TimeMs(GENESIS_TIME_MS),
        transactions_root=transactions_root(()),
        transaction_count=0,
        body_bytes=0,
        parent_certificate_hash=ZERO_DIGEST,
        validator_set_hash=validator_set_hash,
        executed_height=Height(0),
        state_root=Digest(sha256(b"genesis state").digest()),
        history_root=Digest(sha256(b"genesis history").digest()),
        next_validator_set_hash=ZERO_DIGEST,
        previous_boundary_hash=ZERO_DIGEST,
    )


@dataclass(frozen=True, slots=True)
class Network:
    """What all nodes of one network know before the first block."""

    chain_id: Digest
    genesis: Header
    genesis_hash: Digest

    @classmethod
    def create(cls, chain_id: Digest, validator_set_hash: Digest) -> Network:
        """Derive the genesis block."""
        genesis = genesis_header(validator_set_hash)
        return cls(chain_id, genesis, block_hash(chain_id, genesis))


@dataclass(frozen=True, slots=True)
class Ancestors:
    """Transactions of a block's ancestors: of the unexecuted ones, and of the chain to a height."""

    recent: set[Digest]
    executed_at: dict[Digest, int]
    height: int

    def contain(self, transaction: Digest) -> bool:
        """Say whether the transaction is in an ancestor. Later executed blocks do not count."""
        return (
            transaction in self.recent
            or self.executed_at.get(transaction, self.height + 1) <= self.height
        )


class Application:
    """Blocks, mempool and executed chain of one node; rebuilt from its disk at each start."""

    def __init__(self, network: Network, disk: Disk) -> None:
        self.network = network
        self.blocks: dict[Digest, Block] = {}
        """Whole blocks by hash, verified or fetched."""
        self.chain: list[Digest] = [network.genesis_hash]
        """Hash of the executed block of each height."""
        self.roots: list[Roots] = [(network.genesis.state_root, network.genesis.history_root)]
        self.mempool: dict[Digest, bytes] = {}
        """Transactions in no executed block, oldest first."""
        self.wires: dict[Digest, bytes] = {}
        """Every transaction seen, so that a proposal's list can be turned into a body."""
        self._executed_at: dict[Digest, int] = {}
        for key, record in disk.live.items():
            if key[0] == "block" and isinstance(record, Block):
                self.blocks[Digest(bytes(key[1]))] = record  # type: ignore[arg-type]
        while (entry := disk.live.get(("executed", len(self.chain)))) is not None:
            executed: tuple[Digest, Roots] = entry  # type: ignore[assignment]
            self._append(*executed)

    @property
    def head(self) -> Height:
        """Executed height."""
        return Height(len(self.chain) - 1)

    def header(self, digest: Digest) -> Header | None:
        """Return a known header."""
        if digest == self.network.genesis_hash:
            return self.network.genesis
        block = self.blocks.get(digest)
        return None if block is None else block.header

    def has_executed(self, transaction: Digest) -> bool:
        """Say whether a transaction is in the executed chain."""
        return transaction in self._executed_at

    def add_transactions(self, wires: Sequence[bytes]) -> list[bytes]:
        """Put well-formed, new transactions into the mempool and return them."""
        added = []
        for wire in wires:
            digest = transaction_hash(wire)
            if digest in self.mempool or digest in self._executed_at:
                continue
            if not wire.startswith(TRANSACTION_PREFIX):
                continue
            self.mempool[digest] = self.wires[digest] = wire
            added.append(wire)
        return added

    def missing(self, payload: bytes) -> list[Digest]:
        """Return the transactions of a proposal that this node has never seen."""
        return [digest for digest in split_payload(payload) if digest not in self.wires]

    def build(
        self, parent: Header, certificate: bytes, view: View, proposer: int, now_ms: int
    ) -> Block | None:
        """Return a block on ``parent``, or None if its ancestors are not all here."""
        parent_hash = block_hash(self.network.chain_id, parent)
        used = self._ancestors(parent_hash)
        if used is None:
            return None
        height = Height(parent.height + 1)
        executed = max(min(self.head, parent.height), parent.executed_height)
        roots = self._roots_at(executed, parent)
        hashes: list[Digest] = []
        if height - executed <= EXECUTION_LAG_MAX:
            fresh = (digest for digest in self.mempool if not used.contain(digest))
            hashes = [
                digest for digest, _ in zip(fresh, range(BLOCK_TRANSACTIONS_MAX), strict=False)
            ]
        wires = [self.wires[digest] for digest in hashes]
        header = msgspec.structs.replace(
            parent,
            height=height,
            view=view,
            parent_hash=parent_hash,
            proposer=proposer,
            time_ms=TimeMs(max(now_ms, parent.time_ms + 1)),
            transactions_root=transactions_root(hashes),
            transaction_count=len(hashes),
            body_bytes=sum(map(len, wires)),
            parent_certificate_hash=certificate_hash(certificate),
            executed_height=Height(executed),
            state_root=roots[0],
            history_root=roots[1],
            previous_boundary_hash=self.network.genesis_hash,
        )
        return Block(header, certificate, wires, ())

    def judge(self, block: Block, now_ms: int) -> Verdict:
        """Judge what consensus cannot: clock (V2), roots (V3) and transactions (V6)."""
        header = block.header
        is_early = header.time_ms > now_ms + CLOCK_AHEAD_MS
        verdicts = (
            Verdict.NOT_YET if is_early else Verdict.VALID,
            self._judge_roots(header),
            self._judge_transactions(block),
        )
        if Verdict.INVALID in verdicts:
            return Verdict.INVALID
        return Verdict.NOT_YET if Verdict.NOT_YET in verdicts else Verdict.VALID

    def execute_next(self, digest: Digest, certificate: Certificate | None) -> Batch:
        """Execute the next finalised block; return the batch that makes it the head on disk."""
        block = self.blocks[digest]
        roots = execute(self.roots[-1], digest, block)
        self._append(digest, roots)
        batch: Batch = {("block", digest): block, ("executed", int(self.head)): (digest, roots)}
        if certificate is not None:
            batch["final", int(self.head)] = certificate
        return batch

    def waiting(self, notarized: Iterable[Digest]) -> bool:
        """Say whether a transaction waits that is in none of these unfinalised blocks."""
        covered: set[Digest] = set()
        for digest in notarized:
            block = self.blocks.get(digest)
            if block is not None and block.header.height > self.head:
                covered.update(map(transaction_hash, block.transactions))
        return any(digest not in covered for digest in self.mempool)

    def _append(self, digest: Digest, roots: Roots) -> None:
        self.chain.append(digest)
        self.roots.append(roots)
        for wire in self.blocks[digest].transactions:
            executed = transaction_hash(wire)
            self._executed_at[executed] = int(self.head)
            self.mempool.pop(executed, None)

    def _roots_at(self, executed: int, parent: Header) -> Roots:
        if executed <= self.head:
            return self.roots[executed]
        return parent.state_root, parent.history_root

    def _ancestors(self, digest: Digest) -> Ancestors | None:
        """Return the transactions of a block and its ancestors; None if one is not known here."""
        recent: set[Digest] = set()
        while True:
            header = self.header(digest)
            if header is None:
                return None
            if header.height <= self.head:
                if self.chain[header.height] != digest:
                    return None  # a branch that died: nothing can be said about it any more
                return Ancestors(recent, self._executed_at, header.height)
            recent.update(map(transaction_hash, self.blocks[digest].transactions))
            digest = header.parent_hash

    def _judge_roots(self, header: Header) -> Verdict:
        """V3: the roots are those of the executed height, if that has been executed here."""
        if header.executed_height > self.head:
            return Verdict.NOT_YET
        claimed = (header.state_root, header.history_root)
        return Verdict.VALID if claimed == self.roots[header.executed_height] else Verdict.INVALID

    def _judge_transactions(self, block: Block) -> Verdict:
        hashes = [transaction_hash(wire) for wire in block.transactions]
        if block.header.transactions_root != transactions_root(hashes):
            return (
                Verdict.NOT_YET
            )  # a wrong copy says nothing about the block that the header names
        if (
            not matches_header(block)
            or len(hashes) > BLOCK_TRANSACTIONS_MAX
            or not all(wire.startswith(TRANSACTION_PREFIX) for wire in block.transactions)
            or len(set(hashes)) != len(hashes)
        ):
            return Verdict.INVALID
        used = self._ancestors(block.header.parent_hash)
        if used is None:
            return Verdict.NOT_YET
        return Verdict.INVALID if any(map(used.contain, hashes)) else Verdict.VALID


def matches_header(block: Block) -> bool:
    """Say whether transactions and parent certificate are those that the header commits to."""
    header = block.header
    return (
        header.transactions_root == transactions_root(map(transaction_hash, block.transactions))
        and header.transaction_count == len(block.transactions)
        and header.body_bytes == sum(map(len, block.transactions))
        and header.parent_certificate_hash == certificate_hash(block.parent_certificate)
    )
