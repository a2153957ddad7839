"""Counting votes: from single votes to certificates and evidence.

Votes that arrive on their voter's own channel are counted unverified; signatures are checked only
when a quorum seems to be reached or a fault is to be proved. An accepted vote is never overwritten,
and every view keeps at most one vote per voter and kind, so memory is bounded by views times
voters. Normative text: ``docs/protocol-consensus.md``, Votes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from consensus.certificates import make_certificate
from consensus.types import Certificate
from ledger.evidence import are_conflicting
from ledger.types import Signature, View
from ledger.validators import ValidatorSet, members_of
from ledger.votes import Value, Vote, VoteKind

KINDS: Final = tuple(VoteKind)

VerifyVote = Callable[[Vote], bool]
"""Checks the signature of a vote of the present epoch."""


@dataclass(slots=True)
class Count:
    """Outcome of counting one vote."""

    certificate: Certificate | None = None
    """Formed by this vote."""
    evidence: tuple[Vote, Vote] | None = None
    """A fault proved by this vote; reported once per voter and view."""
    forgers: list[int] = field(default_factory=list)
    """Voters whose own channel brought a bad signature."""


class _ViewVotes:
    """The votes of one view."""

    __slots__ = ("accused", "by_kind", "masks", "verified", "voters")

    def __init__(self) -> None:
        self.by_kind: dict[VoteKind, dict[int, Vote]] = {kind: {} for kind in KINDS}
        self.masks: dict[tuple[VoteKind, Value], int] = {}
        self.voters: dict[VoteKind, int] = dict.fromkeys(KINDS, 0)
        self.verified: dict[VoteKind, int] = dict.fromkeys(KINDS, 0)
        self.accused = 0

    def store(self, vote: Vote, verified: bool) -> None:
        self.by_kind[vote.kind][vote.voter] = vote
        self.voters[vote.kind] |= 1 << vote.voter
        key = (vote.kind, vote.value)
        self.masks[key] = self.masks.get(key, 0) | 1 << vote.voter
        if verified:
            self.verified[vote.kind] |= 1 << vote.voter

    def drop(self, vote: Vote) -> None:
        del self.by_kind[vote.kind][vote.voter]
        self.voters[vote.kind] &= ~(1 << vote.voter)
        self.masks[vote.kind, vote.value] &= ~(1 << vote.voter)

    def is_verified(self, vote: Vote) -> bool:
        return bool(self.verified[vote.kind] >> vote.voter & 1)


class Tally:
    """Votes of the views that are not decided, and the certificates that they form."""

    __slots__ = ("_validators", "_verify", "_views")

    def __init__(self, validators: ValidatorSet, verify: VerifyVote) -> None:
        self._validators = validators
        self._verify = verify
        self._views: dict[View, _ViewVotes] = {}

    def count(self, vote: Vote, *, verified: bool, certify: bool) -> Count:
        """Count one well-formed vote; look for a quorum only if ``certify``.

        A vote that was counted before is harmless, and the quorum is looked for again: after a
        restart the own vote may be the one that completes it.
        """
        votes = self._views.get(vote.view)
        if votes is None:
            votes = self._views[vote.view] = _ViewVotes()
        outcome = Count()
        accepted = self._settle_conflicts(votes, vote, verified, outcome)
        if accepted is None:
            return outcome
        if vote.voter not in votes.by_kind[vote.kind]:
            votes.store(vote, accepted)
        if certify:
            outcome.certificate = self._certify(votes, vote.kind, vote.value, outcome)
        return outcome

    def mask(self, view: View, kind: VoteKind) -> int:
        """Return the voters of this kind in this view, whatever they voted for, as a bit mask."""
        votes = self._views.get(view)
        return 0 if votes is None else votes.voters[kind]

    def contradicts(self, vote: Vote) -> bool:
        """Tell whether a vote that is held proves with this one that their voter is faulty."""
        votes = self._views.get(vote.view)
        if votes is None:
            return False
        held = (votes.by_kind[kind].get(vote.voter) for kind in KINDS)
        return any(other is not None and are_conflicting(other, vote) for other in held)

    def has_verified(self, certificate: Certificate, voter: int, signature: Signature) -> bool:
        """Tell whether this signature under the certificate's statement was verified as a vote."""
        votes = self._views.get(certificate.view)
        vote = None if votes is None else votes.by_kind[certificate.kind].get(voter)
        return (
            votes is not None
            and vote is not None
            and vote.signature == signature
            and vote.value == certificate.value
            and votes.is_verified(vote)
        )

    def forget(self, view: View) -> None:
        """Drop the votes of all views up to ``view``."""
        for old in [v for v in self._views if v <= view]:
            del self._views[old]

    def __len__(self) -> int:
        return sum(len(kind) for votes in self._views.values() for kind in votes.by_kind.values())

    def _settle_conflicts(
        self, votes: _ViewVotes, vote: Vote, verified: bool, outcome: Count
    ) -> bool | None:
        """Compare with the voter's other votes; return whether it is verified, None to drop it."""
        for kind in KINDS:
            held = votes.by_kind[kind].get(vote.voter)
            if held is None or not are_conflicting(held, vote):
                continue
            if votes.accused >> vote.voter & 1:
                return None
            if not verified and not self._verify(vote):
                outcome.forgers.append(vote.voter)
                return None
            verified = True
            if votes.is_verified(held) or self._verify(held):
                votes.verified[held.kind] |= 1 << held.voter
                votes.accused |= 1 << vote.voter
                outcome.evidence = (held, vote)
                return None
            votes.drop(held)
            outcome.forgers.append(vote.voter)
        return verified

    def _certify(
        self, votes: _ViewVotes, kind: VoteKind, value: Value, outcome: Count
    ) -> Certificate | None:
        """Return a certificate if the voters for this value are a quorum of valid signatures."""
        mask = votes.masks.get((kind, value), 0)
        if not self._validators.has_quorum(mask):
            return None
        for voter in members_of(mask & ~votes.verified[kind]):
            vote = votes.by_kind[kind][voter]
            if self._verify(vote):
                votes.verified[kind] |= 1 << voter
            else:
                votes.drop(vote)
                outcome.forgers.append(voter)
        mask = votes.masks[kind, value]
        if not self._validators.has_quorum(mask):
            return None
        return make_certificate(
            self._validators, (votes.by_kind[kind][voter] for voter in members_of(mask))
        )
