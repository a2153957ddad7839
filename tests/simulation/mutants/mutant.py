"""Nodes with one defence removed: the simulator must notice each of them.

A simulator that finds nothing proves little until it has found bugs that are known to be there.
Every mutant patches the production code inside a context and names the invariants that it must
break, and how many seeds that may take; or it names the story that notices it, where other defences
hide it from random runs. Patches live here, never in the code that they break.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count, islice
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.invariants import Violation
from tests.simulation.options import expand
from tests.simulation.simulation import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.simulation.options import Options


def _is_cheap(options: Options) -> bool:
    return not options.real_signatures


@dataclass(frozen=True, slots=True)
class Mutant:
    """One removed defence."""

    name: str
    patched: Callable[[], AbstractContextManager[object]]
    breaks: frozenset[str] = frozenset()
    """Invariants of which one must be reported."""
    seeds_max: int = 40
    """Fitting seeds within which it must be found."""
    fits: Callable[[Options], bool] = _is_cheap
    """Which seeds can show it."""
    story: Callable[[], None] | None = None
    """Notices it instead of random seeds."""


class Finding(NamedTuple):
    """How a mutant was found."""

    mutant: str
    by: str
    """Invariant, or the name of the story; empty if it was not found."""
    seeds: int
    """Fitting seeds run, the one that found it included; 0 for a story."""
    seed: int | None
    detail: str


def find(mutant: Mutant) -> Finding:
    """Run fitting seeds, or the story, until the mutant is noticed."""
    with mutant.patched():
        if mutant.story is not None:
            return _by_story(mutant, mutant.story)
        fitting = (options for options in map(expand, count()) if mutant.fits(options))
        seen: set[str] = set()
        for number, options in enumerate(islice(fitting, mutant.seeds_max), 1):
            result = run(options)
            if result.invariant in mutant.breaks:
                return Finding(
                    mutant.name, str(result.invariant), number, options.seed, result.detail
                )
            if result.invariant is not None:
                seen.add(f"{result.invariant} of {options.seed}: {result.detail[:200]}")
    return Finding(mutant.name, "", mutant.seeds_max, None, "; ".join(sorted(seen)))


def _by_story(mutant: Mutant, story: Callable[[], None]) -> Finding:
    name = story.__name__.removeprefix("test_").replace("_", " ")
    try:
        story()
    except (AssertionError, Violation) as noticed:
        return Finding(mutant.name, name, 0, None, str(noticed).split("\n", 1)[0])
    return Finding(mutant.name, "", 0, None, "the story ends well")
