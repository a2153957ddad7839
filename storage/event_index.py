"""Finds transactions and events by account, object or type of event.

Heights are grouped into *spans*. For each topic and each span that touches it there is one entry
with the places of the transactions; the events themselves are read from the receipts. A sender's
failed transactions are in its history too. Writing one entry per topic and block instead would
cost more than all the rest of a block, because most accounts of a busy chain come back within a
span.

The entries of the present span and of the one before are in memory. Those of the one before are
written a few at a time, with the blocks of the present span, and after a restart both are rebuilt
from the receipts: the same bytes again, so a crash in between loses nothing.

Cursors are places in the chain (height, transaction, event): they mean the same on every node and
stay valid for ever.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from heapq import merge
from itertools import chain, groupby, islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ledger.events import (
    ACCOUNTS_OF,
    EVENT_NAMES,
    OBJECTS_OF,
    Event,
    event_accounts,
    event_objects,
)
from ledger.transaction import SENDER_PLACE
from ledger.types import ADDRESS_BYTES, Digest, Height
from storage.schema import (
    INDEX,
    PLACE_BYTES,
    SPAN_HEIGHTS,
    Location,
    Topic,
    TopicKind,
    decode_height,
    decode_place,
    encode_height,
    encode_place,
    topic_key,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ledger.receipt import Receipt
    from storage.kv import Batch, KeyValueStore

SCAN_BLOCKS_MAX: Final = 64
"""Blocks whose receipts one call reads at most (some 2 ms each when full); the page then ends and
its cursor continues. Keeps a query for rare events from holding the loop."""

BEFORE_FIRST: Final = -1
"""Event index of a cursor that stands before the first event of its transaction."""


class Cursor(NamedTuple):
    """Place of an event in the chain; a page starts after it."""

    height: Height
    transaction_index: int
    event_index: int


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


_Name = tuple[type[Event], tuple[Any, ...]]
"""Type of an event and the ids of its objects: they decide all its topics but the accounts."""


class _Span:
    """Entries of the topics that the blocks of one span touch."""

    __slots__ = ("_accounts", "_other_keys", "_others", "first")

    def __init__(self, first: Height) -> None:
        self.first = first
        self._accounts: dict[bytes, bytearray] = {}
        """By address: most entries are of accounts, and their keys are made only to write them."""
        self._others: dict[bytes, bytearray] = {}
        self._other_keys: dict[_Name, list[bytes]] = {}

    def add(
        self, height: Height, transactions: Sequence[bytes], receipts: Sequence[Receipt]
    ) -> None:
        """Take in the next block of the span; this runs for every transaction."""
        accounts, others, known = self._accounts, self._others, self._other_keys
        offset = bytes((height - self.first,))
        for index, wire, receipt in zip(INDEX, transactions, receipts, strict=False):
            addresses = {wire[SENDER_PLACE]}
            keys: set[bytes] = set()
            for event in receipt.events:
                event_type = type(event)
                addresses.update(ACCOUNTS_OF[event_type](event))
                name = event_type, OBJECTS_OF[event_type](event)
                keys.update(known.get(name) or self._keys_of(name, event))
            place = offset + index
            # In whatever order: it only decides with which later block an entry is written.
            for entries, touched in ((accounts, addresses), (others, keys)):
                for key in touched:
                    entry = entries.get(key)
                    if entry is None:
                        entries[key] = bytearray(place)
                    else:
                        entry += place

    def _keys_of(self, name: _Name, event: Event) -> list[bytes]:
        """Return the topics of an event other than accounts; most events of a span share a few."""
        keys = [topic_key(*topic) for topic in topics_of(event) if topic.kind != TopicKind.ACCOUNT]
        self._other_keys[name] = keys
        return keys

    def get(self, key: bytes) -> bytearray | None:
        """Return the entry of a topic, or None."""
        if key.startswith(_ACCOUNT_PREFIX):
            return self._accounts.get(key[len(_ACCOUNT_PREFIX) :])
        return self._others.get(key)

    def items(self) -> Iterator[tuple[bytes, bytearray]]:
        """Iterate over the topics with their entries."""
        accounts = ((_ACCOUNT_PREFIX + key, entry) for key, entry in self._accounts.items())
        return chain(accounts, self._others.items())

    def __len__(self) -> int:
        return len(self._accounts) + len(self._others)


class TopicIndex:
    """Entries of all topics; blocks are added in order of heights, without gaps."""

    def __init__(self, store: KeyValueStore, first: Height) -> None:
        """``first`` is the height of the first block to be added: see :func:`first_height`."""
        self._store = store
        self._present = _Span(first)
        self._previous = _Span(Height(first - SPAN_HEIGHTS))
        self._unwritten: Iterator[tuple[bytes, bytearray]] = iter(())
        self._unwritten_count = 0

    def add(
        self, height: Height, transactions: Sequence[bytes], receipts: Sequence[Receipt]
    ) -> None:
        """Take in the next executed block."""
        while height >= self._present.first + SPAN_HEIGHTS:
            following = Height(self._present.first + SPAN_HEIGHTS)
            self._previous, self._present = self._present, _Span(following)
            self._unwritten = self._previous.items()
            self._unwritten_count = len(self._previous)
        self._present.add(height, transactions, receipts)

    def flush(self, batch: Batch, height: Height) -> None:
        """Add to a block's batch its share of the span before; the last block adds the rest."""
        if not self._unwritten_count:
            return
        at = encode_height(self._previous.first)
        blocks_left = self._present.first + SPAN_HEIGHTS - height
        share = -(-self._unwritten_count // blocks_left)
        for key, entry in islice(self._unwritten, share):
            batch.put(key + at, bytes(entry))
        self._unwritten_count -= share

    def find(
        self, topic: Topic, after: Location | None, head: Height, *, newest_first: bool
    ) -> Iterator[Location]:
        """Iterate over the transactions that touch a topic, from the one next to ``after`` on.

        Those above ``head`` are left out: they are on their way to the disk.
        """
        spans = self._entries(topic_key(*topic), after, newest_first=newest_first)
        for span, entry in spans:
            first, last = 0, len(entry) // PLACE_BYTES
            if after is not None and span <= after.height < span + SPAN_HEIGHTS:
                place = encode_place(after.height - span, after.index)
                places = range(last)
                if newest_first:
                    last = bisect_left(places, place, key=_Places(entry))
                else:
                    first = bisect_right(places, place, key=_Places(entry))
            order = range(last - 1, first - 1, -1) if newest_first else range(first, last)
            for number in order:
                offset, index = decode_place(entry, number)
                if span + offset <= head:
                    yield Location(Height(span + offset), index)

    def _entries(
        self, key: bytes, after: Location | None, *, newest_first: bool
    ) -> Iterator[tuple[int, bytes | bytearray]]:
        """Iterate over the spans on the far side of ``after``, with their entries."""
        previous, present = self._previous.first, self._present.first
        low, high = 0, int(present)
        if after is not None and newest_first:
            high = after.height - after.height % SPAN_HEIGHTS
        elif after is not None:
            low = after.height - after.height % SPAN_HEIGHTS
        recent = [(previous, self._previous.get(key)), (present, self._present.get(key))]
        kept = [(at, entry) for at, entry in recent if entry is not None and low <= at <= high]
        stop = key + encode_height(max(min(previous, high + 1), 0))
        stored = self._store.iterate(key + encode_height(low), stop, reverse=newest_first)
        if newest_first:
            yield from reversed(kept)
        for found, data in stored:
            yield decode_height(found[len(key) :]), data
        if not newest_first:
            yield from kept


def first_height(head: Height) -> Height:
    """Return the first height whose entries may not be on disk: that of the span before."""
    return Height(max(head - head % SPAN_HEIGHTS - SPAN_HEIGHTS, 0))


def find_events(
    index: TopicIndex,
    receipts_of: Callable[[int], Sequence[Receipt]],
    after: Cursor,
    head: Height,
    topics: Sequence[Topic],
    limit: int,
) -> EventPage:
    """Return the next events after a cursor, of all topics or of any of those given.

    ``receipts_of`` returns the receipts of a block; at most :data:`SCAN_BLOCKS_MAX` are read.
    """
    wanted = frozenset(topics)
    entries: list[EventEntry] = []
    for scanned, (height, positions) in enumerate(_places(index, after, head, topics)):
        if scanned == SCAN_BLOCKS_MAX:
            return EventPage(entries, Cursor(height, 0, BEFORE_FIRST))
        receipts = receipts_of(height)
        for position in range(len(receipts)) if positions is None else positions:
            for event_index, event in enumerate(receipts[position].events):
                cursor = Cursor(height, position, event_index)
                if cursor <= after or (wanted and wanted.isdisjoint(topics_of(event))):
                    continue
                if len(entries) == limit:
                    return EventPage(entries, entries[-1].cursor if entries else after)
                entries.append(EventEntry(cursor, receipts[position].transaction_id, event))
    return EventPage(entries, None)


def topics_of(event: Event) -> list[Topic]:
    """Return everything an event can be looked up by."""
    topics = [Topic.type(EVENT_NAMES[type(event)])]
    topics += [Topic.account(address) for address in event_accounts(event)]
    topics += [Topic.object(name) for name in event_objects(event)]
    return topics


def _places(
    index: TopicIndex, after: Cursor, head: Height, topics: Sequence[Topic]
) -> Iterator[tuple[Height, list[int] | None]]:
    """Iterate over the blocks to look into, ascending, each with the transactions to look at."""
    if not topics:
        for height in range(after.height, head + 1):
            yield Height(height), None
        return
    start = None
    if after.transaction_index > 0:
        start = Location(after.height, after.transaction_index - 1)
    elif after.height > 0:
        start = Location(Height(after.height - 1), len(INDEX) - 1)
    found = merge(*(index.find(topic, start, head, newest_first=False) for topic in topics))
    for height, locations in groupby(found, key=attrgetter("height")):
        yield height, sorted({location.index for location in locations})


class _Places:
    """Key function for bisection: the n-th place of an entry, as bytes."""

    def __init__(self, entry: bytes | bytearray) -> None:
        self._entry = entry

    def __call__(self, number: int) -> bytes:
        return bytes(self._entry[number * PLACE_BYTES : (number + 1) * PLACE_BYTES])


_ACCOUNT_PREFIX: Final = topic_key(TopicKind.ACCOUNT, bytes(ADDRESS_BYTES))[:-ADDRESS_BYTES]
