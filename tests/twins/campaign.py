"""Runs ranges of scenarios; what consecutive ones have in common is run once."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from ledger.errors import InvariantViolation
from tests.twins.scenarios import ROUNDS, Enumeration, Scenario
from tests.twins.snapshot import forget_all
from tests.twins.world import Config, Group, States, Violation, World

HEAL_EVERY: Final = 307
"""Every so many scenarios are healed and must finalise; a prime, so that all last rounds come."""

HEALED_ROUNDS_EXTRA = 3
"""A healed network finalises within one turn of every leader and this."""

COLLECT_AFTER: Final = 50_000
"""Objects between two garbage collections: engines are made by the thousand and thrown away whole,
which the default of 700 makes a third slower."""

PIECES_PER_CYCLE: Final = 8
"""How finely a range is cut: progress is reported after each piece."""


@dataclass
class Summary:
    """What a range of scenarios showed."""

    scenarios: int = 0
    healed: int = 0
    healed_rounds: Counter[int] = field(default_factory=Counter)
    """Rounds until every honest validator had finalised a new block."""
    steps_run: int = 0
    """Steps of instances that were really run; the rest was remembered."""
    rounds_run: int = 0
    heights: Counter[int] = field(default_factory=Counter)
    """Highest finalised height of the honest at the end of the partitions."""
    violations: list[str] = field(default_factory=list)

    def add(self, other: Summary) -> None:
        """Add the figures of another range."""
        self.scenarios += other.scenarios
        self.healed += other.healed
        self.healed_rounds += other.healed_rounds
        self.steps_run += other.steps_run
        self.rounds_run += other.rounds_run
        self.heights += other.heights
        self.violations += other.violations

    def figures(self, elapsed_s: float, total: int) -> dict[str, object]:
        """Return the figures of a campaign; ``total`` is how many scenarios there are."""
        return {
            "scenarios": self.scenarios,
            "of": total,
            "violations": self.violations,
            "elapsed_s": round(elapsed_s, 1),
            "scenarios_per_s": round(self.scenarios / max(elapsed_s, 0.001)),
            "steps_run": self.steps_run,
            "group_rounds_run": self.rounds_run,
            "healed": self.healed,
            "rounds_to_heal": dict(sorted(self.healed_rounds.items())),
            "final_heights": dict(sorted(self.heights.items())),
        }


class Player:
    """Plays scenarios in the order of their numbers."""

    def __init__(self, enumeration: Enumeration, heal_every: int = HEAL_EVERY) -> None:
        self._heal_every: Final = heal_every
        self._enumeration: Final = enumeration
        self.healed_rounds_extra = HEALED_ROUNDS_EXTRA
        self._worlds: dict[Config, World] = {}
        self._prefix: tuple[object, ...] = ()
        self._states: States | None = ()

    def play(self, number: int, summary: Summary) -> None:
        """Play one scenario."""
        chosen = self._enumeration.scenario(number)
        world = self._worlds.get(chosen.config)
        if world is None:
            world = self._worlds[chosen.config] = World(chosen.config)
        before = world.steps_run, world.rounds_run
        summary.scenarios += 1
        try:
            self._play(world, chosen, number, summary)
        except (Violation, InvariantViolation) as violation:
            summary.violations.append(f"scenario {number}: {violation}\n  {chosen}")
        except Exception as error:
            error.add_note(f"in scenario {number}: {chosen}")
            raise
        summary.steps_run += world.steps_run - before[0]
        summary.rounds_run += world.rounds_run - before[1]

    def _play(self, world: World, chosen: Scenario, number: int, summary: Summary) -> None:
        prefix = (
            chosen.config,
            chosen.leaders[:-1],
            chosen.partitions[:-1],
            chosen.timeouts[:-1],
        )
        world.schedule.leaders[1 : ROUNDS + 2] = chosen.leaders
        if prefix != self._prefix:
            self._prefix, self._states = prefix, None
            states = world.begin()
            for place, partition in enumerate(chosen.partitions[:-1]):
                timeout = chosen.timeouts[place]
                states = world.settle(
                    world.play_round(states, place + 1, partition, timeout=timeout)
                )
            self._states = states
        if self._states is None:
            return  # the history that these scenarios share is reported already
        states = world.play_round(
            self._states, ROUNDS, chosen.partitions[-1], timeout=chosen.timeouts[-1]
        )
        heights = [len(world.facts(states[place]).final) for place in world.honest]
        summary.heights[max(heights)] += 1
        if number % self._heal_every == 0 and world.can_recover:
            summary.healed += 1
            summary.healed_rounds[self._heal(world, states)] += 1

    def _heal(self, world: World, states: States) -> int:
        """Connect everyone; return the rounds until every honest validator finalised a block.

        Raises:
            Violation: it takes too long.
        """
        everyone: Group = tuple(range(len(world.owners)))
        size, leaders = world.net.n, world.schedule.leaders
        target = 1 + max(len(world.facts(states[place]).final) for place in world.honest)
        for extra in range(1, size + self.healed_rounds_extra + 1):
            view = ROUNDS + extra
            leaders[view + 1] = (leaders[view] + 1) % size
            states = world.play_round(states, view, (everyone,))
            if all(len(world.facts(states[place]).final) >= target for place in world.honest):
                return extra
        raise Violation("liveness: healed, and no new block is final")


def play_range(numbers: range, enumeration: Enumeration | None = None) -> Summary:
    """Play scenarios one after another, by default of all configurations.

    Worlds made before cannot be used any more.
    """
    gc.set_threshold(COLLECT_AFTER)
    forget_all()
    summary, player = Summary(), Player(enumeration or Enumeration())
    for number in numbers:
        player.play(number, summary)
    return summary


def pieces(numbers: range) -> Iterator[range]:
    """Yield a range in pieces that workers take in turn and that share little."""
    size = Enumeration().cycle // PIECES_PER_CYCLE
    for first in range(numbers.start, numbers.stop, size):
        yield range(first, min(first + size, numbers.stop))
