"""The authenticated state on disk: one record per key, as the ledger's state reads it.

Implements the reader that ``ledger.state`` asks for. Writing is part of the one batch per block
that ``storage.chain_store`` fills. The digests of the tree are not stored: they are rebuilt from
the records at start, which also proves that the records are the ones the head committed to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from ledger.state import StateRecord
from storage.errors import StoreCorrupt
from storage.schema import HISTORY_PAGE, STATE, whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from storage.kv import Batch, KeyValueStore

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(StateRecord).decode
_PREFIX_BYTES: Final = len(STATE)


class StateStore:
    """Reads records of the state after the last written block."""

    def __init__(self, store: KeyValueStore) -> None:
        self._store = store

    def get(self, key: bytes) -> StateRecord | None:
        """Return the record of a key, None if the key does not exist."""
        data = self._store.get(STATE + key)
        return None if data is None else self._record(data)

    def predecessor(self, key: bytes) -> tuple[bytes, StateRecord]:
        """Return the greatest existing key that is not above this one, with its record.

        Raises:
            StoreCorrupt: there is none; the sentinel with the empty key is below all others.
        """
        for found, data in self._store.iterate(STATE, STATE + key + b"\0", reverse=True, limit=1):
            return found[_PREFIX_BYTES:], self._record(data)
        raise StoreCorrupt(self._store.path, "the state", "the sentinel record is missing")

    def records(self) -> Iterator[tuple[bytes, StateRecord]]:
        """Iterate over all records in ascending order of keys."""
        for key, data in self._store.iterate(*whole(STATE)):
            yield key[_PREFIX_BYTES:], self._record(data)

    def history_page(self, key: bytes) -> bytes | None:
        """Return a page of the tree over the executed blocks."""
        return self._store.get(HISTORY_PAGE + key)

    def _record(self, data: bytes) -> StateRecord:
        try:
            return _decode(data)
        except msgspec.MsgspecError as error:
            raise StoreCorrupt(self._store.path, "a state record", str(error)) from error


def put_state(
    batch: Batch,
    state_writes: Iterable[tuple[bytes, StateRecord]],
    history_writes: Iterable[tuple[bytes, bytes]],
) -> None:
    """Add what a block changed in the state and in the history tree to a batch."""
    put = batch.put
    for key, record in state_writes:
        put(STATE + key, _encode(record))
    for key, page in history_writes:
        put(HISTORY_PAGE + key, page)
