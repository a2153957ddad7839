"""A disk that forgets: what was written but not synced may be lost in a crash.

A disk has a durable image and a list of batches not yet synced. A crash keeps a random prefix of
that list, as LevelDB's log does: whole batches, in order. Syncing takes time, and may fail; a
failed sync is fatal for the process (``docs/protocol.md``: never retry an fsync).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.simulation.timeline import Timeline

Key = tuple[str | int | bytes, ...]
"""A name of one record, such as ``("vote", 7, 1)``."""

Batch = dict[Key, object]
"""Records that become durable together."""


class Disk:
    """One node's disk. It outlives the node's processes."""

    def __init__(self, timeline: Timeline, random: Random) -> None:
        self.durable: Batch = {}
        """What survives every crash."""
        self.live: Batch = {}
        """What a running process reads: durable plus everything written since."""
        self.sync_ms = 0
        """How long a sync takes."""
        self.sync_fails = False
        """Whether the next sync returns an error."""
        self._timeline = timeline
        self._random = random
        self._unsynced: deque[tuple[int, Batch]] = deque()
        self._written = 0
        self._busy_until_ms = 0
        self._generation = 0

    def write(self, batch: Batch) -> None:
        """Write without waiting: visible now, durable after the next sync, or never."""
        self.live.update(batch)
        self._written += 1
        self._unsynced.append((self._written, batch))

    def sync(self, done: Callable[[bool], None]) -> None:
        """Make everything written so far durable, then call ``done`` with True; on error False."""
        last = self._written
        if self.sync_ms == 0 and self._busy_until_ms <= self._timeline.now_ms:
            self._complete(self._generation, last, done)
            return
        self._busy_until_ms = max(self._timeline.now_ms, self._busy_until_ms) + self.sync_ms
        self._timeline.at(self._busy_until_ms, self._complete, self._generation, last, done)

    def _complete(self, generation: int, last: int, done: Callable[[bool], None]) -> None:
        if generation != self._generation:
            return  # the process that asked has crashed meanwhile
        if self.sync_fails:
            self.sync_fails = False
            done(False)
            return
        while self._unsynced and self._unsynced[0][0] <= last:
            self.durable.update(self._unsynced.popleft()[1])
        done(True)

    def crash(self) -> int:
        """Lose a random suffix of the un-synced batches; return how many were lost."""
        kept = self._random.randint(0, len(self._unsynced))
        lost = len(self._unsynced) - kept
        for _ in range(kept):
            self.durable.update(self._unsynced.popleft()[1])
        self._reset(self.durable)
        return lost

    def wipe(self) -> None:
        """Lose everything."""
        self._reset({})

    def restore(self, image: Batch) -> None:
        """Put back an older image."""
        self._reset(image)

    def _reset(self, image: Batch) -> None:
        self.durable = dict(image)
        self.live = dict(image)
        self._unsynced.clear()
        self._busy_until_ms = 0
        self._generation += 1
