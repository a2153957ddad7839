"""The two kinds of store behind one face, so that a test runs over both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from storage.leveldb import LevelDBStore
from storage.memory import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path

    from storage.kv import KeyValueStore


class Disk(Protocol):
    """A place for one store that can be opened again."""

    def create(self) -> KeyValueStore: ...

    def reopen(self, store: KeyValueStore) -> KeyValueStore: ...


class MemoryDisk:
    def create(self) -> KeyValueStore:
        return MemoryStore()

    def reopen(self, store: KeyValueStore) -> KeyValueStore:
        assert isinstance(store, MemoryStore)
        return store.reopen()


class LevelDBDisk:
    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self) -> KeyValueStore:
        return LevelDBStore.create(self.path)

    def reopen(self, store: KeyValueStore) -> KeyValueStore:
        store.close()
        return LevelDBStore.open(self.path)
