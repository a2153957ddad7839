"""Load and observation against a server in the shape of a node."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Iterator

import msgspec

from ledger.types import Address, Digest
from mbi.bench.finality import FinalityWatch
from mbi.bench.integrity import Integrity
from mbi.bench.load import ACCEPTED, REJECTED, UNANSWERED, LoadGenerator, Refusal
from mbi.bench.result import count_outcomes
from mbi.bench.workload import Draft, Prepared
from tests.unit.mbi.fake_node import FakeNode, serving
from tests.unit.waiting import DEADLINE_S, until


def prepared(count: int, batch: int) -> Prepared:
    ids = [Digest(secrets.token_bytes(32)) for _ in range(count)]
    chunks = [ids[start : start + batch] for start in range(0, count, batch)]
    bodies = [bytes(c[0]) if batch == 1 else msgspec.msgpack.encode(c) for c in chunks]
    return Prepared(lambda _: Draft(Address(bytes(20)), (), ()), batch, bodies, ids)


def schedule(rate: float, duration_s: float, batch: int) -> Iterator[float]:
    """Yield when requests are due, as a plan does it."""
    return (index * batch / rate for index in range(math.ceil(rate * duration_s / batch)))


async def test_open_loop_sends_on_schedule_to_all_nodes_in_turn() -> None:
    work = prepared(60, 10)
    async with serving(FakeNode()) as first, serving(FakeNode()) as second:
        generator = LoadGenerator([first.url, second.url], work)
        async with asyncio.timeout(DEADLINE_S):
            await generator.run_open(schedule(300.0, 0.2, 10), 0.2)
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
            await generator.run_open(schedule(100.0, 0.2, 10), 0.2)
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
        node.on_submit = lambda _: (429, {"code": "mempool_full", "retry_after": 3})
        generator = LoadGenerator([node.url], prepared(5, 1))
        async with asyncio.timeout(DEADLINE_S):
            await generator.run_open(schedule(1000.0, 0.006, 1), 1.0)
        generator.close()
    assert generator.sent.rejected == {"mempool_full": 5}
    assert set(generator.sent.refusals.values()) == {Refusal("mempool_full", 3)}
    assert list(generator.sent.outcome) == [REJECTED] * 5


async def test_refusals_in_a_batch_count_one_by_one() -> None:
    async with serving(FakeNode()) as node:
        work = prepared(6, 3)
        full = bytes(work.ids[4])
        node.refused[full] = ("mempool_full", 2)
        generator = LoadGenerator([node.url], work)
        async with asyncio.timeout(DEADLINE_S):
            await generator.run_open(schedule(1000.0, 0.006, 3), 1.0)
        generator.close()
    assert generator.sent.refusals == {4: Refusal("mempool_full", 2)}
    assert list(generator.sent.outcome).count(ACCEPTED) == 5


async def test_closed_loop_sends_again_what_was_refused_for_now() -> None:
    """A client that is told when to come again comes again, with what was refused only."""
    async with serving(FakeNode()) as node:
        work = prepared(30, 10)
        full = bytes(work.ids[14])
        node.refused[full] = ("mempool_full", 0)
        generator = LoadGenerator([node.url], work)
        running = asyncio.create_task(generator.run_closed(30, 60.0))
        async with asyncio.timeout(DEADLINE_S):
            await until(lambda: node.submitted.count(full) >= 3)
            assert not running.done()
            del node.refused[full]
            await running
        generator.close()
    assert list(generator.sent.outcome) == [ACCEPTED] * 30
    assert generator.sent.sent_again >= 2
    assert generator.sent.refusals == {}
    assert len(node.submitted) == 30 + generator.sent.sent_again


async def test_closed_loop_counts_what_is_refused_at_its_end() -> None:
    async with serving(FakeNode()) as node:
        work = prepared(10, 10)
        node.refused[bytes(work.ids[3])] = ("mempool_full", 100)
        generator = LoadGenerator([node.url], work)
        async with asyncio.timeout(DEADLINE_S):
            await generator.run_closed(10, 5.0)
        generator.close()
    assert generator.sent.refusals == {3: Refusal("mempool_full", 100)}


async def test_end_of_a_closed_loop_is_no_flood() -> None:
    """What is refused in the last second must not make room for thousands that are refused, too."""
    async with serving(FakeNode()) as node:
        work = prepared(200, 1)
        node.on_submit = lambda _: (429, {"code": "mempool_full", "retry_after": 1})
        generator = LoadGenerator([node.url], work)
        async with asyncio.timeout(DEADLINE_S):
            await generator.run_closed(5, 0.5)
        generator.close()
    assert len(node.submitted) == 5
    assert generator.sent.rejected == {"mempool_full": 5}


async def test_late_generator_still_reads_answers() -> None:
    """All requests are due at once: what is answered meanwhile must not wait for the last one."""
    async with serving(FakeNode()) as node:
        generator = LoadGenerator([node.url], prepared(400, 1))
        running = asyncio.create_task(generator.run_open(iter([0.0] * 400), 1.0))
        async with asyncio.timeout(DEADLINE_S):
            await until(lambda: ACCEPTED in generator.sent.outcome)
            assert not running.done()
            await running
        generator.close()
    assert list(generator.sent.outcome) == [ACCEPTED] * 400


async def test_what_no_node_answered_is_unknown_not_lost_from_the_count() -> None:
    """Missing answers are reported as unknown: the benchmark cannot flatter."""
    async with serving(FakeNode()) as node:
        url = node.url
    work = prepared(5, 1)
    generator = LoadGenerator([url], work)
    async with asyncio.timeout(DEADLINE_S):
        await generator.run_open(schedule(1000.0, 0.006, 1), 1.0)
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
            await generator.run_open(schedule(1000.0, 0.006, 1), 1.0)
        generator.close()
    assert list(generator.sent.outcome) == [ACCEPTED] * 6
    assert generator.sent.failovers == 3
    assert len(alive.submitted) == len(set(alive.submitted)) == 6


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


def test_what_could_not_be_checked_neither_passes_nor_violates() -> None:
    found = Integrity(unfinished=["the tail was not awaited"])
    assert (found.passed, found.verdict) == (False, "incomplete")
    found.problems.append("gov-2 lost a transaction")
    assert found.verdict == "violated"
