"""Who signed what: every statement that could be in a certificate, over all epochs.

The registry counts quorums by the members of each epoch's set and finds what two statements may not
both be; it knows nothing of engines and messages.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledger.validators import Chamber
from ledger.votes import Value, VoteKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger.validators import Validator

Statement = tuple[VoteKind, Value]
EpochKey = tuple[int, int]
"""(era, epoch)."""

ViewKey = tuple[int, int, int]
"""(era, epoch, view)."""


class Violation(Exception):
    """An invariant does not hold."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Electorate:
    """The members of one epoch as masks: bit i is member i in the order of consensus keys."""

    everybody: int
    chambers: tuple[int, ...]
    byzantine: int

    def is_quorum(self, mask: int) -> bool:
        """Count: more than two thirds of all, at least half of each chamber."""
        if mask & ~self.everybody or mask.bit_count() * 3 <= self.everybody.bit_count() * 2:
            return False
        return all((mask & c).bit_count() * 2 >= c.bit_count() for c in self.chambers)


def electorate(members: Sequence[Validator], byzantine: frozenset[bytes]) -> Electorate:
    """Return the masks of a set; ``byzantine`` are consensus keys."""
    ordered = sorted(members, key=lambda member: member.consensus_key)
    chambers = (
        sum(1 << i for i, member in enumerate(ordered) if member.chamber is chamber)
        for chamber in Chamber
    )
    traitors = sum(1 << i for i, member in enumerate(ordered) if member.consensus_key in byzantine)
    return Electorate((1 << len(ordered)) - 1, tuple(c for c in chambers if c), traitors)


class Registry:
    """Every statement that could be in a certificate, with the mask of those that signed it."""

    def __init__(self) -> None:
        self.epochs: dict[EpochKey, Electorate] = {}
        self.statements: defaultdict[ViewKey, dict[Statement, int]] = defaultdict(dict)
        self.certified: defaultdict[ViewKey, set[Statement]] = defaultdict(set)
        self._by_voter: defaultdict[tuple[ViewKey, int], set[Statement]] = defaultdict(set)

    def is_quorum(self, epoch: EpochKey, mask: int) -> bool:
        """Count in the set of an epoch; False for an epoch that nobody opened."""
        known = self.epochs.get(epoch)
        return known is not None and known.is_quorum(mask)

    def add(self, key: ViewKey, voter: int, statement: Statement) -> None:
        """Record that a validator's signature over a statement exists outside its node (I2, I3)."""
        known = self.statements[key]
        mask = known.get(statement, 0)
        if mask >> voter & 1:
            return
        known[statement] = mask | 1 << voter
        own = self._by_voter[key, voter]
        members = self.epochs.get(key[:2])
        if members is None or not members.byzantine >> voter & 1:
            for other in own:
                if are_conflicting(statement, other):
                    raise Violation(
                        "I3", f"validator {voter} signed {statement} and {other} in {key}"
                    )
        own.add(statement)
        if statement not in self.certified[key] and self.is_quorum(key[:2], known[statement]):
            self._certify(key, statement)

    def has(self, key: ViewKey, kind: VoteKind, value: Value) -> bool:
        """Say whether a quorum has made the statement."""
        return (kind, value) in self.certified[key]

    def is_nullified(self, key: ViewKey) -> bool:
        """Say whether a quorum has given the view up."""
        return any(kind is VoteKind.NULLIFY for kind, _ in self.certified[key])

    def _certify(self, key: ViewKey, statement: Statement) -> None:
        self.certified[key].add(statement)
        values = {value for kind, value in self.certified[key] if kind is not VoteKind.NULLIFY}
        kinds = {kind for kind, _ in self.certified[key]}
        if len(values) > 1:
            raise Violation("I2", f"L1: two values can be certified in view {key}: {values}")
        if VoteKind.NULLIFY in kinds and VoteKind.FINALIZE in kinds:
            raise Violation("I2", f"L2: view {key} can be both nullified and finalised")


def are_conflicting(first: Statement, second: Statement) -> bool:
    """Say whether no honest validator signs both about one view."""
    kinds = {first[0], second[0]}
    if VoteKind.NULLIFY in kinds:
        return VoteKind.FINALIZE in kinds
    return first[1] != second[1]
