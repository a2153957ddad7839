"""Which scenario has which number: leaders times partitions, round by round.

A scenario is a leader for the first view and, for each round, a partition of the instances into at
most three groups, whether views time out in it, and the leader of the next view. Numbers run
through everything that the last round can be before the rounds before it change; the rounds before
it are taken in an order that jumps, so that any range of numbers is a spread sample.
Configurations take turns.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import cache
from itertools import accumulate
from typing import Final, NamedTuple

from tests.twins.world import Config, Group

ROUNDS: Final = 7
"""Rounds with partitions; known attacks need fewer than twelve protocol rounds of two chained
blocks each, which is less than seven views here."""

GROUPS_MAX: Final = 3

TURNS: Final = (
    *((Config(2, 2, 1), Config(2, 2, 2), Config(3, 1, 1), Config(3, 1, 2)) * 8),
    *((Config(3, 2, 1), Config(3, 2, 2)) * 4),
    Config(4, 3, 1),
    Config(4, 3, 2),
)
"""Configurations in turn. Small networks have fewer last rounds, so they come more often."""

STRIDE: Final = 0x9E3779B97F4A7C15
"""An odd number that is a multiple of no small prime: steps through all histories without order."""

Partition = tuple[Group, ...]


class Scenario(NamedTuple):
    """One scenario."""

    config: Config
    leaders: tuple[int, ...]
    """Of the views 1, 2, ..., one more than there are rounds."""
    partitions: tuple[Partition, ...]
    """Of the rounds."""
    timeouts: tuple[bool, ...]
    """Whether the round is so long that its views time out."""

    def __str__(self) -> str:
        rounds = " ".join(
            "|".join("".join(map(str, group)) for group in partition) + "!" * timeout
            for partition, timeout in zip(self.partitions, self.timeouts, strict=True)
        )
        return f"{self.config}, leaders {self.leaders}, partitions {rounds}"


@cache
def partitions(instances: int) -> tuple[Partition, ...]:
    """Return every partition of the instances into one to three groups."""
    found: list[list[list[int]]] = [[]]
    for place in range(instances):
        grown: list[list[list[int]]] = []
        for groups in found:
            grown += [
                [group + [place] * (i == chosen) for i, group in enumerate(groups)]
                for chosen in range(len(groups))
            ]
            if len(groups) < GROUPS_MAX:
                grown.append([*groups, [place]])
        found = grown
    return tuple(tuple(tuple(group) for group in groups) for groups in found)


def last_rounds(config: Config) -> int:
    """Return how many last rounds a history has: partitions, leaders, and with time-outs or not."""
    size = config.government + config.commercial
    return len(partitions(size + 1)) * size * 2


def histories(config: Config) -> int:
    """Return how many histories there are before the last round."""
    size = config.government + config.commercial
    return int(last_rounds(config) ** (ROUNDS - 1)) * size


class Enumeration:
    """Numbers the scenarios of some configurations that take turns."""

    def __init__(self, turns: tuple[Config, ...] = TURNS) -> None:
        self._turns: Final = turns
        self._ends: Final = tuple(accumulate(last_rounds(config) for config in turns))
        self.cycle: Final = self._ends[-1]
        """Scenarios until the turns begin again."""

    @property
    def total(self) -> int:
        """How many scenarios there are."""
        return sum(histories(config) * last_rounds(config) for config in set(self._turns))

    def scenario(self, number: int) -> Scenario:
        """Return the scenario with this number."""
        cycle, rest = divmod(number, self.cycle)
        turn = bisect_right(self._ends, rest)
        config = self._turns[turn]
        last = rest - (self._ends[turn - 1] if turn else 0)
        turns_before = self._turns[:turn].count(config)
        ordinal = cycle * self._turns.count(config) + turns_before
        history = ordinal * STRIDE % histories(config)
        return _scenario(config, history * last_rounds(config) + last)


def _scenario(config: Config, code: int) -> Scenario:
    size = config.government + config.commercial
    choices = partitions(size + 1)
    leaders, chosen, timeouts = [], [], []
    for _ in range(ROUNDS):
        code, is_short = divmod(code, 2)
        timeouts.append(not is_short)
        code, leader = divmod(code, size)
        code, partition = divmod(code, len(choices))
        leaders.append(leader)
        chosen.append(choices[partition])
    first = code % size
    return Scenario(config, (first, *leaders[::-1]), tuple(chosen[::-1]), tuple(timeouts[::-1]))
