"""What is known about peers: who is connected, who was heard, and who has seen which certificates.

Nothing here influences safety. Certificates are relayed only to peers that have not shown that they
know them, answers are limited so that no peer can make this node talk without end, and a leader
that cannot be heard is not waited for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from consensus.inputs import PeerId
from consensus.types import Certificate
from ledger.types import View
from ledger.validators import ValidatorSet, members_of
from ledger.votes import VoteKind

REPLIES_MAX: Final = 16
"""Answers to one peer within a quarter of the retry period: a page of every kind and some votes."""


NO_VIEW: Final = View(0)
"""Below every view."""


@dataclass(slots=True)
class _Peer:
    """A connected peer."""

    index: int | None
    """In the validator set; None for an observer."""
    spoke: View = NO_VIEW
    """Highest view of its own NOTARIZE and NULLIFY votes: it knows how the view before ended."""
    notarized: View = NO_VIEW
    """Highest view of whose notarization it knows."""
    finalized: View = NO_VIEW
    """Highest view of whose finalization it knows."""
    window_ms: int = 0
    """Start of the present window of answers."""
    answered: set[tuple[str, View]] = field(default_factory=set)
    """Answers given in the window."""


class PeerBook:
    """Connected peers of one engine."""

    __slots__ = ("_heard_ms", "_me", "_peers", "_validators")

    def __init__(self, validators: ValidatorSet, me: int | None) -> None:
        self._validators = validators
        self._me = me
        self._peers: dict[PeerId, _Peer] = {}
        self._heard_ms: dict[int, int] = {}

    @property
    def all(self) -> tuple[PeerId, ...]:
        """Connected peers in the order of their connection."""
        return tuple(self._peers)

    @property
    def heard_ms(self) -> dict[int, int]:
        """Time of the last sign of life of each validator that gave one."""
        return dict(self._heard_ms)

    @property
    def connected(self) -> int:
        """Connected validators, this node included, as a bit mask."""
        mask = 0 if self._me is None else 1 << self._me
        for peer in self._peers.values():
            if peer.index is not None:
                mask |= 1 << peer.index
        return mask

    def connect(self, peer: PeerId, now_ms: int) -> None:
        """Record an open channel; what the peer had shown before may be lost to it."""
        self._peers[peer] = _Peer(self._validators.index_of_node(peer))
        self.hear(peer, now_ms)

    def disconnect(self, peer: PeerId) -> None:
        """Record a closed channel."""
        self._peers.pop(peer, None)

    def index(self, peer: PeerId) -> int | None:
        """Return the validator behind a channel; None for an observer."""
        return self._validators.index_of_node(peer)

    def hear(self, peer: PeerId, now_ms: int) -> None:
        """Record a sign of life."""
        index = self._validators.index_of_node(peer)
        if index is not None:
            self._heard_ms[index] = now_ms

    def of_members(self, mask: int) -> tuple[PeerId, ...]:
        """Return the connected ones of these validators, or every connected peer if none is."""
        nodes = (PeerId(self._validators[i].node_key) for i in members_of(mask))
        return tuple(node for node in nodes if node in self._peers) or self.all

    def is_inactive(self, index: int, now_ms: int, inactive_ms: int) -> bool:
        """Tell whether this validator cannot be heard although a quorum can."""
        if index == self._me:
            return False
        connected = self.connected
        if not connected >> index & 1:
            return self._validators.has_quorum(connected)
        recent = 0 if self._me is None else 1 << self._me
        for member, heard_ms in self._heard_ms.items():
            if now_ms - heard_ms < inactive_ms:
                recent |= 1 << member
        return not recent >> index & 1 and self._validators.has_quorum(recent)

    def note_vote(self, peer: PeerId, kind: VoteKind, view: View) -> None:
        """Remember what an own vote of the peer shows: it knows how it got there."""
        known = self._peers.get(peer)
        if known is None:
            return
        if kind is VoteKind.FINALIZE:
            known.notarized = max(known.notarized, view)
        else:
            known.spoke = max(known.spoke, view)

    def note_certificate(self, peer: PeerId, certificate: Certificate) -> None:
        """Remember that the peer has shown a certificate."""
        known = self._peers.get(peer)
        if known is None:
            return
        if certificate.kind is VoteKind.FINALIZE:
            known.finalized = max(known.finalized, certificate.view)
        elif certificate.kind is VoteKind.NOTARIZE:
            known.notarized = max(known.notarized, certificate.view)

    def knows(self, peer: PeerId, certificate: Certificate) -> bool:
        """Tell whether the peer has shown that it knows this certificate or does not need it."""
        known = self._peers[peer]
        beyond = max(known.spoke - 1, known.finalized)
        if certificate.kind is VoteKind.NOTARIZE:
            beyond = max(beyond, known.notarized)
        return beyond >= certificate.view

    def may_answer(self, peer: PeerId, what: str, view: View, now_ms: int, window_ms: int) -> bool:
        """Use up the right to one answer of this sort to this peer within the window."""
        known = self._peers.get(peer)
        if known is None:
            return False
        if now_ms - known.window_ms >= window_ms:
            known.window_ms = now_ms
            known.answered.clear()
        key = (what, view)
        if key in known.answered or len(known.answered) >= REPLIES_MAX:
            return False
        known.answered.add(key)
        return True
