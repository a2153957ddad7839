"""Explores single votes in every order: slow, and free of the explorer's argument.

Used on small bounds to check that the explorer, which takes a whole view in one step, reaches the
same outcomes. A state is the set of all votes; any number of values per view may get votes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from tests.model.explorer import explore
from tests.model.rules import (
    GENESIS,
    Committee,
    History,
    Kind,
    Outcome,
    Rules,
    Value,
    acceptable,
    permits,
)

Cast = tuple[Kind, Value | None]
Ballot = tuple[frozenset[Cast], ...]
"""The votes of one validator, by view."""
State = tuple[tuple[Ballot, ...], tuple[Ballot, ...]]
"""The ballots of the honest members of each chamber, sorted: members are interchangeable."""


class Closure(NamedTuple):
    """Everything that single votes reach."""

    states: int
    histories: frozenset[History]


def _outcome(rules: Rules, committee: Committee, state: State, view: int) -> Outcome:
    counts: dict[Cast, list[int]] = {}
    for chamber, ballots in enumerate(state):
        for ballot in ballots:
            for vote in ballot[view - 1]:
                counts.setdefault(vote, [0, 0])[chamber] += 1

    def values(kind: Kind) -> frozenset[Value]:
        return frozenset(
            value
            for (each, value), (government, commercial) in counts.items()
            if each is kind
            and value is not None
            and committee.certifies(rules, kind, (government, commercial))
        )

    nullify = counts.get((Kind.NULLIFY, None), [0, 0])
    return Outcome(
        values(Kind.NOTARIZE),
        values(Kind.FINALIZE),
        committee.certifies(rules, Kind.NULLIFY, (nullify[0], nullify[1])),
    )


def history(rules: Rules, committee: Committee, state: State, views: int) -> History:
    """Return the outcomes of all views up to the first without a certificate."""
    found: list[Outcome] = []
    for view in range(1, views + 1):
        found.append(_outcome(rules, committee, state, view))
        if found[-1].is_open:
            break
    return tuple(found)


@cache
def _permitted(rules: Rules, record: frozenset[Cast], kind: Kind, value: Value | None) -> bool:
    """Ask the guard, which knows values by numbers."""
    places = {value: 0}
    for _, each in record:
        places.setdefault(each, len(places))
    numbered = frozenset((k, 0 if k is Kind.NULLIFY else places[v]) for k, v in record)
    return permits(rules, numbered, (kind, 0))


def _casts(
    rules: Rules, state: State, reached: History, variants: int, *, boundaries: bool
) -> Iterator[State]:
    for view in range(1, len(reached) + 1):
        values = [
            value
            for value in acceptable(rules, 0, GENESIS, reached[: view - 1], variants)
            if boundaries or not value.block.is_boundary
        ]
        notarized = reached[view - 1].notarized
        final = notarized if rules.finalize_needs_notarization else values
        votes: list[Cast] = [(Kind.NULLIFY, None)]
        votes += [(Kind.NOTARIZE, value) for value in values]
        votes += [(Kind.FINALIZE, value) for value in final]
        for chamber in (0, 1):
            for place, ballot in enumerate(state[chamber]):
                if place and ballot == state[chamber][place - 1]:
                    continue  # as its neighbour
                record = ballot[view - 1]
                for vote in votes:
                    if vote not in record and _permitted(rules, record, *vote):
                        grown = (*ballot[: view - 1], record | {vote}, *ballot[view:])
                        yield _replace(state, chamber, place, grown)


@cache
def _key(ballot: Ballot) -> str:
    return str([sorted(map(str, record)) for record in ballot])


def _replace(state: State, chamber: int, place: int, ballot: Ballot) -> State:
    ballots = list(state[chamber])
    ballots[place] = ballot
    ballots.sort(key=_key)
    changed = tuple(ballots)
    return (changed, state[1]) if chamber == 0 else (state[0], changed)


def close(
    rules: Rules, committee: Committee, views: int, variants: int, *, boundaries: bool
) -> Closure:
    """Explore every order of single votes to closure."""
    nothing: Ballot = (frozenset(),) * views
    start: State = ((nothing,) * committee.honest[0], (nothing,) * committee.honest[1])
    seen = {start}
    frontier = [start]
    histories: set[History] = set()
    while frontier:
        state = frontier.pop()
        reached = history(rules, committee, state, views)
        histories.add(reached)
        for following in _casts(rules, state, reached, variants, boundaries=boundaries):
            if following not in seen:
                seen.add(following)
                frontier.append(following)
    return Closure(len(seen), frozenset(histories))


def by_views(
    rules: Rules, committee: Committee, views: int, variants: int, *, boundaries: bool
) -> frozenset[History]:
    """Return the complete histories that the explorer reaches, to compare with :func:`close`.

    The explorer leaves out what differs by the names of variants only; they are put back here.
    """
    found = set()
    for _, run in explore(rules, (committee,), views):
        reached = run[-1].history
        complete = len(reached) == views or (reached and reached[-1].is_open)
        blocks = [value.block for outcome in reached for value in outcome.certified]
        is_wanted = all(b.variant < variants and (boundaries or not b.is_boundary) for b in blocks)
        if complete and is_wanted:
            found.add(reached)
    if variants == 1:
        return frozenset(found)
    if views > 1:
        raise ValueError("the names of variants are put back for one view only")
    swapped = {False: {0: 0, 1: 1}, True: {0: 1, 1: 0}}
    return frozenset(
        (_renamed(history[0], {False: swapped[plain], True: swapped[boundary]}),)
        for history in found
        for plain in (False, True)
        for boundary in (False, True)
    )


def _renamed(outcome: Outcome, names: dict[bool, dict[int, int]]) -> Outcome:
    def rename(values: frozenset[Value]) -> frozenset[Value]:
        return frozenset(
            value._replace(block=value.block._replace(variant=names[value.block.is_boundary][v]))
            for value in values
            for v in [value.block.variant]
        )

    return Outcome(rename(outcome.notarized), rename(outcome.finalized), outcome.is_nullified)
