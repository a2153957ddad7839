"""Executing blocks: atomic, in order, and never half-way."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import msgspec
import pytest

from ledger import transition
from ledger.errors import InvariantViolation, StateUnreadable
from ledger.genesis import DEFAULT_PARAMETERS
from ledger.merkle import dense_root
from ledger.operations import Mint, RegisterAccount, SetKeys, Transfer, assets
from ledger.operations.base import Actor
from ledger.receipt import Receipt, ReceiptStatus
from ledger.records import PRESENCE_KEY, Holding, asset_key, holding_key
from ledger.transaction import DecodedTransaction, Transaction
from ledger.transition import BlockExecution, admission_error, execute_genesis, simulate
from ledger.types import Amount, TimeMs
from ledger.view import View
from tests.unit.ledger.builders import (
    GENESIS_TIME_MS,
    MYR,
    Chain,
    address,
    key_weight,
    make_genesis,
    make_header,
)


@pytest.fixture
def chain() -> Chain:
    return Chain()


def pay(to: str, amount: int) -> Transfer:
    return Transfer(None, address(to), MYR, Amount(amount))


def test_all_operations_take_effect_or_none(chain: Chain) -> None:
    twin = Chain(chain.genesis)
    twin.execute()
    receipt = chain.run(
        "alice",
        pay("bob", 100),
        SetKeys(None, (key_weight("other"),), 1, 1),
        pay("carol", 901),
        pay("bob", 1),
    )
    assert receipt == Receipt(
        receipt.transaction_id, ReceiptStatus.FAILED, "insufficient_balance", 2, ()
    )
    assert chain.state.root == twin.state.root, "as after an empty block"
    assert chain.run("alice", pay("bob", 100)).code == "ok", "the old key still signs"


@pytest.mark.parametrize("error", [StateUnreadable, RecursionError, MemoryError])
def test_an_error_of_this_node_alone_is_no_result_of_a_transaction(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """C10, S2: a receipt that depends on one node's disk or stack would split the network."""
    transaction = chain.transaction("alice", pay("bob", 100))
    execution = BlockExecution(chain.state, make_header(1, (transaction,)), 0)

    def fail(self: View, key: bytes) -> None:
        raise error("of this node")

    monkeypatch.setattr(View, "get", fail)
    with pytest.raises(error):
        execution.apply(transaction)


def test_a_failed_transaction_leaves_nothing_to_its_successors(chain: Chain) -> None:
    """C11: also where it had written one record several times."""
    failing = chain.transaction("alice", pay("bob", 100), pay("bob", 200), pay("carol", 9_999))
    following = chain.transaction("bob", pay("alice", 1_000))
    outcome = chain.execute(failing, following)
    assert [receipt.code for receipt in outcome.receipts] == ["insufficient_balance", "ok"]
    assert (chain.balance("alice"), chain.balance("bob")) == (2_000, 0)
    twin = Chain()
    assert twin.execute(following).state_root == outcome.state_root


def test_later_operations_see_earlier_ones(chain: Chain) -> None:
    receipt = chain.run(
        "alice",
        pay("bob", 1_000),
        Transfer(address("bob"), address("carol"), MYR, Amount(2_000)),
        signers=["alice", "bob"],
    )
    assert receipt.code == "ok"
    assert len(receipt.events) == 2
    assert chain.balance("carol") == 3_000


def test_later_transactions_of_a_block_see_earlier_ones(chain: Chain) -> None:
    outcome = chain.execute(
        chain.transaction("alice", pay("bob", 1_000)),
        chain.transaction("alice", pay("carol", 1)),
        chain.transaction("bob", pay("carol", 2_000)),
    )
    assert [receipt.code for receipt in outcome.receipts] == ["ok", "insufficient_balance", "ok"]
    assert chain.balance("carol") == 3_000


def handler_lines() -> list[int]:
    """Return the line numbers of the transfer's handler."""
    code = assets._transfer.__code__
    return sorted({line for _, _, line in code.co_lines() if line and line > code.co_firstlineno})


@pytest.mark.parametrize("line", handler_lines())
def test_an_exception_at_any_line_of_a_handler_fails_only_its_transaction(
    chain: Chain, line: int
) -> None:
    """C11: the same failed receipt on every node, the state otherwise untouched."""
    raised: list[int] = []

    def trace_line(frame: FrameType, event: str, _: Any) -> Any:  # signature given by sys.settrace
        if event == "line" and frame.f_lineno == line and not raised:
            raised.append(line)
            raise ZeroDivisionError("injected")
        return trace_line

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        return trace_line if frame.f_code is assets._transfer.__code__ else None

    first = chain.transaction("alice", pay("bob", 1), pay("bob", 2))
    second = chain.transaction("bob", pay("carol", 5))
    header = make_header(1, (first, second))
    execution = BlockExecution(chain.state, header, 0)
    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        receipt = execution.apply(first)
    finally:
        sys.settrace(previous)
    if not raised:
        assert receipt.code == "ok", "the line belongs to a refusal that this transfer never meets"
        return
    assert (receipt.status, receipt.code, receipt.events) == (
        ReceiptStatus.FAILED,
        "execution_error",
        (),
    )
    assert execution.apply(second).code == "ok"
    execution.finish()
    only_second = Chain()
    only_second.execute(second)
    assert chain.state.root == only_second.state.root


def test_most_lines_of_the_handler_were_reached() -> None:
    """C11: the test above must not be empty."""
    assert len(handler_lines()) > 15


def replace_transfer(monkeypatch: pytest.MonkeyPatch, handler: Any) -> None:  # a handler
    """Execute transfers with another handler."""
    requirement, _ = transition._SPEC_OF_TYPE[Transfer]
    changed: dict[Any, Any] = {**transition._SPEC_OF_TYPE, Transfer: (requirement, handler)}
    monkeypatch.setattr(transition, "_SPEC_OF_TYPE", changed)


@pytest.mark.parametrize("error", [InvariantViolation("x"), MemoryError()])
def test_a_broken_node_is_not_taken_for_a_bad_transaction(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """What other nodes would not see must stop this node, not become a receipt."""

    def fail(*_: object) -> None:
        raise error

    replace_transfer(monkeypatch, fail)
    execution = BlockExecution(chain.state, make_header(1), 0)
    with pytest.raises(type(error)):
        execution.apply(chain.transaction("alice", pay("bob", 1)))


def creating(amount: int) -> Any:  # a handler
    """Return a handler that gives the receiver too much."""

    def handler(operation: Transfer, actor: Actor, transaction: Transaction, view: View) -> Any:
        event = assets._transfer(operation, actor, transaction, view)
        key = holding_key(operation.to, operation.asset)
        held = view.holding(key)
        view.put(key, Holding(Amount(held.amount + amount), held.is_authorised, 0, Amount(0)))
        return event

    return handler


@pytest.mark.parametrize("amount", [1, -1])
def test_a_changed_supply_stops_the_node_by_name(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, amount: int
) -> None:
    """T8: money made or lost by a defect is noticed after the same block, before it is stored."""
    replace_transfer(monkeypatch, creating(amount))
    before = chain.state.root
    execution = BlockExecution(chain.state, make_header(1), 0)
    assert execution.apply(chain.transaction("alice", pay("bob", 5))).code == "ok"
    with pytest.raises(InvariantViolation, match="supply") as violation:
        execution.finish()
    assert violation.value.invariant == "supply"
    assert chain.state.root == before


def test_an_amount_out_of_range_stops_the_node_by_name(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T8: two wrongs that cancel out in the sum."""

    def handler(operation: Transfer, actor: Actor, transaction: Transaction, view: View) -> Any:
        for name, amount in (("alice", -1), ("bob", 2_001)):
            key = holding_key(address(name), MYR)
            view.put(key, Holding(Amount(amount), is_authorised=True, day=0, day_sent=Amount(0)))

    replace_transfer(monkeypatch, handler)
    execution = BlockExecution(chain.state, make_header(1), 0)
    monkeypatch.setattr(transition, "Receipt", lambda *_: None)
    execution.apply(chain.transaction("alice", pay("bob", 5)))
    with pytest.raises(InvariantViolation, match="amount_range"):
        execution.finish()


@pytest.mark.parametrize("height", [0, 2, 100])
def test_blocks_are_executed_in_order_and_once(chain: Chain, height: int) -> None:
    """C12: neither twice nor with a gap."""
    with pytest.raises(InvariantViolation, match="block_order"):
        BlockExecution(chain.state, make_header(height), 0)


def test_an_execution_cannot_be_finished_twice(chain: Chain) -> None:
    """C12."""
    execution = BlockExecution(chain.state, make_header(1), 0)
    execution.apply(chain.transaction("alice", pay("bob", 5)))
    execution.finish()
    with pytest.raises(InvariantViolation):
        execution.finish()
    assert chain.balance("bob") == 1_005


def test_readers_see_the_state_before_the_block_until_the_last_step(chain: Chain) -> None:
    registrations = [
        chain.transaction("bank", RegisterAccount(None, "bank", (key_weight(f"n{i}"),), 1, 1))
        for i in range(40)
    ]
    payments = [chain.transaction("alice", pay("bob", 1)) for _ in range(990)]
    transactions = [*registrations, *payments]
    before = chain.state.root, chain.state.history.root, chain.state.height
    proof = chain.state.prove(holding_key(address("alice"), MYR))
    execution = BlockExecution(chain.state, make_header(1, transactions), 0)
    for transaction in transactions:
        execution.apply(transaction)
    steps = 0
    outcome = None
    generator = execution.finish_steps()
    while outcome is None:
        assert (chain.state.root, chain.state.history.root, chain.state.height) == before
        assert chain.state.prove(holding_key(address("alice"), MYR)) == proof
        assert chain.state.account(address("n1")) is None
        try:
            next(generator)
            steps += 1
        except StopIteration as done:
            outcome = done.value
    assert steps > 1
    assert chain.state.root == outcome.state_root != before[0]
    assert chain.state.history.root == outcome.history_root
    assert chain.balance("bob") == 1_990


def test_an_empty_block_changes_only_the_history_and_who_was_seen(chain: Chain) -> None:
    before = chain.state.history.root
    outcome = chain.execute()
    assert outcome.history_root != before
    assert outcome.receipts_root == dense_root([])
    assert [key for key, _ in outcome.state_writes] == [PRESENCE_KEY]


def test_a_failed_transaction_is_in_the_receipts_root(chain: Chain) -> None:
    twin = Chain()
    failing = chain.transaction("alice", pay("bob", 9_999))
    assert chain.execute(failing).receipts_root != twin.execute().receipts_root


def test_simulation_answers_like_execution_and_changes_nothing(chain: Chain) -> None:
    time_ms = chain.next_time_ms
    transactions = [
        chain.transaction("alice", pay("bob", 5)),
        chain.transaction("alice", pay("bob", 5_000)),
        chain.transaction("nobody", pay("bob", 5)),
        chain.transaction("issuer", Mint(None, MYR, address("alice"), Amount(7))),
    ]
    for transaction in transactions:
        before = chain.state.root, chain.balance("alice"), chain.state.height
        simulated = simulate(chain.state, transaction, time_ms)
        assert (chain.state.root, chain.balance("alice"), chain.state.height) == before
        twin = Chain()
        twin._nonce = chain._nonce
        assert twin.execute(transaction).receipts[0] == simulated


def admission(chain: Chain, transaction: DecodedTransaction) -> str | None:
    error = admission_error(chain.state, transaction, TimeMs(GENESIS_TIME_MS))
    return None if error is None else error.code


@pytest.mark.parametrize("limit", ["transaction_bytes_max", "block_bytes_max"])
def test_admission_refuses_what_no_block_of_the_network_may_hold(limit: str) -> None:
    parameters = msgspec.structs.replace(DEFAULT_PARAMETERS, **{limit: 1_024})
    chain = Chain(make_genesis(parameters=parameters))
    few, many = ([pay("bob", 1)] * count for count in (1, 30))
    assert admission(chain, chain.transaction("alice", *few)) is None
    assert len(chain.wire("alice", *many)) > 1_024
    assert admission(chain, chain.transaction("alice", *many)) == "too_large"


def test_admission_refuses_before_the_signature_is_checked(chain: Chain) -> None:
    window = chain.state.parameters.validity_window_ms
    cases = [
        (chain.transaction("alice", pay("bob", 5), valid_until=GENESIS_TIME_MS), None),
        (chain.transaction("alice", pay("bob", 5), valid_until=GENESIS_TIME_MS - 1), "expired"),
        (chain.transaction("alice", pay("bob", 5), valid_until=GENESIS_TIME_MS + window), None),
        (
            chain.transaction("alice", pay("bob", 5), valid_until=GENESIS_TIME_MS + window + 1),
            "valid_until_too_far",
        ),
        (chain.transaction("nobody", pay("bob", 5)), "account_unknown"),
        (chain.transaction("alice", pay("bob", 5), signers=["bob"]), "superfluous_signature"),
        (chain.transaction("alice", pay("bob", 5_000)), None),
    ]
    for transaction, expected in cases:
        assert admission(chain, transaction) == expected


def test_genesis_is_executed_like_a_block() -> None:
    genesis = make_genesis()
    outcome = execute_genesis(genesis)
    chain = Chain(genesis)
    assert (chain.state.root, chain.state.history.root) == (
        outcome.state_root,
        outcome.history_root,
    )
    assert chain.state.height == outcome.height == 0
    assert chain.supply() == 3_000
    assert chain.state.get(asset_key(MYR)) is not None
