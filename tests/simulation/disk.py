"""A disk that forgets, tears and damages: the store that the production code of a node runs on.

What was written but not synced may be lost in a crash. Un-synced batches are a log, as in LevelDB:
a crash cuts the log at any byte and may flip a bit in what is left of it, and a start takes over
the whole batches whose checksums hold, up to the first that does not. Syncing takes time, and may
fail; a failed sync is fatal for the process (``docs/protocol.md``: never retry an fsync). A bit
that flips in older data is found when the record is read next, by its checksum.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zlib import crc32

import msgspec

from storage.errors import StoreCorrupt
from storage.memory import MemoryBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

    from storage.kv import Batch
    from tests.simulation.timeline import Timeline

Image = dict[bytes, bytes]
"""All records of a disk."""

Changes = dict[bytes, bytes | None]
"""What one batch does; None deletes."""

_HEADER_BYTES: Final = 8
"""Length and checksum in front of each batch of the log, four bytes each."""

_PATH: Final = Path("simulated disk")

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[bytes, bytes | None]).decode


class Disk:
    """One node's disk, a :class:`storage.kv.KeyValueStore`. It outlives the node's processes."""

    def __init__(self, timeline: Timeline, random: Random, faults: Counter[str]) -> None:
        self.durable: Image = {}
        """What survives every crash."""
        self.live: Image = {}
        """What a running process reads: durable plus everything written since."""
        self.sync_ms = 0
        """How long a sync takes."""
        self.sync_fails = False
        """Whether the next sync returns an error."""
        self.damaged: set[bytes] = set()
        """Keys of records whose bits have flipped."""
        self._timeline = timeline
        self._random = random
        self._faults = faults
        self._keys: list[bytes] = []
        self._unsynced: deque[tuple[int, Changes]] = deque()
        self._written = 0
        self._busy_until_ms = 0
        self._generation = 0

    # --- the port of production -------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """Return a stand-in for the directory."""
        return _PATH

    def get(self, key: bytes, /) -> bytes | None:
        """Return the value of a key, None if there is none."""
        if self.damaged and key in self.damaged:
            raise StoreCorrupt(_PATH, f"the record {key[:9].hex()}", "its checksum does not hold")
        return self.live.get(key)

    def batch(self) -> MemoryBatch:
        """Return an empty batch."""
        return MemoryBatch()

    def write(self, batch: Batch, /, *, sync: bool = False) -> None:
        """Write without waiting: visible now, durable after the next sync, or never."""
        if not isinstance(batch, MemoryBatch):
            raise TypeError(f"expected a batch of this store, got {type(batch).__name__}")
        changes = batch.changes
        live = self.live
        for key, value in changes.items():
            if value is None:
                if live.pop(key, None) is not None:
                    del self._keys[bisect_left(self._keys, key)]
                continue
            if key not in live:
                insort(self._keys, key)
            live[key] = value
        if self.damaged:
            self.damaged.difference_update(changes)
        self._written += 1
        self._unsynced.append((self._written, changes))
        if sync:
            self._harden(self._written)

    def iterate(
        self, start: bytes, stop: bytes, *, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over ``start <= key < stop``."""
        keys = self._keys
        first, last = bisect_left(keys, start), bisect_left(keys, stop)
        if reverse:
            lowest = first if limit is None else max(first, last - limit)
            chosen = keys[lowest:last][::-1]
        else:
            chosen = keys[first : last if limit is None else min(last, first + limit)]
        if self.damaged and not self.damaged.isdisjoint(chosen):
            raise StoreCorrupt(_PATH, "a range of records", "a checksum does not hold")
        live = self.live
        return iter([(key, live[key]) for key in chosen])

    def close(self) -> None:
        """Do nothing: the disk outlives its users."""

    # --- syncing ----------------------------------------------------------------------------------

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
        self._harden(last)
        done(True)

    def _harden(self, last: int) -> None:
        while self._unsynced and self._unsynced[0][0] <= last:
            _apply(self.durable, self._unsynced.popleft()[1])

    # --- faults -----------------------------------------------------------------------------------

    def crash(self) -> int:
        """Lose a random suffix of the un-synced batches; return how many were lost."""
        batches = [changes for _, changes in self._unsynced]
        if batches and self._random.random() < 0.5:
            survivors = self._torn(batches)
        else:
            survivors = batches[: self._random.randint(0, len(batches))]
        for changes in survivors:
            _apply(self.durable, changes)
        self._reset(self.durable)
        return len(batches) - len(survivors)

    def _torn(self, batches: list[Changes]) -> list[Changes]:
        """Return what a start reads back from a log that was cut, and perhaps damaged."""
        log = bytearray()
        for changes in batches:
            body = _encode(changes)
            log += len(body).to_bytes(4, "big") + crc32(body).to_bytes(4, "big") + body
        del log[self._random.randint(0, len(log)) :]
        self._faults["log cut at a byte"] += 1
        if log and self._random.random() < 0.3:
            self._faults["bit flipped in the log"] += 1
            log[self._random.randrange(len(log))] ^= 1 << self._random.randrange(8)
        return read_log(bytes(log))

    def damage(self) -> None:
        """Flip a bit in a record that was on disk for long."""
        keys = sorted(self.durable)
        if keys:
            self.damaged.add(self._random.choice(keys))

    def wipe(self) -> None:
        """Lose everything."""
        self._reset({})

    def add(self, key: bytes, value: bytes) -> None:
        """Put one record on the disk, durably."""
        batch = self.batch()
        batch.put(key, value)
        self.write(batch, sync=True)

    def restore(self, image: Image) -> None:
        """Put back an older image."""
        self._reset(image)

    def _reset(self, image: Image) -> None:
        if image is not self.durable:
            self.damaged.clear()
        self.durable = dict(image)
        self.live = dict(image)
        self._keys = sorted(image)
        self._unsynced.clear()
        self._busy_until_ms = 0
        self._generation += 1


def read_log(log: bytes) -> list[Changes]:
    """Return the batches of a log up to the first that is not whole."""
    batches: list[Changes] = []
    while len(log) >= _HEADER_BYTES:
        size = int.from_bytes(log[:4], "big")
        body = log[_HEADER_BYTES : _HEADER_BYTES + size]
        if len(body) < size or crc32(body) != int.from_bytes(log[4:8], "big"):
            break
        batches.append(_decode(body))
        log = log[_HEADER_BYTES + size :]
    return batches


def _apply(image: Image, changes: Changes) -> None:
    for key, value in changes.items():
        if value is None:
            image.pop(key, None)
        else:
            image[key] = value
