"""What LevelDB does with a damaged, missing, locked or full disk, seen through our adapter."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import plyvel
import pytest

from storage.errors import (
    DiskFull,
    StorageError,
    StoreCorrupt,
    StoreExists,
    StoreForbidden,
    StoreLocked,
    StoreMissing,
    WriteFailed,
)
from storage.leveldb import LevelDBStore

if TYPE_CHECKING:
    from pathlib import Path

BATCHES = 12


def fill(path: Path, *, value_bytes: int = 300) -> list[dict[bytes, bytes]]:
    """Write some batches; return the content after each, the empty store first."""
    store = LevelDBStore.create(path)
    content: dict[bytes, bytes] = {}
    after = [dict(content)]
    for number in range(BATCHES):
        changes = {b"k%04d" % number: bytes([number]) * value_bytes, b"last": b"%d" % number}
        batch = store.batch()
        for key, value in changes.items():
            batch.put(key, value)
        store.write(batch, sync=True)
        content |= changes
        after.append(dict(content))
    store.close()
    return after


def content_of(store: LevelDBStore) -> dict[bytes, bytes]:
    """Read everything, in ascending order."""
    return dict(store.iterate(b"\x01", b"\xfe"))


def content_backwards(store: LevelDBStore) -> dict[bytes, bytes]:
    """Read everything, in descending order."""
    return dict(store.iterate(b"\x01", b"\xfe", reverse=True))


def content_by_key(store: LevelDBStore) -> dict[bytes, bytes]:
    """Read every key by itself."""
    keys = [b"last", *(b"k%04d" % number for number in range(BATCHES))]
    values = {key: store.get(key) for key in keys}
    return {key: value for key, value in values.items() if value is not None}


def only(path: Path, pattern: str) -> Path:
    files = [file for file in path.glob(pattern) if file.stat().st_size]
    assert len(files) == 1, files
    return files[0]


def into_tables(path: Path) -> None:
    """Move everything from the log into one table file."""
    with plyvel.DB(os.fspath(path)) as database:
        database.compact_range()
    with plyvel.DB(os.fspath(path)) as database:
        database.compact_range()


def flip(file: Path, position: int, bit: int) -> None:
    data = bytearray(file.read_bytes())
    data[position] ^= 1 << bit
    file.write_bytes(data)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Drop the right to ignore permissions, for tests that run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


# --- opening ---------------------------------------------------------------------------------


def test_opening_a_missing_directory_is_refused_and_creates_nothing(tmp_path: Path) -> None:
    """S3: an absent database is never replaced by an empty one."""
    with pytest.raises(StoreMissing, match=r"the directory is missing.*--rejoin"):
        LevelDBStore.open(tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_opening_without_its_current_file_is_refused(tmp_path: Path) -> None:
    """S3: the library would start an empty database here."""
    path = tmp_path / "data"
    fill(path)
    (path / "CURRENT").unlink()
    with pytest.raises(StoreMissing, match=r"CURRENT is missing.*--rejoin"):
        LevelDBStore.open(path)
    assert not (path / "CURRENT").exists()


def test_opening_without_its_manifest_or_a_table_names_the_file(tmp_path: Path) -> None:
    """S3: a lost file of the database is damage, and the message says which and what to do."""
    path = tmp_path / "data"
    fill(path)
    into_tables(path)
    table = only(path, "*.ldb")
    table.unlink()
    with pytest.raises(StoreCorrupt, match=rf"{table.stem}\.ldb.*--rejoin"):
        LevelDBStore.open(path)
    manifest = only(path, "MANIFEST-*")
    manifest.unlink()
    with pytest.raises(StoreCorrupt, match="CURRENT"):
        LevelDBStore.open(path)


def test_creating_over_anything_is_refused(tmp_path: Path) -> None:
    """S3: creation never touches what is there."""
    path = tmp_path / "data"
    after = fill(path)
    with pytest.raises(StoreExists):
        LevelDBStore.create(path)
    store = LevelDBStore.open(path)
    assert content_of(store) == after[-1]
    store.close()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes").write_text("mine")
    with pytest.raises(StoreExists):
        LevelDBStore.create(tmp_path / "other")
    with pytest.raises(StoreExists):
        LevelDBStore.create(tmp_path / "other" / "notes")


def test_a_second_process_on_the_directory_is_told_so(tmp_path: Path) -> None:
    """S7: two nodes on one directory must never run."""
    path = tmp_path / "data"
    fill(path)
    store = LevelDBStore.open(path)
    code = (
        "import sys; from pathlib import Path; from storage.leveldb import LevelDBStore\n"
        "from storage.errors import StoreLocked\n"
        "try: LevelDBStore.open(Path(sys.argv[1]))\n"
        "except StoreLocked as error: sys.exit(str(error))\n"
    )
    second = subprocess.run(
        [sys.executable, "-c", code, os.fspath(path)], capture_output=True, text=True, check=False
    )
    assert (second.returncode, "in use by another process" in second.stderr) == (1, True)
    with pytest.raises(StoreLocked):
        LevelDBStore.open(path)
    store.close()
    LevelDBStore.open(path).close()


def test_a_directory_of_another_user_is_refused_with_the_reason(tmp_path: Path) -> None:
    """S7: wrong owner or mode; nothing is changed and the message says what to look at."""
    path = tmp_path / "data"
    fill(path)
    for entry in (*path.iterdir(), path):
        entry.chmod(0o500 if entry.is_dir() else 0o400)
    with unprivileged(), pytest.raises(StoreForbidden, match="mounted read-only"):
        LevelDBStore.open(path)
    with unprivileged(), pytest.raises(StoreForbidden):
        LevelDBStore.create(path / "new")


# --- damage ----------------------------------------------------------------------------------


def damaged_copies(
    original: Path, copy: Path, damage: Callable[[int], bool]
) -> Iterator[tuple[int, Path]]:
    """Yield fresh copies of a database, each damaged by ``damage`` until that says stop."""
    number = 0
    while True:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(original, copy)
        if not damage(number):
            return
        yield number, copy
        number += 1


@pytest.mark.parametrize(
    ("value_bytes", "step"),
    [pytest.param(20, 1, id="every byte"), pytest.param(3000, 97, id="far apart")],
)
@pytest.mark.slow
def test_a_log_cut_anywhere_opens_at_a_whole_batch_and_goes_on(
    tmp_path: Path, value_bytes: int, step: int
) -> None:
    """S1: what a crash leaves of the log is a prefix of whole batches, and can be written to."""
    original, copy = tmp_path / "original", tmp_path / "copy"
    after = fill(original, value_bytes=value_bytes)
    size = only(original, "*.log").stat().st_size

    def cut(number: int) -> bool:
        length = size - 1 - number * step
        os.truncate(only(copy, "*.log"), max(length, 0))
        return length >= 0

    reached = set()
    for _, path in damaged_copies(original, copy, cut):
        try:
            store = LevelDBStore.open(path)
        except StoreCorrupt:
            # Only the very first batch, of the creation itself, may be gone.
            assert os.path.getsize(path / "CURRENT")
            reached.add(-1)
            continue
        found = content_of(store)
        assert found in after
        is_first = after.index(found) not in reached
        reached.add(after.index(found))
        if not is_first:
            store.close()
            continue
        batch = store.batch()
        batch.put(b"new", b"1")
        store.write(batch, sync=True)
        store.close()
        store = LevelDBStore.open(path)
        assert content_of(store) == found | {b"new": b"1"}
        store.close()
    assert reached >= set(range(BATCHES)), "cuts should end after each batch but the last"


FLIPS = 150


def flips(original: Path, copy: Path, pattern: str) -> Iterator[tuple[int, Path]]:
    """Yield copies with one bit flipped, at positions spread over the whole file."""
    size = only(original, pattern).stat().st_size

    def one_bit(number: int) -> bool:
        if number < FLIPS:
            flip(only(copy, pattern), number * size // FLIPS, number % 8)
        return number < FLIPS

    return damaged_copies(original, copy, one_bit)


Read = Callable[[LevelDBStore], dict[bytes, bytes]]
READS = pytest.mark.parametrize("read", [content_of, content_backwards, content_by_key])


def read_or_refuse(path: Path, read: Read) -> dict[bytes, bytes] | StoreCorrupt:
    """Open and read everything; return the content, or the error that names the damage."""
    try:
        store = LevelDBStore.open(path)
    except StoreCorrupt as error:
        return error
    try:
        return read(store)
    except StoreCorrupt as error:
        return error
    finally:
        store.close()


@pytest.mark.slow
@READS
def test_a_flipped_bit_in_a_table_is_never_served(tmp_path: Path, read: Read) -> None:
    """S2: the library alone returns wrong values and ends ranges early here."""
    original = tmp_path / "original"
    after = fill(original)
    into_tables(original)
    table = only(original, "*.ldb").name
    refused = 0
    for number, path in flips(original, tmp_path / "copy", "*.ldb"):
        answer = read_or_refuse(path, read)
        if isinstance(answer, StoreCorrupt):
            assert table in str(answer), number
            assert "--rejoin" in str(answer)
            refused += 1
        else:
            assert answer == after[-1], number
    # Bits that mean nothing (the filter, padding of the footer) may be flipped freely.
    assert refused > FLIPS * 0.9


@pytest.mark.slow
@READS
@pytest.mark.parametrize("pattern", ["MANIFEST-*", "CURRENT"])
def test_a_flipped_bit_in_the_list_of_files_refuses_to_open(
    tmp_path: Path, pattern: str, read: Read
) -> None:
    """S2: the message names the file and the command to recover."""
    original = tmp_path / "original"
    after = fill(original)
    into_tables(original)
    name = only(original, pattern).name
    refused = 0
    for number, path in flips(original, tmp_path / "copy", pattern):
        answer = read_or_refuse(path, read)
        if isinstance(answer, StoreCorrupt):
            assert name in str(answer), number
            assert "--rejoin" in str(answer)
            refused += 1
        else:
            assert answer == after[-1], number
    assert refused > FLIPS * 0.9


@pytest.mark.slow
@READS
def test_a_flipped_bit_in_the_log_refuses_or_looks_like_a_cut(tmp_path: Path, read: Read) -> None:
    """S2: damage to a record is refused; only a record made to look unfinished is a cut (S1)."""
    original = tmp_path / "original"
    after = fill(original)
    name = only(original, "*.log").name
    refused = 0
    for number, path in flips(original, tmp_path / "copy", "*.log"):
        answer = read_or_refuse(path, read)
        if isinstance(answer, StoreCorrupt):
            assert name in str(answer), number
            assert "--rejoin" in str(answer)
            refused += 1
        else:
            assert answer in after, number
    assert refused > FLIPS * 0.9


def test_a_table_that_cannot_be_read_at_all_does_not_look_empty(tmp_path: Path) -> None:
    """S2: with the index of the only table damaged, the library iterates over nothing, silently."""
    path = tmp_path / "data"
    fill(path)
    into_tables(path)
    table = only(path, "*.ldb")
    flip(table, table.stat().st_size - 100, 0)
    with plyvel.DB(os.fspath(path), paranoid_checks=True) as database:
        assert list(database.iterator(verify_checksums=True)) == []
        # Damage after the start, which opening would have found.
        store = LevelDBStore(path, database)
        for reverse in (False, True):
            with pytest.raises(StoreCorrupt, match=table.name):
                list(store.iterate(b"k", b"l", reverse=reverse))
    with pytest.raises(StoreCorrupt, match=table.name):
        LevelDBStore.open(path)


# --- writing ---------------------------------------------------------------------------------


@contextmanager
def file_size_limit(limit_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room_bytes", [1, 100, 5_000, 40_000, 70_000])
def test_a_full_disk_fails_the_write_and_every_later_one(tmp_path: Path, room_bytes: int) -> None:
    """S4, S5: the store never retries; with space back, a restart has every acknowledged batch."""
    path = tmp_path / "data"
    store = LevelDBStore.create(path)
    written = 0
    size = only(path, "*.log").stat().st_size
    error: StorageError | None = None
    with file_size_limit(size + room_bytes):
        while error is None:
            batch = store.batch()
            batch.put(b"k%04d" % written, bytes(1000))
            try:
                store.write(batch, sync=True)
                written += 1
            except DiskFull as full:
                error = full
    batch = store.batch()
    batch.put(b"later", b"1")
    with pytest.raises(WriteFailed, match="earlier write failed"):
        store.write(batch, sync=True)
    store.close()
    store = LevelDBStore.open(path)
    keys = [key for key, _ in store.iterate(b"\x01", b"\xfe")]
    assert keys[:written] == [b"k%04d" % number for number in range(written)]
    assert len(keys) <= written + 1, "only the failed batch itself may have survived"
    assert b"later" not in keys
    store.close()
