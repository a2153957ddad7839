"""Recovery plans that the operator of this node has accepted, by the era that each opens.

A plan is final once it is here: it is never replaced, because two plans for one era could be two
chains (``docs/protocol-consensus.md``, Era change).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from consensus.recovery import RecoveryPlan
from storage.errors import StoreCorrupt
from storage.schema import PLAN, plan_key, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ledger.types import Era
    from storage.kv import Batch, KeyValueStore

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(RecoveryPlan).decode


class RecoveryStore:
    """Reads accepted plans and fills the batches that add them."""

    def __init__(self, store: KeyValueStore) -> None:
        self._store = store

    def add(self, batch: Batch, plan: RecoveryPlan) -> None:
        """Add a plan that was verified; the batch must be written with ``sync``."""
        batch.put(plan_key(plan.era), _encode(plan))

    def plan(self, era: Era) -> RecoveryPlan | None:
        """Return the plan that opens an era; None if none was accepted."""
        data = self._store.get(plan_key(era))
        return None if data is None else self._decoded(data)

    def plans(self) -> Iterator[RecoveryPlan]:
        """Iterate over all plans, oldest era first."""
        for _, data in self._store.iterate(*whole(PLAN)):
            yield self._decoded(data)

    def latest(self) -> RecoveryPlan | None:
        """Return the plan of the highest era; None if there is none."""
        for _, data in self._store.iterate(*whole(PLAN), limit=1, reverse=True):
            return self._decoded(data)
        return None

    def _decoded(self, data: bytes) -> RecoveryPlan:
        try:
            return _decode(data)
        except msgspec.MsgspecError as error:
            raise StoreCorrupt(self._store.path, "a recovery plan", str(error)) from error
