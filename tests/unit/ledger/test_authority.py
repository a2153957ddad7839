"""Who must sign: weights, thresholds, several actors, nothing superfluous."""

from __future__ import annotations

import pytest

from ledger.operations import RegisterAccount, SetKeys, Transfer
from ledger.receipt import Receipt
from ledger.types import Amount
from tests.unit.ledger.builders import MYR, Chain, address, key_weight


@pytest.fixture
def chain() -> Chain:
    """Return a chain with an account of weights 2, 1 and 1, thresholds 2 and 3."""
    chain = Chain()
    keys = (key_weight("joint", 2), key_weight("joint b"), key_weight("joint c"))
    ok(chain.run("bank", RegisterAccount(None, "bank", keys, 2, 3)))
    ok(chain.run("alice", Transfer(None, address("joint"), MYR, Amount(100))))
    return chain


def ok(receipt: Receipt) -> None:
    assert receipt.code == "ok"


PAY = Transfer(None, address("bob"), MYR, Amount(1))
ROTATE = SetKeys(None, (key_weight("joint"),), 1, 1)


@pytest.mark.parametrize(
    ("signers", "pay", "rotate"),
    [
        (["joint"], "ok", "insufficient_signatures"),
        (["joint b"], "insufficient_signatures", "insufficient_signatures"),
        (["joint b", "joint c"], "ok", "insufficient_signatures"),
        (["joint", "joint b"], "ok", "ok"),
        (["joint", "joint b", "joint c"], "ok", "ok"),
        (["joint", "alice"], "superfluous_signature", "superfluous_signature"),
        (["alice"], "superfluous_signature", "superfluous_signature"),
    ],
)
def test_the_weight_of_signatures_decides(
    chain: Chain, signers: list[str], pay: str, rotate: str
) -> None:
    assert chain.run("joint", PAY, signers=signers).code == pay
    assert chain.run("joint", ROTATE, signers=signers).code == rotate


def swap() -> tuple[Transfer, Transfer]:
    """Alice pays Bob and Bob pays Alice: delivery versus payment at its simplest."""
    return (
        Transfer(None, address("bob"), MYR, Amount(10)),
        Transfer(address("bob"), address("alice"), MYR, Amount(20)),
    )


def test_every_actor_signs_the_same_body(chain: Chain) -> None:
    assert chain.run("alice", *swap()).code == "insufficient_signatures"
    assert chain.run("alice", *swap(), signers=["bob"]).code == "insufficient_signatures"
    assert chain.balance("alice") == 900
    ok(chain.run("alice", *swap(), signers=["alice", "bob"]))
    assert (chain.balance("alice"), chain.balance("bob")) == (910, 990)


def test_a_missing_signature_names_the_operation_that_needs_it(chain: Chain) -> None:
    receipt = chain.run("alice", *swap())
    assert receipt.operation_index == 1


def test_the_sender_signs_even_if_nothing_acts_for_it(chain: Chain) -> None:
    operation = Transfer(address("bob"), address("carol"), MYR, Amount(1))
    receipt = chain.run("alice", operation, signers=["bob"])
    assert (receipt.code, receipt.operation_index) == ("insufficient_signatures", -1)
    ok(chain.run("alice", operation, signers=["alice", "bob"]))


def test_naming_the_sender_as_source_changes_nothing(chain: Chain) -> None:
    ok(chain.run("alice", Transfer(address("alice"), address("bob"), MYR, Amount(1))))


def test_an_unregistered_source_refuses_the_transaction(chain: Chain) -> None:
    operation = Transfer(address("nobody"), address("bob"), MYR, Amount(1))
    assert chain.run("alice", operation, signers=["alice", "nobody"]).code == "account_unknown"


def test_one_key_may_sign_for_two_accounts(chain: Chain) -> None:
    """A key counts for every actor that holds it."""
    shared = (key_weight("second account"), key_weight("alice"))
    ok(chain.run("bank", RegisterAccount(None, "bank", shared, 1, 1)))
    ok(chain.run("alice", Transfer(None, address("second account"), MYR, Amount(5))))
    operation = Transfer(address("second account"), address("bob"), MYR, Amount(5))
    ok(chain.run("alice", operation))
