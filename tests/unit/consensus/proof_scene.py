"""A chain with three set changes and proof files about one of its blocks, for tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256

from consensus.light import LightClient
from consensus.light.proofs import make_proof
from ledger.encoding import encode
from ledger.history import History, history_leaf, history_path
from ledger.operations import Transfer
from ledger.proof import Claim, StateClaim, make_transaction_claim
from ledger.records import holding_key
from ledger.transaction import decode_transaction
from ledger.types import Amount, Digest, Epoch, Height
from tests.unit.consensus.epochs import EpochChain
from tests.unit.ledger.builders import MYR, Chain, address, make_header

PAYMENTS = 5
HELD = holding_key(address("bob"), MYR)
NOT_HELD = holding_key(address("nobody"), MYR)


@dataclass
class ProofScene:
    """A block with payments in epoch 1, and a header of epoch 3 that covers it."""

    ledger: Chain = field(default_factory=Chain)

    def __post_init__(self) -> None:
        self.chain = EpochChain(chain_id=self.ledger.chain_id)
        self.wires = [
            self.ledger.wire("alice", Transfer(None, address("bob"), MYR, Amount(n + 1)))
            for n in range(PAYMENTS)
        ]
        decoded = [decode_transaction(self.ledger.chain_id, wire) for wire in self.wires]
        self.id = decoded[2].id
        body = make_header(1, decoded)
        self.outcome = self.ledger.execute(*decoded)
        self.chain.grow(2)
        self.chain.close()
        self.header = self.chain.block(
            transactions_root=body.transactions_root,
            transaction_count=body.transaction_count,
            body_bytes=body.body_bytes,
        )
        self.chain.headers.append(self.header)
        self.chain.close()
        self.chain.grow(2)
        self.chain.close()
        self._cover()

    def _cover(self) -> None:
        history, pages = History(), dict[bytes, bytes]()
        for header in self.chain.headers:
            roots = self._roots(int(header.height))
            history, writes = history.append(history_leaf(self.chain.hash_of(header), *roots))
            pages.update(writes)
        self.certified = self.chain.block(
            executed_height=self.chain.headers[-1].height, history_root=history.root
        )
        self.chain.headers.append(self.certified)
        self.path = history_path(pages.get, history.count, self.header.height)

    def _roots(self, height: int) -> tuple[Digest, Digest]:
        if height == self.header.height:
            return self.outcome.state_root, self.outcome.receipts_root
        state, receipts = (sha256(b"%s %d" % (n, height)).digest() for n in (b"state", b"receipts"))
        return Digest(state), Digest(receipts)

    def file(self, claim: Claim) -> bytes:
        """Return the proof file of a claim about the block with payments."""
        return make_proof(
            self.chain.chain_id,
            [encode(change) for change in self.chain.changes],
            (self.certified, self.chain.certificate(self.certified)),
            self.path,
            self.header,
            claim,
        )

    def transaction_file(self, index: int = 2) -> bytes:
        """Return the proof file of one payment."""
        return self.file(
            make_transaction_claim(
                self.wires, self.outcome.receipts, index, self.outcome.state_root
            )
        )

    def key_file(self, key: bytes = HELD) -> bytes:
        """Return the proof file of what the state held under a key."""
        proof = self.ledger.state.prove(key)
        return self.file(
            StateClaim(key, proof, self.outcome.state_root, self.outcome.receipts_root)
        )

    def client(self, checkpoints: dict[Epoch, Digest] | None = None) -> LightClient:
        """Return a client at the genesis."""
        return self.chain.client(checkpoints=checkpoints)

    @property
    def height(self) -> Height:
        """Of the block with payments."""
        return self.header.height
