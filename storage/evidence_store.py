"""Proofs that validators signed against themselves, until somebody asks for them.

Evidence is reported on chain, gossiped and shown to operators; none of that must depend on the
process that saw it staying up. One proof per validator and epoch is kept: it is enough for
everything that follows, and it bounds what an equivocator can make others store, however often it
signs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ledger.votes import Vote
from storage.errors import StoreCorrupt
from storage.schema import EVIDENCE, evidence_key, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storage.kv import Batch, KeyValueStore


class Evidence(NamedTuple):
    """Two votes of one validator in one view that an honest one never signs together."""

    first: Vote
    second: Vote


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[Vote, Vote]).decode


class EvidenceStore:
    """Reads proofs and fills the batches that add them."""

    def __init__(self, store: KeyValueStore) -> None:
        self._store = store

    def add(self, batch: Batch, evidence: Evidence) -> None:
        """Add a proof that was verified; it takes the place of one of the same voter and epoch."""
        vote = evidence.first
        batch.put(evidence_key(vote.era, vote.epoch, vote.voter), _encode(evidence))

    def all(self) -> Iterator[Evidence]:
        """Iterate over all proofs, by era, epoch and voter."""
        for _, data in self._store.iterate(*whole(EVIDENCE)):
            try:
                yield Evidence(*_decode(data))
            except msgspec.MsgspecError as error:
                raise StoreCorrupt(self._store.path, "evidence", str(error)) from error
