"""Load and observation against a server in the shape of a node."""

from __future__ import annotations

import asyncio
import math
import secrets

import msgspec
import pytest

from ledger.address import address_of
from ledger.crypto import SigningKey, verify_many
from ledger.operations import Transfer
from ledger.transaction import decode_transaction
from ledger.types import Address, Digest
from mbi.bench.finality import FinalityWatch
from mbi.bench.integrity import Integrity, balance_of
from mbi.bench.load import ACCEPTED, REJECTED, UNANSWERED, LoadGenerator
from mbi.bench.plan import Plan
from mbi.bench.result import count_outcomes
from mbi.bench.workload import WORKLOADS, Accounts, Prepared, sign_transfers
from tests.unit.mbi.fake_node import FakeNode, serving
from tests.unit.mbi.waiting import DEADLINE_S, until

CHAIN = Digest(b"\x11" * 32)


def prepared(count: int, batch: int) -> Prepared:
    ids = [Digest(secrets.token_bytes(32)) for _ in range(count)]
    chunks = [ids[start : start + batch] for start in range(0, count, batch)]
    bodies = [bytes(c[0]) if batch == 1 else msgspec.msgpack.encode(c) for c in chunks]
    return Prepared(bodies, ids, [0] * count, [1] * count, batch)


async def test_transfers_are_signed_for_real() -> None:
    senders = [SigningKey.from_seed(bytes([n]) * 32) for n in range(3)]
    receivers = [Address(bytes([n]) * 20) for n in range(3)]
    accounts = Accounts(senders, receivers, "issuer/MYR", 100)
    found = await sign_transfers(CHAIN, accounts, 20, 8, lambda _: None)
    wires = [w for body in found.bodies for w in msgspec.msgpack.decode(body, type=list[bytes])]
    decoded = [decode_transaction(CHAIN, wire) for wire in wires]
    assert [item.id for item in decoded] == found.ids
    assert all(verify_many([pair for item in decoded for pair in item.signature_items()]))
    assert len({(item.transaction.sender, item.transaction.nonce) for item in decoded}) == 20
    assert [item.transaction.sender for item in decoded] == [
        address_of(senders[number].public_key) for number in found.senders
    ]


async def test_open_loop_sends_on_schedule_to_all_nodes_in_turn() -> None:
    work = prepared(60, 10)
    async with serving(FakeNode()) as first, serving(FakeNode()) as second:
        generator = LoadGenerator([first.url, second.url], work)
        async with asyncio.timeout(DEADLINE_S):
            await generator.run_open(rate=300.0, duration_s=0.2)
        generator.close()
    sent = generator.sent
    assert (first.batches, second.batches) == (3, 3)
    assert list(sent.outcome) == [ACCEPTED] * 60
    offsets = [round(due - sent.started_s, 6) for due in sent.intended_s[::10]]
    assert offsets == [round(index * 10 / 300, 6) for index in range(6)]


async def test_open_loop_ends_with_its_time() -> None:
    async with serving(FakeNode()) as node:
        generator = LoadGenerator([node.url], prepared(100, 10))
        async with asyncio.timeout(DEADLINE_S):
            await generator.run_open(rate=100.0, duration_s=0.2)
        generator.close()
    assert sum(not math.isnan(due) for due in generator.sent.intended_s) == 20


async def test_closed_loop_keeps_no_more_in_flight_than_stated() -> None:
    work = prepared(100, 10)
    async with serving(FakeNode()) as node:
        generator = LoadGenerator([node.url], work)
        running = asyncio.create_task(generator.run_closed(20, 5.0))
        async with asyncio.timeout(DEADLINE_S):
            await until(lambda: node.batches == 2)
            before = node.batches
            generator.finished(10)
            await until(lambda: node.batches == 3)
            generator.finished(1000)
            await running
        generator.close()
    assert before == 2
    assert node.batches == 10


async def test_refusals_are_counted_by_code() -> None:
    async with serving(FakeNode()) as node:
        node.on_submit = lambda _: (429, {"code": "mempool_full"})
        generator = LoadGenerator([node.url], prepared(5, 1))
        async with asyncio.timeout(DEADLINE_S):
            await generator.run_open(1000.0, 1.0)
        generator.close()
    assert generator.sent.rejected == {"mempool_full": 5}
    assert list(generator.sent.outcome) == [REJECTED] * 5


async def test_what_no_node_answered_is_unknown_not_lost_from_the_count() -> None:
    """Missing answers are reported as unknown: the benchmark cannot flatter."""
    async with serving(FakeNode()) as node:
        url = node.url
    work = prepared(5, 1)
    generator = LoadGenerator([url], work)
    async with asyncio.timeout(DEADLINE_S):
        await generator.run_open(1000.0, 1.0)
    generator.close()
    counts = count_outcomes(generator.sent, [-1] * 5, 0)
    assert list(generator.sent.outcome) == [UNANSWERED] * 5
    assert (counts["sent"], counts["unknown"], counts["finalized"]) == (5, 5, 0)


async def test_unanswered_requests_go_once_more_to_the_next_node() -> None:
    """A killed node costs a second request, not the transactions of the client."""
    async with serving(FakeNode()) as gone:
        dead = gone.url
    async with serving(FakeNode()) as alive:
        generator = LoadGenerator([dead, alive.url], prepared(6, 1))
        async with asyncio.timeout(DEADLINE_S):
            await generator.run_open(1000.0, 1.0)
        generator.close()
    assert list(generator.sent.outcome) == [ACCEPTED] * 6
    assert generator.sent.failovers == 3
    assert len(alive.submitted) == len(set(alive.submitted)) == 6


@pytest.mark.parametrize("name", list(WORKLOADS))
async def test_workloads_do_what_they_say(name: str) -> None:
    workload = WORKLOADS[name]
    senders = [SigningKey.from_seed(bytes([n]) * 32) for n in range(4)]
    receivers = [Address(bytes([n]) * 20) for n in range(1 if workload.is_hot else 12)]
    accounts = Accounts(senders, receivers, "issuer/MYR", 1000)
    found = await sign_transfers(CHAIN, accounts, 24, 1, lambda _: None, workload.operations)
    decoded = [decode_transaction(CHAIN, body).transaction for body in found.bodies]
    assert {len(item.operations) for item in decoded} == {workload.operations}
    assert set(found.amounts) == {workload.operations}
    moves = [operation for item in decoded for operation in item.operations]
    assert {move.to for move in moves if isinstance(move, Transfer)} == set(receivers)
    assert all(isinstance(move, Transfer) and move.amount == 1 for move in moves)


def test_low_rates_are_sent_in_smaller_requests() -> None:
    """Ten requests are due in every second, so that the load does not come in lumps."""
    sizes = [Plan(rate, None, 10.0, 100, 5).request_size for rate in (0.5, 10.0, 250.0, 5000.0)]
    assert sizes == [1, 1, 25, 100]
    assert Plan(None, 500, 10.0, 100, 5).request_size == 100


async def test_observer_notes_height_and_time_of_our_transactions_only() -> None:
    ids = [Digest(secrets.token_bytes(32)) for _ in range(3)]
    final: list[int] = []
    async with serving(FakeNode()) as node:
        watch = FinalityWatch(node.url, 5)
        watch.expect(ids)
        watch.on_final = final.append
        task = asyncio.create_task(watch.run())
        async with asyncio.timeout(DEADLINE_S):
            node.blocks[5] = [ids[0], secrets.token_bytes(32)]
            await until(lambda: watch.height == 5)
            node.blocks[6] = []
            node.blocks[7] = [ids[2], ids[0]]
            await until(lambda: watch.height == 7)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert list(watch.heights) == [5, -1, 7]
    assert math.isnan(watch.final_s[1])
    assert [(item.transactions, item.ours) for item in watch.blocks] == [(2, 1), (0, 0), (2, 1)]
    assert final == [1, 1]


def test_one_problem_fails_the_integrity_check() -> None:
    assert Integrity().passed
    assert not Integrity(problems=["gov-2 lost a transaction"]).passed


def test_balance_of_an_asset_not_held_is_zero() -> None:
    account = {"balances": [{"asset": "a/B", "amount": "5"}]}
    assert (balance_of(account, "a/B"), balance_of(account, "a/C")) == (5, 0)
