"""Drives the consensus engine: turns the outside world into inputs and effects into actions.

One task owns the engine. It takes everything that has happened since its last turn, steps the
engine for each input, and carries out the effects in order. All ``Persist`` effects of one turn
become one synced write, and nothing is sent before that write is on disk
(``docs/protocol-consensus.md``, rules P1 to P4). What a ``Store`` keeps may be lost, so nobody
waits for it: it goes with the next synced write, or is written when there is nothing else to do.
A failed write ends the process. Timers run on the monotonic clock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import structlog

from consensus.effects import (
    Broadcast,
    CancelTimer,
    Effect,
    FetchBlock,
    FetchChain,
    Finalize,
    Halt,
    Penalise,
    Persist,
    ReportEvidence,
    RequestProposal,
    RequestVerification,
    Send,
    SetTimer,
    Store,
)
from consensus.inputs import Input, PeerId, Received, Timer, TimerFired
from consensus.replica import Replica
from consensus.types import ConsensusMessage
from node.costs import Costs

INBOX_MAX: Final = 8_192
"""Inputs waiting for the engine; beyond it messages of peers are dropped (they are repeated)."""
TURN_INPUTS_MAX: Final = 64
"""Inputs per turn: bounds the time the loop is held and the size of the merged write."""

log = structlog.get_logger("consensus")


class Outside(Protocol):
    """What the driver needs done by others; each call but ``persist`` returns at once."""

    async def persist(self, effects: list[Persist], stores: list[Store]) -> None:
        """Write and, if there is any ``Persist``, sync. Raises FatalError if the disk refuses."""

    def send(self, peer: PeerId, message: ConsensusMessage) -> None:
        """Queue a consensus message for one peer."""

    def broadcast(self, message: ConsensusMessage) -> None:
        """Queue a consensus message for every connected peer."""

    def request_proposal(self, request: RequestProposal) -> None:
        """Build a block and post ``Built``."""

    def request_verification(self, request: RequestVerification) -> None:
        """Judge a block and post ``Verified``."""

    def fetch_block(self, request: FetchBlock) -> None:
        """Get a block from peers and post ``BlockReceived``."""

    def fetch_chain(self, request: FetchChain) -> None:
        """Get finalised blocks from peers and post them."""

    def finalize(self, effect: Finalize) -> None:
        """Hand final blocks to the executor."""

    def report_evidence(self, effect: ReportEvidence) -> None:
        """Record that a validator broke the rules."""

    def penalise(self, effect: Penalise) -> None:
        """Count a breach against a peer."""

    def halt(self, effect: Halt) -> None:
        """Keep the evidence of a safety violation; the engine has stopped voting."""


Watch = Callable[[list[Effect]], None]
"""Sees the effects of a turn before they are carried out."""


class Driver:
    """Owner of the engine, its inbox and its timers."""

    def __init__(
        self, engine: Replica, outside: Outside, watch: Watch | None = None, *, costs: Costs
    ) -> None:
        """Take a replica that was not started; ``watch`` sees the effects of every turn."""
        self.engine = engine
        self._watch = watch
        self._costs = costs
        self.dropped_total = 0
        """Peer messages dropped because the inbox was full."""
        self._outside = outside
        self._inbox: deque[Input] = deque()
        self._unwritten: list[Store] = []
        self._wake = asyncio.Event()
        self._timers: dict[Timer, asyncio.TimerHandle] = {}
        self._perform_one: dict[type[Effect], Callable[..., None]] = {
            Send: lambda effect: outside.send(effect.peer, effect.message),
            Broadcast: lambda effect: outside.broadcast(effect.message),
            SetTimer: self._set_timer,
            CancelTimer: lambda effect: self._cancel_timer(effect.timer),
            RequestProposal: outside.request_proposal,
            RequestVerification: outside.request_verification,
            FetchBlock: outside.fetch_block,
            FetchChain: outside.fetch_chain,
            Finalize: outside.finalize,
            ReportEvidence: outside.report_evidence,
            Penalise: outside.penalise,
            Halt: outside.halt,
        }

    def post(self, event: Input) -> None:
        """Queue an input; a full inbox drops messages of peers, never results of our own."""
        if len(self._inbox) >= INBOX_MAX and isinstance(event, Received):
            self.dropped_total += 1
            return
        self._inbox.append(event)
        self._wake.set()

    async def run(self) -> None:
        """Start the engine and serve it until cancelled."""
        await self._perform(self.engine.start(self._now_ms()))
        inbox, wake, step = self._inbox, self._wake, self.engine.step
        while True:
            await wake.wait()
            now_ms = self._now_ms()
            effects: list[Effect] = []
            with self._costs.measure("consensus"):
                for _ in range(min(len(inbox), TURN_INPUTS_MAX)):
                    effects += step(now_ms, inbox.popleft())
            if not inbox:
                wake.clear()
            if self._watch is not None:
                self._watch(effects)
            await self._perform(effects)
            if self._unwritten and (not inbox or len(self._unwritten) >= TURN_INPUTS_MAX):
                await self._write([])
            if inbox:
                await asyncio.sleep(0)

    async def _perform(self, effects: list[Effect]) -> None:
        durable = [effect for effect in effects if type(effect) is Persist]
        self._unwritten += [effect for effect in effects if type(effect) is Store]
        if durable:
            await self._write(durable)
        for effect in effects:
            kind = type(effect)
            if kind is not Persist and kind is not Store:
                self._perform_one[kind](effect)

    async def _write(self, durable: list[Persist]) -> None:
        stores, self._unwritten = self._unwritten, []
        await self._outside.persist(durable, stores)

    @staticmethod
    def _now_ms() -> int:
        return int(asyncio.get_running_loop().time() * 1000)

    def _set_timer(self, effect: SetTimer) -> None:
        self._cancel_timer(effect.timer)
        loop = asyncio.get_running_loop()
        # One millisecond later, so that the engine never sees a time before the one it asked for.
        self._timers[effect.timer] = loop.call_at(
            (effect.at_ms + 1) / 1000, self._fire, effect.timer
        )

    def _cancel_timer(self, timer: Timer) -> None:
        handle = self._timers.pop(timer, None)
        if handle is not None:
            handle.cancel()

    def _fire(self, timer: Timer) -> None:
        del self._timers[timer]
        self.post(TimerFired(timer))

    def close(self) -> None:
        """Cancel all timers."""
        for timer in list(self._timers):
            self._cancel_timer(timer)


class Tasks:
    """Named background tasks of one owner: an exception in any of them ends the owner's group.

    Bounded work items (a verification, a fetch) run here rather than as orphan tasks.
    """

    def __init__(self, group: asyncio.TaskGroup) -> None:
        """``group`` is the root group of the process or a child of it."""
        self._group = group
        self._running: dict[object, asyncio.Task[None]] = {}

    def start(self, key: object, work: Callable[[], Awaitable[None]]) -> bool:
        """Start ``work`` unless work with this key is running; tell whether it was started."""
        if key in self._running:
            return False

        async def run() -> None:
            try:
                await work()
            finally:
                del self._running[key]

        self._running[key] = self._group.create_task(run(), name=str(key))
        return True

    def is_running(self, key: object) -> bool:
        """Tell whether work with this key was started and has not ended."""
        return key in self._running

    def __len__(self) -> int:
        return len(self._running)
