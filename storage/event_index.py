"""Finds transactions and events by account, object or type of event.

For each topic and each block that touches it there is one entry with the positions of the
transactions; the events themselves are read from the receipts. A sender's failed transactions are
in its history too. Cursors are places in the chain (height, transaction, event), so they mean the
same on every node and stay valid for ever.
"""

from __future__ import annotations

from heapq import merge
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from msgspec import Struct

from ledger.events import EVENT_NAMES, Event, event_accounts, event_objects
from ledger.types import ADDRESS_BYTES, UINT64_MAX, Digest, Height
from storage.schema import (
    INDEX,
    Location,
    Topic,
    TopicKind,
    decode_height,
    decode_indices,
    encode_height,
    topic_key,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ledger.receipt import Receipt
    from storage.kv import Batch, KeyValueStore

SCAN_BLOCKS_MAX: Final = 64
"""Blocks whose receipts one call reads at most (some 2 ms each when full); the page then ends and
its cursor continues. Keeps a query for rare events from holding the loop."""


class Cursor(NamedTuple):
    """Place of an event in the chain; a page starts after it."""

    height: Height
    transaction_index: int
    event_index: int


BEFORE_FIRST: Final = -1
"""Event index of a cursor that stands before the first event of its transaction."""

START: Final = Cursor(Height(0), 0, BEFORE_FIRST)
"""Before the first event of the chain."""


class EventEntry(NamedTuple):
    """One event with its place."""

    cursor: Cursor
    transaction_id: Digest
    event: Event


class EventPage(NamedTuple):
    """Some events in order, and where to go on."""

    entries: list[EventEntry]
    next_cursor: Cursor | None
    """None if everything up to the head was seen."""


class _Sender(Struct, array_like=True, frozen=True, gc=False):
    """The first two fields of a transaction; the decoder skips the rest."""

    version: int
    sender: bytes


_decode_sender = msgspec.msgpack.Decoder(_Sender).decode


def put_topics(
    batch: Batch, height: Height, transactions: Sequence[bytes], receipts: Sequence[Receipt]
) -> None:
    """Add the index entries of one block to a batch: one per topic, however often it is touched."""
    entries: dict[bytes, bytes] = {}
    for index, wire, receipt in zip(INDEX, transactions, receipts, strict=False):
        keys = [_ACCOUNT_PREFIX + _decode_sender(wire).sender]
        for event in receipt.events:
            keys.append(_TYPE_KEYS[type(event)])
            keys += [_ACCOUNT_PREFIX + address for address in event_accounts(event)]
            keys += [topic_key(TopicKind.OBJECT, name.encode()) for name in event_objects(event)]
        for key in keys:
            entry = entries.get(key)
            if entry is None:
                entries[key] = index
            elif not entry.endswith(index):
                entries[key] = entry + index
    at = encode_height(height)
    for key, indices in entries.items():
        batch.put(key + at, indices)


def find_locations(
    store: KeyValueStore, topic: Topic, after: Location | None, *, newest_first: bool
) -> Iterator[Location]:
    """Iterate over the transactions that touch a topic, from the one next to ``after`` on."""
    key = topic_key(*topic)
    start, stop = key + encode_height(0), key + encode_height(UINT64_MAX)
    if after is not None and newest_first:
        stop = key + encode_height(after.height + 1)
    elif after is not None:
        start = key + encode_height(after.height)
    for found, data in store.iterate(start, stop, reverse=newest_first):
        height = decode_height(found[len(key) :])
        indices = list(decode_indices(data))
        for index in reversed(indices) if newest_first else indices:
            location = Location(height, index)
            if after is None or (location < after if newest_first else location > after):
                yield location


def find_events(
    store: KeyValueStore,
    receipts_of: Callable[[int], Sequence[Receipt]],
    after: Cursor,
    head: Height,
    topics: Sequence[Topic],
    limit: int,
) -> EventPage:
    """Return the next events after a cursor, of all topics or of any of those given.

    ``receipts_of`` returns the receipts of a block; at most :data:`SCAN_BLOCKS_MAX` are read.
    """
    places = _places(store, after, head, topics)
    wanted = frozenset(topics)
    entries: list[EventEntry] = []
    for scanned, (height, indices) in enumerate(places):
        if scanned == SCAN_BLOCKS_MAX:
            return EventPage(entries, Cursor(height, 0, BEFORE_FIRST))
        receipts = receipts_of(height)
        for index in range(len(receipts)) if indices is None else indices:
            for event_index, event in enumerate(receipts[index].events):
                cursor = Cursor(height, index, event_index)
                if cursor <= after or (wanted and wanted.isdisjoint(topics_of(event))):
                    continue
                if len(entries) == limit:
                    return EventPage(entries, entries[-1].cursor if entries else after)
                entries.append(EventEntry(cursor, receipts[index].transaction_id, event))
    return EventPage(entries, None)


def topics_of(event: Event) -> list[Topic]:
    """Return everything an event can be looked up by."""
    topics = [Topic.type(EVENT_NAMES[type(event)])]
    topics += [Topic.account(address) for address in event_accounts(event)]
    topics += [Topic.object(name) for name in event_objects(event)]
    return topics


def _places(
    store: KeyValueStore, after: Cursor, head: Height, topics: Sequence[Topic]
) -> Iterator[tuple[Height, list[int] | None]]:
    """Iterate over the blocks to look into, ascending, each with the transactions to look at."""
    if not topics:
        for height in range(after.height, head + 1):
            yield Height(height), None
        return
    start = Location(after.height, after.transaction_index - 1)
    found = merge(*(find_locations(store, topic, start, newest_first=False) for topic in topics))
    for height, locations in groupby(found, key=attrgetter("height")):
        yield height, sorted({location.index for location in locations})


_ACCOUNT_PREFIX: Final = topic_key(TopicKind.ACCOUNT, bytes(ADDRESS_BYTES))[:-ADDRESS_BYTES]
_TYPE_KEYS: Final = {
    event: topic_key(TopicKind.TYPE, name.encode()) for event, name in EVENT_NAMES.items()
}
