"""What a validator must not forget: its own votes, and what they rest on.

``persist`` carries out the engine's ``Persist``: the batch is written with ``sync`` before the
vote leaves, so no peer ever holds a vote that this disk does not. ``store`` carries out ``Store``;
its loss costs a fetch. Votes may be forgotten only below a sign floor that is on disk (rule P5 of
``docs/protocol-consensus.md``): ``prune`` raises the floor in the batch that deletes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from consensus.config import Restored
from consensus.types import Certificate, Proposal
from ledger.types import Epoch, Era, View
from ledger.votes import Round, Vote
from storage.errors import StoreCorrupt
from storage.schema import (
    PROPOSAL,
    QUARANTINE_KEY,
    SIGN_FLOOR_KEY,
    VIEW_CERTIFICATE,
    VOTE,
    decode_round,
    encode_round,
    round_key,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from consensus.effects import Persist, Store
    from ledger.block import Block
    from ledger.types import Digest
    from storage.chain_store import ChainStore
    from storage.kv import Batch, KeyValueStore

CERTIFICATE_VIEWS_KEPT: Final = 1024
"""Certificates stay this many views below the head, for peers that lag and for forensics."""

PRUNED_MAX: Final = 64
"""Keys of one kind that one call deletes. A view leaves at most three, so this keeps up and an old
backlog costs no block more than a tenth of a millisecond."""

NO_ROUND: Final = Round(Era(0), Epoch(0), View(0))
"""Below every round that can be voted in."""

T = TypeVar("T")

_encode = msgspec.msgpack.Encoder().encode
_decode_vote = msgspec.msgpack.Decoder(Vote).decode
_decode_certificate = msgspec.msgpack.Decoder(Certificate).decode
_decode_proposal = msgspec.msgpack.Decoder(Proposal).decode


class VoteStore:
    """Fills batches with votes and certificates, and reads them all back at start."""

    def __init__(self, store: KeyValueStore, chain: ChainStore) -> None:
        self._store = store
        self._chain = chain
        self._floor: Round | None = None
        self._pruned_to: dict[bytes, bytes] = {}

    def persist(self, batch: Batch, effect: Persist, block_of: Callable[[Digest], Block]) -> None:
        """Add everything that must be on disk before a vote leaves; write it with ``sync``.

        ``block_of`` returns the whole block of a hash that the effect names. A new sign floor also
        ends the quarantine: it is what the node had to learn before it may vote again.
        """
        for vote in effect.votes:
            at = Round(vote.era, vote.epoch, vote.view)
            batch.put(round_key(VOTE, at, vote.kind), _encode(vote))
        for digest in effect.blocks:
            self._chain.add_block(batch, digest, block_of(digest))
        self._put_certificates(batch, effect.certificates)
        if effect.proposal is not None:
            proposal = effect.proposal
            at = Round(proposal.era, proposal.epoch, proposal.view)
            batch.put(round_key(PROPOSAL, at), _encode(proposal))
        if effect.sign_floor is not None:
            self._raise_floor(batch, effect.sign_floor)
            batch.delete(QUARANTINE_KEY)

    def store(self, batch: Batch, effect: Store) -> None:
        """Add certificates that peers may ask for; the write need not be synced."""
        self._put_certificates(batch, effect.certificates)

    def sign_floor(self) -> Round:
        """Return the round at or below which this node never signs again."""
        if self._floor is None:
            data = self._store.get(SIGN_FLOOR_KEY)
            self._floor = NO_ROUND if data is None else decode_round(data)
        return self._floor

    def fence(self, batch: Batch, floor: Round) -> None:
        """Raise the sign floor for good, by an operator's decision; write it with ``sync``."""
        self._raise_floor(batch, floor)

    def restore(self, *, nonce: bytes) -> Restored:
        """Return what the engine knew; ``nonce`` is 16 fresh random bytes of this start."""
        head = self._chain.head()
        return Restored(
            finalized=head.header,
            finalization=self._finalization(head.height),
            sign_floor=self.sign_floor(),
            votes=self._all(VOTE, _decode_vote, "a vote"),
            certificates=self._all(VIEW_CERTIFICATE, _decode_certificate, "a certificate"),
            blocks=tuple(block.header for block in self._chain.unfinished()),
            proposals=self._all(PROPOSAL, _decode_proposal, "a proposal"),
            quarantined=self._store.get(QUARANTINE_KEY) is not None,
            nonce=nonce,
        )

    def prune(self, batch: Batch, head: Round) -> None:
        """Forget what the block finalised and executed in ``head`` has settled.

        Belongs into a batch that is written with ``sync`` after that block is on disk, or into the
        one that puts it there.
        """
        self._raise_floor(batch, head)
        after_head = encode_round(Round(head.era, head.epoch, View(head.view + 1)))
        oldest = View(max(head.view - CERTIFICATE_VIEWS_KEPT, 0))
        self._delete(batch, VOTE, after_head)
        self._delete(batch, PROPOSAL, after_head)
        self._delete(batch, VIEW_CERTIFICATE, encode_round(Round(head.era, head.epoch, oldest)))

    def _raise_floor(self, batch: Batch, floor: Round) -> None:
        # Compared with the last batch that was filled, which need not be on disk yet: batches are
        # written in order, so a later one must never carry a lower floor.
        self._floor = max(floor, self.sign_floor())
        batch.put(SIGN_FLOOR_KEY, encode_round(self._floor))

    def _delete(self, batch: Batch, prefix: bytes, end: bytes) -> None:
        # Starts where the last call ended: LevelDB walks over every deleted key until a compaction
        # removes it, which on a quiet chain takes tens of thousands of blocks.
        start, stop = self._pruned_to.get(prefix, prefix), prefix + end
        keys = [key for key, _ in self._store.iterate(start, stop, limit=PRUNED_MAX)]
        for key in keys:
            batch.delete(key)
        self._pruned_to[prefix] = stop if len(keys) < PRUNED_MAX else keys[-1] + b"\0"

    def _finalization(self, height: int) -> Certificate | None:
        found = self._chain.first_certified_at_or_after(height)
        return None if found is None else found[1]

    def _put_certificates(self, batch: Batch, certificates: Iterable[Certificate]) -> None:
        for certificate in certificates:
            at = Round(certificate.era, certificate.epoch, certificate.view)
            batch.put(round_key(VIEW_CERTIFICATE, at, certificate.kind), _encode(certificate))

    def _all(self, prefix: bytes, decode: Callable[[bytes], T], what: str) -> tuple[T, ...]:
        try:
            return tuple(decode(data) for _, data in self._store.iterate(*whole(prefix)))
        except msgspec.MsgspecError as error:
            raise StoreCorrupt(self._store.path, what, str(error)) from error
