"""The voting rules of ``docs/protocol-consensus.md``, as small as they can be said.

Independent of ``consensus/`` on purpose: the model checks the protocol, not its implementation.
Every rule is a field of :class:`Rules`, so that the model can be run without it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import NamedTuple


class Kind(Enum):
    """The three statements."""

    NOTARIZE = "NOTARIZE"
    NULLIFY = "NULLIFY"
    FINALIZE = "FINALIZE"


class Block(NamedTuple):
    """A block; two with the same parent, view and kind differ in their variant."""

    parent: Block | None
    """None only for genesis."""
    epoch: int
    view: int
    """In which it was first proposed."""
    variant: int
    is_boundary: bool

    @property
    def height(self) -> int:
        """Number of ancestors."""
        return 0 if self.parent is None else self.parent.height + 1

    def __str__(self) -> str:
        if self.parent is None:
            return "genesis"
        sort = "B" if self.is_boundary else "b"
        return f"{sort}{self.epoch}.{self.view}{'abcdefgh'[self.variant]}"


GENESIS = Block(None, 0, 0, 0, is_boundary=True)
"""Base of the first epoch; every base is a boundary block."""


class Value(NamedTuple):
    """What NOTARIZE and FINALIZE are about."""

    parent_view: int
    block: Block


class Outcome(NamedTuple):
    """Every certificate that can exist in one view."""

    notarized: frozenset[Value] = frozenset()
    finalized: frozenset[Value] = frozenset()
    is_nullified: bool = False

    @property
    def is_open(self) -> bool:
        """Whether there is no certificate, so that nobody can enter the next view."""
        return not (self.notarized or self.finalized or self.is_nullified)

    @property
    def certified(self) -> frozenset[Value]:
        """What a child may be built on (A2)."""
        return self.notarized | self.finalized


History = tuple[Outcome, ...]
"""The outcomes of the views 1, 2, ... of one epoch."""


@dataclass(frozen=True)
class Rules:
    """The protocol; a field that is False is a rule that was left out."""

    is_strictly_above_two_thirds: bool = True
    chambers_bind: frozenset[Kind] = frozenset(Kind)
    """Kinds of certificate that need half of each chamber."""
    nullified_bars_finalize: bool = True
    finalized_bars_nullify: bool = True
    one_notarize_per_view: bool = True
    notarize_and_finalize_agree: bool = True
    notarize_permits_nullify: bool = True
    finalize_needs_notarization: bool = True
    a2_parent_is_certified: bool = True
    a3_every_view_between_is_nullified: bool = True
    boundary_is_proposed_again: bool = True
    """Instead of being extended in its own epoch."""
    epoch_opens_at_finalize: bool = True
    """Instead of at the notarization of the boundary block."""


RULES = Rules()


def in_order(values: Iterable[Value]) -> list[Value]:
    """Return values in an order that does not depend on hashes."""
    return sorted(values, key=lambda v: (v.parent_view, str(v.block), str(v.block.parent)))


Vote = tuple[Kind, int]
"""Kind, and which of the values in play (0 for NULLIFY)."""

Record = frozenset[Vote]
"""All votes of one validator in one view."""


class Committee(NamedTuple):
    """How many members each chamber has, and how many of them are traitors."""

    government: int
    commercial: int
    government_traitors: int = 0
    commercial_traitors: int = 0

    @property
    def honest(self) -> tuple[int, int]:
        """Honest members of each chamber."""
        return (
            self.government - self.government_traitors,
            self.commercial - self.commercial_traitors,
        )

    @property
    def size(self) -> int:
        """All members."""
        return self.government + self.commercial

    @property
    def least_overlap(self) -> int:
        """Members that two quorums share at least, by their number alone: 2q - n."""
        return 2 * (2 * self.size // 3 + 1) - self.size

    def is_quorum(self, rules: Rules, kind: Kind, government: int, commercial: int) -> bool:
        """Tell whether so many voters of each chamber make a certificate."""
        total, size = government + commercial, self.size
        enough = 3 * total > 2 * size
        if not rules.is_strictly_above_two_thirds:
            enough = 3 * total >= 2 * size
        halves = 2 * government >= self.government and 2 * commercial >= self.commercial
        return enough and (halves or kind not in rules.chambers_bind)

    def certifies(
        self, rules: Rules, kind: Kind, voters: tuple[int, int], *, with_traitors: bool = True
    ) -> bool:
        """Tell whether these honest voters, with the traitors' help or without, are a quorum."""
        helpers = (self.government_traitors, self.commercial_traitors)
        more = helpers if with_traitors else (0, 0)
        return self.is_quorum(rules, kind, voters[0] + more[0], voters[1] + more[1])

    def __str__(self) -> str:
        traitors = self.government_traitors, self.commercial_traitors
        return f"({self.government},{self.commercial}) with {traitors[0]}+{traitors[1]} traitors"


def permits(rules: Rules, record: Record, vote: Vote) -> bool:
    """The signing guard: tell whether an honest validator with this record may add a vote."""
    kind, choice = vote
    has_nullified = (Kind.NULLIFY, 0) in record
    finalized = {c for k, c in record if k is Kind.FINALIZE}
    notarized = {c for k, c in record if k is Kind.NOTARIZE}
    if kind is Kind.NULLIFY:
        if notarized and not rules.notarize_permits_nullify:
            return False
        return not (finalized and rules.finalized_bars_nullify)
    if has_nullified and (kind is Kind.NOTARIZE or rules.nullified_bars_finalize):
        return False
    same, other = (notarized, finalized) if kind is Kind.NOTARIZE else (finalized, notarized)
    if other - {choice} and rules.notarize_and_finalize_agree:
        return False
    return not (same - {choice} and (rules.one_notarize_per_view or kind is Kind.FINALIZE))


def is_conflicting(record: Record) -> bool:
    """Tell whether a record holds two votes that are evidence against their voter (EV1)."""
    values = {choice for kind, choice in record if kind is not Kind.NULLIFY}
    kinds = {kind for kind, _ in record}
    return len(values) > 1 or {Kind.NULLIFY, Kind.FINALIZE} <= kinds


@cache
def records(rules: Rules, values: int) -> tuple[Record, ...]:
    """Return every record that the guard lets an honest validator reach, values in play given."""
    votes = [(Kind.NULLIFY, 0)]
    votes += [(kind, v) for kind in (Kind.NOTARIZE, Kind.FINALIZE) for v in range(values)]
    found: dict[Record, None] = {frozenset(): None}
    frontier = list(found)
    while frontier:
        record = frontier.pop()
        for vote in votes:
            if vote not in record and permits(rules, record, vote):
                grown = record | {vote}
                if grown not in found:
                    found[grown] = None
                    frontier.append(grown)
    return tuple(found)


def parents(rules: Rules, epoch: int, base: Block, history: History) -> list[tuple[int, Block]]:
    """Return what a block of the next view may stand on: A1, A2, A3. View and block."""
    found: list[tuple[int, Block]] = []
    for parent_view in range(len(history), 0, -1):
        outcome = history[parent_view - 1]
        found += [(parent_view, value.block) for value in in_order(outcome.certified)]
        if not rules.a2_parent_is_certified:
            rumours = [Block(base, epoch, parent_view, variant, False) for variant in (0, 1)]
            found += [(parent_view, b) for b in rumours if (parent_view, b) not in found]
        if not outcome.is_nullified and rules.a3_every_view_between_is_nullified:
            return found
    return [*found, (0, base)]


def acceptable(
    rules: Rules, epoch: int, base: Block, history: History, variants: int = 2
) -> list[Value]:
    """Return the values that a validator accepts in the next view; variants of each sort."""
    view = len(history) + 1
    found = []
    for parent_view, parent in parents(rules, epoch, base, history):
        if parent.is_boundary and parent != base and rules.boundary_is_proposed_again:
            found.append(Value(parent_view, parent))
            continue
        found += [
            Value(parent_view, Block(parent, epoch, view, variant, is_boundary=boundary))
            for boundary in (False, True)
            for variant in range(variants)
        ]
    return found
