"""Invariants of single votes and certificates: I2 to I6, and V."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from consensus.types import Proposal
from ledger.votes import Round, VoteKind
from storage.schema import (
    BLOCK_HEIGHT,
    HEAD_KEY,
    PROPOSAL,
    SIGN_FLOOR_KEY,
    VIEW_CERTIFICATE,
    VOTE,
    decode_height,
    decode_round,
    round_key,
)
from tests.simulation.invariants.registry import Violation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consensus.types import Certificate
    from ledger.types import Digest
    from ledger.votes import Vote
    from tests.simulation.invariants.knowledge import Knowledge
    from tests.simulation.invariants.registry import Statement, ViewKey
    from tests.simulation.node import Node

_encode = msgspec.msgpack.Encoder().encode
_decode_proposal = msgspec.msgpack.Decoder(Proposal).decode


class I2TrueCertificates:
    """Every certificate that a node accepts, makes, stores or relays is a true quorum."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._registry = knowledge.registry
        self._checked: set[tuple[ViewKey, Statement, bytes]] = set()

    def on_certificate(self, node: Node, certificate: Certificate) -> None:
        """Compare the bitmap with who has signed the statement."""
        key = (certificate.era, certificate.epoch, certificate.view)
        statement = (certificate.kind, certificate.value)
        if (key, statement, certificate.bitmap) in self._checked:
            return
        mask = int.from_bytes(certificate.bitmap, "little")
        signed = self._registry.statements[key].get(statement, 0)
        if mask & ~signed or not self._registry.is_quorum(key[:2], mask):
            raise Violation(
                "I2", f"node {node.index} holds a false certificate: {statement} in {key}, {mask:b}"
            )
        self._checked.add((key, statement, certificate.bitmap))


class I3NoConflictingVotes:
    """No honest validator signs a conflicting pair; every vote that may be seen is registered."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._registry = knowledge.registry

    def register(self, votes: Sequence[Vote]) -> None:
        """Register votes that are on disk or on their way."""
        for vote in votes:
            key = (vote.era, vote.epoch, vote.view)
            self._registry.add(key, vote.voter, (vote.kind, vote.value))


class I4DurableFirst:
    """Nothing leaves a node before what it rests on is synced."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    def on_vote(self, node: Node, vote: Vote) -> None:
        """Look for the vote, its block and its certificate in the durable image."""
        if node.key is None or self._knowledge.voter(vote) != node.key.public_key:
            raise Violation("I4", f"node {node.index} sends a vote of {vote.voter}")
        durable = node.disk.durable
        at = Round(vote.era, vote.epoch, vote.view)
        floor = durable.get(SIGN_FLOOR_KEY)
        if floor is not None and decode_round(floor) >= at:
            return  # settled: the votes up to the floor may be forgotten (P5)
        if durable.get(round_key(VOTE, at, vote.kind)) != _encode(vote):
            raise Violation("I4", f"node {node.index} sends an unsynced {vote.kind.name} vote")
        if vote.kind is VoteKind.NULLIFY:
            return
        if not self._has_body(node, vote.value.block_hash):
            raise Violation("I4", f"node {node.index} votes {vote.kind.name} without a synced body")
        is_final = vote.kind is VoteKind.FINALIZE
        if is_final and round_key(VIEW_CERTIFICATE, at, VoteKind.NOTARIZE) not in durable:
            raise Violation("I4", f"node {node.index} votes FINALIZE, notarization not synced")

    def on_proposal(self, node: Node, proposal: Proposal) -> None:
        """Look for an own proposal in the durable image."""
        self.on_vote(node, proposal.leader_vote)
        durable = node.disk.durable
        at = Round(proposal.era, proposal.epoch, proposal.view)
        floor = durable.get(SIGN_FLOOR_KEY)
        if floor is not None and decode_round(floor) >= at:
            return
        stored = durable.get(round_key(PROPOSAL, at))
        # What it proves itself with may be newer than what was stored.
        if stored is None or _decode_proposal(stored).leader_vote != proposal.leader_vote:
            raise Violation("I4", f"node {node.index} sends an unsynced proposal")

    def _has_body(self, node: Node, digest: Digest) -> bool:
        durable = node.disk.durable
        if BLOCK_HEIGHT + digest in durable:
            return True
        # Of a settled height only the final block is kept.
        header = self._knowledge.headers.get(digest)
        head = durable.get(HEAD_KEY)
        return header is not None and head is not None and header.height <= decode_height(head)


class I5FinalizeAfterNotarization:
    """A FINALIZE vote has a notarization of its value."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._registry = knowledge.registry

    def on_vote(self, node: Node, vote: Vote) -> None:
        """Look for a quorum that notarized the same value in the same view."""
        key = (vote.era, vote.epoch, vote.view)
        if vote.kind is VoteKind.FINALIZE and not self._registry.has(
            key, VoteKind.NOTARIZE, vote.value
        ):
            raise Violation("I5", f"node {node.index} votes FINALIZE in {key}: no notarization")


class I6Ancestry:
    """Skipped views between parent and child have a nullification, the parent a notarization."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    def on_vote(self, node: Node, vote: Vote) -> None:
        """Check the path of views of a NOTARIZE vote."""
        if vote.kind is not VoteKind.NOTARIZE:
            return
        knowledge = self._knowledge
        registry = knowledge.registry
        header = knowledge.headers[vote.value.block_hash]
        parent_view = vote.value.parent_view
        for view in range(parent_view + 1, vote.view):
            if not registry.is_nullified((vote.era, vote.epoch, view)):
                raise Violation("I6", f"node {node.index} skips view {view} before {vote.view}")
        if parent_view == 0:
            if header.parent_hash != knowledge.bases.get((vote.era, vote.epoch)):
                raise Violation("I6", f"node {node.index}: parent of {vote.view} is not the base")
            return
        certified = registry.certified[vote.era, vote.epoch, parent_view]
        wanted = self._certified_parent(vote)
        if not any(value.block_hash in wanted for _, value in certified):
            raise Violation("I6", f"node {node.index}: parent of {vote.view} is not certified")

    def _certified_parent(self, vote: Vote) -> tuple[Digest, ...]:
        """Return what may be certified in the parent's view: a re-proposed block its own parent."""
        header = self._knowledge.headers[vote.value.block_hash]
        if header.view < vote.view:
            return (vote.value.block_hash,)
        return (header.parent_hash,)


class VNoInvalidBlock:
    """An honest validator notarizes no block that breaks a rule."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._corrupted = knowledge.corrupted
        self._forbidden = knowledge.forbidden

    def on_vote(self, node: Node, vote: Vote) -> None:
        """Compare with what forgers made."""
        if vote.kind is VoteKind.NOTARIZE:
            value = vote.value
            corruption = self._corrupted.get(value.block_hash) or self._forbidden.get(value)
            if corruption is not None:
                raise Violation("V", f"node {node.index} notarizes a block with {corruption}")
