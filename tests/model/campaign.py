"""What is explored, and what each exploration is expected to show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.model.interleavings import by_views, close
from tests.model.liveness import check_liveness
from tests.model.mutants import MUTANTS, Mutant
from tests.model.properties import check, culprits, unexplained
from tests.model.rules import RULES, Committee, Kind

VIEWS = 3
"""Per epoch."""

ONE_TRAITOR = (
    Committee(2, 2, 1, 0),
    Committee(2, 2, 0, 1),
    Committee(3, 1, 1, 0),
    Committee(3, 1, 0, 1),
    Committee(3, 2, 1, 0),
    Committee(3, 2, 0, 1),
)
"""Every place of one traitor in the small sets."""

WHOLE_CHAMBER = (
    Committee(3, 1, 3, 0),
    Committee(1, 3, 0, 3),
    Committee(3, 3, 3, 0),
    Committee(4, 3, 4, 0),
)
"""A chamber that is dishonest as a whole, beside an honest chamber of odd size."""

BEYOND = (
    Committee(2, 2, 2, 0),
    Committee(2, 2, 1, 1),
    Committee(3, 1, 1, 1),
    Committee(3, 2, 2, 1),
    Committee(3, 2, 3, 0),
    Committee(3, 3, 3, 1),
)
"""More traitors than safety is claimed for: an even chamber beside a whole dishonest one, as (2,2)
has, or so many that two quorums need share nobody honest."""

CHANGES = tuple((old, new) for old in ONE_TRAITOR for new in ONE_TRAITOR if old[:2] != new[:2])
"""One set change, with a traitor in the old set and one in the new."""


class Finding(NamedTuple):
    """One exploration."""

    name: str
    states: int
    problem: str | None
    """Why it is not what is expected; None if it is."""
    trace: str = ""
    """Counterexample that was expected."""


Job = tuple[str, Callable[[], Finding]]


def safe(committees: tuple[Committee, ...], views: int) -> Finding:
    """No property is broken, and everything that should happen does."""
    name = "safe: " + " then ".join(map(str, committees)) + f", {views} views"
    result = check(RULES, committees, views)
    if result.broken:
        broken, trace = next(iter(result.broken.items()))
        return Finding(name, result.states, f"{broken} is broken", trace)
    expected = [
        f"epoch {epoch} view {view}: {what}"
        for epoch in range(len(committees))
        for view in range(1, views + 1)
        for what in ("NOTARIZE", "NULLIFY", "FINALIZE", "boundary final")
    ]
    missing = [what for what in expected if not result.reached[what]]
    return Finding(name, result.states, f"never reached: {missing}" if missing else None)


def live(committee: Committee, views: int) -> Finding:
    """The honest can finalise from every state, exactly if they are a quorum."""
    result = check_liveness(RULES, committee, views)
    is_expected = committee.is_quorum(RULES, Kind.NULLIFY, *committee.honest)
    problem = None
    if is_expected != (result.dead is None):
        problem = result.dead or "the honest are no quorum, but it is live"
    word = "live" if is_expected else "halts without the traitor"
    return Finding(f"{word}: {committee}, {views} views", result.states, problem)


def accountable(committee: Committee, views: int) -> Finding:
    """Forks happen, and each gives enough culprits and accuses nobody honest."""
    name = f"accountable: {committee}, {views} views"
    found = culprits(RULES, committee)
    conflicts, missing = unexplained(RULES, (committee,), views)
    problem = None
    if found is None or not conflicts:
        problem = "expected forks, there are none"
    elif missing:
        problem = f"{missing} of {conflicts} forks have no contradicting certificates of one view"
    elif found.fewest < committee.least_overlap or found.accused:
        problem = f"{found}, expected {committee.least_overlap} culprits and no honest one"
    return Finding(name, conflicts, problem)


def mutated(mutant: Mutant, views: int) -> Finding:
    """The left-out rule is missed."""
    name = f"mutant: {mutant.name}, {mutant.committees[0]}"
    if mutant.breaks == "liveness":
        dead = check_liveness(mutant.rules, mutant.committees[0], views)
        trace, states = dead.dead, dead.states
    else:
        result = check(mutant.rules, mutant.committees, views, (mutant.breaks,), stop=True)
        trace, states = result.broken.get(mutant.breaks), result.states
    if trace is None:
        return Finding(name, states, f"{mutant.breaks} is not broken")
    return Finding(f"{name}: {mutant.breaks} broken", states, None, trace)


def cross_checked(
    mutant: Mutant | None, committee: Committee, views: int, variants: int, *, boundaries: bool
) -> Finding:
    """Single votes in every order reach exactly what whole views in order reach."""
    rules = RULES if mutant is None else mutant.rules
    closure = close(rules, committee, views, variants, boundaries=boundaries)
    shortcut = by_views(rules, committee, views, variants, boundaries=boundaries)
    problem = None
    if closure.histories != shortcut:
        problem = f"{len(closure.histories)} histories, expected {len(shortcut)}"
    what = "" if mutant is None else f" ({mutant.name})"
    return Finding(
        f"every order of votes: {committee}, {views} views, {variants} variants{what}",
        closure.states,
        problem,
    )


def jobs(*, full: bool) -> Iterator[Finding]:
    """Explore everything, or in the fast configuration what takes seconds."""
    for committee in (*ONE_TRAITOR, *WHOLE_CHAMBER):
        yield safe((committee,), VIEWS)
    for pair in CHANGES if full else CHANGES[5:7]:
        yield safe(pair, VIEWS if full else 2)
    if full:
        for committee in ONE_TRAITOR:
            yield safe((committee,), VIEWS + 1)
        yield safe((ONE_TRAITOR[0], ONE_TRAITOR[4], ONE_TRAITOR[2]), 2)
    for committee in ONE_TRAITOR:
        yield live(committee, VIEWS if full else 2)
    for committee in BEYOND:
        yield accountable(committee, VIEWS if full else 2)
    for mutant in MUTANTS:
        yield mutated(mutant, VIEWS)
    yield from _cross_checks(full=full)


def _cross_checks(*, full: bool) -> Iterator[Finding]:
    small = ONE_TRAITOR[0]
    unguarded = next(m for m in MUTANTS if m.name == "FINALIZE after NULLIFY")
    unanchored = next(m for m in MUTANTS if m.name == "A3 left out")
    yield cross_checked(None, small, 1, 2, boundaries=True)
    yield cross_checked(unguarded, small, 1, 2, boundaries=True)
    yield cross_checked(None, ONE_TRAITOR[2], 2, 1, boundaries=False)
    if full:
        yield cross_checked(None, ONE_TRAITOR[5], 2, 1, boundaries=False)
        yield cross_checked(unguarded, small, 2, 1, boundaries=False)
        yield cross_checked(unanchored, small, 2, 1, boundaries=False)
        yield cross_checked(None, small, 2, 1, boundaries=True)
