"""The end of a run: it waits for what may still become final, and not for what cannot."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Iterator

import pytest

from ledger.crypto import SigningKey
from ledger.types import Digest
from mbi.bench import runner
from mbi.bench.finality import FinalityWatch
from mbi.bench.load import ACCEPTED, REJECTED, UNANSWERED, Sent
from mbi.bench.statistics import ObservedBlock
from mbi.bench.target import Target, TargetNode
from tests.unit.mbi.waiting import DEADLINE_S, until

NODES = (TargetNode("a", "http://127.0.0.1:1", None),)
TARGET = Target(NODES, Digest(bytes(32)), SigningKey.from_seed(bytes(32)), "o", "o/A", "1")


class Pending:
    """What the nodes answer when they are asked whether anything is pending."""

    def __init__(self, answers: Iterator[bool]) -> None:
        self.asked = 0
        self._answers = answers

    async def __call__(self, _: Target) -> bool:
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
    found = Pending(iter([True, True, False]))
    monkeypatch.setattr(runner, "_is_any_pending", found)
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
    watched.blocks.append(ObservedBlock(5, 0, 0.0, 1, 1))
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
    assert await runner._is_any_pending(TARGET)
