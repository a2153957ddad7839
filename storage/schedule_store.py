"""Every validator set that a block scheduled, by the height of that block.

The state holds the latest one; whether a block must close its epoch, and with which set, follows
from the sets scheduled up to the height that *it* certifies, which may be lower
(``docs/protocol-consensus.md``, rule V5). Sets are small and change rarely, so all are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ledger.validators import Validator
from storage.errors import StoreCorrupt
from storage.schema import SCHEDULE, at_height, decode_height, encode_height, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ledger.transition import BlockOutcome
    from ledger.types import Height
    from storage.kv import Batch, KeyValueStore

Schedule = tuple["Height", tuple[Validator, ...]]
"""Height of a block, and the set that it scheduled, ascending by consensus key."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[Validator, ...]).decode


class ScheduleStore:
    """Reads scheduled sets and fills the batches that add them."""

    def __init__(self, store: KeyValueStore) -> None:
        self._store = store

    def schedule_at(self, height: int) -> Schedule | None:
        """Return the latest set that a block up to a height scheduled; None if none did."""
        start, _ = whole(SCHEDULE)
        stop = at_height(SCHEDULE, height + 1)
        for key, data in self._store.iterate(start, stop, limit=1, reverse=True):
            return self._decoded(key, data)
        return None

    def schedules(self, above: int) -> Iterator[Schedule]:
        """Iterate over the sets that blocks above a height scheduled, lowest height first."""
        _, stop = whole(SCHEDULE)
        for key, data in self._store.iterate(at_height(SCHEDULE, above + 1), stop):
            yield self._decoded(key, data)

    def add(self, batch: Batch, outcome: BlockOutcome) -> None:
        """Add what a block scheduled, if anything, to the batch that makes the block the head."""
        if outcome.schedule is not None:
            height, members = outcome.schedule
            batch.put(SCHEDULE + encode_height(height), _encode(members))

    def _decoded(self, key: bytes, data: bytes) -> Schedule:
        try:
            return decode_height(key[len(SCHEDULE) :]), _decode(data)
        except msgspec.MsgspecError as error:
            raise StoreCorrupt(self._store.path, "a scheduled set", str(error)) from error
