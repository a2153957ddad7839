"""The finalised chain on disk: blocks, receipts and everything they can be found by.

A block is written once, by hash, when this node first votes for it or when it is executed.
Executing a final block fills **one** batch with the body (if it is not there yet), header and
roots, receipts, indexes, changed state, history pages and the new head: after a crash the head is
the old or the new one with everything that belongs to it, never something between.

Events are not copied into the indexes: an index names transactions, the event is in the receipt.
Whole blocks are checked against their hash when read, because a file of another node in the place
of ours has good checksums too.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from consensus.types import Certificate
from ledger.block import BLOCK_TRANSACTIONS_MAX, Block, Header, block_hash
from ledger.receipt import Receipt
from ledger.types import Digest, DigestField, Height
from storage.errors import StoreCorrupt
from storage.event_index import Cursor, EventPage, TopicIndex, find_events, first_height
from storage.kv import prefix_end
from storage.schema import (
    BLOCK,
    BLOCK_HEIGHT,
    CERTIFICATE,
    EXECUTED,
    HEAD_KEY,
    INDEX,
    RECEIPTS,
    TRANSACTION,
    Location,
    Topic,
    at_height,
    block_key,
    decode_block_key,
    decode_height,
    decode_location,
    encode_height,
)
from storage.state_store import put_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ledger.transition import BlockOutcome
    from ledger.types import Address
    from storage.kv import Batch, KeyValueStore


class ExecutedBlock(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """A final block without its body, and what executing it gave."""

    block_hash: DigestField
    header: Header
    state_root: DigestField
    """After this block; a later header certifies it."""
    history_root: DigestField
    """Over all executed blocks up to this one."""
    receipts_root: DigestField

    @property
    def height(self) -> Height:
        """Position of the block."""
        return self.header.height


class HistoryPage(NamedTuple):
    """Places of some transactions, and where to go on."""

    locations: list[Location]
    next_cursor: Location | None
    """None if there are no more."""


T = TypeVar("T")

_encode = msgspec.msgpack.Encoder().encode
_decode_block = msgspec.msgpack.Decoder(Block).decode
_decode_executed = msgspec.msgpack.Decoder(ExecutedBlock).decode
_decode_certificate = msgspec.msgpack.Decoder(Certificate).decode
_Receipts = Annotated[list[Receipt], Meta(max_length=BLOCK_TRANSACTIONS_MAX)]
_decode_receipts = msgspec.msgpack.Decoder(_Receipts).decode


class _IdOnly(Struct, array_like=True, frozen=True, gc=False):
    """First field of a receipt."""

    transaction_id: DigestField


_decode_ids = msgspec.msgpack.Decoder(list[_IdOnly]).decode
_decode_raw_list = msgspec.msgpack.Decoder(list[Raw]).decode
_decode_receipt = msgspec.msgpack.Decoder(Receipt).decode


class ChainStore:
    """Reads the chain and fills the batches that extend it; holds nothing that is not on disk."""

    def __init__(self, store: KeyValueStore, chain_id: Digest) -> None:
        self._store = store
        self._chain_id = chain_id
        self._head: tuple[bytes, ExecutedBlock] | None = None
        self._topic_index: TopicIndex | None = None

    # --- what is there -----------------------------------------------------------------------

    def head(self) -> ExecutedBlock:
        """Return the last executed block; genesis on a new node.

        Raises:
            StoreCorrupt: the database was never given a genesis block, or lost its head.
        """
        data = self._store.get(HEAD_KEY)
        if data is None:
            raise self._corrupt("the head", "it is missing")
        if self._head is None or self._head[0] != data:
            self._head = data, self.require_executed(decode_height(data))
        return self._head[1]

    def executed(self, height: int) -> ExecutedBlock | None:
        """Return header and roots of the final block of a height; None above the head."""
        data = self._store.get(at_height(EXECUTED, height))
        return None if data is None else self._decoded(_decode_executed, data, "a header", height)

    def require_executed(self, height: int) -> ExecutedBlock:
        """Return header and roots of a block at or below the head, which must be there."""
        executed = self.executed(height)
        if executed is None:
            raise self._corrupt(f"the header of height {height}", "it is missing")
        return executed

    def executed_blocks(
        self, first: int, last: int, *, reverse: bool = False
    ) -> Iterator[ExecutedBlock]:
        """Iterate over headers and roots of the final blocks from ``first`` to ``last``, incl."""
        start, stop = at_height(EXECUTED, first), at_height(EXECUTED, last + 1)
        for _, data in self._store.iterate(start, stop, reverse=reverse):
            yield self._decoded(_decode_executed, data, "a header", first)

    def header(self, height: int) -> Header | None:
        """Return the header of the final block of a height; None above the head."""
        executed = self.executed(height)
        return None if executed is None else executed.header

    def height_of(self, digest: Digest) -> Height | None:
        """Return the height of a stored block, final or only voted for."""
        data = self._store.get(BLOCK_HEIGHT + digest)
        return None if data is None else decode_height(data)

    def block(self, reference: Height | Digest) -> Block | None:
        """Return a whole block: the final one of a height, or any stored one by its hash.

        The genesis block is stored with an empty body.

        Raises:
            StoreCorrupt: the stored bytes are not the block of this hash.
        """
        if isinstance(reference, int):
            executed = self.executed(reference)
            if executed is None:
                return None
            height, digest = reference, executed.block_hash
        else:
            found = self.height_of(reference)
            if found is None:
                return None
            height, digest = found, reference
        data = self._store.get(block_key(height, digest))
        if data is None:
            if self.height_of(digest) is None:
                return None  # a loser, deleted by the writer thread between the two reads
            raise self._corrupt(f"block {digest.hex()}", "its body is missing")
        return self._checked(data, height, digest)

    def blocks(self, first: int, last: int) -> Iterator[Block]:
        """Iterate over the final blocks from ``first`` to ``last``, both included."""
        for executed in self.executed_blocks(first, last):
            block = self.block(executed.block_hash)
            if block is None:
                raise self._corrupt(f"block {executed.block_hash.hex()}", "its body is missing")
            yield block

    def unfinished(self) -> list[Block]:
        """Return every whole block stored above the head, in order of heights."""
        start = at_height(BLOCK, self.head().height + 1)
        blocks = []
        for key, data in self._store.iterate(start, prefix_end(BLOCK)):
            height, digest = decode_block_key(key)
            blocks.append(self._checked(data, height, digest))
        return blocks

    def certificate(self, height: int) -> Certificate | None:
        """Return the finalization of exactly this block; a descendant's proves it as well."""
        data = self._store.get(at_height(CERTIFICATE, height))
        return (
            None
            if data is None
            else self._decoded(_decode_certificate, data, "the finalization", height)
        )

    def first_certified_at_or_after(self, height: int) -> tuple[Height, Certificate] | None:
        """Return the nearest block from this height up that has a finalization of its own."""
        start, stop = at_height(CERTIFICATE, height), prefix_end(CERTIFICATE)
        for key, data in self._store.iterate(start, stop, limit=1):
            found = decode_height(key[len(CERTIFICATE) :])
            return found, self._decoded(_decode_certificate, data, "the finalization", found)
        return None

    def transaction(self, transaction_id: Digest) -> Location | None:
        """Return where a final transaction is; None if it is in no executed block."""
        data = self._store.get(TRANSACTION + transaction_id)
        return None if data is None else decode_location(data)

    def receipts(self, height: int) -> list[Receipt]:
        """Return the receipts of a block in order of its transactions; empty above the head."""
        data = self._store.get(at_height(RECEIPTS, height))
        return [] if data is None else self._decoded(_decode_receipts, data, "receipts", height)

    def transaction_ids(self, height: int) -> list[Digest]:
        """Return the ids of a block's transactions in order; empty above the head.

        A tenth of the cost of :meth:`receipts`: what follows the id is skipped, not built.
        """
        data = self._store.get(at_height(RECEIPTS, height))
        if data is None:
            return []
        found: list[_IdOnly] = self._decoded(_decode_ids, data, "receipts", height)
        return [Digest(receipt.transaction_id) for receipt in found]

    def receipt(self, height: int, index: int) -> Receipt | None:
        """Return one receipt, decoding no other; None if there is none."""
        data = self._store.get(at_height(RECEIPTS, height))
        if data is None:
            return None
        items: list[Raw] = self._decoded(_decode_raw_list, data, "receipts", height)
        if not 0 <= index < len(items):
            return None
        return self._decoded(_decode_receipt, items[index], "a receipt", height)

    def history(
        self, topic: Topic, after: Location | None, limit: int, *, newest_first: bool
    ) -> HistoryPage:
        """Return where the next transactions that touch a topic are, after the one at ``after``."""
        head = self.head().height
        found = self._topics().find(topic, after, head, newest_first=newest_first)
        locations = list(islice(found, limit + 1))
        more = len(locations) > limit > 0
        return HistoryPage(locations[:limit], locations[limit - 1] if more else None)

    def account_history(
        self, address: Address, after: Location | None, limit: int, *, newest_first: bool = True
    ) -> HistoryPage:
        """Return where transactions are that an account sent or that touched it."""
        return self.history(Topic.account(address), after, limit, newest_first=newest_first)

    def events(self, after: Cursor, topics: Sequence[Topic], limit: int) -> EventPage:
        """Return the next events after a cursor: all, or those of any of the topics.

        A page may be short, even empty, and still have a ``next_cursor``: one call reads a bounded
        number of blocks. The first page starts at ``event_index.START``.
        """
        head = self.head().height
        return find_events(self._topics(), self.receipts, after, head, topics, limit)

    # --- what is added -----------------------------------------------------------------------

    def add_genesis(self, batch: Batch, header: Header, outcome: BlockOutcome) -> None:
        """Add the genesis block and its state to the first batch of a new database."""
        digest = block_hash(self._chain_id, header)
        self.add_block(batch, digest, Block(header, b"", [], ()))
        self._put_executed(batch, digest, header, outcome)

    def add_block(self, batch: Batch, digest: Digest, block: Block) -> None:
        """Add a whole block that this node votes for or has executed; nothing if it is there."""
        if self._store.get(BLOCK_HEIGHT + digest) is not None:
            return
        height = block.header.height
        batch.put(block_key(height, digest), _encode(block))
        batch.put(BLOCK_HEIGHT + digest, encode_height(height))

    def add_finalized(
        self,
        batch: Batch,
        digest: Digest,
        block: Block,
        outcome: BlockOutcome,
        certificate: Certificate | None,
    ) -> None:
        """Add everything that executing the next final block gave, and make it the head.

        ``certificate`` is the finalization of exactly this block, if there is one. The batch must
        be written with ``sync``, and alone: it is the atomic step from one head to the next.
        """
        height = block.header.height
        self.add_block(batch, digest, block)
        self._drop_losers(batch, height - 1)
        if certificate is not None:
            batch.put(at_height(CERTIFICATE, height), _encode(certificate))
        self._put_receipts(batch, height, outcome.receipts)
        topics = self._topics()
        topics.add(height, block.transactions, outcome.receipts)
        topics.flush(batch, height)
        self._put_executed(batch, digest, block.header, outcome)

    def _topics(self) -> TopicIndex:
        """Return the index of topics; the first call rebuilds what was in memory before."""
        if self._topic_index is None:
            head = self.head().height
            first = first_height(head)
            index = TopicIndex(self._store, first)
            for height, block in enumerate(self.blocks(first, head), first):
                index.add(Height(height), block.transactions, self.receipts(height))
            self._topic_index = index
        return self._topic_index

    def _put_executed(
        self, batch: Batch, digest: Digest, header: Header, outcome: BlockOutcome
    ) -> None:
        put_state(batch, outcome.state_writes, outcome.history_writes)
        executed = ExecutedBlock(
            digest, header, outcome.state_root, outcome.history_root, outcome.receipts_root
        )
        batch.put(at_height(EXECUTED, header.height), _encode(executed))
        batch.put(HEAD_KEY, encode_height(header.height))

    def _put_receipts(self, batch: Batch, height: Height, receipts: Sequence[Receipt]) -> None:
        put = batch.put
        at = encode_height(height)
        put(RECEIPTS + at, _encode(receipts))
        for receipt, index in zip(receipts, INDEX, strict=False):
            put(TRANSACTION + receipt.transaction_id, at + index)

    def _drop_losers(self, batch: Batch, height: int) -> None:
        """Delete the blocks of a settled height that did not become final.

        One height late: a vote for one of them may have been on its way to the disk when its
        height was settled, but it is there before the next block is executed.
        """
        if height < 0:
            return
        winner = self.require_executed(height).block_hash
        for key, _ in self._store.iterate(at_height(BLOCK, height), at_height(BLOCK, height + 1)):
            _, digest = decode_block_key(key)
            if digest != winner:
                batch.delete(key)
                batch.delete(BLOCK_HEIGHT + digest)

    # --- what is checked ---------------------------------------------------------------------

    def _checked(self, data: bytes, height: int, digest: Digest) -> Block:
        block = self._decoded(_decode_block, data, "block", height)
        if block_hash(self._chain_id, block.header) != digest:
            raise self._corrupt(f"block {digest.hex()}", "the stored header has another hash")
        return block

    def _decoded(self, decode: Callable[[bytes], T], data: bytes, what: str, height: int) -> T:
        try:
            return decode(data)
        except msgspec.MsgspecError as error:
            raise self._corrupt(f"{what} of height {height}", str(error)) from error

    def _corrupt(self, what: str, reason: str) -> StoreCorrupt:
        return StoreCorrupt(self._store.path, what, reason)
