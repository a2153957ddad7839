"""The driver: effects in order, nothing sent before it is on disk, bounded input."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from consensus.effects import Broadcast, Effect, Persist, Send, SetTimer, Store
from consensus.inputs import Executed, Input, PeerId, Received, Timer, TimerFired, TimerKind
from consensus.replica import Replica
from consensus.types import Certificate, StatusRequest
from ledger.types import Epoch, Era, Height, View
from ledger.votes import NULL_VALUE, VoteKind
from node import driver as module
from node.costs import Costs
from node.driver import Driver, Tasks
from node.errors import FatalError

PEER = PeerId(b"p" * 32)
HELLO = StatusRequest(bytes(16))
BEAT = Timer(TimerKind.BEAT, View(1))
DEADLINE_S = 5.0


@dataclass
class ScriptedEngine:
    """Answers each input with the next list of effects."""

    script: list[list[Effect]]
    seen: list[Input] = field(default_factory=list)

    def start(self, now_ms: int) -> list[Effect]:
        return self.script.pop(0)

    def step(self, now_ms: int, event: Input) -> list[Effect]:
        self.seen.append(event)
        return self.script.pop(0) if self.script else []


class Recorder:
    """Everything the driver asked for, in order."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.disk = asyncio.Event()
        self.disk.set()
        self.disk_error: Exception | None = None
        self.done = asyncio.Event()

    async def persist(self, effects: Sequence[Persist], stores: Sequence[Store]) -> None:
        self.log.append(f"write {len(effects)}+{len(stores)}")
        await self.disk.wait()
        if self.disk_error is not None:
            raise self.disk_error
        self.log.append("synced")

    def send(self, peer: PeerId, message: Any) -> None:
        self.log.append("send")
        self.done.set()

    def broadcast(self, message: Any) -> None:
        self.log.append("broadcast")
        self.done.set()

    def __getattr__(self, name: str) -> Any:
        def record(effect: Any) -> None:
            self.log.append(name)
            self.done.set()

        return record


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - gives turns, does not wait for time
            await asyncio.sleep(0)


def make(script: list[list[Effect]]) -> tuple[Driver, ScriptedEngine, Recorder]:
    engine, outside = ScriptedEngine(script), Recorder()
    return Driver(cast("Replica", engine), cast("Any", outside), costs=Costs()), engine, outside


async def test_nothing_is_sent_before_the_write_is_synced() -> None:
    """P1, C3: a vote on its way is a vote on disk."""
    driver, _, outside = make([[Broadcast(HELLO), Persist(), Send(PEER, HELLO), Persist()]])
    outside.disk.clear()
    task = asyncio.create_task(driver.run())
    await until(lambda: bool(outside.log))
    assert outside.log == ["write 2+0"]
    outside.disk.set()
    async with asyncio.timeout(DEADLINE_S):
        await outside.done.wait()
    assert outside.log == ["write 2+0", "synced", "broadcast", "send"]
    task.cancel()


async def test_nobody_waits_for_what_may_be_lost() -> None:
    """A certificate can be had again: what follows from it is done before it is written."""
    certificate = Certificate(
        VoteKind.NULLIFY, Era(0), Epoch(0), View(1), NULL_VALUE, b"\x07", bytes(192)
    )
    script: list[list[Effect]] = [[], [Store((certificate,)), Broadcast(HELLO)]]
    driver, engine, outside = make(script)
    task = asyncio.create_task(driver.run())
    driver.post(Executed(Height(1)))
    await until(lambda: len(outside.log) == 3)
    assert outside.log == ["broadcast", "write 0+1", "synced"]

    engine.script += [[Store((certificate,))], [Persist(), Broadcast(HELLO)]]
    driver.post(Executed(Height(2)))
    driver.post(Executed(Height(3)))
    await until(lambda: len(outside.log) == 6)
    assert outside.log[3:] == ["write 1+1", "synced", "broadcast"]
    task.cancel()


async def test_a_failed_write_ends_the_driver_and_sends_nothing() -> None:
    """S5: a failed fsync is fatal; the vote that was not saved is not sent."""
    driver, _, outside = make([[Persist(), Broadcast(HELLO)]])
    outside.disk_error = FatalError("disk")
    with pytest.raises(FatalError, match="disk"):
        await driver.run()
    assert "broadcast" not in outside.log


async def test_inputs_reach_the_engine_in_order_and_timers_fire() -> None:
    driver, engine, outside = make([[SetTimer(BEAT, 0)], [], [], [Broadcast(HELLO)]])
    task = asyncio.create_task(driver.run())
    events: list[Input] = [Executed(Height(1)), Executed(Height(2))]
    for event in events:
        driver.post(event)
    async with asyncio.timeout(DEADLINE_S):
        await outside.done.wait()
    assert sorted(map(str, engine.seen)) == sorted(map(str, [*events, TimerFired(BEAT)]))
    assert [event for event in engine.seen if event in events] == events
    task.cancel()


async def test_the_engine_is_charged_to_its_stage() -> None:
    engine, outside, costs = ScriptedEngine([[], [Broadcast(HELLO)]]), Recorder(), Costs()
    driver = Driver(cast("Replica", engine), cast("Any", outside), costs=costs)
    task = asyncio.create_task(driver.run())
    driver.post(Executed(Height(1)))
    await until(lambda: outside.log == ["broadcast"])
    assert sum(costs.seconds.values()) == costs.seconds["consensus"] > 0
    task.cancel()


async def test_a_replaced_timer_fires_once() -> None:
    far = 10**12
    script: list[list[Effect]] = [[SetTimer(BEAT, far), SetTimer(BEAT, 0)], [Broadcast(HELLO)]]
    driver, engine, outside = make(script)
    task = asyncio.create_task(driver.run())
    async with asyncio.timeout(DEADLINE_S):
        await outside.done.wait()
    assert engine.seen == [TimerFired(BEAT)]
    task.cancel()


async def test_a_full_inbox_drops_messages_of_peers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """C16: memory is bounded, and own results are never lost."""
    monkeypatch.setattr(module, "INBOX_MAX", 2)
    driver, engine, outside = make([[]])
    for _ in range(5):
        driver.post(Received(PEER, HELLO))
    driver.post(Executed(Height(1)))
    assert driver.dropped_total == 3
    engine.script += [[], [], [Broadcast(HELLO)]]
    task = asyncio.create_task(driver.run())
    async with asyncio.timeout(DEADLINE_S):
        await outside.done.wait()
    assert engine.seen[-1] == Executed(Height(1))
    task.cancel()


async def test_work_with_one_key_runs_once_at_a_time() -> None:
    release = asyncio.Event()
    started = 0

    async def work() -> None:
        nonlocal started
        started += 1
        await release.wait()

    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        tasks = Tasks(group)
        assert tasks.start("key", work)
        assert not tasks.start("key", work)
        assert tasks.start("other", work)
        await asyncio.sleep(0)
        assert tasks.is_running("key")
        release.set()
    assert started == 2
    assert not tasks.is_running("key")
    assert len(tasks) == 0


async def test_an_exception_in_background_work_ends_the_group() -> None:
    """R3: no task dies alone."""

    async def work() -> None:
        raise FatalError("broken")

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            Tasks(group).start("key", work)
    assert caught.group_contains(FatalError, match="broken")
