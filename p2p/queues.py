"""What waits to be sent to one peer: three bounded classes, consensus first.

The bounds hold in messages and in bytes. What happens when a class is full depends on what it
carries:

- consensus: the peer has not read for so long that it is of no use; the connection ends and, once
  it is back, the engine repeats what matters;
- fetch answers: the new one is refused, the peer asks someone else;
- transactions: the oldest batch is dropped, because the newest is the likeliest to be still wanted.

Frames are taken out in one piece of many, so that a burst costs one write and one TLS record chain.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from enum import Enum
from typing import Final

from p2p.errors import SlowPeer
from p2p.messages import Priority


class Overflow(Enum):
    """What to do with a frame that does not fit."""

    DISCONNECT = "disconnect"
    REFUSE = "refuse"
    DROP_OLDEST = "drop_oldest"


@dataclass(frozen=True, slots=True)
class QueueBound:
    """Size of one class of one peer's queue."""

    frames_max: int
    bytes_max: int
    overflow: Overflow


QUEUE_BOUNDS: Final[dict[Priority, QueueBound]] = {
    # 20 messages per block and 20 blocks/s: ten seconds; 16 MiB hold as many of the largest
    # proposals.
    Priority.CONSENSUS: QueueBound(4096, 16 * 1024 * 1024, Overflow.DISCONNECT),
    # Eight of the largest answers, about what a 100 Mbit/s link carries in a request's time-out.
    Priority.FETCH: QueueBound(256, 8 * 1024 * 1024, Overflow.REFUSE),
    # 8 MiB are 50,000 transfers: more than a mempool holds.
    Priority.TRANSACTIONS: QueueBound(1024, 8 * 1024 * 1024, Overflow.DROP_OLDEST),
}
"""Worst case per peer is the sum, 32 MiB; with 40 peers that all stop reading, 1.3 GiB for the few
seconds until they are found out. Tests and small machines pass their own."""


class SendQueue:
    """Frames for one peer, by class."""

    def __init__(self, bounds: dict[Priority, QueueBound], drops: Counter[str]) -> None:
        self._bounds = bounds
        self._drops = drops
        self._queues: dict[Priority, deque[bytes]] = {p: deque() for p in Priority}
        self._bytes: dict[Priority, int] = dict.fromkeys(Priority, 0)

    def __bool__(self) -> bool:
        return any(self._queues.values())

    @property
    def bytes_waiting(self) -> int:
        """Bytes of all frames that wait."""
        return sum(self._bytes.values())

    def put(self, frame: bytes, priority: Priority) -> bool:
        """Add a frame; return whether it was accepted. Every drop is counted by class.

        Raises:
            SlowPeer: the consensus class is full.
        """
        bound = self._bounds[priority]
        queue = self._queues[priority]
        while queue and self._is_full(priority, len(frame)):
            self._drops[f"{priority.name.lower()}_queue_full"] += 1
            if bound.overflow is Overflow.REFUSE:
                return False
            if bound.overflow is Overflow.DISCONNECT:
                raise SlowPeer(
                    f"expected at most {bound.frames_max} messages and {bound.bytes_max} bytes"
                    f" waiting, found {len(queue)} and {self._bytes[priority]}"
                )
            self._bytes[priority] -= len(queue.popleft())
        queue.append(frame)
        self._bytes[priority] += len(frame)
        return True

    def take(self, bytes_target: int) -> tuple[bytes, int]:
        """Remove the next frames, most urgent first, up to about a size; return them and how many.

        The frames come joined. Whole frames are taken, so the result may exceed the size by one.
        """
        taken: list[bytes] = []
        size = 0
        for priority, queue in self._queues.items():
            before = size
            while queue and size < bytes_target:
                frame = queue.popleft()
                taken.append(frame)
                size += len(frame)
            self._bytes[priority] -= size - before
        return (taken[0] if len(taken) == 1 else b"".join(taken)), len(taken)

    def _is_full(self, priority: Priority, frame_bytes: int) -> bool:
        bound = self._bounds[priority]
        return (
            len(self._queues[priority]) >= bound.frames_max
            or self._bytes[priority] + frame_bytes > bound.bytes_max
        )
