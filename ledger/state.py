"""The authenticated state: records by key, with a root that proves what is there and what is not.

It is an indexed Merkle tree. Each key gets the next leaf number when it first appears, and its
leaf commits to the key, the value and the *next* key in byte order. Leaf 0 is the sentinel with
the empty key. A value is proved by its leaf; absence of a key is proved by the leaf of its
predecessor, whose next key lies beyond. Keys are never deleted.

``State`` holds the tree's digests and a bounded cache of decoded records over a reader of stored
ones. It is changed by whole blocks only (``update_steps``), and until the block is on disk its
records are answered from memory. Normative text: ``docs/protocol.md`` section 6.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from hashlib import sha256
from itertools import islice
from typing import Annotated, Final, NamedTuple, Protocol, cast

import msgspec
from msgspec import Meta, Struct

from ledger.encoding import encode
from ledger.errors import InvariantViolation
from ledger.history import History, history_path
from ledger.merkle import DenseTree
from ledger.records import (
    AGENDA_KEY,
    PARAMETERS_KEY,
    PRESENCE_KEY,
    RECORD_TYPES,
    VALIDATORS_KEY,
    Account,
    Agenda,
    Asset,
    ChangeProposal,
    EpochRecord,
    EvidenceRecord,
    Holding,
    Organisation,
    Parameters,
    Presence,
    Record,
    ValidatorsRecord,
    account_key,
    asset_key,
    epoch_key,
    evidence_key,
    holding_key,
    organisation_key,
    proposal_key,
)
from ledger.state_proof import SENTINEL_KEY, STATE_TAG, StateProof, leaf_digest
from ledger.types import DIGEST_BYTES, Address, Digest, Epoch, Height, ProposalId, PublicKey

CACHE_RECORDS_MAX: Final = 100_000
"""Decoded records kept for the next blocks: about 40 MB."""

_CACHE_EVICTION: Final = CACHE_RECORDS_MAX // 8
"""Oldest entries dropped at once, so that eviction costs little per record."""

PENDING_BLOCKS_MAX: Final = 64
"""Blocks executed but not reported as stored; more means that nobody calls ``stored``."""

_STEP_RECORDS: Final = 256
"""Records encoded and hashed between two yields of an update: about 0.5 ms."""


class StateRecord(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """What is stored under a key."""

    index: Annotated[int, Meta(ge=0)]
    """Number of the key's leaf."""
    next_key: bytes
    """The next greater key; empty if there is none."""
    value: bytes
    """Canonical encoding of the record."""


class StateReader(Protocol):
    """Stored records as of the last block reported as stored, or later."""

    def get(self, key: bytes) -> StateRecord | None:
        """Return the record of a key, or None."""

    def predecessor(self, key: bytes) -> tuple[bytes, StateRecord]:
        """Return the greatest stored key that is not above ``key``, with its record."""

    def history_page(self, key: bytes) -> bytes | None:
        """Return a stored page of the history tree."""


def first_records(items: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, StateRecord]]:
    """Link the keys and values of a first state, ascending by key; the sentinel comes first."""
    keys = [key for key, _ in items]
    linked = [(SENTINEL_KEY, StateRecord(0, keys[0] if keys else SENTINEL_KEY, b""))]
    for number, (key, value) in enumerate(items, 1):
        following = keys[number] if number < len(keys) else SENTINEL_KEY
        linked.append((key, StateRecord(number, following, value)))
    return linked


def tree_of(records: Iterable[tuple[bytes, StateRecord]]) -> DenseTree:
    """Build the tree over stored records in any order.

    Raises InvariantViolation if the leaf numbers are not 0 to n-1, each once.
    """
    numbers: array[int] = array("Q")
    digests = bytearray()
    for key, record in records:
        numbers.append(record.index)
        digests += leaf_digest(key, record.next_key, record.value)
    leaves, seen = bytearray(len(digests)), bytearray(len(numbers))
    for position, number in enumerate(numbers):
        if number >= len(seen) or seen[number]:
            raise InvariantViolation("state_leaf_numbers", f"{number} of {len(seen)}, or twice")
        seen[number] = True
        start, end = position * DIGEST_BYTES, (position + 1) * DIGEST_BYTES
        leaves[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES] = digests[start:end]
    return DenseTree(leaves)


_DECODERS: Final = {
    prefix: msgspec.msgpack.Decoder(record_type).decode
    for prefix, record_type in RECORD_TYPES.items()
}


class _Entry(Struct, frozen=True, gc=False):
    """A cached record with its place in the tree."""

    record: Record
    leaf: int
    next_key: bytes


class StateUpdate(NamedTuple):
    """What one block changes; nothing is visible before ``State.apply_update``."""

    entries: dict[bytes, _Entry]
    writes: list[tuple[bytes, StateRecord]]
    """Changed and new records, ascending by key."""
    new_keys: list[bytes]
    root: Digest


class _PendingBlock(NamedTuple):
    """What the reader does not have yet."""

    height: Height
    records: dict[bytes, StateRecord]
    new_keys: list[bytes]
    """Ascending."""
    pages: dict[bytes, bytes]


class State:
    """All records after the last executed block."""

    def __init__(
        self, chain_id: Digest, reader: StateReader, tree: DenseTree, history: History
    ) -> None:
        self.chain_id = chain_id
        """Of the network whose state this is; block hashes in the history contain it."""
        self.history = history
        self._reader = reader
        self._tree = tree
        self._cache: dict[bytes, _Entry] = {}
        self._pending: deque[_PendingBlock] = deque()

    @classmethod
    def load(
        cls,
        chain_id: Digest,
        reader: StateReader,
        records: Iterable[tuple[bytes, StateRecord]],
        history: History,
    ) -> State:
        """Rebuild the tree from all stored records; 3 s for a million of them.

        The caller compares ``root`` with the one it stored for the head.
        """
        return cls(chain_id, reader, tree_of(records), history)

    @property
    def root(self) -> Digest:
        """Root after the last executed block."""
        return self._tree.root

    @property
    def height(self) -> Height:
        """Of the last executed block."""
        return Height(self.history.count - 1)

    @property
    def parameters(self) -> Parameters:
        """Limits of the network."""
        record = self.record(PARAMETERS_KEY)
        if not isinstance(record, Parameters):
            raise InvariantViolation("state_parameters", "the state holds no parameters")
        return record

    @property
    def agenda(self) -> Agenda:
        """Proposals that wait, and features."""
        record = self.record(AGENDA_KEY)
        if not isinstance(record, Agenda):
            raise InvariantViolation("state_agenda", "the state holds no agenda")
        return record

    @property
    def presence(self) -> Presence:
        """When each member of the present set was last seen at work."""
        record = self.record(PRESENCE_KEY)
        if not isinstance(record, Presence):
            raise InvariantViolation("state_presence", "the state does not say who is present")
        return record

    @property
    def validators(self) -> ValidatorsRecord:
        """Who votes on the next block, and what the next boundary block will bring."""
        record = self.record(VALIDATORS_KEY)
        if not isinstance(record, ValidatorsRecord):
            raise InvariantViolation("state_validators", "the state holds no validators")
        return record

    # --- Reading ---

    def get(self, key: bytes) -> bytes | None:
        """Return the encoded value under a key, or None."""
        record = self._stored(key)
        return None if record is None or key == SENTINEL_KEY else record.value

    def record(self, key: bytes) -> Record | None:
        """Return the decoded record under a key, or None."""
        entry = self._cache.get(key)
        if entry is None:
            entry = self._load(key)
        return None if entry is None else entry.record

    def account(self, address: Address) -> Account | None:
        """Return an account, or None."""
        return cast("Account | None", self.record(account_key(address)))

    def organisation(self, organisation: str) -> Organisation | None:
        """Return an organisation, or None."""
        return cast("Organisation | None", self.record(organisation_key(organisation)))

    def asset(self, asset: str) -> Asset | None:
        """Return an asset, or None."""
        return cast("Asset | None", self.record(asset_key(asset)))

    def holding(self, address: Address, asset: str) -> Holding | None:
        """Return what an account holds of an asset, or None if it never held any."""
        return cast("Holding | None", self.record(holding_key(address, asset)))

    def balance(self, address: Address, asset: str) -> int:
        """Return the amount that an account holds of an asset."""
        holding = self.holding(address, asset)
        return 0 if holding is None else holding.amount

    def epoch(self, epoch: Epoch) -> EpochRecord | None:
        """Return who voted in an epoch, or None if it has not begun."""
        return cast("EpochRecord | None", self.record(epoch_key(epoch)))

    def proposal(self, proposal: ProposalId) -> ChangeProposal | None:
        """Return a proposed change, or None."""
        return cast("ChangeProposal | None", self.record(proposal_key(proposal)))

    def evidence(self, consensus_key: PublicKey) -> EvidenceRecord | None:
        """Return the evidence against a consensus key, or None."""
        return cast("EvidenceRecord | None", self.record(evidence_key(consensus_key)))

    def _stored(self, key: bytes) -> StateRecord | None:
        for block in reversed(self._pending):
            record = block.records.get(key)
            if record is not None:
                return record
        return self._reader.get(key)

    def _load(self, key: bytes) -> _Entry | None:
        stored = self._stored(key)
        if stored is None or key == SENTINEL_KEY:
            return None
        entry = _Entry(_DECODERS[key[0]](stored.value), stored.index, stored.next_key)
        self._cache[key] = entry
        if len(self._cache) > CACHE_RECORDS_MAX:
            self._evict()
        return entry

    def _evict(self) -> None:
        cache = self._cache
        surplus = max(len(cache) - CACHE_RECORDS_MAX, 0)
        for oldest in list(islice(cache, surplus + _CACHE_EVICTION)):
            del cache[oldest]

    def _predecessor(self, key: bytes) -> tuple[bytes, StateRecord]:
        """Return the greatest key not above ``key``; a new key may be known only here."""
        found, record = self._reader.predecessor(key)
        for block in self._pending:
            position = bisect_right(block.new_keys, key)
            if position and block.new_keys[position - 1] > found:
                found = block.new_keys[position - 1]
            record = block.records.get(found, record)
        return found, record

    # --- Proofs ---

    def prove(self, key: bytes) -> StateProof:
        """Return the proof of a key's value, or of its absence, against ``root``."""
        found, record = self._predecessor(key)
        return StateProof(
            found,
            record.next_key,
            record.value,
            record.index,
            self._tree.count,
            self._tree.path(record.index),
        )

    def history_path(self, count: int, height: Height) -> tuple[bytes, ...]:
        """Return the path of one executed block in the history of the first ``count`` blocks."""

        def read_page(key: bytes) -> bytes | None:
            for block in reversed(self._pending):
                if key in block.pages:
                    return block.pages[key]
            return self._reader.history_page(key)

        return history_path(read_page, count, height)

    # --- Changing ---

    def update_steps(self, changed: dict[bytes, Record]) -> Generator[None, None, StateUpdate]:
        """Work out what a block's changed records do to the tree; yield now and then.

        Nothing changes before ``apply_update``: readers meanwhile see the state before the block.
        """
        entries: dict[bytes, _Entry] = {}
        new_keys: list[bytes] = []
        count = self._tree.count
        for number, (key, record) in enumerate(changed.items(), 1):
            known = self._cache.get(key) or self._load(key)
            if known is None:
                new_keys.append(key)
            else:
                entries[key] = _Entry(record, known.leaf, known.next_key)
            if not number % _STEP_RECORDS:
                yield
        new_keys.sort()
        sentinel = self._link(new_keys, changed, entries)
        writes: list[tuple[bytes, StateRecord]] = []
        leaves: list[tuple[int, bytes]] = []
        if sentinel is not None:
            writes.append((SENTINEL_KEY, sentinel))
            leaves.append((0, leaf_digest(SENTINEL_KEY, sentinel.next_key, b"")))
        for number, key in enumerate(sorted(entries), 1):
            entry = entries[key]
            next_key = entry.next_key
            value = encode(entry.record)
            writes.append((key, StateRecord(entry.leaf, next_key, value)))
            leaves.append(
                (
                    entry.leaf,
                    sha256(
                        b"%b%c%b%c%b%b" % (STATE_TAG, len(key), key, len(next_key), next_key, value)
                    ).digest(),
                )
            )
            if not number % _STEP_RECORDS:
                yield
        leaves.sort()
        root = yield from self._tree.update_steps(leaves, count + len(new_keys))
        return StateUpdate(entries, writes, new_keys, root)

    def _link(
        self, new_keys: list[bytes], changed: dict[bytes, Record], entries: dict[bytes, _Entry]
    ) -> StateRecord | None:
        """Give ascending new keys leaf numbers, and put each behind its predecessor in ``entries``.

        Returns the sentinel's record if a new key follows it.
        """
        sentinel: StateRecord | None = None
        previous_new: bytes | None = None
        for index, key in enumerate(new_keys, self._tree.count):
            before, stored = self._predecessor(key)
            if previous_new is not None and previous_new > before:
                before = previous_new
            if before == SENTINEL_KEY:
                next_key = stored.next_key
                sentinel = StateRecord(0, key, b"")
            else:
                known = entries.get(before) or self._cache.get(before) or self._load(before)
                if known is None:
                    raise InvariantViolation("state_order", f"key {before.hex()} has no record")
                next_key = known.next_key
                entries[before] = _Entry(known.record, known.leaf, key)
            entries[key] = _Entry(changed[key], index, next_key)
            previous_new = key
        return sentinel

    def apply_update(
        self,
        height: Height,
        update: StateUpdate,
        history: History,
        pages: list[tuple[bytes, bytes]],
    ) -> None:
        """Make a block's changes the state; they are answered from memory until ``stored``."""
        if len(self._pending) >= PENDING_BLOCKS_MAX:
            raise InvariantViolation(
                "state_pending_blocks", f"{PENDING_BLOCKS_MAX} blocks were never reported as stored"
            )
        self._tree.apply_update()
        if self._tree.root != update.root:
            raise InvariantViolation("state_root", f"the tree at height {height} differs")
        self.history = history
        self._cache.update(update.entries)
        if len(self._cache) > CACHE_RECORDS_MAX:
            self._evict()  # a block of new accounts loads nothing, but fills the cache
        self._pending.append(
            _PendingBlock(height, dict(update.writes), update.new_keys, dict(pages))
        )

    def stored(self, height: Height) -> None:
        """Forget what was kept for blocks up to ``height``: the reader has it now."""
        while self._pending and self._pending[0].height <= height:
            self._pending.popleft()
