"""The mempool: bounded, fair between organisations, and never silent about a drop."""

from __future__ import annotations

import msgspec
import pytest

from ledger.genesis import DEFAULT_PARAMETERS
from ledger.operations.assets import Transfer
from ledger.transaction import DecodedTransaction
from ledger.types import Amount, TimeMs
from node import mempool as module
from node.errors import SubmissionRefused
from node.mempool import Mempool
from tests.unit.ledger.builders import MYR, Chain, address

NOW = TimeMs(1_700_000_000_000)


@pytest.fixture(scope="module")
def chain() -> Chain:
    return Chain()


def make(
    chain: Chain, sender: str = "alice", nonce: int | None = None, *, amount: int = 1
) -> DecodedTransaction:
    operation = Transfer(None, address("bob"), MYR, Amount(amount))
    return chain.transaction(sender, operation, nonce=nonce, valid_until=NOW + 60_000)


def refusal(pool: Mempool, transaction: DecodedTransaction, organisation: str = "bank") -> str:
    with pytest.raises(SubmissionRefused) as caught:
        pool.check_room(transaction, organisation)
    return caught.value.refusal


def enter(
    pool: Mempool, transaction: DecodedTransaction, organisation: str, *, from_peer: bool = False
) -> bool:
    pool.check_room(transaction, organisation, from_peer=from_peer)
    return pool.add(transaction, organisation, NOW)


def test_a_transaction_enters_once(chain: Chain) -> None:
    pool = Mempool({})
    transaction = make(chain)
    assert pool.add(transaction, "bank", NOW)
    assert not pool.add(transaction, "bank", NOW)
    assert len(pool) == 1
    assert pool.bytes == len(transaction.wire)


def test_one_nonce_of_a_sender_belongs_to_one_pending_transaction(chain: Chain) -> None:
    """T6: same nonce, two bodies: only one can wait, so at most one is ever proposed."""
    pool = Mempool({})
    pool.add(make(chain, nonce=7, amount=1), "bank", NOW)
    rival = make(chain, nonce=7, amount=2)
    assert refusal(pool, rival) == "nonce_reserved"
    with pytest.raises(SubmissionRefused, match="nonce_reserved"):
        pool.add(rival, "bank", NOW)  # its signature was being checked when the other came in
    assert enter(pool, make(chain, "bob", nonce=7), "bank")


def test_a_full_pool_refuses_and_says_so(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRANSACTIONS_MAX", 3)
    pool = Mempool({})
    for _ in range(3):
        pool.add(make(chain), "bank", NOW)
    assert refusal(pool, make(chain)) == "mempool_full"
    assert len(pool) == 3


def test_what_a_peer_admitted_finds_more_room(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overload is refused where it comes in; nodes do not refuse each other's transactions."""
    monkeypatch.setattr(module, "TRANSACTIONS_MAX", 4)
    pool = Mempool({})
    for _ in range(4):
        pool.add(make(chain), "bank", NOW)
    assert refusal(pool, make(chain)) == "mempool_full"
    assert enter(pool, make(chain), "bank", from_peer=True)
    with pytest.raises(SubmissionRefused):
        enter(pool, make(chain), "bank", from_peer=True)


def test_bytes_are_bounded_too(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make(chain)
    monkeypatch.setattr(module, "BYTES_MAX", len(first.wire))
    pool = Mempool({})
    pool.add(first, "bank", NOW)
    assert refusal(pool, make(chain)) == "mempool_full"


def test_one_sender_cannot_take_the_whole_pool(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SENDER_TRANSACTIONS_MAX", 2)
    pool = Mempool({})
    pool.add(make(chain), "bank", NOW)
    pool.add(make(chain), "bank", NOW)
    assert refusal(pool, make(chain)) == "sender_quota"
    assert enter(pool, make(chain, "bob"), "bank")


def test_a_greedy_organisation_leaves_room_for_the_others(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TRANSACTIONS_MAX", 8)
    pool = Mempool({"greedy": 1, "modest": 1})
    for _ in range(4):
        pool.add(make(chain), "greedy", NOW)
    assert refusal(pool, make(chain), "greedy") == "mempool_full"
    assert enter(pool, make(chain), "modest")


def test_blocks_are_filled_in_turns_by_weight(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TURN_TRANSACTIONS", 1)
    pool = Mempool({"big": 2, "small": 1})
    organisation_of = {}
    for organisation, count in (("big", 20), ("small", 20)):
        for _ in range(count):
            transaction = make(chain)
            pool.add(transaction, organisation, NOW)
            organisation_of[transaction.id] = organisation
    chosen = [organisation_of[item.id] for item in pool.select(12, 10**6, [])]
    assert chosen.count("big") == 8
    assert chosen.count("small") == 4


def test_selection_is_oldest_first_and_skips_what_is_in_flight(chain: Chain) -> None:
    pool = Mempool({})
    transactions = [make(chain) for _ in range(5)]
    for transaction in transactions:
        pool.add(transaction, "bank", NOW)
    taken = {transactions[0].wire_hash, transactions[2].wire_hash}
    assert pool.select(10, 10**6, [taken]) == [transactions[1], transactions[3], transactions[4]]
    assert pool.select(1, 10**6, [taken]) == [transactions[1]]
    assert pool.select(10, len(transactions[1].wire), [taken]) == [transactions[1]]


def test_work_is_what_no_block_contains_yet(chain: Chain) -> None:
    pool = Mempool({})
    transactions = [make(chain) for _ in range(2)]
    assert not pool.has_beyond([])
    for transaction in transactions:
        pool.add(transaction, "bank", NOW)
    assert pool.has_beyond([{transactions[0].wire_hash}])
    assert not pool.has_beyond([{transactions[0].wire_hash}, {transactions[1].wire_hash}])
    foreign = make(chain)
    assert pool.has_beyond([{transactions[0].wire_hash, foreign.wire_hash}])


def test_final_transactions_leave_and_report_how_long_they_waited(chain: Chain) -> None:
    pool = Mempool({})
    transaction = make(chain)
    pool.add(transaction, "bank", NOW)
    assert pool.finalized([transaction], TimeMs(NOW + 250)) == [0.25]
    assert len(pool) == 0
    assert pool.bytes == 0
    assert pool.outcome(transaction.id) is None


def test_a_rival_with_the_same_nonce_is_dropped_with_a_reason(chain: Chain) -> None:
    pool = Mempool({})
    loser, winner = make(chain, nonce=9, amount=1), make(chain, nonce=9, amount=2)
    pool.add(loser, "bank", NOW)
    pool.finalized([winner], NOW)
    outcome = pool.outcome(loser.id)
    assert len(pool) == 0
    assert outcome is not None
    assert (outcome.stage, outcome.code) == ("rejected", "nonce_used")


def test_an_expired_transaction_leaves_with_a_reason(chain: Chain) -> None:
    pool = Mempool({})
    transaction = make(chain)
    pool.add(transaction, "bank", NOW)
    assert pool.expire(TimeMs(NOW + 59_000)) == 0
    assert pool.expire(TimeMs(NOW + 61_000)) == 1
    outcome = pool.outcome(transaction.id)
    assert outcome is not None
    assert (outcome.stage, outcome.code) == ("expired", "expired")
    assert pool.expire(TimeMs(NOW + 62_000)) == 0


def test_the_oldest_outcomes_are_forgotten_first(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OUTCOMES_MAX", 2)
    pool = Mempool({})
    ids = [make(chain).id for _ in range(3)]
    for transaction_id in ids:
        pool.note(transaction_id, module.Dropped("rejected", "mempool_full", "", NOW))
    assert [pool.outcome(transaction_id) is None for transaction_id in ids] == [True, False, False]


def test_new_limits_drop_what_no_block_may_hold_and_say_why(chain: Chain) -> None:
    """A proposal with it would be refused by everyone, for as long as it waits."""
    pool = Mempool({})
    operation = Transfer(None, address("bob"), MYR, Amount(1))
    small, large = make(chain), chain.transaction("alice", *[operation] * 9, valid_until=NOW + 9)
    for transaction in (small, large):
        pool.add(transaction, "bank", NOW)
    limits = msgspec.structs.replace(DEFAULT_PARAMETERS, transaction_bytes_max=len(small.wire))
    pool.enforce(limits, NOW)
    assert [entry.transaction for entry in pool.entries()] == [small]
    dropped = pool.outcome(large.id)
    assert dropped is not None
    assert (dropped.stage, dropped.code) == ("rejected", "too_large")


def test_a_shorter_window_drops_what_is_valid_for_too_long(chain: Chain) -> None:
    """No block may hold it for minutes, and views would end without one for its sake."""
    pool = Mempool({})
    operation = Transfer(None, address("bob"), MYR, Amount(1))
    soon, late = (
        chain.transaction("alice", operation, valid_until=NOW + ahead) for ahead in (1_000, 1_001)
    )
    for transaction in (soon, late):
        pool.add(transaction, "bank", NOW)
    pool.enforce(msgspec.structs.replace(DEFAULT_PARAMETERS, validity_window_ms=1_000), NOW)
    assert [entry.transaction for entry in pool.entries()] == [soon]
    dropped = pool.outcome(late.id)
    assert dropped is not None
    assert (dropped.stage, dropped.code) == ("rejected", "valid_until_too_far")


def test_new_weights_change_the_share_of_a_block(chain: Chain) -> None:
    pool = Mempool({"bank": 1, "shop": 1})
    for _ in range(module.TURN_TRANSACTIONS * 4):
        pool.add(make(chain), "bank", NOW)
        pool.add(make(chain, "bob"), "shop", NOW)
    pool.set_weights({"bank": 3, "shop": 1})
    chosen = pool.select(module.TURN_TRANSACTIONS * 4, 10**6, [])
    senders = [transaction.transaction.sender for transaction in chosen]
    assert senders.count(address("alice")) == 3 * senders.count(address("bob"))


def test_as_much_may_wait_as_became_final_of_late(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.backpressure.WAITING_MIN", 1)
    monkeypatch.setattr("node.backpressure.RATE_WINDOW_MS", 1_000)
    pool = Mempool({})
    pool.finalized([make(chain) for _ in range(5)], NOW)
    assert pool.waiting_max == 5
    monkeypatch.setattr(module, "TRANSACTIONS_MAX", 3)
    assert pool.waiting_max == 3
    pool.expire(TimeMs(NOW + 1_000))
    assert pool.waiting_max == 1
