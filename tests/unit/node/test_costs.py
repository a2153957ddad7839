"""Processor time per stage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from node.costs import STAGES, Costs
from tests.unit.node.test_intake import Desk


@pytest.fixture
def spend(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Replace the thread's processor clock; return what makes time pass."""
    now = [100.0]
    monkeypatch.setattr(time, "thread_time", lambda: now[0])

    def advance(seconds: float) -> None:
        now[0] += seconds

    return advance


def test_a_stage_is_charged_what_happens_inside(spend: Callable[[float], None]) -> None:
    costs = Costs()
    spend(1)
    with costs.measure("decode"):
        spend(2)
    spend(4)
    assert costs.seconds == dict.fromkeys(STAGES, 0.0) | {"decode": 2.0}


def test_an_inner_stage_suspends_the_outer_one(spend: Callable[[float], None]) -> None:
    costs = Costs()
    with costs.measure("resolve"):
        spend(1)
        with costs.measure("decode"):
            spend(2)
        spend(4)
    assert (costs.seconds["resolve"], costs.seconds["decode"]) == (5.0, 2.0)


def test_an_exception_ends_the_stage(spend: Callable[[float], None]) -> None:
    costs = Costs()
    with suppress(KeyError), costs.measure("execute"):
        spend(1)
        raise KeyError
    spend(2)
    assert costs.seconds["execute"] == 1.0


def test_other_threads_are_added() -> None:
    costs = Costs()
    costs.add("signature", 0.5)
    costs.add("signature", 0.25)
    assert costs.seconds["signature"] == 0.75


async def test_no_transaction_is_measured_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at the clock is a system call: one for each would cost more than what it measures."""
    looks = 0
    clock = time.thread_time

    def look() -> float:
        nonlocal looks
        looks += 1
        return clock()

    async def looks_for(count: int) -> int:
        async with asyncio.timeout(20):
            desk = Desk()
            running = asyncio.create_task(desk.intake.run())
            wires = [desk.wire() for _ in range(count)]
            before = looks
            results = await desk.intake.submit(wires)
            running.cancel()
            desk.verifier.close()
        assert {result.status for result in results} == {"accepted"}
        return looks - before

    monkeypatch.setattr(time, "thread_time", look)
    assert await looks_for(100) == await looks_for(10)
