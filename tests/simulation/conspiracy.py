"""What the Byzantine validators of a run know together: votes, certificates, transactions."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from consensus.types import Certificate, CertificateMessage, Proposal
from ledger.block import Block, Header
from ledger.transaction import wire_hash
from ledger.types import Digest, View
from ledger.votes import Value, Vote, VoteKind
from p2p.messages import Message, TransactionBatch

if TYPE_CHECKING:
    from tests.simulation.world import Place, World


class Conspiracy:
    """What the Byzantine validators of a run know together, about the newest epoch."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.blocks: dict[Digest, Block] = {}
        self.wires: dict[Digest, bytes] = {}
        self._headers: dict[Digest, Header] = {}
        self.open_epoch((0, 0), world.universe.header, world.universe.header_hash)

    def open_epoch(self, place: Place, base: Header, base_hash: Digest) -> None:
        """Turn to the next epoch: forget votes and certificates of the one before."""
        self.place = place
        self.base_hash = base_hash
        self.proposals: dict[View, list[Proposal]] = defaultdict(list)
        self.certificates: dict[tuple[View, VoteKind], Certificate] = {}
        self.view = View(1)
        """One above the highest certified view."""
        self._votes: dict[tuple[View, VoteKind, Value], dict[int, Vote]] = defaultdict(dict)
        self._headers[base_hash] = base

    def header(self, digest: Digest) -> Header | None:
        return self._headers.get(digest)

    def add_block(self, block: Block) -> Digest:
        """Remember a forged block."""
        digest = self.world.checker.knowledge.add_block(block.header)
        self.blocks[digest] = block
        self._headers[digest] = block.header
        return digest

    def learn(self, message: Message) -> None:
        """Take in what one of the conspirators received or signed."""
        if isinstance(message, Vote):
            self._learn_vote(message)
        elif isinstance(message, Proposal):
            self._learn_proposal(message)
        elif isinstance(message, CertificateMessage):
            for certificate in message.certificates:
                self._learn_certificate(certificate)
        elif isinstance(message, TransactionBatch):
            for wire in message.wires:
                self.wires.setdefault(wire_hash(wire), wire)

    def parents(self, view: View) -> list[tuple[View, Certificate | None]]:
        """Return the views whose block a proposal for ``view`` may extend, highest first."""
        found: list[tuple[View, Certificate | None]] = []
        for below in range(view - 1, 0, -1):
            notarization = self.certificates.get((View(below), VoteKind.NOTARIZE))
            if notarization is not None and self.header(notarization.value.block_hash):
                found.append((View(below), notarization))
            if (View(below), VoteKind.NULLIFY) not in self.certificates:
                return found
        return [*found, (View(0), None)]

    def forbidden_parents(self, view: View) -> list[tuple[View, Certificate | None]]:
        """Return certified views that lie below a view which is not nullified (A3 forbids them)."""
        allowed = {parent for parent, _ in self.parents(view)}
        notarized = sorted(v for v, kind in self.certificates if kind is VoteKind.NOTARIZE)
        return [
            (below, self.certificates[below, VoteKind.NOTARIZE])
            for below in notarized[-4:]
            if below < view and below not in allowed
        ]

    def skips(self, parent: View, view: View) -> tuple[Certificate, ...]:
        """Return the nullifications between two views."""
        keys = ((View(skipped), VoteKind.NULLIFY) for skipped in range(parent + 1, view))
        return tuple(self.certificates[key] for key in keys if key in self.certificates)[:64]

    def _learn_proposal(self, proposal: Proposal) -> None:
        if (proposal.era, proposal.epoch) != self.place:
            return
        known = self.proposals[proposal.view]
        if proposal not in known and len(known) < 4:
            known.append(proposal)
            self._headers.setdefault(proposal.value.block_hash, proposal.header)
        self._learn_vote(proposal.leader_vote)
        for certificate in (proposal.parent_certificate, proposal.finalization, *proposal.skips):
            if certificate is not None:
                self._learn_certificate(certificate)

    def _learn_certificate(self, certificate: Certificate) -> None:
        if (certificate.era, certificate.epoch) != self.place:
            return
        self.certificates.setdefault((certificate.view, certificate.kind), certificate)
        self.view = max(self.view, View(certificate.view + 1))

    def _learn_vote(self, vote: Vote) -> None:
        members = self.world.members(self.place)
        if (vote.era, vote.epoch) != self.place or not 0 <= vote.voter < members.size:
            return
        votes = self._votes[vote.view, vote.kind, vote.value]
        if vote.voter in votes or (vote.view, vote.kind) in self.certificates:
            return
        votes[vote.voter] = vote
        if 3 * len(votes) <= 2 * members.size:
            return
        mask = sum(1 << voter for voter in votes)
        if self.world.checker.knowledge.registry.is_quorum(self.place, mask):
            self._learn_certificate(assemble(votes, members.bitmap_bytes))


def assemble(votes: dict[int, Vote], bitmap_bytes: int) -> Certificate:
    """Make a certificate out of matching votes of different voters."""
    voters = sorted(votes)
    first = votes[voters[0]]
    bitmap = sum(1 << voter for voter in voters).to_bytes(bitmap_bytes, "little")
    signatures = b"".join(votes[voter].signature for voter in voters)
    return Certificate(
        first.kind, first.era, first.epoch, first.view, first.value, bitmap, signatures
    )
