"""The stream of what happened, in the order of the chain, read from the chain itself.

Every item has a position (height, transaction, event), the same on every node: the block comes
first, then each transaction followed by its events. A stream is a position that moves forward;
nothing is queued for a client, so a slow one costs no memory, and a client that comes back
continues exactly where it was. A stream that had caught up and falls far behind is told so and
ended.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from ledger.address import format_address, parse_address
from ledger.errors import LedgerError
from ledger.events import EVENT_NAMES, event_accounts, event_objects
from ledger.json import event_json
from ledger.receipt import OK_CODE
from ledger.types import Height
from node.api.limits import SCAN_SLICE
from node.api.parameters import InvalidText, parse_digest, parse_integer
from node.api.problems import Problem
from node.api.render import executed_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ledger.receipt import Receipt
    from node.api.ports import NodeView

NONE: Final = -1
"""Transaction or event index of an item that is not about one; sorts before the first."""
ITEMS_PER_CHUNK: Final = 256
"""Items handed to one client at a time."""
CACHED_ITEMS_MAX: Final = 20_000
"""Rendered items shared by all streams, some 12 MB: two full blocks or minutes of a quiet chain."""

TOPIC_HELP: Final = (
    "blocks, transactions, events, transaction:<id>, account:<address>, asset:<ORG/CODE>, "
    "organisation:<id>, event:<type>"
)
_OBJECT_TOPIC: Final = re.compile(r"(asset|organisation):[A-Za-z0-9./-]{1,64}", re.ASCII)
_encode: Final = msgspec.json.Encoder().encode


class Position(NamedTuple):
    """Place of an item in the stream."""

    height: int
    transaction: int = NONE
    event: int = NONE

    def __str__(self) -> str:
        """Return the cursor text: ``12``, ``12-3`` or ``12-3-0``."""
        return "-".join(str(part) for part in self if part != NONE)


class Item(NamedTuple):
    """One thing that happened."""

    position: Position
    kind: str
    """``block``, ``transaction`` or the name of an event."""
    topics: tuple[str, ...]
    data: bytes
    """JSON object."""


class Chunk(NamedTuple):
    """Some items of one block that a stream asked for; none of them on a silent chain."""

    items: tuple[Item, ...]
    reached: Position
    """Everything up to here has been seen: where to resume."""


class Lagged(NamedTuple):
    """The stream has fallen too far behind and ends here."""

    resume_from: Position


def parse_position(text: str) -> Position:
    """Read a cursor; raises :class:`InvalidText`."""
    parts = text.split("-")
    if not 1 <= len(parts) <= 3:
        raise InvalidText("HEIGHT, HEIGHT-TRANSACTION or HEIGHT-TRANSACTION-EVENT")
    return Position(*(parse_integer(part) for part in parts))


def parse_topics(names: tuple[str, ...]) -> frozenset[str]:
    """Check topics.

    Raises:
        Problem: ``invalid_parameter`` naming the topics there are.
    """
    for name in names:
        if not _is_topic(name):
            raise Problem("invalid_parameter", f"topics: expected some of {TOPIC_HELP}")
    return frozenset(names)


def _is_topic(name: str) -> bool:
    kind, colon, value = name.partition(":")
    if not colon:
        return name in ("blocks", "transactions", "events")
    try:
        if kind == "account":
            parse_address(value)
        elif kind == "transaction":
            parse_digest(value)
        elif kind == "event":
            return value in EVENT_NAMES.values()
        else:
            return _OBJECT_TOPIC.fullmatch(name) is not None
    except (LedgerError, InvalidText):
        return False
    return True


class Feed:
    """Renders blocks into items, once for all streams."""

    def __init__(self, view: NodeView) -> None:
        self._view = view
        self._rendered: OrderedDict[int, tuple[Item, ...]] = OrderedDict()
        self._cached_items = 0
        self._rendering = asyncio.Lock()

    def head(self) -> Position:
        """Return the position of the last thing that has happened."""
        chain = self._view.chain
        header = chain.head().header
        last = header.transaction_count - 1
        receipt = chain.receipt(header.height, last)
        if receipt is None:  # no transactions: the block itself is the last item
            return Position(header.height)
        return Position(header.height, last, len(receipt.events) - 1)

    async def follow(
        self,
        after: Position,
        topics: frozenset[str],
        *,
        lag_blocks: int,
        heartbeat_s: float,
    ) -> AsyncIterator[Chunk | Lagged]:
        """Yield the items after a position, for ever; a :class:`Lagged` is the last thing.

        A chunk without items comes at least every `heartbeat_s` seconds.
        """
        height, reached, is_live = after.height, after, False
        while True:
            head = self._view.status().executed_height
            if height > head:
                is_live = True
                if not await self._wait_executed(height - 1, heartbeat_s):
                    yield Chunk((), reached)
                continue
            if is_live and head - height >= lag_blocks:
                yield Lagged(reached)
                return
            items = await self._items(height)
            wanted = [
                item
                for item in items
                if item.position > after and not topics.isdisjoint(item.topics)
            ]
            for start in range(0, len(wanted), ITEMS_PER_CHUNK):
                chunk = tuple(wanted[start : start + ITEMS_PER_CHUNK])
                reached = chunk[-1].position
                yield Chunk(chunk, reached)
            reached = max(items[-1].position, after)
            height += 1
            await asyncio.sleep(0)

    async def _wait_executed(self, above: int, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                await self._view.wait_executed(Height(above))
        except TimeoutError:
            return False
        return True

    async def _items(self, height: int) -> tuple[Item, ...]:
        found = self._rendered.get(height)
        if found is not None:
            return found
        async with self._rendering:
            found = self._rendered.get(height)
            if found is None:
                found = await self._render(height)
                self._rendered[height] = found
                self._cached_items += len(found)
                while self._cached_items > CACHED_ITEMS_MAX and len(self._rendered) > 1:
                    _, oldest = self._rendered.popitem(last=False)
                    self._cached_items -= len(oldest)
        return found

    async def _render(self, height: int) -> tuple[Item, ...]:
        chain = self._view.chain
        executed = chain.require_executed(height)
        block = Item(Position(height), "block", ("blocks",), _encode(executed_json(executed)))
        items = [block]
        for index, receipt in enumerate(chain.receipts(height)):
            if index % SCAN_SLICE == SCAN_SLICE - 1:
                await asyncio.sleep(0)
            items.extend(_transaction_items(height, index, receipt))
        return tuple(items)


def _transaction_items(height: int, index: int, receipt: Receipt) -> list[Item]:
    identifier = receipt.transaction_id.hex()
    is_ok = receipt.code == OK_CODE
    summary = {
        "id": identifier,
        "status": "finalized" if is_ok else "failed",
        "code": receipt.code,
        "height": height,
        "index": index,
    }
    about = ("transactions", f"transaction:{identifier}")
    items = [Item(Position(height, index), "transaction", about, _encode(summary))]
    for number, event in enumerate(receipt.events):
        rendered: dict[str, Any] = {"transaction": identifier, **event_json(event)}
        name = EVENT_NAMES[type(event)]
        accounts = (f"account:{format_address(account)}" for account in event_accounts(event))
        topics = ("events", f"event:{name}", *accounts, *event_objects(event))
        items.append(Item(Position(height, index, number), name, topics, _encode(rendered)))
    return items
