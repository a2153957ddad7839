"""What lasts of a simulated node over its crashes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2p.messages import Message

if TYPE_CHECKING:
    from tests.simulation.disk import Disk
    from tests.simulation.process import Process
    from tests.simulation.signatures import KeyPair

Filter = Callable[[int, Message], Message | None]
"""Takes target and message; returns what is sent instead, or None for nothing."""


@dataclass(slots=True)
class Node:
    """What lasts over crashes: who the node is, its disk, and its clock's error."""

    index: int
    """Place in the network: validators first, in the order of the first set, then the others."""
    key: KeyPair | None
    """Its consensus key; it votes in the epochs whose sets have that key. None for an observer."""
    disk: Disk
    clock_offset_ms: int = 0
    """Error of its wall clock. Timers run on a monotonic clock without error."""
    execution_ms: int = 0
    """Time to execute one block."""
    verification_ms: int = 0
    """Longest time to verify or build a block."""
    process: Process | None = None
    boots: int = 0
    finalized_height: int = 0
    """Height that the engine of this boot has declared final."""
    durable_height: int = 0
    """Highest executed height whose batch was synced: a restart may never go below it (I8)."""
    filter: Filter | None = None
    """Byzantine nodes only: changes or drops what the node sends to a peer."""

    @property
    def is_up(self) -> bool:
        return self.process is not None and self.process.is_alive
