"""What must hold in every state of the model (CONSENSUS 4.1, 4.5), and what must be reachable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from tests.model.explorer import (
    Epoch,
    Exploration,
    Run,
    explore,
    opened_by,
    profiles,
    trace,
    voters,
)
from tests.model.rules import Block, Committee, Kind, Rules, Value, in_order

SAFETY = ("agreement", "L1", "L2", "L3", "I5", "I3")
"""One block per height; one value per view; no NULLIFY with FINALIZE; descent; FINALIZE has its
NOTARIZE; no honest validator signs a conflicting pair."""


class Result(NamedTuple):
    """Outcome of one exploration."""

    states: int
    broken: dict[str, str]
    """Property to the trace of the first state that breaks it."""
    reached: Counter[str]


def lineage(block: Block) -> Iterator[Block]:
    """Yield a block and its ancestors."""
    each: Block | None = block
    while each is not None:
        yield each
        each = each.parent


def finalized(run: Run) -> Iterator[tuple[int, int, Value]]:
    """Yield epoch, view and value of every finalization."""
    for number, epoch in enumerate(run):
        for view, outcome in enumerate(epoch.history, 1):
            for value in in_order(outcome.finalized):
                yield number, view, value


def agrees(run: Run) -> bool:
    """Tell whether all final blocks of all epochs, bases included, are one chain."""
    tips = [value.block for _, _, value in finalized(run)] + [epoch.base for epoch in run]
    by_height: dict[int, Block] = {}
    return all(
        by_height.setdefault(block.height, block) == block for tip in tips for block in lineage(tip)
    )


def broken_by_last_view(run: Run) -> Iterator[str]:
    """Yield the lemmas that the last view of a run breaks."""
    history = run[-1].history
    if not history:
        return
    last = history[-1]
    if len(last.certified) > 1:
        yield "L1"
    if last.is_nullified and last.finalized:
        yield "L2"
    if not last.finalized <= last.notarized:
        yield "I5"
    earlier = [value.block for outcome in history[:-1] for value in outcome.finalized]
    if any(block not in lineage(v.block) for block in earlier for v in last.notarized):
        yield "L3"


def note_reached(run: Run, reached: Counter[str]) -> None:
    """Count what happened: a model in which nothing happens proves nothing."""
    epoch = run[-1]
    view = len(epoch.history)
    if not view:
        if len(run) > 1:
            reached[f"epoch {len(run) - 1} opened"] += 1
        return
    last, place = epoch.history[-1], f"epoch {len(run) - 1} view {view}"
    for kind, happened in (
        ("NOTARIZE", last.notarized),
        ("NULLIFY", last.is_nullified),
        ("FINALIZE", last.finalized),
        ("NOTARIZE with NULLIFY", last.notarized and last.is_nullified),
        ("no certificate", last.is_open),
        ("boundary final", opened_by(Rules(), Epoch(epoch.base, (last,)))),
        ("boundary final by second proposal", any(v.block.view < view for v in last.finalized)),
    ):
        if happened:
            reached[f"{place}: {kind}"] += 1


def check(
    rules: Rules,
    committees: tuple[Committee, ...],
    views: int,
    properties: tuple[str, ...] = SAFETY,
    *,
    stop: bool = False,
) -> Result:
    """Explore to closure, or until one of the properties is broken if ``stop``."""
    broken: dict[str, str] = {}
    reached: Counter[str] = Counter()
    done: Exploration | None = None
    for done, run in explore(rules, committees, views):
        note_reached(run, reached)
        found = [] if agrees(run) else ["agreement"]
        found += broken_by_last_view(run)
        for name in found:
            if name in properties and name not in broken:
                broken[name] = trace(done, run)
        if "I3" in properties and "I3" not in broken and done.accused is not None:
            broken["I3"] = trace(done, done.accused)
        if broken and stop:
            break
    return Result(0 if done is None else len(done.runs), broken, reached)


# --- accountability -------------------------------------------------------------------------------


class Culprits(NamedTuple):
    """Who signed both of two contradicting certificates, over all such pairs."""

    fewest: int
    accused: int
    """Honest members among them, at most."""


def culprits(rules: Rules, committee: Committee) -> Culprits | None:
    """Return how many are proven guilty by contradicting certificates of one view.

    Two certificates of one view contradict each other if they are of two values, or a nullification
    and a finalization. Every conflict of finalizations leads to such a view (CONSENSUS 4.5; that it
    does is checked by :func:`unexplained`). None if no view can have any.
    """
    fewest: int | None = None
    accused = 0
    traitors = committee.government_traitors, committee.commercial_traitors
    for profile, outcome in profiles(rules, committee, 2):
        made = [(Kind.NOTARIZE, i) for i in sorted(outcome.notarized)]
        made += [(Kind.FINALIZE, i) for i in sorted(outcome.finalized)]
        made += [(Kind.NULLIFY, 0)] if outcome.is_nullified else []
        for a in made:
            for b in made:
                if not _contradict(a, b):
                    continue
                both = [sum(a in r and b in r for r in chamber) for chamber in profile]
                accused = max(accused, sum(both))
                sizes = [
                    [n + bad for n, bad in zip(voters(profile, *v), traitors, strict=True)]
                    for v in (a, b)
                ]
                shared = [n + bad for n, bad in zip(both, traitors, strict=True)]
                least = _least_overlap(rules, committee, a[0], b[0], sizes, shared)
                fewest = least if fewest is None else min(fewest, least)
    return None if fewest is None else Culprits(fewest, accused)


def _contradict(a: tuple[Kind, int], b: tuple[Kind, int]) -> bool:
    if Kind.NULLIFY in (a[0], b[0]):
        return {a[0], b[0]} == {Kind.NULLIFY, Kind.FINALIZE}
    return a[1] != b[1]


def _least_overlap(
    rules: Rules,
    committee: Committee,
    first: Kind,
    second: Kind,
    sizes: list[list[int]],
    shared: list[int],
) -> int:
    """Return the smallest overlap of two certificates made of these signers."""
    least = committee.size
    quorums = [
        [
            (g, c)
            for g in range(size[0] + 1)
            for c in range(size[1] + 1)
            if committee.is_quorum(rules, kind, g, c)
        ]
        for kind, size in zip((first, second), sizes, strict=True)
    ]
    for one in quorums[0]:
        for other in quorums[1]:
            overlap = 0
            for chamber in (0, 1):
                apart = sizes[0][chamber] + sizes[1][chamber] - shared[chamber]
                overlap += max(0, one[chamber] + other[chamber] - apart)
            least = min(least, overlap)
    return least


def unexplained(rules: Rules, committees: tuple[Committee, ...], views: int) -> tuple[int, int]:
    """Return how many runs have conflicting finalizations, and in how many no view shows why."""
    conflicts = missing = 0
    for _, run in explore(rules, committees, views):
        if agrees(run):
            continue
        conflicts += 1
        missing += not any(
            len(outcome.certified) > 1 or (outcome.is_nullified and outcome.finalized)
            for epoch in run
            for outcome in epoch.history
        )
    return conflicts, missing
