"""What a seed stands for: the sizes, faults and rates of one run.

A seed expands to one :class:`Options`, printed on failure. The draw covers the space unevenly on
purpose: plain runs are few, since faults find more, but each kind of fault is also absent in many
runs, since one fault can hide another (a node that is down cannot equivocate).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from random import Random
from typing import TYPE_CHECKING, Final

from consensus.timing import Timing

if TYPE_CHECKING:
    from collections.abc import Iterable

CHAMBERS: Final = {
    (2, 2): 24,
    (3, 1): 6,
    (4, 0): 8,
    (3, 2): 20,
    (3, 3): 12,
    (4, 3): 14,
    (5, 2): 4,
    (5, 3): 4,
    (5, 4): 3,
    (7, 3): 2,
    (5, 5): 1,
    (6, 5): 1,
    (7, 5): 1,
    (7, 6): 1,
}
"""(government, commercial) and how often, in percent. Small networks reach more views per second of
CPU; 3+3 is the smallest at which "at least" two thirds differs from "more than"."""

LARGE: Final = 8
"""Networks of this size and more run for a shorter time: a view costs n^2 messages."""

BEHAVIOURS: Final = (
    *("equivocator",) * 3,
    *("twins",) * 3,
    *("forger",) * 4,
    *("liar",) * 3,
    *("withholder",) * 2,
    "false server",
    "flooder",
    "slow",
    "flapper",
    "silent",
)
"""Names of the Byzantine actors (:mod:`tests.simulation.byzantine`), by weight: a forger has 27
rules to break, a silent validator one way to be silent."""


@dataclass(frozen=True, slots=True)
class Options:
    """One run. Times in virtual milliseconds, rates in percent."""

    seed: int
    government: int
    commercial: int
    observers: int
    joiners: tuple[str, ...]
    """Names of people that may become validators later; ``g1b`` is a second pair of keys of g1."""
    byzantine: tuple[tuple[str, str], ...]
    """(chamber "g" or "c" with a number, behaviour)."""
    whole_chamber: bool
    """A whole chamber is Byzantine: only safety can be asked for."""
    real_signatures: bool
    safety_ms: int
    """Length of the phase with faults."""
    delay_ms: int
    """Longest base delay of a link."""
    spread_ms: int
    """Longest random part of a delay."""
    loss_percent: int
    duplicate_percent: int
    partition_every_ms: int
    """Mean time between changes of the partition; 0: none."""
    clog_every_ms: int
    crash_every_ms: int
    crash_all: bool
    """Some crashes take all nodes at once."""
    chamber_stops: str
    """Chamber ("g" or "c") that is down as a whole for a while; empty for none."""
    disk_loss: str
    """Validator that may lose its disk, or get an old image of it back; empty for none."""
    disk_damage: bool
    """Bits flip on that validator's disk, too."""
    disk_slow_ms: int
    """Longest time of a sync."""
    sync_errors: bool
    clock_skew_ms: int
    execution_ms: int
    """Longest time to execute a block."""
    verification_ms: int
    transaction_every_ms: int
    """Mean time between transactions in a burst."""
    idle_gaps: bool
    """Bursts alternate with silence."""
    change_every_ms: int
    """Longest time between two rounds of governance; 0: the validator set does not change."""
    evidence: bool
    """Evidence is reported on chain, and the accused are suspended."""
    outside_core: bool
    """After healing, as many nodes as can be spared stay down or cut off."""
    delta_ms: int
    """Delay bound after healing."""
    idle_ms: int | None
    """Liveness beacon; rarely on, because it would hide a chain that fell asleep."""

    @property
    def timing(self) -> Timing:
        """Return the engine's timing: defaults but for the beacon."""
        return Timing(idle_ms=self.idle_ms)

    def describe(self) -> str:
        """Return all options on one line."""
        return " ".join(f"{field.name}={getattr(self, field.name)}" for field in fields(self))


def expand(seed: int) -> Options:
    """Return the options that a seed stands for."""
    random = Random(seed * 2 + 1)
    government, commercial = random.choices(list(CHAMBERS), list(CHAMBERS.values()))[0]
    whole_chamber = commercial > 0 and random.random() < 0.08
    if whole_chamber:
        government, commercial = random.choice(((3, 2), (4, 3), (3, 3)))
    faulty = choose_byzantine(random, government, commercial, whole_chamber=whole_chamber)

    is_large = government + commercial >= LARGE

    is_changing = not whole_chamber and random.random() < 0.4
    joiners = choose_joiners(random, government, commercial, faulty) if is_changing else ()

    def sometimes(percent: int, *values: int) -> int:
        return random.choice(values) if random.random() * 100 < percent else 0

    return Options(
        seed=seed,
        government=government,
        commercial=commercial,
        observers=sometimes(20, 1),
        byzantine=faulty,
        whole_chamber=whole_chamber,
        real_signatures=random.random() < 0.03,
        joiners=joiners,
        safety_ms=random.choice((3_000, 5_000) if is_large else (3_000, 6_000, 15_000)),
        delay_ms=random.choice((2, 10, 50, 150)),
        spread_ms=random.choice((1, 10, 50, 200)),
        loss_percent=sometimes(60, 2, 10, 25, 40),
        duplicate_percent=sometimes(50, 2, 15),
        partition_every_ms=sometimes(50, 800, 2_000, 4_000),
        clog_every_ms=sometimes(40, 500, 2_000),
        crash_every_ms=sometimes(60, 700, 2_000, 5_000),
        crash_all=random.random() < 0.3,
        chamber_stops=random.choice("gc") if commercial and random.random() < 0.12 else "",
        disk_loss=choose_disk_loss(random, government, commercial, faulty),
        disk_damage=random.random() < 0.4,
        disk_slow_ms=sometimes(40, 2, 20, 500),
        sync_errors=random.random() < 0.2,
        clock_skew_ms=sometimes(50, 300, 2_000),
        execution_ms=sometimes(50, 5, 100, 500, 2_000),
        verification_ms=sometimes(60, 5, 50),
        transaction_every_ms=random.choice((50, 200, 1_000)),
        idle_gaps=random.random() < 0.6,
        change_every_ms=random.choice((300, 800, 1_500)) if is_changing else 0,
        evidence=random.random() < 0.5,
        outside_core=random.random() < 0.5,
        delta_ms=random.choice((20, 100, 250)),
        idle_ms=random.choice((3_000, 30_000)) if random.random() < 0.1 else None,
    )


def rest_is_quorum(government: int, commercial: int, failed: Iterable[str]) -> bool:
    """Say whether the validators other than the failed ones are a quorum (condition H)."""
    names = set(failed)
    present_g = government - sum(name[0] == "g" for name in names)
    present_c = commercial - sum(name[0] == "c" for name in names)
    return (
        3 * (present_g + present_c) > 2 * (government + commercial)
        and 2 * present_g >= government
        and 2 * present_c >= commercial
    )


def validator_names(government: int, commercial: int) -> list[str]:
    """Return g0, g1, ..., c0, c1, ..."""
    return [f"g{i}" for i in range(government)] + [f"c{i}" for i in range(commercial)]


def choose_byzantine(
    random: Random, government: int, commercial: int, *, whole_chamber: bool
) -> tuple[tuple[str, str], ...]:
    """Draw the Byzantine validators.

    Normally so few that the honest ones are a quorum and may be asked for progress; then safety
    holds too. A whole chamber only where the other, honest one is odd: then no fork is possible.
    """
    if whole_chamber:
        odd = [(commercial, "c")] * (government % 2) + [(government, "g")] * (commercial % 2)
        size, letter = random.choice(odd)
        return tuple((f"{letter}{i}", random.choice(("equivocator", "twins"))) for i in range(size))
    chosen: list[str] = []
    if random.random() >= 0.35:
        for name in random.sample(validator_names(government, commercial), government + commercial):
            if rest_is_quorum(government, commercial, [*chosen, name]) and len(chosen) < 2:
                chosen.append(name)
    return tuple((name, random.choice(BEHAVIOURS)) for name in sorted(chosen))


def choose_joiners(
    random: Random, government: int, commercial: int, byzantine: tuple[tuple[str, str], ...]
) -> tuple[str, ...]:
    """Draw up to two people that may join: new organisations, or new keys of present members."""
    failed = [name for name, _ in byzantine]
    names = [f"g{government}", *([f"c{commercial}"] if commercial else [])]
    names += [f"{n}b" for n in validator_names(government, commercial) if n not in failed]
    return tuple(sorted(random.sample(names, random.randint(1, 2))))


def choose_disk_loss(
    random: Random, government: int, commercial: int, byzantine: tuple[tuple[str, str], ...]
) -> str:
    """Draw a validator that the rest can spare while it is in quarantine; empty for none."""
    failed = [name for name, _ in byzantine]
    spare = [
        name
        for name in validator_names(government, commercial)
        if name not in failed and rest_is_quorum(government, commercial, [*failed, name])
    ]
    return random.choice(spare) if spare and random.random() < 0.35 else ""
