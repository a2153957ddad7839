"""Runs nodes as children: starts them, notices when one ends, and stops all of them.

Each child has its own session, so Ctrl-C reaches the supervisor alone, which then stops the
children in order; and each child ends by itself when its parent is gone, so a killed supervisor
leaves no orphans.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mbi.localnet.processes import (
    STOP_GRACE_S,
    child_environment,
    exit_text,
    forget_pid,
    last_words,
    node_command,
    state_of,
    write_pid,
)

if TYPE_CHECKING:
    from mbi.localnet.layout import NodeEntry


@dataclass(frozen=True, slots=True)
class ChildExit:
    """A child ended without being asked to."""

    node: NodeEntry
    description: str
    """What happened, with the end of the log."""


class Supervisor:
    """Owns the child processes of a network; leaving it as a context manager stops them all."""

    def __init__(self, grace_s: float = STOP_GRACE_S) -> None:
        self._grace_s = grace_s
        self._children: dict[str, asyncio.subprocess.Process] = {}
        self._nodes: dict[str, NodeEntry] = {}
        self._watchers: set[asyncio.Task[None]] = set()
        self._exits: asyncio.Queue[ChildExit] = asyncio.Queue()
        self._is_stopping = False

    async def __aenter__(self) -> Supervisor:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop_all()

    @property
    def pids(self) -> dict[str, int | None]:
        """Process id per node name; None for a child that has ended."""
        return {
            name: child.pid if child.returncode is None else None
            for name, child in self._children.items()
        }

    async def start(self, node: NodeEntry, command: list[str] | None = None) -> None:
        """Start one node; its output goes to its log."""
        descriptor = os.open(node.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            child = await asyncio.create_subprocess_exec(
                *(command or node_command(node)),
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=child_environment(exit_with_parent=True),
            )
        finally:
            os.close(descriptor)
        write_pid(node, child.pid)
        self._children[node.name] = child
        self._nodes[node.name] = node
        watcher = asyncio.create_task(self._watch(node, child))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    async def wait_exit(self) -> ChildExit:
        """Wait until a child ends without being asked to."""
        return await self._exits.get()

    async def stop_all(self) -> list[str]:
        """Stop every child; return the names of those that had to be killed."""
        self._is_stopping = True
        self._signal_all(signal.SIGTERM)
        # A paused child sees the signal only after it goes on.
        self._signal_all(signal.SIGCONT)
        waiting = list(self._watchers)
        if waiting:
            await asyncio.wait(waiting, timeout=self._grace_s)
        killed = [name for name, child in self._children.items() if child.returncode is None]
        self._signal_all(signal.SIGKILL)
        await asyncio.gather(*waiting)
        for node in self._nodes.values():
            # Someone may have started the node again by hand; that process is not ours.
            if state_of(node).pid is None:
                forget_pid(node)
        return killed

    async def _watch(self, node: NodeEntry, child: asyncio.subprocess.Process) -> None:
        returncode = await child.wait()
        if not self._is_stopping:
            description = last_words(node, f"ended with {exit_text(returncode)}")
            self._exits.put_nowait(ChildExit(node, description))

    def _signal_all(self, number: signal.Signals) -> None:
        for child in self._children.values():
            if child.returncode is None:
                child.send_signal(number)
