"""Asks the nodes of a local network how they are, over HTTP.

Through the blocking client in threads: loading an asynchronous one costs more than all the
questions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from mbi.calls import NotReady
from mbi.errors import MbiError, ProcessFailed, Unreachable
from mbi.localnet.layout import NodeEntry
from mbi.localnet.processes import last_words, state_of
from mbi.sync_client import Client

POLL_S: Final = 0.1
"""Between two attempts to reach a node that is still starting, so that nothing can be waited on."""
QUERY_TIMEOUT_S: Final = 2.0
QUERIES_MAX: Final = 16
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
    role: str | None = None
    """What the node says it is in the present epoch; None if it does not answer."""
    chamber: str | None = None
    """Of a node that has become a validator."""

    def to_json(self) -> dict[str, Any]:
        """Return the node's part of ``mbi localnet status --json``."""
        node = self.node
        return {
            "name": node.name,
            "role": self.role or node.role,
            "chamber": self.chamber if self.role else node.chamber,
            "http": node.http,
            "p2p": node.p2p,
            "pid": self.pid,
            "home": node.home,
            "state": self.state,
            "height": self.height,
        }


async def wait_ready(nodes: Iterable[NodeEntry], timeout_s: float) -> None:
    """Wait until every node's ``/readyz`` agrees.

    Raises:
        ProcessFailed: at once, if a node's process has ended; with the end of its log.
        Unreachable: the time is over; names the nodes that are not ready, and why.
    """
    waiting = list(nodes)
    tasks = [asyncio.create_task(_wait_node_ready(node, timeout_s)) for node in waiting]
    try:
        reasons = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    pairs = zip(waiting, reasons, strict=True)
    late = [f"{node.name}: {reason}" for node, reason in pairs if reason]
    if late:
        raise Unreachable(f"not ready after {timeout_s:g} s: {'; '.join(late)}")


def report_all(nodes: Sequence[NodeEntry]) -> list[NodeReport]:
    """Return one report per node, asking all of them at once."""
    with ThreadPoolExecutor(max_workers=QUERIES_MAX) as threads:
        return list(threads.map(_report, nodes))


async def _wait_node_ready(node: NodeEntry, timeout_s: float) -> str:
    """Return an empty text when the node is ready, otherwise the last reason why not."""
    deadline = time.monotonic() + timeout_s
    silence = reason = f"no answer from {node.http}"
    client = Client(node.http, QUERY_TIMEOUT_S)
    while time.monotonic() < deadline:
        if state_of(node).pid is None:
            raise ProcessFailed(last_words(node))
        try:
            await asyncio.to_thread(client.get, "/readyz")
        except NotReady as error:
            reason = str(error)
        except MbiError:
            reason = silence
        else:
            return ""
        await asyncio.sleep(POLL_S)
    return reason


def _report(node: NodeEntry) -> NodeReport:
    process = state_of(node)
    if process.state != "running":
        return NodeReport(node, process.state, process.pid, None)
    client = Client(node.http, QUERY_TIMEOUT_S)
    try:
        status = client.status()
        role = str(status["role"])
        chamber = _chamber(client, node) if role == "validator" else None
    except MbiError as error:
        return NodeReport(node, "starting", process.pid, None, str(error))
    state, detail = "ready", ""
    try:
        client.get("/readyz")
    except MbiError as error:
        state, detail = "not ready", str(error)
    return NodeReport(node, state, process.pid, status.get("height"), detail, role, chamber)


def _chamber(client: Client, node: NodeEntry) -> str | None:
    """Return the chamber of a validator: the genesis knows it, or the node's present set does."""
    if node.chamber is not None:
        return node.chamber
    name = client.consensus()["validator"]
    found = [member["chamber"] for member in client.validators() if member["name"] == name]
    return str(found[0]) if found else None
