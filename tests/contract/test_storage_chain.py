"""The finalised chain over both stores: what was added is found, after any restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ledger.types import Digest, Height
from storage.chain_store import ChainStore
from storage.errors import StoreCorrupt
from storage.event_index import SCAN_BLOCKS_MAX, START, Cursor, topics_of
from storage.metadata import initialise
from storage.schema import BLOCK_HEIGHT, SPAN_HEIGHTS, Location, Topic, block_key
from storage.state_store import StateStore
from tests.unit.storage.builders import ACCOUNTS, ASSETS, CHAIN, Chain, Step

if TYPE_CHECKING:
    from storage.kv import KeyValueStore
    from tests.unit.storage.disks import Disk


def start(store: KeyValueStore, chain: Chain) -> ChainStore:
    genesis = chain.steps[0]
    initialise(store, CHAIN, genesis.block.header, genesis.outcome, rejoin=False)
    return ChainStore(store, CHAIN)


def add(store: KeyValueStore, chains: ChainStore, step: Step) -> None:
    batch = store.batch()
    chains.add_finalized(batch, step.digest, step.block, step.outcome, step.certificate)
    store.write(batch, sync=True)


def build(store: KeyValueStore, length: int, *, seed: int = 0) -> tuple[Chain, ChainStore]:
    chain = Chain(seed)
    chains = start(store, chain)
    for _ in range(length):
        add(store, chains, chain.extend())
    return chain, chains


def test_a_new_database_has_genesis_as_its_head(disk: Disk) -> None:
    chain, chains = build(disk.create(), 0)
    head = chains.head()
    assert (head.block_hash, head.header) == (chain.steps[0].digest, chain.steps[0].block.header)
    assert chains.block(Height(0)) == chain.steps[0].block
    assert chains.receipts(0) == []
    assert chains.unfinished() == []


def test_the_ids_of_a_block_are_read_without_its_receipts(disk: Disk) -> None:
    chain, chains = build(disk.create(), 8)
    for step in chain.steps:
        height = step.block.header.height
        expected = [receipt.transaction_id for receipt in step.outcome.receipts]
        assert chains.transaction_ids(height) == expected
    assert chains.transaction_ids(99) == []


def test_a_block_deleted_between_two_reads_is_just_gone(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer thread deletes blocks that lost while the loop reads them: no damage."""
    store = disk.create()
    chain, chains = build(store, 1)
    digest = chain.steps[1].digest
    get = store.get

    def get_and_delete(key: bytes) -> bytes | None:
        data = get(key)
        batch = store.batch()
        batch.delete(block_key(1, digest))
        batch.delete(BLOCK_HEIGHT + digest)
        store.write(batch, sync=False)
        return data

    monkeypatch.setattr(store, "get", get_and_delete)
    assert chains.block(digest) is None


def test_a_database_without_genesis_has_no_head(disk: Disk) -> None:
    with pytest.raises(StoreCorrupt, match="the head"):
        ChainStore(disk.create(), CHAIN).head()


def test_everything_about_a_block_is_found_after_reopening(disk: Disk) -> None:
    store = disk.create()
    chain, _ = build(store, 20)
    chains = ChainStore(disk.reopen(store), CHAIN)
    assert chains.head().height == 20
    for height, step in enumerate(chain.steps):
        executed = chains.require_executed(height)
        assert executed.block_hash == step.digest
        assert executed.state_root == step.outcome.state_root
        assert executed.history_root == step.outcome.history_root
        assert executed.receipts_root == step.outcome.receipts_root
        assert chains.header(height) == step.block.header
        assert chains.block(Height(height)) == chains.block(step.digest) == step.block
        assert chains.height_of(step.digest) == height
        assert chains.certificate(height) == step.certificate
        assert chains.receipts(height) == step.outcome.receipts
        for index, receipt in enumerate(step.outcome.receipts):
            assert chains.transaction(receipt.transaction_id) == Location(Height(height), index)
            assert chains.receipt(height, index) == receipt
    assert [block.header.height for block in chains.blocks(3, 7)] == [3, 4, 5, 6, 7]
    newest = chains.executed_blocks(0, 20, reverse=True)
    assert [executed.height for executed in newest] == list(range(20, -1, -1))


def test_what_does_not_exist_is_none(disk: Disk) -> None:
    store = disk.create()
    _, chains = build(store, 3)
    absent = Digest(bytes(32))
    for height in (4, 2**64 - 1, 2**64, 10**30):
        assert chains.executed(height) is None
        assert chains.block(Height(height)) is None
        assert chains.certificate(height) is None
        assert chains.first_certified_at_or_after(height) is None
        assert chains.receipts(height) == []
        assert chains.receipt(height, 0) is None
    assert chains.block(absent) is None
    assert chains.transaction(absent) is None
    assert chains.receipt(1, -1) is None
    assert chains.receipt(1, 4096) is None


def test_the_nearest_finalization_at_or_after_a_height_is_found(disk: Disk) -> None:
    chain, chains = build(disk.create(), 20)
    certified = [height for height, step in enumerate(chain.steps) if step.certificate is not None]
    assert 0 < len(certified) < 20
    for height in range(21):
        expected = next((found for found in certified if found >= height), None)
        answer = chains.first_certified_at_or_after(height)
        assert (answer and answer[0]) == expected
        assert answer is None or answer[1] == chain.steps[answer[0]].certificate


def test_a_block_stored_with_a_vote_is_kept_once_and_losers_are_dropped(disk: Disk) -> None:
    store = disk.create()
    chain, chains = build(store, 1)
    fork = Chain(seed=9)
    fork.extend(1)
    step, other = chain.extend(), fork.extend(1)
    batch = store.batch()
    chains.add_block(batch, step.digest, step.block)
    chains.add_block(batch, other.digest, other.block)
    store.write(batch, sync=True)
    assert {block.header.parent_hash for block in chains.unfinished()} == {
        step.block.header.parent_hash,
        other.block.header.parent_hash,
    }
    assert chains.block(other.digest) == other.block
    add(store, chains, step)
    assert chains.unfinished() == []
    assert chains.block(step.digest) == step.block
    add(store, chains, chain.extend())
    assert chains.block(other.digest) is None
    assert chains.block(step.digest) == step.block


def test_a_stored_block_with_another_hash_is_refused(disk: Disk) -> None:
    """S2: a record of another node in the place of ours has a good checksum."""
    store = disk.create()
    chain, chains = build(store, 2)
    one, two = chain.steps[1:]
    data = store.get(block_key(2, two.digest))
    assert data is not None
    batch = store.batch()
    batch.put(block_key(1, one.digest), data)
    store.write(batch, sync=True)
    with pytest.raises(StoreCorrupt, match="another hash"):
        chains.block(one.digest)
    batch = store.batch()
    batch.put(block_key(1, one.digest), data[:-1])
    store.write(batch, sync=True)
    with pytest.raises(StoreCorrupt, match="height 1"):
        chains.block(Height(1))
    batch = store.batch()
    batch.delete(block_key(1, one.digest))
    store.write(batch, sync=True)
    with pytest.raises(StoreCorrupt, match="missing"):
        list(chains.blocks(1, 2))


def test_state_records_are_those_of_the_head(disk: Disk) -> None:
    store = disk.create()
    chain, _ = build(store, 10)
    states = StateStore(disk.reopen(store))
    expected = dict(record for step in chain.steps for record in step.outcome.state_writes)
    assert list(states.records()) == sorted(expected.items())
    assert all(states.get(key) == record for key, record in expected.items())
    assert states.get(b"account 9") is None
    assert states.predecessor(b"account 3") == (b"account 3", expected[b"account 3"])
    assert states.predecessor(b"account 3x") == (b"account 3", expected[b"account 3"])
    assert states.predecessor(b"aa") == (b"", expected[b""])
    assert states.predecessor(b"\xff") == (b"account 6", expected[b"account 6"])
    assert states.history_page(b"page 0") == bytes(32) * 11
    assert states.history_page(b"page 1") is None


def test_a_state_without_its_sentinel_is_refused(disk: Disk) -> None:
    with pytest.raises(StoreCorrupt, match="sentinel"):
        StateStore(disk.create()).predecessor(b"a")


# --- indexes, against a plain list ---------------------------------------------------------------

LENGTHS = [0, 1, SPAN_HEIGHTS - 1, SPAN_HEIGHTS, 2 * SPAN_HEIGHTS + 5, 3 * SPAN_HEIGHTS]
TOPICS = [
    *[Topic.account(account) for account in ACCOUNTS],
    *[Topic.object(f"asset:{asset}") for asset in ASSETS],
    Topic.object("asset:bank/"),
    Topic.type("transferred"),
    Topic.type("asset_created"),
    Topic.type("minted"),
]


def locations_of(chain: Chain, topic: Topic) -> list[Location]:
    """Say by brute force which transactions touch a topic, oldest first."""
    found = {
        Location(cursor.height, cursor.transaction_index)
        for cursor, _, event in chain.events
        if topic in topics_of(event)
    }
    found |= {location for location, sender in chain.senders if Topic.account(sender) == topic}
    return sorted(found)


def all_pages(chains: ChainStore, topic: Topic, limit: int, newest_first: bool) -> list[Location]:
    found: list[Location] = []
    cursor = None
    while True:
        page = chains.history(topic, cursor, limit, newest_first=newest_first)
        assert len(page.locations) <= limit
        found += page.locations
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("length", LENGTHS)
def test_histories_are_complete_and_in_order(disk: Disk, length: int) -> None:
    store = disk.create()
    chain, chains = build(store, length)
    for topic in TOPICS:
        expected = locations_of(chain, topic)
        for limit in (1, 7, 1000):
            assert all_pages(chains, topic, limit, newest_first=False) == expected
            assert all_pages(chains, topic, limit, newest_first=True) == expected[::-1]
    reopened = ChainStore(disk.reopen(store), CHAIN)
    for topic in TOPICS:
        assert all_pages(reopened, topic, 50, newest_first=True) == locations_of(chain, topic)[::-1]


@pytest.mark.parametrize("every", [1, 5])
def test_histories_survive_restarts_between_blocks(disk: Disk, every: int) -> None:
    """C19: entries on their way to the disk are rebuilt; nothing is lost or found twice."""
    store = disk.create()
    chain = Chain(3)
    chains = start(store, chain)
    for height in range(3 * SPAN_HEIGHTS + 3):
        if height % every == 0:
            store = disk.reopen(store)
            chains = ChainStore(store, CHAIN)
        add(store, chains, chain.extend(1))
    for topic in TOPICS:
        assert all_pages(chains, topic, 10, newest_first=False) == locations_of(chain, topic)


def test_a_block_on_its_way_to_the_disk_is_not_found_yet(disk: Disk) -> None:
    store = disk.create()
    chain, chains = build(store, 3)
    before = locations_of(chain, TOPICS[1])
    step = chain.extend(4)
    batch = store.batch()
    chains.add_finalized(batch, step.digest, step.block, step.outcome, None)
    assert chains.head().height == 3
    assert all_pages(chains, TOPICS[1], 10, newest_first=False) == before
    store.write(batch, sync=True)
    assert all_pages(chains, TOPICS[1], 10, newest_first=False) == locations_of(chain, TOPICS[1])


def test_no_entry_of_a_topic_is_written_twice_or_late(disk: Disk) -> None:
    """Once a span is over and the next one too, all its entries are on disk."""
    store = disk.create()
    chain, _ = build(store, 3 * SPAN_HEIGHTS - 1)
    on_disk = {
        (key[3:-8], int.from_bytes(key[-8:], "big")): len(value) // 3
        for key, value in store.iterate(b"x", b"y")
    }
    for topic in TOPICS:
        for first in (0, SPAN_HEIGHTS):
            expected = [
                location
                for location in locations_of(chain, topic)
                if first <= location.height < first + SPAN_HEIGHTS
            ]
            assert on_disk.get((topic.value, first), 0) == len(expected)
    assert max(span for _, span in on_disk) == SPAN_HEIGHTS


def read_events(
    chains: ChainStore, topics: list[Topic], limit: int, after: Cursor = START
) -> tuple[list[Cursor], int]:
    cursor: Cursor | None = after
    found: list[Cursor] = []
    pages = 0
    while cursor is not None:
        page = chains.events(cursor, topics, limit)
        assert len(page.entries) <= limit
        found += [entry.cursor for entry in page.entries]
        cursor = page.next_cursor
        pages += 1
    return found, pages


@pytest.mark.parametrize(
    "topics", [[], TOPICS[:1], TOPICS[1:3], TOPICS[6:8], [TOPICS[0], TOPICS[10]], TOPICS[-1:]]
)
def test_events_are_complete_and_in_order_from_any_cursor(disk: Disk, topics: list[Topic]) -> None:
    chain, chains = build(disk.create(), 2 * SPAN_HEIGHTS + 5)
    expected = [
        cursor
        for cursor, _, event in chain.events
        if not topics or not set(topics).isdisjoint(topics_of(event))
    ]
    for limit in (1, 10, 10_000):
        assert read_events(chains, topics, limit)[0] == expected
    for cursor, _, _ in chain.events[::5]:
        later = [other for other in expected if other > cursor]
        assert read_events(chains, topics, 1000, cursor)[0] == later
    beyond = Cursor(Height(10**6), 0, 0)
    assert read_events(chains, topics, 10, beyond)[0] == []


def test_an_event_carries_its_transaction(disk: Disk) -> None:
    chain, chains = build(disk.create(), 10)
    entries = chains.events(START, [], 1000).entries
    assert [tuple(entry) for entry in entries] == chain.events


def test_one_page_of_events_reads_a_bounded_number_of_blocks(disk: Disk) -> None:
    store = disk.create()
    chain = Chain()
    chains = start(store, chain)
    for _ in range(SCAN_BLOCKS_MAX + 10):
        add(store, chains, chain.extend(0))
    page = chains.events(START, [], 100)
    assert page.entries == []
    assert page.next_cursor == Cursor(Height(SCAN_BLOCKS_MAX), 0, -1)
    assert chains.events(page.next_cursor, [], 100).next_cursor is None
