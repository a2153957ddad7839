"""Explores every outcome of every view: one step of the search is a whole view.

Votes are a set that only grows, and what permits a vote is the voter's own record of that view, the
certificates of lower views and the notarization of that view. So every run can be sorted by view
without disabling a vote, and the later views depend on the earlier ones by their certificates only.
``tests/model/interleavings.py`` explores single votes in every order, to check this argument.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations, combinations_with_replacement, product
from typing import Final, NamedTuple

from tests.model.rules import (
    GENESIS,
    Block,
    Committee,
    History,
    Kind,
    Outcome,
    Record,
    Rules,
    Value,
    acceptable,
    in_order,
    is_conflicting,
    records,
)

IN_PLAY_MAX: Final = 2
"""Values per view that get votes. Votes for a value that is never certified can be left out of a
run without disabling anything, and the first violation needs two certified values of one view."""

Profile = tuple[tuple[Record, ...], tuple[Record, ...]]
"""The records of the honest members of each chamber in one view, in no order."""


class Indexed(NamedTuple):
    """An :class:`Outcome` by places of the values in play."""

    notarized: frozenset[int]
    finalized: frozenset[int]
    is_nullified: bool

    def of(self, values: tuple[Value, ...]) -> Outcome:
        """Return the outcome for these values."""
        return Outcome(
            frozenset(values[i] for i in self.notarized),
            frozenset(values[i] for i in self.finalized),
            self.is_nullified,
        )


class Epoch(NamedTuple):
    """One epoch of a run."""

    base: Block
    history: History


Run = tuple[Epoch, ...]


def voters(profile: Profile, kind: Kind, choice: int) -> tuple[int, int]:
    """Return how many honest members of each chamber cast a vote."""
    government, commercial = (
        sum((kind, choice) in record for record in chamber) for chamber in profile
    )
    return government, commercial


def certificates(
    rules: Rules, committee: Committee, profile: Profile, in_play: int, *, with_traitors: bool
) -> Indexed:
    """Return what can be certified with these votes."""

    def certified(kind: Kind, choice: int) -> bool:
        cast = voters(profile, kind, choice)
        return committee.certifies(rules, kind, cast, with_traitors=with_traitors)

    return Indexed(
        frozenset(i for i in range(in_play) if certified(Kind.NOTARIZE, i)),
        frozenset(i for i in range(in_play) if certified(Kind.FINALIZE, i)),
        certified(Kind.NULLIFY, 0),
    )


def profiles(rules: Rules, committee: Committee, in_play: int) -> Iterator[tuple[Profile, Indexed]]:
    """Yield all that honest validators can have voted in a view, and what is certified by it."""
    options = records(rules, in_play)
    government, commercial = (
        combinations_with_replacement(options, count) for count in committee.honest
    )
    for profile in product(government, commercial):
        outcome = certificates(rules, committee, profile, in_play, with_traitors=True)
        finalize = {c for chamber in profile for r in chamber for k, c in r if k is Kind.FINALIZE}
        if finalize <= outcome.notarized or not rules.finalize_needs_notarization:
            yield profile, outcome


@cache
def outcomes(rules: Rules, committee: Committee, in_play: int) -> dict[Indexed, Profile]:
    """Return every outcome of a view, each with votes that lead to it (accusing ones if any)."""
    found: dict[Indexed, Profile] = {}
    for profile, outcome in profiles(rules, committee, in_play):
        if outcome not in found or is_accused(profile) > is_accused(found[outcome]):
            found[outcome] = profile
    return found


def is_accused(profile: Profile) -> bool:
    """Tell whether an honest validator signed a conflicting pair."""
    return any(is_conflicting(record) for chamber in profile for record in chamber)


def in_play(values: list[Value]) -> Iterator[tuple[Value, ...]]:
    """Yield the choices of values that get votes, up to the names of variants."""
    yield ()
    for count in range(1, IN_PLAY_MAX + 1):
        for chosen in combinations(values, count):
            if all(
                v.block.variant == 0
                or Value(v.parent_view, v.block._replace(variant=0)) in chosen
                or Value(v.parent_view, v.block._replace(variant=0)) not in values
                for v in chosen
            ):
                yield chosen


@dataclass
class Exploration:
    """What was reached."""

    rules: Rules
    committees: tuple[Committee, ...]
    """One per epoch."""
    views: int
    """Of each epoch."""
    runs: dict[Run, tuple[Run, tuple[Value, ...], Profile] | None] = field(default_factory=dict)
    """Every state, with how it was reached first."""
    accused: Run | None = None
    """A run in which an honest validator signed a conflicting pair."""
    reached: Counter[str] = field(default_factory=Counter)
    """Sanity: what happened in how many states."""


def explore(
    rules: Rules, committees: tuple[Committee, ...], views: int, base: Block = GENESIS
) -> Iterator[tuple[Exploration, Run]]:
    """Yield every reachable run once, with the exploration so far, to closure."""
    done = Exploration(rules, committees, views)
    start: Run = (Epoch(base, ()),)
    done.runs[start] = None
    frontier = [start]
    while frontier:
        grown: list[Run] = []
        for run in frontier:
            yield done, run
            for following, cause in _successors(done, run):
                if done.accused is None and is_accused(cause[2]):
                    done.accused = following
                    done.runs.pop(following, None)  # for the trace to show these votes
                if following not in done.runs:
                    done.runs[following] = cause
                    grown.append(following)
        frontier = grown


def _successors(
    done: Exploration, run: Run
) -> Iterator[tuple[Run, tuple[Run, tuple[Value, ...], Profile]]]:
    rules, number = done.rules, len(run) - 1
    epoch, committee = run[-1], done.committees[number]
    is_stuck = bool(epoch.history) and epoch.history[-1].is_open
    if len(epoch.history) < done.views and not is_stuck:
        for chosen in in_play(acceptable(rules, number, epoch.base, epoch.history)):
            for indexed, profile in outcomes(rules, committee, len(chosen)).items():
                outcome = indexed.of(chosen)
                if _is_renamed(outcome, chosen):
                    continue
                following = (*run[:-1], Epoch(epoch.base, (*epoch.history, outcome)))
                yield following, (run, chosen, profile)
    elif number + 1 < len(done.committees):
        for base in sorted(opened_by(rules, epoch), key=lambda block: (block.height, str(block))):
            yield (*run, Epoch(base, ())), (run, (), ((), ()))


def _is_renamed(outcome: Outcome, chosen: tuple[Value, ...]) -> bool:
    """Tell whether exchanging the names of two variants gives an outcome that is explored too."""
    return any(
        value.block.variant == 1
        and (first := Value(value.parent_view, value.block._replace(variant=0))) in chosen
        and first not in outcome.certified
        for value in outcome.certified
    )


def opened_by(rules: Rules, epoch: Epoch) -> frozenset[Block]:
    """Return the boundary blocks on which the next epoch may be opened."""
    return frozenset(
        value.block
        for outcome in epoch.history
        for value in (outcome.finalized if rules.epoch_opens_at_finalize else outcome.certified)
        if value.block.is_boundary
    )


def trace(done: Exploration, run: Run) -> str:
    """Return how a run comes about, view by view, for people."""
    steps = []
    present: Run | None = run
    while present is not None:
        cause = done.runs[present]
        steps.append((present, cause))
        present = None if cause is None else cause[0]
    lines: list[str] = []
    for reached, cause in reversed(steps):
        number, epoch = len(reached) - 1, reached[-1]
        if cause is None or len(cause[0]) < len(reached):
            lines.append(f"epoch {number}: {done.committees[number]}, base {epoch.base}")
            continue
        lines += _view_lines(len(epoch.history), epoch.history[-1], cause[1], cause[2])
    return "\n".join(lines)


def _view_lines(
    view: int, outcome: Outcome, values: tuple[Value, ...], profile: Profile
) -> list[str]:
    def name(kind: Kind, choice: int) -> str:
        return kind.value if kind is Kind.NULLIFY else f"{kind.value} {values[choice].block}"

    lines = [f"  view {view}"]
    lines += [
        f"    proposed: {value.block} on {value.block.parent}, parent view {value.parent_view}"
        for value in values
    ]
    for letter, chamber in zip("gc", profile, strict=True):
        for number, record in enumerate(chamber, 1):
            votes = ", ".join(sorted(name(kind, choice) for kind, choice in record))
            lines.append(f"    honest {letter}{number}: {votes or 'nothing'}")
    made = [f"NOTARIZE {v.block}" for v in in_order(outcome.notarized)]
    made += [f"FINALIZE {v.block}" for v in in_order(outcome.finalized)]
    made += ["NULLIFY"] if outcome.is_nullified else []
    lines.append(f"    certificates: {', '.join(made) or 'none'}")
    return lines
