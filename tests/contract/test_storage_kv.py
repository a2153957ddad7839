"""What every key-value store must do: the same tests over memory and LevelDB."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import StoreClosed
from storage.kv import prefix_end
from storage.leveldb import LevelDBStore
from storage.memory import MemoryStore

if TYPE_CHECKING:
    from storage.kv import KeyValueStore
    from tests.unit.storage.disks import Disk


def put_all(store: KeyValueStore, *keys: bytes, value: bytes = b"v") -> None:
    batch = store.batch()
    for key in keys:
        batch.put(key, value)
    store.write(batch, sync=True)


def test_a_key_that_was_never_written_is_none(disk: Disk) -> None:
    assert disk.create().get(b"a") is None


def test_a_new_store_shows_no_keys(disk: Disk) -> None:
    assert list(disk.create().iterate(b"\x01", b"\xfe")) == []


@pytest.mark.parametrize("sync", [True, False])
def test_a_written_batch_is_read_back_at_once_and_after_reopening(disk: Disk, sync: bool) -> None:
    store = disk.create()
    batch = store.batch()
    batch.put(b"a", b"1")
    batch.put(b"empty", b"")
    store.write(batch, sync=sync)
    assert (store.get(b"a"), store.get(b"empty")) == (b"1", b"")
    store = disk.reopen(store)
    assert (store.get(b"a"), store.get(b"empty")) == (b"1", b"")


def test_a_batch_has_no_effect_before_it_is_written(disk: Disk) -> None:
    store = disk.create()
    batch = store.batch()
    batch.put(b"a", b"1")
    assert store.get(b"a") is None


def test_the_last_change_of_a_key_in_a_batch_wins(disk: Disk) -> None:
    store = disk.create()
    put_all(store, b"gone")
    batch = store.batch()
    batch.put(b"a", b"1")
    batch.put(b"a", b"2")
    batch.put(b"b", b"1")
    batch.delete(b"b")
    batch.delete(b"gone")
    batch.delete(b"c")
    batch.put(b"c", b"3")
    batch.delete(b"never there")
    store.write(batch, sync=True)
    assert list(store.iterate(b"a", b"z")) == [(b"a", b"2"), (b"c", b"3")]


def test_a_range_includes_its_start_and_excludes_its_stop(disk: Disk) -> None:
    store = disk.create()
    put_all(store, b"a", b"b", b"ba", b"c")
    assert [key for key, _ in store.iterate(b"b", b"c")] == [b"b", b"ba"]
    assert [key for key, _ in store.iterate(b"b", b"c", reverse=True)] == [b"ba", b"b"]
    assert list(store.iterate(b"d", b"e")) == []
    assert list(store.iterate(b"c", b"b")) == []


def test_a_limit_cuts_a_range_at_the_end_it_starts_from(disk: Disk) -> None:
    store = disk.create()
    put_all(store, b"a", b"b", b"c")
    assert [key for key, _ in store.iterate(b"a", b"z", limit=2)] == [b"a", b"b"]
    assert [key for key, _ in store.iterate(b"a", b"z", limit=2, reverse=True)] == [b"c", b"b"]
    assert list(store.iterate(b"a", b"z", limit=0)) == []


def test_an_iteration_does_not_see_later_writes(disk: Disk) -> None:
    store = disk.create()
    put_all(store, b"a", b"b", b"c", b"d")
    entries = store.iterate(b"a", b"z")
    assert next(entries) == (b"a", b"v")
    batch = store.batch()
    batch.delete(b"c")
    batch.put(b"bb", b"new")
    batch.put(b"d", b"new")
    store.write(batch, sync=True)
    assert list(entries) == [(b"b", b"v"), (b"c", b"v"), (b"d", b"v")]


def test_keys_are_ordered_by_their_unsigned_bytes(disk: Disk) -> None:
    store = disk.create()
    keys = [b"a\x00", b"a\x7f", b"a\x80", b"a\xff", b"a\xff\xff", b"b"]
    put_all(store, *reversed(keys))
    assert [key for key, _ in store.iterate(b"a", b"c")] == keys
    assert [key for key, _ in store.iterate(b"a", prefix_end(b"a"))] == keys[:-1]


def test_a_closed_store_refuses_everything(disk: Disk) -> None:
    store = disk.create()
    batch = store.batch()
    store.close()
    store.close()
    with pytest.raises(StoreClosed):
        store.get(b"a")
    with pytest.raises(StoreClosed):
        list(store.iterate(b"a", b"b"))
    with pytest.raises(StoreClosed):
        store.write(batch, sync=True)
    with pytest.raises(StoreClosed):
        store.batch()


def test_a_batch_of_another_kind_of_store_is_refused(disk: Disk) -> None:
    class Other:
        def put(self, key: bytes, value: bytes, /) -> None: ...

        def delete(self, key: bytes, /) -> None: ...

    store = disk.create()
    with pytest.raises(TypeError, match="Other"):
        store.write(Other(), sync=True)


KEYS = st.binary(max_size=3).map(lambda tail: b"k" + tail)
BATCHES = st.lists(
    st.lists(st.tuples(KEYS, st.one_of(st.none(), st.binary(max_size=4))), max_size=6), max_size=6
)


@settings(max_examples=25)
@given(batches=BATCHES, start=KEYS, stop=KEYS, limit=st.none() | st.integers(0, 4))
def test_both_stores_answer_alike_after_any_batches(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[list[tuple[bytes, bytes | None]]],
    start: bytes,
    stop: bytes,
    limit: int | None,
) -> None:
    level = LevelDBStore.create(tmp_path_factory.mktemp("kv") / "data")
    stores: list[KeyValueStore] = [MemoryStore(), level]
    for store in stores:
        for number, changes in enumerate(batches):
            batch = store.batch()
            for key, value in changes:
                if value is None:
                    batch.delete(key)
                else:
                    batch.put(key, value)
            store.write(batch, sync=number % 2 == 0)
    memory, level_view = (
        (
            list(store.iterate(start, stop, limit=limit)),
            list(store.iterate(start, stop, reverse=True, limit=limit)),
            list(store.iterate(b"k", b"l")),
            store.get(start),
        )
        for store in stores
    )
    level.close()
    assert memory == level_view
