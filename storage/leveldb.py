"""LevelDB behind the port of ``storage.kv``: the one module that imports plyvel.

The defaults of the library hide damage: records of the log are dropped, wrong values are read, a
lost directory becomes an empty one. So everything is checked here (paranoid open, checksums on
every read), a database is created by :meth:`LevelDBStore.create` only, and a range is never read
as empty because its file is broken (see :meth:`LevelDBStore.iterate`). Every error becomes one of
``storage.errors`` that names the file and what to do.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final, TypedDict

import plyvel

from storage.errors import (
    DiskFull,
    OpenError,
    StorageError,
    StoreClosed,
    StoreCorrupt,
    StoreExists,
    StoreForbidden,
    StoreLocked,
    StoreMissing,
    WriteError,
    WriteFailed,
)
from storage.kv import HIGHEST_KEY, LOWEST_KEY, Batch, KeyValueStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WRITE_BUFFER_BYTES: Final = 8 * 1024 * 1024
"""Twice the default, which stalls writes for a second and more behind compactions. With up to
200,000 accounts a larger one removes no further stall (a million, written at full speed, showed
single writes of a second; sizes were not compared there). It costs: a key is put in order among
more that are not in the processor's cache (with 32 MiB a block takes half as much time again), and
the log that is replayed at start is longer."""

CACHE_BYTES: Final = 32 * 1024 * 1024
"""Uncompressed blocks. The state is cached by the ledger; what is left are reads for the API."""

BLOOM_BITS: Final = 10
"""Per key: 1 % false positives. Asking for an unknown transaction costs 1 us instead of 3."""

BLOCK_BYTES: Final = 1024
"""Unit of reading and of checksums. A record of the state has some 150 bytes: finding it among a
million costs a fifth less than in blocks of 4 KiB, the default, which are mostly read in vain."""

TABLE_BYTES: Final = 8 * 1024 * 1024
"""Fewer, larger files than the default of 2 MB, because of the next limit."""

OPEN_FILES_MAX: Final = 256
"""Descriptors the database may hold; the process's limit is shared with its sockets."""

_IN_USE = re.compile("lock .*(already held|temporarily unavailable)")
_FORBIDDEN = re.compile("permission denied|read-only file system|operation not permitted", re.I)
_FULL = re.compile("no space left|file too large|quota exceeded", re.I)
_FILE_NAME = re.compile(r"(MANIFEST-\d+|CURRENT|\d+\.(?:ldb|sst|log))")
_DROPPED = re.compile(r"(\d+\.log): dropping \d+ bytes")


class _Options(TypedDict):
    paranoid_checks: bool
    write_buffer_size: int
    lru_cache_size: int
    bloom_filter_bits: int
    block_size: int
    max_file_size: int
    max_open_files: int
    compression: None


_OPTIONS: Final = _Options(
    paranoid_checks=True,
    write_buffer_size=WRITE_BUFFER_BYTES,
    lru_cache_size=CACHE_BYTES,
    bloom_filter_bits=BLOOM_BITS,
    block_size=BLOCK_BYTES,
    max_file_size=TABLE_BYTES,
    max_open_files=OPEN_FILES_MAX,
    # Signatures and digests are most of the data and do not compress.
    compression=None,
)


class LevelDBBatch:
    """A batch of LevelDB; ``put`` and ``delete`` are the library's own, to save a call per key."""

    __slots__ = ("delete", "native", "put")

    def __init__(self, native: plyvel.WriteBatch) -> None:
        self.native = native
        self.put = native.put
        self.delete = native.delete


class LevelDBStore(KeyValueStore):
    """An open LevelDB directory, made by :meth:`create` or :meth:`open`; one process at a time."""

    def __init__(self, path: Path, database: plyvel.DB) -> None:
        self._path = path
        self._database = database
        self._failed = False

    @classmethod
    def create(cls, path: Path) -> LevelDBStore:
        """Make a new database in a directory that is absent or empty, and open it.

        Raises:
            StoreExists: there is something in the directory.
            StoreForbidden: it cannot be made there.
            WriteError: the disk refused the first write.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise StoreExists(path)
            database = plyvel.DB(
                os.fspath(path), create_if_missing=True, error_if_exists=True, **_OPTIONS
            )
        except (FileExistsError, NotADirectoryError):
            raise StoreExists(path) from None
        except (plyvel.Error, OSError) as error:
            raise _open_error(path, error) from error
        store = cls(path, database)
        store._put_sentinels()
        return store

    @classmethod
    def open(cls, path: Path) -> LevelDBStore:
        """Open an existing database; never creates anything.

        Raises:
            StoreMissing: the directory, or its CURRENT file, is not there.
            StoreLocked: another process has it open.
            StoreForbidden: it cannot be read and written.
            StoreCorrupt: a log, table or manifest is damaged.
        """
        try:
            if not path.is_dir():
                raise StoreMissing(path, "the directory")
            if not (path / "CURRENT").exists():
                raise StoreMissing(path, "its file CURRENT")
            database = plyvel.DB(os.fspath(path), create_if_missing=False, **_OPTIONS)
        except (plyvel.Error, OSError) as error:
            raise _open_error(path, error) from error
        store = cls(path, database)
        try:
            store._require_sentinels()
        except BaseException:
            store.close()
            raise
        return store

    @property
    def path(self) -> Path:
        """The database directory."""
        return self._path

    def get(self, key: bytes, /) -> bytes | None:
        """Return the value of a key, None if there is none."""
        try:
            return self._database.get(key, verify_checksums=True)
        except (plyvel.Error, RuntimeError) as error:
            raise self._read_error(key, error) from error

    def batch(self) -> LevelDBBatch:
        """Return an empty batch for this store."""
        try:
            return LevelDBBatch(self._database.write_batch(sync=True))
        except RuntimeError as error:
            raise StoreClosed from error

    def write(self, batch: Batch, /, *, sync: bool) -> None:
        """Apply a batch; with ``sync``, return only once it is on disk."""
        if not isinstance(batch, LevelDBBatch):
            raise TypeError(f"expected a batch of this store, got {type(batch).__name__}")
        if self._database.closed:
            raise StoreClosed
        if self._failed:
            raise WriteFailed(self._path, "an earlier write failed")
        try:
            if sync:
                batch.native.write()
            else:
                # The library fixes `sync` when a batch is made; most batches are synced, so the
                # others pay for one copy of their bytes.
                unsynced = self._database.write_batch(sync=False)
                unsynced.append(batch.native)
                unsynced.write()
        except (plyvel.Error, OSError) as error:
            self._failed = True
            raise _write_error(self._path, error) from error

    def iterate(
        self, start: bytes, stop: bytes, *, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over ``start <= key < stop``.

        The library ends an iteration quietly where a broken file hides the rest of the range. Two
        keys that always exist, one below and one above all others, close that hole: an iteration
        that ends before it has reached one of them has not seen everything.
        """
        if limit is not None and limit <= 0:
            return
        taken = 0
        try:
            if reverse:
                entries = self._database.iterator(stop=stop, reverse=True, verify_checksums=True)
            else:
                entries = self._database.iterator(start=start, verify_checksums=True)
            with entries:
                for entry in entries:
                    if (entry[0] < start) if reverse else (entry[0] >= stop):
                        return
                    yield entry
                    taken += 1
                    if taken == limit:
                        return
        except (plyvel.Error, RuntimeError) as error:
            raise self._read_error(start, error) from error
        raise StoreCorrupt(self._path, self._table_of(start), "the end of a range cannot be read")

    def close(self) -> None:
        """Release the directory. Closing twice is harmless."""
        self._database.close()

    def _put_sentinels(self) -> None:
        batch = self.batch()
        batch.put(LOWEST_KEY, b"")
        batch.put(HIGHEST_KEY, b"")
        self.write(batch, sync=True)

    def _require_sentinels(self) -> None:
        for key in (LOWEST_KEY, HIGHEST_KEY):
            if self.get(key) is None:
                raise StoreCorrupt(self._path, self._table_of(key), f"key {key.hex()} is missing")

    def _read_error(self, key: bytes, error: Exception) -> StorageError:
        if self._database.closed:
            return StoreClosed()
        if isinstance(error, RuntimeError):
            raise error
        return StoreCorrupt(self._path, self._table_of(key), _text_of(error))

    def _table_of(self, key: bytes) -> str:
        """Name the table files that may hold a key: one of them is the damaged one."""
        listing = self._database.get_property(b"leveldb.sstables") or b""
        names = [
            f"{number:06d}.ldb" for number, low, high in _tables(listing) if low <= key <= high
        ]
        return "table " + " or ".join(names) if names else "a table file"


_TABLE_LINE = re.compile(rb"^ (\d+):\d+\['(.*)' @ \d+ : \d \.\. '(.*)' @ \d+ : \d\]$")
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")


def _tables(listing: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Parse the property ``leveldb.sstables``: number, smallest and largest key of each table."""
    for line in listing.splitlines():
        match = _TABLE_LINE.match(line)
        if match:
            yield int(match[1]), _unescape(match[2]), _unescape(match[3])


def _unescape(key: bytes) -> bytes:
    return _ESCAPED.sub(lambda match: bytes.fromhex(match[1].decode()), key)


def _text_of(error: Exception) -> str:
    """Return the message of a library error, which carries bytes."""
    value = error.args[0] if error.args else ""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(error)


def _open_error(path: Path, error: Exception) -> StorageError:
    text = _text_of(error)
    if isinstance(error, OpenError):
        return error
    if _IN_USE.search(text):
        return StoreLocked(path)
    if _FORBIDDEN.search(text):
        return StoreForbidden(path, text)
    if _FULL.search(text):
        return DiskFull(path, text)
    return StoreCorrupt(path, _damaged_file(path, text), text)


def _damaged_file(path: Path, text: str) -> str:
    """Say which file made opening fail: named by the error, else by the library's own log.

    LevelDB reads the manifest first and then the logs; it reports dropped records of a log in LOG.
    """
    if "CURRENT" in text:
        return "CURRENT"
    named = _FILE_NAME.search(text)
    if named:
        return named[1]
    try:
        dropped = _DROPPED.findall((path / "LOG").read_text(errors="replace"))
        return dropped[-1] if dropped else (path / "CURRENT").read_text(errors="replace").strip()
    except OSError:
        return "an unknown file"


def _write_error(path: Path, error: Exception) -> WriteError:
    text = _text_of(error)
    return DiskFull(path, text) if _FULL.search(text) else WriteFailed(path, text)
