"""A store in memory with the behaviour of a disk, for tests and simulations.

It passes the same contract tests as LevelDB and can do what a real disk does only with a hammer:
:meth:`MemoryStore.power_cut` forgets every batch after the last synced one (or keeps any prefix of
them, as a disk may), and :attr:`MemoryStore.fault` makes a chosen write fail.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from storage.errors import StoreClosed, WriteError, WriteFailed
from storage.kv import Batch, KeyValueStore

MEMORY: Final = Path("memory")
"""Stands for the directory in error messages."""

Fault = Callable[[int, bool], WriteError | None]
"""Asked before each write with its number from 0 and its ``sync``; an error makes the write
fail."""


class MemoryBatch:
    """Changes in order; None deletes."""

    __slots__ = ("changes",)

    def __init__(self) -> None:
        self.changes: dict[bytes, bytes | None] = {}

    def put(self, key: bytes, value: bytes, /) -> None:
        """Set a value."""
        self.changes[key] = value

    def delete(self, key: bytes, /) -> None:
        """Remove a key."""
        self.changes[key] = None


class MemoryStore(KeyValueStore):
    """Ordered map in memory. Only one writer, as with the real store."""

    def __init__(self, fault: Fault | None = None) -> None:
        self.fault = fault
        """Decides which writes fail."""
        self.writes_total = 0
        """Writes asked for, failed ones included."""
        self._values: dict[bytes, bytes] = {}
        self._keys: list[bytes] | None = []
        self._durable: dict[bytes, bytes] = {}
        self._unsynced: list[dict[bytes, bytes | None]] = []
        self._failed = False
        self._closed = False

    @property
    def path(self) -> Path:
        """Return a stand-in for the directory."""
        return MEMORY

    def get(self, key: bytes, /) -> bytes | None:
        """Return the value of a key, None if there is none."""
        self._require_open()
        return self._values.get(key)

    def batch(self) -> MemoryBatch:
        """Return an empty batch."""
        self._require_open()
        return MemoryBatch()

    def write(self, batch: Batch, /, *, sync: bool) -> None:
        """Apply a batch; with ``sync`` it survives :meth:`power_cut`, with all before it."""
        self._require_open()
        if not isinstance(batch, MemoryBatch):
            raise TypeError(f"expected a batch of this store, got {type(batch).__name__}")
        if self._failed:
            raise WriteFailed(MEMORY, "an earlier write failed")
        number, self.writes_total = self.writes_total, self.writes_total + 1
        error = self.fault(number, sync) if self.fault is not None else None
        if error is not None:
            self._failed = True
            raise error
        self._apply(self._values, batch.changes)
        self._keys = None
        self._unsynced.append(batch.changes)
        if sync:
            self._harden(len(self._unsynced))

    def iterate(
        self, start: bytes, stop: bytes, *, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over ``start <= key < stop``."""
        self._require_open()
        if self._keys is None:
            self._keys = sorted(self._values)
        chosen = self._keys[bisect_left(self._keys, start) : bisect_left(self._keys, stop)]
        if reverse:
            chosen.reverse()
        values = self._values
        return iter([(key, values[key]) for key in chosen[:limit]])

    def close(self) -> None:
        """Refuse further use; the content stays for :meth:`reopen`."""
        self._closed = True

    def power_cut(self, *, kept: int = 0) -> MemoryStore:
        """Return the store as found after a power cut; this one is closed.

        Of the batches after the last sync the first ``kept`` survive.
        """
        self._closed = True
        self._harden(min(kept, len(self._unsynced)))
        return self._from_disk()

    def reopen(self) -> MemoryStore:
        """Return the store as found after a kill of the process: nothing written is lost."""
        self._closed = True
        self._harden(len(self._unsynced))
        return self._from_disk()

    def _from_disk(self) -> MemoryStore:
        store = MemoryStore()
        store._durable = dict(self._durable)
        store._values = dict(self._durable)
        store._keys = None
        return store

    def _harden(self, count: int) -> None:
        for changes in self._unsynced[:count]:
            self._apply(self._durable, changes)
        del self._unsynced[:count]

    @staticmethod
    def _apply(values: dict[bytes, bytes], changes: dict[bytes, bytes | None]) -> None:
        for key, value in changes.items():
            if value is None:
                values.pop(key, None)
            else:
                values[key] = value

    def _require_open(self) -> None:
        if self._closed:
            raise StoreClosed
