"""Liveness in the small: from every state, with honest messages delivered, a block can be final.

A state is what honest validators know together: a certificate that needed traitors may or may not
have been shown to one of them. Once everything is delivered they share one view, the first without
a known certificate. Then the traitors say no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import chain, combinations
from typing import NamedTuple

from tests.model.explorer import Epoch as EpochRun
from tests.model.explorer import Indexed, Profile, certificates, in_play, opened_by, profiles
from tests.model.rules import (
    GENESIS,
    Block,
    Committee,
    History,
    Kind,
    Outcome,
    Record,
    Rules,
    acceptable,
    permits,
    records,
)


class Liveness(NamedTuple):
    """Result of a search."""

    states: int
    dead: str | None
    """A state from which nothing can become final, for people."""


def _subsets(of: frozenset[int], least: frozenset[int]) -> Iterator[frozenset[int]]:
    rest = sorted(of - least)
    every = chain.from_iterable(combinations(rest, size) for size in range(len(rest) + 1))
    yield from (least | set(more) for more in every)


@cache
def known(rules: Rules, committee: Committee, values: int) -> frozenset[tuple[Indexed, Profile]]:
    """Return every (known certificates, votes) of a view; votes only where nothing is known.

    Known is what honest votes make alone, what a FINALIZE vote rested on, and any of the rest.
    """
    found = set()
    for profile, most in profiles(rules, committee, values):
        least = certificates(rules, committee, profile, values, with_traitors=False)
        votes = {vote for chamber in profile for record in chamber for vote in record}
        rested = frozenset(choice for kind, choice in votes if kind is Kind.FINALIZE)
        for notarized in _subsets(most.notarized, least.notarized | rested):
            for finalized in _subsets(most.finalized, least.finalized):
                for nullified in {least.is_nullified, most.is_nullified}:
                    outcome = Indexed(notarized, finalized, nullified)
                    is_open = not (notarized or finalized or nullified)
                    found.add((outcome, profile if is_open else ((), ())))
    return frozenset(found)


def check_liveness(
    rules: Rules, committee: Committee, views: int, base: Block = GENESIS, epoch: int = 0
) -> Liveness:
    """Explore what can be known after up to ``views`` views, and heal in each of these states."""
    frontier: list[History] = [()]
    states = 0
    while frontier:
        history = frontier.pop()
        if opened_by(rules, EpochRun(base, history)):
            continue  # this epoch is over; the next one begins like a first one
        view = len(history) + 1
        nullified = (*history, Outcome(is_nullified=True))
        if not can_finalise(rules, committee, nullified, base, epoch):
            return Liveness(states + 1, f"no block can become final in view {view + 1}: {history}")
        grown: dict[History, None] = {}
        for chosen in in_play(acceptable(rules, epoch, base, history)):
            for indexed, profile in known(rules, committee, len(chosen)):
                if not (indexed.notarized or indexed.finalized or indexed.is_nullified):
                    states += 1
                    if not can_leave(rules, committee, profile):
                        return Liveness(states, _stuck(view, history, profile))
                elif view < views:
                    grown[(*history, indexed.of(chosen))] = None
        frontier += grown
    return Liveness(states, None)


def _stuck(view: int, history: History, profile: Profile) -> str:
    votes = [
        f"{letter}{number} {'+'.join(sorted(kind.value for kind, _ in record)) or 'nothing'}"
        for letter, chamber in zip("gc", profile, strict=True)
        for number, record in enumerate(chamber, 1)
    ]
    return (
        f"view {view} can be neither certified nor nullified by the honest: {', '.join(votes)}; "
        f"{len(history)} views before it are decided"
    )


Votes = tuple[tuple[Record, ...], ...]


def _cast(rules: Rules, votes: Votes, kind: Kind) -> Votes:
    """Have every honest validator cast a vote, for the first value, unless its guard refuses."""
    vote = (kind, 0)
    return tuple(
        tuple(record | {vote} if permits(rules, record, vote) else record for record in chamber)
        for chamber in votes
    )


def _is_certified(rules: Rules, committee: Committee, votes: Votes, kind: Kind) -> bool:
    government, commercial = (sum((kind, 0) in record for record in chamber) for chamber in votes)
    return committee.certifies(rules, kind, (government, commercial), with_traitors=False)


@cache
def can_leave(rules: Rules, committee: Committee, profile: Profile) -> bool:
    """Tell whether the honest can nullify a view in which they have these votes."""
    return _is_certified(rules, committee, _cast(rules, profile, Kind.NULLIFY), Kind.NULLIFY)


def can_finalise(
    rules: Rules, committee: Committee, history: History, base: Block, epoch: int
) -> bool:
    """Tell whether an honest leader's block becomes final in the view after this history.

    The leader follows PR1, the voters A1 to A3; none of them has voted in that view.
    """
    final_view = max((v for v, o in enumerate(history, 1) if o.finalized), default=0)
    best = max((v for v, o in enumerate(history, 1) if o.certified), default=0)
    proposable = [v for v in acceptable(rules, epoch, base, history) if v.parent_view == best]
    if best < final_view or not proposable:
        return False
    fresh = tuple((records(rules, 1)[0],) * count for count in committee.honest)
    notarized = _cast(rules, fresh, Kind.NOTARIZE)
    return _is_certified(rules, committee, notarized, Kind.NOTARIZE) and _is_certified(
        rules, committee, _cast(rules, notarized, Kind.FINALIZE), Kind.FINALIZE
    )
