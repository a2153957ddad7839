"""Decides whether a drill went well, from what was observed. No input or output.

**Safety** is what must hold whatever happens: one chain, nothing lost that was called final, no
block without a quorum, no proof against an honest validator. **Recovery** is a matter of seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

from mbi.errors import ExitCode

PROBLEMS_SHOWN: Final = 10


class Verdict(StrEnum):
    """Whether what must never happen did not."""

    SAFE = "SAFE"
    UNSAFE = "UNSAFE"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a drill must hold, in seconds."""

    gap_s: float | None
    """Longest time without a new block until the fault is undone; None: the fault leaves no quorum,
    so that there must be none."""
    block_s: float
    """From the moment at which the fault is undone to the next new block on any node."""
    agree_s: float
    """From the same moment until every node has that block."""
    agree_per_block_s: float = 0.0
    """More time for every block of the whole chain, where a node begins with nothing."""

    def agree_limit_s(self, height: int) -> float:
        """Return the time allowed until all nodes agree on a chain of this height."""
        return self.agree_s + self.agree_per_block_s * height


@dataclass(frozen=True, slots=True)
class Statement:
    """What one node said after the drill."""

    node: str
    blocks: dict[int, tuple[str, str]]
    """Hash and state root by height."""
    transactions: dict[int, list[str]]
    """Ids by height."""
    accusations: frozenset[str]
    """Proofs against validators."""
    halted: str | None
    """Why it does not vote any more."""


@dataclass(frozen=True, slots=True)
class Seconds:
    """What was measured."""

    gap: float
    """Longest time without a new block until the fault was undone."""
    new_block: float | None
    """None: none came while it was waited for."""
    all_agree: float | None


@dataclass(slots=True)
class Result:
    """One drill's outcome."""

    name: str
    seconds: Seconds
    limits: Limits
    height: int
    """Of the chain at the end."""
    unsafe: list[str] = field(default_factory=list)
    """What must never happen and did."""
    late: list[str] = field(default_factory=list)
    """Why it did not recover within its limits."""
    counts: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """SAFE unless something happened that must never happen."""
        return Verdict.UNSAFE if self.unsafe else Verdict.SAFE

    @property
    def exit_code(self) -> ExitCode:
        """Code of a run that consists of this drill."""
        if self.unsafe:
            return ExitCode.INTEGRITY
        return ExitCode.FAILED if self.late else ExitCode.OK

    def to_json(self) -> dict[str, Any]:
        """Return the drill's part of the report."""
        return {
            "name": self.name,
            "verdict": self.verdict.value,
            "recovered": not self.late,
            "seconds": asdict(self.seconds),
            "limits": {**asdict(self.limits), "agree_s": self.limits.agree_limit_s(self.height)},
            "height": self.height,
            "counts": self.counts,
            "unsafe": self.unsafe[:PROBLEMS_SHOWN],
            "late": self.late[:PROBLEMS_SHOWN],
            "events": self.events,
        }


def worst_exit_code(results: Sequence[Result]) -> ExitCode:
    """Return the code of a run: an unsafe drill outweighs a late one."""
    codes = {result.exit_code for result in results}
    return next((c for c in (ExitCode.INTEGRITY, ExitCode.FAILED) if c in codes), ExitCode.OK)


def unsafe_reasons(
    statements: Sequence[Statement],
    final: Mapping[str, int],
    acknowledged: Set[str],
    refused: Set[str],
    accusations: Set[str] = frozenset(),
) -> list[str]:
    """Return every way in which the nodes' chains are not what they must be; empty is safe.

    ``final``: height at which some node called each transaction final during the drill;
    ``acknowledged`` and ``refused``: what nodes answered to those who sent; ``accusations``: proofs
    against validators from before the drill.
    """
    reasons = _differences(statements)
    for one in statements:
        if accused := one.accusations - accusations:
            reasons.append(f"{one.node} holds {len(accused)} proofs against honest validators")
        if one.halted is not None:
            reasons.append(f"{one.node} has halted: {one.halted}")
        found: dict[str, int] = {}
        for height, ids in one.transactions.items():
            for identifier in ids:
                if identifier in found:
                    reasons.append(f"{one.node}: transaction {identifier} is final twice")
                found[identifier] = height
        lost = sorted(key for key, height in final.items() if found.get(key) != height)
        missing = sorted(acknowledged - found.keys() - set(lost))
        invented = sorted(refused & found.keys())
        for what, which in (
            ("transactions that were called final are not at their height", lost),
            ("acknowledged transactions are missing", missing),
            ("transactions that were refused are final", invented),
        ):
            if which:
                reasons.append(f"{one.node}: {len(which)} {what} (the first: {which[0]})")
    return reasons


def _differences(statements: Sequence[Statement]) -> list[str]:
    """Compare hashes and state roots of all nodes with those of the first."""
    reference = statements[0]
    reasons: list[str] = []
    for other in statements[1:]:
        if other.blocks.keys() != reference.blocks.keys():
            reasons.append(f"{other.node} lists other heights than {reference.node}")
        for height in sorted(other.blocks.keys() & reference.blocks.keys()):
            if other.blocks[height] != reference.blocks[height]:
                reasons.append(
                    f"height {height}: {other.node} has block and state {other.blocks[height]}, "
                    f"{reference.node} has {reference.blocks[height]}"
                )
                break
    return reasons


def trespasses(new_blocks: Mapping[str, int]) -> list[str]:
    """Return the reasons that nodes without a quorum showed new blocks meanwhile; empty is safe.

    ``new_blocks``: for each node that was cut off, how many heights it showed in that time. Such a
    block means that a quorum was not needed, or that the drill did not do what it says.
    """
    return [
        f"{node}: {count} blocks became final while it was cut off from a quorum"
        for node, count in new_blocks.items()
        if count
    ]


def late_reasons(limits: Limits, seconds: Seconds, height: int) -> list[str]:
    """Return every limit that was not held; empty is recovered."""
    reasons: list[str] = []
    if limits.gap_s is not None and seconds.gap > limits.gap_s:
        reasons.append(f"no block for {seconds.gap:.1f} s during the fault, limit {limits.gap_s:g}")
    for what, measured, limit in (
        ("new block", seconds.new_block, limits.block_s),
        ("all nodes at one height", seconds.all_agree, limits.agree_limit_s(height)),
    ):
        if measured is None:
            reasons.append(f"{what}: not while it was waited for, limit {limit:.0f} s")
        elif measured > limit:
            reasons.append(f"{what} after {measured:.1f} s, limit {limit:.0f}")
    return reasons
