"""Proof bundles: every byte of them is bound to the certified header."""

from __future__ import annotations

import msgspec
import pytest

from ledger.block import Header, block_hash
from ledger.encoding import encode
from ledger.errors import EncodingError, LedgerError, ProofError
from ledger.history import History, history_leaf
from ledger.merkle import dense_root
from ledger.operations import Transfer
from ledger.proof import (
    PROOF_VERSION,
    StateBundle,
    make_transaction_bundle,
    verify_state_bundle,
    verify_transaction_bundle,
)
from ledger.receipt import receipt_leaf
from ledger.records import Holding, holding_key
from ledger.transaction import decode_transaction
from ledger.transition import BlockOutcome
from ledger.types import Amount, Height
from tests.unit.ledger.builders import MYR, Chain, address, make_header

CERTIFICATE = b"signatures of a quorum"


def certified(chain: Chain, height: int) -> Header:
    """Return a header that certifies everything executed so far."""
    return msgspec.structs.replace(
        make_header(height),
        executed_height=chain.state.height,
        state_root=chain.state.root,
        history_root=chain.state.history.root,
    )


class Scene:
    """A chain of a few blocks with a proof of one transaction in the second."""

    def __init__(self, blocks: int = 20) -> None:
        self.chain = Chain()
        outcomes: list[BlockOutcome] = []
        wires: list[list[bytes]] = []
        headers: list[Header] = []
        for height in range(1, blocks + 1):
            transactions = [
                self.chain.transaction(
                    "alice", Transfer(None, address("bob"), MYR, Amount(1 if n else 9_999))
                )
                for n in range(height % 5)
            ]
            wires.append([transaction.wire for transaction in transactions])
            headers.append(make_header(height, transactions))
            outcomes.append(self.chain.execute(*transactions))
        self.header = certified(self.chain, blocks + 3)
        self.block, outcome = headers[12], outcomes[12]
        self.wires, self.receipts = wires[12], outcome.receipts
        self.state_root = outcome.state_root
        self.history_path = self.chain.state.history_path(blocks + 1, self.block.height)
        self.bundle = self.make(2)

    def make(self, index: int) -> bytes:
        """Return the bundle of one transaction of the block."""
        return make_transaction_bundle(
            self.block,
            self.wires,
            self.receipts,
            index,
            self.state_root,
            self.history_path,
            self.header,
            CERTIFICATE,
        )

    def check(self, header: Header, certificate: bytes) -> bool:
        """Stand in for the consensus package."""
        return header == self.header and certificate == CERTIFICATE


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


def test_a_bundle_proves_its_transaction(scene: Scene) -> None:
    proven = verify_transaction_bundle(scene.bundle, scene.chain.chain_id, scene.check)
    assert proven.decoded.wire == scene.wires[2]
    assert proven.receipt == scene.receipts[2]
    assert proven.header == scene.block
    assert proven.certified_header == scene.header
    assert len(scene.bundle) < 4_096


def test_a_failed_transaction_is_proved_as_failed(scene: Scene) -> None:
    proven = verify_transaction_bundle(scene.make(0), scene.chain.chain_id, scene.check)
    assert proven.receipt.code == "insufficient_balance"


def test_a_receipt_belongs_to_its_transaction(scene: Scene) -> None:
    """Even if a quorum certified a block whose receipts were exchanged."""
    swapped = [scene.receipts[1], scene.receipts[0]]
    transactions = [decode_transaction(scene.chain.chain_id, wire) for wire in scene.wires[:2]]
    block = make_header(0, transactions)
    digest = block_hash(scene.chain.chain_id, block)
    root = dense_root([receipt_leaf(encode(receipt)) for receipt in swapped])
    history, _ = History().append(history_leaf(digest, scene.state_root, root))
    header = msgspec.structs.replace(
        scene.header, executed_height=Height(0), history_root=history.root
    )
    bundle = make_transaction_bundle(
        block, scene.wires[:2], swapped, 0, scene.state_root, (), header, CERTIFICATE
    )
    with pytest.raises(ProofError, match="receipt"):
        verify_transaction_bundle(bundle, scene.chain.chain_id, lambda *_: True)


@pytest.mark.parametrize("bit", [0, 7])
def test_every_flipped_bit_of_a_bundle_is_noticed(scene: Scene, bit: int) -> None:
    for position in range(len(scene.bundle)):
        flipped = bytearray(scene.bundle)
        flipped[position] ^= 1 << bit
        with pytest.raises(LedgerError):
            verify_transaction_bundle(bytes(flipped), scene.chain.chain_id, scene.check)


def test_a_bundle_of_another_network_proves_nothing(scene: Scene) -> None:
    with pytest.raises(ProofError):
        verify_transaction_bundle(scene.bundle, scene.header.state_root, scene.check)


def test_without_its_certificate_a_bundle_proves_nothing(scene: Scene) -> None:
    with pytest.raises(ProofError, match="certificate"):
        verify_transaction_bundle(scene.bundle, scene.chain.chain_id, lambda *_: False)


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_a_cut_bundle_is_refused(scene: Scene, cut: int) -> None:
    with pytest.raises(EncodingError):
        verify_transaction_bundle(scene.bundle[:cut], scene.chain.chain_id, scene.check)


def test_a_bundle_proves_what_the_state_held_and_what_not(scene: Scene) -> None:
    state = scene.chain.state
    for name, held in (("bob", True), ("nobody", False)):
        key = holding_key(address(name), MYR)
        data = encode(StateBundle(PROOF_VERSION, key, state.prove(key), scene.header, CERTIFICATE))
        bundle, value = verify_state_bundle(data, scene.check)
        assert bundle.key == key
        assert (value is not None) == held
        if value is not None:
            assert msgspec.msgpack.decode(value, type=Holding).amount > 1_000
        for position in range(0, len(data), 3):
            flipped = bytearray(data)
            flipped[position] ^= 1
            try:
                other, proved = verify_state_bundle(bytes(flipped), scene.check)
            except LedgerError:
                continue
            # One leaf proves every key up to its next one absent: a true claim about another key.
            assert other.key != key
            assert proved is None
        with pytest.raises(ProofError, match="certificate"):
            verify_state_bundle(data, lambda *_: False)
