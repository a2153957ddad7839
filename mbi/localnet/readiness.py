"""Asks the nodes of a local network how they are, over HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mbi.client import AsyncClient
from mbi.errors import MbiError, Unreachable
from mbi.localnet.layout import NodeEntry
from mbi.localnet.processes import state_of

POLL_S: Final = 0.05
QUERY_TIMEOUT_S: Final = 2.0
READY_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class NodeReport:
    """Process and API of one node in one record."""

    node: NodeEntry
    state: str
    """ready, not ready, starting (no answer yet), paused, crashed or stopped."""
    pid: int | None
    height: int | None
    """Executed height; None if the node does not answer."""
    detail: str = ""
    """Why it is not ready."""

    def to_json(self) -> dict[str, Any]:
        """Return the node's part of ``mbi localnet status --json``."""
        node = self.node
        return {
            "name": node.name,
            "role": node.role,
            "chamber": node.chamber,
            "http": node.http,
            "p2p": node.p2p,
            "pid": self.pid,
            "home": node.home,
            "state": self.state,
            "height": self.height,
        }


async def wait_ready(
    nodes: Iterable[NodeEntry],
    timeout_s: float,
    on_ready: Callable[[NodeEntry], None] = lambda _: None,
) -> None:
    """Wait until every node's ``/readyz`` agrees; raises :class:`Unreachable` naming the others."""
    waiting = list(nodes)
    outcomes = await asyncio.gather(
        *(_wait_node_ready(node, timeout_s, on_ready) for node in waiting)
    )
    late = [
        f"{node.name}: {reason}" for node, reason in zip(waiting, outcomes, strict=True) if reason
    ]
    if late:
        raise Unreachable(f"not ready after {timeout_s:g} s: {'; '.join(late)}")


async def report_all(nodes: Sequence[NodeEntry]) -> list[NodeReport]:
    """Return one report per node, asking all of them at once."""
    return list(await asyncio.gather(*(_report(node) for node in nodes)))


async def _wait_node_ready(
    node: NodeEntry, timeout_s: float, on_ready: Callable[[NodeEntry], None]
) -> str:
    """Return an empty text when the node is ready, otherwise the last reason why not."""
    deadline = time.monotonic() + timeout_s
    reason = "no answer"
    async with AsyncClient(node.http, QUERY_TIMEOUT_S) as client:
        while time.monotonic() < deadline:
            try:
                await client.get("/readyz")
            except MbiError as error:
                reason = str(error)
            else:
                on_ready(node)
                return ""
            await asyncio.sleep(POLL_S)
    return reason


async def _report(node: NodeEntry) -> NodeReport:
    process = state_of(node)
    if process.state != "running":
        return NodeReport(node, process.state, process.pid, None)
    async with AsyncClient(node.http, QUERY_TIMEOUT_S) as client:
        try:
            status = await client.status()
        except MbiError as error:
            return NodeReport(node, "starting", process.pid, None, str(error))
        height = status.get("height")
        try:
            await client.get("/readyz")
        except MbiError as error:
            return NodeReport(node, "not ready", process.pid, height, str(error))
    return NodeReport(node, "ready", process.pid, height)
