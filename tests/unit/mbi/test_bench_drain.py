"""The end of a run: it waits for what may still become final, and not for what cannot."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Iterator

import pytest

from ledger.crypto import SigningKey
from ledger.types import Digest
from mbi.bench import runner
from mbi.bench.finality import FinalityWatch
from mbi.bench.load import ACCEPTED, REJECTED, UNANSWERED, Sent
from mbi.bench.target import Target, TargetNode
from tests.unit.waiting import DEADLINE_S, until

NODES = (TargetNode("a", "http://127.0.0.1:1", None),)
TARGET = Target(NODES, Digest(bytes(32)), SigningKey.from_seed(bytes(32)), "o", "o/A", "1")


class Pending:
    """What the nodes answer when they are asked whether anything is pending."""

    def __init__(self, answers: Iterator[int]) -> None:
        self.asked = 0
        self._answers = answers

    async def __call__(self, _: Target) -> int:
        self.asked += 1
        return next(self._answers)


def sent(*outcomes: int) -> Sent:
    return Sent(array("d", [0.0] * len(outcomes)), array("b", outcomes))


def watch(*heights: int) -> FinalityWatch:
    found = FinalityWatch("http://127.0.0.1:1", 1)
    found.expect([Digest(number.to_bytes(32)) for number in range(len(heights))])
    for number, height in enumerate(heights):
        found.heights[number] = height
    return found


async def _endless() -> None:
    await asyncio.Event().wait()


async def drain(outcomes: Sent, watched: FinalityWatch) -> None:
    watching = asyncio.create_task(_endless())
    try:
        async with asyncio.timeout(DEADLINE_S):
            await runner._drain(TARGET, outcomes, watched, watching)
    finally:
        watching.cancel()


@pytest.fixture
def pending(monkeypatch: pytest.MonkeyPatch) -> Pending:
    found = Pending(iter([7, 1, 0]))
    monkeypatch.setattr(runner, "_pending", found)
    monkeypatch.setattr(runner, "QUIET_S", 0.01)
    monkeypatch.setattr(runner, "DRAIN_POLL_S", 0.001)
    return found


async def test_all_settled_needs_no_waiting(pending: Pending) -> None:
    await drain(sent(ACCEPTED, REJECTED, UNANSWERED, 0), watch(3, -1, 4, -1))
    assert pending.asked == 0


async def test_waits_while_something_is_pending_and_no_longer(pending: Pending) -> None:
    await drain(sent(ACCEPTED, UNANSWERED), watch(3, -1))
    assert pending.asked == 3


async def test_blocks_of_ours_put_the_question_off(
    pending: Pending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "QUIET_S", 1000.0)
    watched = watch(-1, -1)
    running = asyncio.create_task(drain(sent(ACCEPTED, ACCEPTED), watched))
    watched.ours_last_s = 0.0
    watched.heights[0] = 5
    await until(lambda: watched.heights[0] == 5)
    watched.heights[1] = 6
    await running
    assert pending.asked == 0


async def test_ends_when_its_time_is_over(
    pending: Pending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "DRAIN_S", 0.0)
    await drain(sent(ACCEPTED), watch(-1))
    assert pending.asked == 0


async def test_nodes_that_do_not_answer_may_hold_something() -> None:
    assert await runner._pending(TARGET) == 1


async def test_progress_prolongs_the_wait(
    pending: Pending, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as transactions become final nobody goes away, however late they are."""
    monkeypatch.setattr(runner, "QUIET_S", 1000.0)
    monkeypatch.setattr(runner, "DRAIN_S", 0.05)
    watched = watch(-1)
    watched.ours_last_s = time.monotonic() + 1000.0
    running = asyncio.create_task(drain(sent(ACCEPTED), watched))
    _, still = await asyncio.wait([running], timeout=0.1)
    assert still
    watched.heights[0] = 5
    await running


async def test_observer_that_is_behind_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that only the others have shown yet are no violation of anything."""

    async def common(_: object) -> int:
        return 9

    monkeypatch.setattr(runner, "wait_common_height", common)
    watched = FinalityWatch("http://127.0.0.1:1", 8)
    watching = asyncio.create_task(_endless())
    waiting = asyncio.create_task(runner._see_all(TARGET, watched, watching))
    await asyncio.sleep(0)
    assert not waiting.done()
    watched._next = 10
    async with asyncio.timeout(DEADLINE_S):
        await waiting
    watching.cancel()
