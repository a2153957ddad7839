"""What a benchmark signs, and the balances that follow from it."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import replace

import msgspec
import pytest

from ledger.address import address_of, format_address
from ledger.crypto import SigningKey, verify_many
from ledger.operations import Burn, Mint, RegisterAccount, Transfer
from ledger.transaction import decode_transaction
from ledger.types import Address, Digest
from mbi.bench.balances import Moves, Opening, check_balances, read_opening
from mbi.bench.plan import SIGNED_MAX, Phase, Plan, parse_steps
from mbi.bench.signing import VALID_FOR_S, sign_all
from mbi.bench.workload import MIX, MULTI, WORKLOADS, Accounts, Prepared
from mbi.client import AsyncClient
from mbi.errors import UsageError
from tests.unit.mbi.fake_node import FakeNode, serving

CHAIN = Digest(b"\x11" * 32)
CASH, BOND = "issuer/MYR", "issuer/BOND"
FUNDS = 1000


def plan(count: int, batch: int = 1, workload: str = "transfer", pairs: int = 4) -> Plan:
    return Plan.open_loop([Phase(float(count), 1.0)], batch, pairs, workload)


def accounts(name: str = "transfer", pairs: int = 4, receivers: int = 12) -> Accounts:
    kind = WORKLOADS[name]
    return Accounts(
        [SigningKey.from_seed(bytes([n + 1]) * 32) for n in range(pairs)],
        [Address(bytes([n + 1]) * 20) for n in range(1 if kind.is_hot else receivers)],
        CASH,
        FUNDS,
        BOND if kind.has_security else None,
        SigningKey.from_seed(b"issuer of the asset in question.") if kind.uses_funder else None,
        "issuer",
        b"seed",
    )


@pytest.mark.parametrize("name", list(WORKLOADS))
async def test_transactions_are_signed_for_real(name: str) -> None:
    """Every id and every signature is what a node works out itself."""
    people = accounts(name)
    compose = WORKLOADS[name].compose(people)
    found = await sign_all(CHAIN, plan(100, 8, name), compose, lambda _: None)
    wires = [w for body in found.bodies for w in msgspec.msgpack.decode(body, type=list[bytes])]
    decoded = [decode_transaction(CHAIN, wire) for wire in wires]
    assert [item.id for item in decoded] == found.ids
    assert all(verify_many([pair for item in decoded for pair in item.signature_items()]))
    assert len({(item.transaction.sender, item.transaction.nonce) for item in decoded}) == 100
    for number, item in enumerate(decoded):
        draft = compose(number)
        assert (item.transaction.sender, item.transaction.operations) == (
            draft.sender,
            draft.operations,
        )
        assert {key for key, _, _ in item.signature_items()} == {
            key.public_key for key in draft.signers
        }


@pytest.mark.parametrize("name", list(WORKLOADS))
def test_workloads_do_what_they_say(name: str) -> None:
    workload, people = WORKLOADS[name], accounts(name)
    drafts = [workload.compose(people)(number) for number in range(400)]
    counts = [len(draft.operations) for draft in drafts]
    assert sum(counts) / len(counts) == workload.operations
    moves = [item for draft in drafts for item in draft.operations if isinstance(item, Transfer)]
    receivers = {move.to for move in moves} & set(people.receivers)
    assert receivers == (set() if name == "settlement" else set(people.receivers))
    assert all(move.amount == 1 for move in moves)


def test_mix_is_what_the_documents_say() -> None:
    assert Counter(MIX) == {"transfer": 12, "settlement": 4, "multi": 2, "onboard": 1, "issue": 1}
    people = accounts("mixed")
    drafts = [WORKLOADS["mixed"].compose(people)(number) for number in range(2000)]
    kinds = Counter(type(item).__name__ for draft in drafts for item in draft.operations)
    assert kinds[RegisterAccount.__name__] == 100
    assert kinds[Mint.__name__] + kinds[Burn.__name__] == 100
    assert min(kinds[Mint.__name__], kinds[Burn.__name__]) > 0
    assert sum(len(draft.operations) == MULTI for draft in drafts) == 200
    assert sum(len(draft.signers) == 2 for draft in drafts) == 400
    new = Moves()
    for draft in drafts:
        new.add(draft)
    assert len(set(new.registered)) == 100


@pytest.mark.parametrize("name", list(WORKLOADS))
@pytest.mark.parametrize("pairs", [2, 3, 5, 250])
def test_funds_are_enough(name: str, pairs: int) -> None:
    """No transaction of a benchmark may fail for want of money."""
    people = accounts(name, pairs)
    count = 1999
    moves = Moves()
    compose = WORKLOADS[name].compose(people)
    for number in range(count):
        moves.add(compose(number))
    funds = -(-count // pairs) * WORKLOADS[name].spent_max
    lowest = min(moves.held[sender, asset] for sender in people.sender_addresses
                 for asset in (CASH, BOND))  # fmt: skip
    assert funds + lowest >= 0


def test_nothing_is_created_but_what_is_issued() -> None:
    moves = Moves()
    compose = WORKLOADS["mixed"].compose(accounts("mixed"))
    for number in range(1000):
        moves.add(compose(number))
    for asset in (CASH, BOND):
        held = sum(amount for (_, other), amount in moves.held.items() if other == asset)
        assert held == moves.supply[asset]


async def test_transactions_are_valid_for_a_while_after_they_are_due() -> None:
    """A run of an hour needs transactions that no node would take at its beginning."""
    steps = Plan.open_loop([Phase(1.0, 10.0), Phase(2.0, 600.0)], 1, 4)
    people = accounts()
    found = await sign_all(CHAIN, steps, WORKLOADS["transfer"].compose(people), lambda _: None)
    until = [decode_transaction(CHAIN, body).transaction.valid_until for body in found.bodies]
    assert [(value - until[0]) / 1000 for value in until[:14:2]] == [0, 2, 4, 6, 8, 10, 11]
    assert (until[-1] - until[0]) / 1000 == 609.5
    closed = Plan((), 100, 1.0, 100, 4)
    all_valid = await sign_all(CHAIN, closed, WORKLOADS["transfer"].compose(people), lambda _: None)
    wires = msgspec.msgpack.decode(all_valid.bodies[0], type=list[bytes])
    assert len({decode_transaction(CHAIN, wire).transaction.valid_until for wire in wires}) == 1
    assert VALID_FOR_S < 600


def test_low_rates_are_sent_in_smaller_requests() -> None:
    """Ten requests are due in every second, so that the load does not come in lumps."""
    sizes = [
        Plan.open_loop([Phase(rate, 10.0)], 100, 5).request_size
        for rate in (0.5, 10.0, 250.0, 5000.0)
    ]
    assert sizes == [1, 1, 25, 100]
    assert Plan((), 500, 10.0, 100, 5).request_size == 100


def test_steps_follow_one_another() -> None:
    steps = Plan.open_loop(parse_steps("10x2,20x1.5,5x1"), 100, 5)
    assert (steps.duration_s, steps.transactions, steps.request_size) == (4.5, 55, 1)
    due = list(steps.due_s())
    assert len(due) == 55
    assert (due[0], due[19], due[20], due[49], due[50], due[54]) == pytest.approx(
        (0.0, 1.9, 2.0, 3.45, 3.5, 4.3)
    )
    assert str(steps.phases[1]) == "20x1.5"


def test_requests_that_cross_a_step_are_due_with_their_first_transaction() -> None:
    steps = Plan.open_loop([Phase(100.0, 1.05), Phase(200.0, 1.0)], 10, 5)
    due = list(steps.due_s())
    assert len(due) == 31
    assert due[9:13] == pytest.approx([0.9, 1.0, 1.075, 1.125])


@pytest.mark.parametrize("text", ["", "10", "x", "10x", "0x5", "10x0.5", "10x5,", "-1x5", "nanx5"])
def test_steps_in_another_form_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected steps like"):
        parse_steps(text)


def test_what_does_not_fit_is_refused_before_anything_is_made() -> None:
    with pytest.raises(UsageError, match="signed beforehand"):
        Plan.open_loop([Phase(float(SIGNED_MAX), 1.5)], 100, 5)
    with pytest.raises(UsageError, match="closed loop lasts at most"):
        Plan((), 100, 241.0, 100, 5)
    with pytest.raises(UsageError, match="at least 2 senders"):
        plan(10, workload="mixed", pairs=1)


class Ledger:
    """Accounts and assets that a fake node shows, as transactions change them."""

    def __init__(self, people: Accounts) -> None:
        self.people = people
        self.moves = Moves()
        self.node = FakeNode()
        self.supply = {CASH: 10**9, BOND: 5000}

    def show(self, opening: Opening | None) -> None:
        """Write the documents of all accounts and assets."""
        for asset, amount in self.supply.items():
            now = amount + self.moves.supply[asset]
            self.node.documents[f"/v1/assets/{asset}"] = {"supply": str(now)}
        people = self.people
        everybody = [*people.sender_addresses, *people.receivers, *self.moves.registered]
        if people.funder is not None:
            everybody.append(address_of(people.funder.public_key))
        for address in everybody:
            held = {
                asset: (opening.held.get((address, asset), 0) if opening else 10**6)
                + self.moves.held[address, asset]
                for asset in (CASH, BOND)
            }
            self.node.documents[f"/v1/accounts/{format_address(address)}"] = {
                "balances": [{"asset": a, "amount": str(n)} for a, n in held.items() if n]
            }


async def checked(
    name: str, *, failed: tuple[int, ...] = (), receipts: tuple[int, ...] = (), stolen: int = 0
) -> tuple[list[str], Counter[str], int]:
    """Run 200 transactions of which some fail, and return what the check says.

    ``receipts`` are those whose receipts tell of it; ``stolen`` units are missing somewhere.
    """
    people = accounts(name)
    compose = WORKLOADS[name].compose(people)
    prepared = Prepared(compose, 1, [], [Digest(number.to_bytes(32)) for number in range(200)])
    heights = array("q", [1] * 200)
    heights[7] = -1
    ledger = Ledger(people)
    ledger.show(None)
    async with serving(ledger.node) as node, AsyncClient(node.url) as client:
        opening = await read_opening(client, people)
        for number in range(200):
            if heights[number] >= 0 and number not in failed:
                ledger.moves.add(compose(number))
        ledger.moves.held[people.receivers[0], CASH] -= stolen
        ledger.show(opening)
        node.documents["/v1/blocks/1/transactions"] = [
            {"id": prepared.ids[n].hex(), "code": "insufficient_balance" if n in receipts else "ok"}
            for n in range(200)
        ]
        check = await check_balances(client, people, opening, prepared, heights)
    return check.problems, check.failed_by_code, check.accounts


@pytest.mark.parametrize("name", list(WORKLOADS))
async def test_balances_of_an_honest_ledger_add_up(name: str) -> None:
    problems, failed, read = await checked(name)
    assert problems == []
    assert failed.total() == 0
    assert read >= 5


@pytest.mark.parametrize("name", list(WORKLOADS))
async def test_failed_transactions_are_found_and_counted(name: str) -> None:
    """A transaction without effect is noticed by the balances, whatever it was to do."""
    for number in range(20):
        problems, failed, _ = await checked(name, failed=(number,), receipts=(number,))
        expected = {} if number == 7 else {"insufficient_balance": 1}
        assert (problems, failed) == ([], expected), number


@pytest.mark.parametrize("name", list(WORKLOADS))
async def test_missing_money_is_a_problem(name: str) -> None:
    problems, _, _ = await checked(name, stolen=1)
    assert "not what the final transactions make" in problems[0]


async def test_receipt_that_hides_a_failure_is_a_problem() -> None:
    problems, _, _ = await checked("mixed", failed=(3, 4, 9))
    assert problems


async def test_supply_that_grew_by_itself_is_a_problem() -> None:
    people = accounts("mixed")
    ledger = Ledger(people)
    ledger.show(None)
    async with serving(ledger.node) as node, AsyncClient(node.url) as client:
        opening = await read_opening(client, people)
        ledger.supply[BOND] += 1
        ledger.show(opening)
        prepared = Prepared(WORKLOADS["mixed"].compose(people))
        check = await check_balances(client, people, opening, prepared, array("q"))
    assert check.problems == [f"the supply of {BOND} is 5001, expected 5000"]


def test_plans_of_a_ramp_differ_in_their_phase_only() -> None:
    first = plan(100)
    other = replace(first, phases=(Phase(200.0, 1.0),))
    assert (other.rate, other.transactions, other.pairs) == (200.0, 200, first.pairs)
