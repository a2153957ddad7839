"""A fault during the load: one validator is killed and, some seconds later, started again."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from mbi.bench.target import Target
from mbi.errors import MbiError, UsageError
from mbi.localnet.layout import NodeEntry
from mbi.localnet.processes import send_signal
from mbi.localnet.readiness import READY_TIMEOUT_S, wait_ready

DOWN_S: Final = 5.0
"""Long enough for the others to have to do without it in many views."""

Start = Callable[[NodeEntry], Awaitable[None]]
"""Starts the process of a node whose process is gone."""


@dataclass(slots=True)
class Fault:
    """Kills ``node`` some seconds after the load has begun, and starts it again."""

    node: NodeEntry
    at_s: float
    start: Start
    happened: list[tuple[float, str]] = field(default_factory=list)
    """Moment on the monotonic clock and what was done."""

    async def run(self) -> None:
        """Wait for the moment, kill, wait, start, and wait until the node is ready again.

        A node that does not come back is noted; that it is missing is then an integrity problem.
        """
        await asyncio.sleep(self.at_s)
        was_running = send_signal(self.node, signal.SIGKILL)
        self._note(f"{self.node.name} killed" if was_running else f"{self.node.name} was not up")
        await asyncio.sleep(DOWN_S)
        await self.start(self.node)
        self._note(f"{self.node.name} started again")
        try:
            await wait_ready([self.node], READY_TIMEOUT_S)
        except MbiError as error:
            self._note(f"{self.node.name} did not come back: {error}")
        else:
            self._note(f"{self.node.name} ready again")

    def to_json(self, started_s: float) -> list[dict[str, Any]]:
        """Return what happened when, in seconds since the load began."""
        return [{"s": round(at_s - started_s, 3), "event": event} for at_s, event in self.happened]

    def _note(self, event: str) -> None:
        self.happened.append((time.monotonic(), event))


def plan_fault(target: Target, at_s: float, start: Start | None) -> Fault:
    """Choose the victim: the last validator. The first node observes and has to stay.

    Raises :class:`UsageError` unless the network runs on this machine and has another validator.
    """
    victims = [
        node.process.entry
        for node in target.nodes[1:]
        if node.process is not None and node.process.entry.role == "validator"
    ]
    if start is None or not victims:
        raise UsageError(
            "--kill-at needs a network made for the run, or --localnet, with a second validator"
        )
    return Fault(victims[-1], at_s, start)
