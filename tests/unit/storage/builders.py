"""Made-up chains for storage tests: real types, simple content, a plain model beside it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final

from consensus.types import Certificate
from ledger.block import Block, Header, block_hash
from ledger.crypto import sha256
from ledger.encoding import encode
from ledger.events import AssetCreated, Event, Transferred
from ledger.receipt import Receipt, ReceiptStatus
from ledger.records import AssetClass
from ledger.state import StateRecord
from ledger.transition import BlockOutcome
from ledger.types import (
    ZERO_DIGEST,
    Address,
    Amount,
    Digest,
    Epoch,
    Era,
    Height,
    TimeMs,
    View,
)
from ledger.votes import Value, VoteKind
from storage.event_index import Cursor
from storage.schema import Location

CHAIN: Final = sha256(b"test chain")
ACCOUNTS: Final = [Address(bytes([number]) * 20) for number in (0, 1, 2, 3, 254, 255)]
ASSETS: Final = ["bank/EUR", "bank/E", "mint/GOLD"]


def make_header(height: int, parent: Digest = ZERO_DIGEST, *, content: bytes = b"") -> Header:
    """Return a header in view ``2 * height``; everything but its place and content is made up."""
    some = sha256(b"%d" % height)
    return Header(
        version=1,
        era=Era(0),
        epoch=Epoch(0),
        height=Height(height),
        view=View(2 * height),
        parent_hash=parent,
        proposer=0,
        time_ms=TimeMs(1_700_000_000_000 + height),
        transactions_root=sha256(content),
        transaction_count=0,
        body_bytes=0,
        parent_certificate_hash=some,
        validator_set_hash=some,
        executed_height=Height(0),
        state_root=some,
        history_root=some,
        next_validator_set_hash=ZERO_DIGEST,
        previous_boundary_hash=some,
    )


def make_certificate(
    view: int, digest: Digest = ZERO_DIGEST, kind: VoteKind = VoteKind.FINALIZE
) -> Certificate:
    """Return a certificate with one made-up signature."""
    value = Value(View(0), digest)
    return Certificate(kind, Era(0), Epoch(0), View(view), value, b"\x01", bytes(64))


@dataclass
class Step:
    """One executed block."""

    digest: Digest
    block: Block
    outcome: BlockOutcome
    certificate: Certificate | None


@dataclass
class Chain:
    """A growing chain, and lists of what its indexes must find."""

    seed: int = 0
    steps: list[Step] = field(default_factory=list)
    events: list[tuple[Cursor, Digest, Event]] = field(default_factory=list)
    senders: list[tuple[Location, Address]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        header = make_header(0)
        outcome = BlockOutcome(
            Height(0),
            [],
            ZERO_DIGEST,
            ZERO_DIGEST,
            ZERO_DIGEST,
            [(b"", StateRecord(0, b"", b""))],
            [],
        )
        block = Block(header, b"", [], ())
        self.steps.append(Step(block_hash(CHAIN, header), block, outcome, None))

    def extend(self, transaction_count: int | None = None) -> Step:
        """Add a block with some transactions between a few accounts, one in five failing."""
        height = Height(len(self.steps))
        count = self._random.randrange(5) if transaction_count is None else transaction_count
        wires: list[bytes] = []
        receipts: list[Receipt] = []
        for index in range(count):
            sender = self._random.choice(ACCOUNTS)
            wires.append(encode([1, sender, height * 1000 + index, 0, [], "", []]))
            receipt = self._receipt(sha256(wires[-1]), sender)
            receipts.append(receipt)
            self.senders.append((Location(height, index), sender))
            for number, event in enumerate(receipt.events):
                self.events.append((Cursor(height, index, number), receipt.transaction_id, event))
        header = make_header(height, self.steps[-1].digest, content=b"".join(wires))
        digest = block_hash(CHAIN, header)
        key = b"account %d" % (height % 7)
        outcome = BlockOutcome(
            height,
            receipts,
            sha256(b"receipts" + digest),
            sha256(b"state" + digest),
            sha256(b"history" + digest),
            [(key, StateRecord(height % 7 + 1, b"", b"at %d" % height))],
            [(b"page %d" % (height // 16), bytes(32) * (height % 16 + 1))],
        )
        certificate = make_certificate(header.view, digest) if self._random.random() < 0.5 else None
        step = Step(digest, Block(header, b"parent certificate", wires, ()), outcome, certificate)
        self.steps.append(step)
        return step

    def _receipt(self, transaction_id: Digest, sender: Address) -> Receipt:
        if self._random.random() < 0.2:
            return Receipt(transaction_id, ReceiptStatus.FAILED, "balance_too_low", 0, ())
        events: list[Event] = [
            Transferred(
                self._random.choice(ASSETS),
                self._random.choice([sender, self._random.choice(ACCOUNTS)]),
                self._random.choice(ACCOUNTS),
                Amount(1),
            )
            for _ in range(self._random.randrange(1, 3))
        ]
        if self._random.random() < 0.2:
            asset = self._random.choice(ASSETS)
            events.append(AssetCreated(asset, AssetClass.DEPOSIT, sender, sender))
        return Receipt(transaction_id, ReceiptStatus.OK, "ok", -1, tuple(events))
