"""Claims: transaction, receipt and key are bound to the results of their block."""

from __future__ import annotations

import msgspec
import pytest

from ledger.block import Header, block_hash
from ledger.errors import ProofError
from ledger.merkle import dense_path
from ledger.operations import Transfer
from ledger.proof import (
    Results,
    StateClaim,
    TransactionClaim,
    make_transaction_claim,
    verify_state_claim,
    verify_transaction_claim,
)
from ledger.receipt import receipt_leaf
from ledger.records import Holding, holding_key
from ledger.transaction import wire_hash
from ledger.types import Amount
from tests.unit.ledger.builders import MYR, Chain, address, make_header


class Scene:
    """A block of twenty transactions, the first of which fails."""

    def __init__(self) -> None:
        self.chain = Chain()
        transactions = [
            self.chain.transaction(
                "alice", Transfer(None, address("bob"), MYR, Amount(1 if n else 9_999))
            )
            for n in range(20)
        ]
        self.wires = [transaction.wire for transaction in transactions]
        self.header: Header = make_header(1, transactions)
        outcome = self.chain.execute(*transactions)
        self.receipts = outcome.receipts
        self.results = Results(
            block_hash(self.chain.chain_id, self.header),
            outcome.state_root,
            outcome.receipts_root,
        )

    def claim(self, index: int) -> TransactionClaim:
        return make_transaction_claim(self.wires, self.receipts, index, self.results.state_root)

    def results_of(self, claim: TransactionClaim) -> Results:
        return verify_transaction_claim(claim, self.header, self.chain.chain_id)[1]


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize("index", [0, 1, 15, 16, 19])
def test_a_claim_leads_to_the_results_of_its_block(scene: Scene, index: int) -> None:
    claim = scene.claim(index)
    decoded, results = verify_transaction_claim(claim, scene.header, scene.chain.chain_id)
    assert decoded.wire == scene.wires[index]
    assert results == scene.results
    assert claim.receipt.code == ("ok" if index else "insufficient_balance")


def test_a_claim_of_another_network_proves_nothing(scene: Scene) -> None:
    with pytest.raises(ProofError, match="transaction"):
        verify_transaction_claim(scene.claim(3), scene.header, scene.results.state_root)


def test_a_transaction_at_another_place_is_refused(scene: Scene) -> None:
    """C9: a Merkle proof with another index than the leaf's, or of another size."""
    claim = scene.claim(3)
    for index in (2, 4, 16, 19, 20, 2**70):
        with pytest.raises(ProofError):
            scene.results_of(msgspec.structs.replace(claim, index=index))
    for path in ((), claim.transaction_path[:1], (*claim.transaction_path, b"")):
        with pytest.raises(ProofError):
            scene.results_of(msgspec.structs.replace(claim, transaction_path=path))


def test_a_transaction_that_is_not_in_the_block_is_refused(scene: Scene) -> None:
    other = scene.chain.wire("alice", Transfer(None, address("bob"), MYR, Amount(7)))
    with pytest.raises(ProofError, match="expected a path to"):
        scene.results_of(msgspec.structs.replace(scene.claim(3), transaction=other))


def test_a_forged_signature_is_refused_although_it_is_in_the_block(scene: Scene) -> None:
    wire = scene.wires[3][:-1] + bytes([scene.wires[3][-1] ^ 1])
    hashes = [wire_hash(wire)]
    header = msgspec.structs.replace(scene.header, transaction_count=1)
    claim = msgspec.structs.replace(
        scene.claim(3), transaction=wire, index=0, transaction_path=dense_path(hashes, 0)
    )
    with pytest.raises(ProofError, match="signature does not verify"):
        verify_transaction_claim(claim, header, scene.chain.chain_id)


def test_a_receipt_belongs_to_its_transaction(scene: Scene) -> None:
    """Even if a quorum certified a block whose receipts were exchanged."""
    swapped = [scene.receipts[1], scene.receipts[0], *scene.receipts[2:]]
    claim = make_transaction_claim(scene.wires, swapped, 0, scene.results.state_root)
    with pytest.raises(ProofError, match="receipt: expected one of"):
        scene.results_of(claim)


def test_another_outcome_leads_to_other_results(scene: Scene) -> None:
    claim = scene.claim(0)
    receipt = msgspec.structs.replace(claim.receipt, code="ok")
    assert receipt_leaf(msgspec.msgpack.encode(receipt)) != receipt_leaf(
        msgspec.msgpack.encode(claim.receipt)
    )
    results = scene.results_of(msgspec.structs.replace(claim, receipt=receipt))
    assert results.receipts_root != scene.results.receipts_root


def test_a_claim_shows_what_the_state_held_and_what_not(scene: Scene) -> None:
    state = scene.chain.state
    for name, held in (("bob", 1_019), ("nobody", None)):
        key = holding_key(address(name), MYR)
        claim = StateClaim(
            key, state.prove(key), scene.results.state_root, scene.results.receipts_root
        )
        value, results = verify_state_claim(claim, scene.header, scene.chain.chain_id)
        assert results == scene.results
        found = None if value is None else msgspec.msgpack.decode(value, type=Holding).amount
        assert found == held
        with pytest.raises(ProofError):
            verify_state_claim(
                msgspec.structs.replace(claim, state_root=scene.results.receipts_root),
                scene.header,
                scene.chain.chain_id,
            )
