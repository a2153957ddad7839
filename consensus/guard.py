"""The signing guard: the only code that may sign a vote.

Safety rests on what a validator remembers about a view: the value it voted for, and whether it gave
the view up. :meth:`Guard.cast` consults that memory, and the engine writes each new vote to disk
before it leaves the node. A remote signer would implement exactly this class over its own durable
store. Normative text: ``docs/protocol-consensus.md``, Signing guard.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ledger.types import Digest, Epoch, Era, View
from ledger.votes import NULL_VALUE, Round, Sign, Value, Vote, VoteKind, vote_signing_bytes


class Guard:
    """Own votes of one epoch and the permission to add to them.

    Invariants, for every view: at most one value over NOTARIZE and FINALIZE; never both NULLIFY and
    FINALIZE; nothing new at or below ``floor``. A vote once made is returned again, byte for byte.
    """

    __slots__ = ("_chain_id", "_epoch", "_era", "_sign", "_votes", "floor", "me", "silent")

    def __init__(
        self,
        chain_id: Digest,
        era: Era,
        epoch: Epoch,
        me: int | None,
        sign: Sign | None,
        floor: Round,
        votes: Iterable[Vote],
    ) -> None:
        self._chain_id: Final = chain_id
        self._era: Final = era
        self._epoch: Final = epoch
        self._sign: Final = sign
        self.me: Final = me
        self.floor = floor
        """Never sign at or below this round."""
        self.silent = False
        """Sign nothing: quarantined or halted."""
        self._votes: dict[View, dict[VoteKind, Vote]] = {}
        for vote in votes:
            if (vote.era, vote.epoch, vote.voter) == (era, epoch, me):
                self._votes.setdefault(vote.view, {})[vote.kind] = vote

    def may_vote(self, view: View) -> bool:
        """Tell whether this node votes at all in this view."""
        return (
            not self.silent
            and self.me is not None
            and self._sign is not None
            and Round(self._era, self._epoch, view) > self.floor
        )

    def permits(self, kind: VoteKind, view: View, value: Value) -> bool:
        """Tell whether a vote may be made: the whole rule of what is ever signed."""
        if not self.may_vote(view):
            return False
        mine = self._votes.get(view, {})
        if kind is VoteKind.NULLIFY:
            return value == NULL_VALUE and VoteKind.FINALIZE not in mine
        return VoteKind.NULLIFY not in mine and all(vote.value == value for vote in mine.values())

    def cast(self, kind: VoteKind, view: View, value: Value) -> Vote | None:
        """Return the signed vote and remember it, or None if it is not permitted."""
        if not self.permits(kind, view, value):
            return None
        mine = self._votes.setdefault(view, {})
        if kind not in mine:
            assert self._sign is not None
            assert self.me is not None
            message = vote_signing_bytes(self._chain_id, kind, self._era, self._epoch, view, value)
            mine[kind] = Vote(
                kind, self._era, self._epoch, view, value, self.me, self._sign(message)
            )
        return mine[kind]

    def made(self, view: View, kind: VoteKind) -> Vote | None:
        """Return the own vote of this kind in this view."""
        mine = self._votes.get(view)
        return None if mine is None else mine.get(kind)

    def votes(self, view: View) -> tuple[Vote, ...]:
        """Return the own votes in this view, by kind."""
        mine = self._votes.get(view, {})
        return tuple(mine[kind] for kind in sorted(mine))

    @property
    def views(self) -> list[View]:
        """Views with own votes, oldest first."""
        return sorted(self._votes)

    def raise_floor(self, floor: Round) -> None:
        """Never sign at or below ``floor`` again."""
        self.floor = max(self.floor, floor)

    def forget(self, view: View) -> None:
        """Drop votes at or below ``view``, which the floor protects from now on (rule P5)."""
        self.raise_floor(Round(self._era, self._epoch, view))
        for old in [v for v in self._votes if v <= view]:
            del self._votes[old]
