"""Enumerated twins: a sample is clean, broken engines are found, and the harness is exact."""

from __future__ import annotations

import pytest

from tests.twins.campaign import Player, Summary, play_range
from tests.twins.mutants import MUTANTS, Mutant, scenarios_to_find
from tests.twins.scenarios import ROUNDS, TURNS, Enumeration, partitions
from tests.twins.world import Config, States, World

SAMPLE = range(2_000, 4_600)
"""Some of every small configuration."""

RANDOM_CHECKS = (0, 331, 2_717, 9_001)
"""Scenarios played with and without memory."""


@pytest.mark.simulation
def test_no_scenario_breaks_an_invariant() -> None:
    """C1, C2: agreement, no honest equivocation, no false evidence, liveness when healed."""
    summary = play_range(SAMPLE)
    assert summary.violations == []
    assert summary.scenarios == len(SAMPLE)
    assert summary.healed > 4
    assert max(summary.heights) >= 3  # something happens


@pytest.mark.simulation
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: str(mutant.name))
def test_a_broken_engine_is_found(mutant: Mutant) -> None:
    _, report = scenarios_to_find(mutant)
    assert report is not None
    assert report.split(": ")[1] in mutant.breaks


@pytest.mark.parametrize("number", RANDOM_CHECKS)
def test_what_is_remembered_is_what_would_happen(number: int) -> None:
    """A scenario gives the same chains alone as after others whose steps it shares."""
    enumeration = Enumeration()
    chosen = enumeration.scenario(number)

    def chains(world: World, states: States, *, settle: bool) -> list[object]:
        world.schedule.leaders[1 : ROUNDS + 2] = chosen.leaders
        for place, partition in enumerate(chosen.partitions):
            timeout = chosen.timeouts[place]
            states = world.play_round(states, place + 1, partition, timeout=timeout)
            if settle:
                states = world.settle(states)
        return [(world.facts(s).view, world.facts(s).final) for s in states]

    shared, alone = World(chosen.config), World(chosen.config)
    start = shared.begin()
    for other in range(3):  # other leaders first: what they leave behind must not be taken
        shared.schedule.leaders[1 : ROUNDS + 2] = [other] * (ROUNDS + 1)
        states = start
        for views, partition in enumerate(chosen.partitions, 1):
            states = shared.play_round(states, views, partition)
    assert chains(shared, start, settle=True) == chains(alone, alone.begin(), settle=False)


def test_the_numbering_takes_every_last_round_once() -> None:
    enumeration = Enumeration((Config(2, 2, 1),))
    first = [enumeration.scenario(number) for number in range(enumeration.cycle)]
    assert len({(s.partitions[-1], s.timeouts[-1], s.leaders[-1]) for s in first}) == len(first)
    assert len({(s.partitions[:-1], s.leaders[:-1]) for s in first}) == 1
    following = enumeration.scenario(enumeration.cycle)
    assert following.partitions[:-1] != first[0].partitions[:-1]


def test_partitions_are_those_into_three_groups_at_most() -> None:
    """Stirling numbers of the second kind: S(5,1) + S(5,2) + S(5,3) = 1 + 15 + 25."""
    found = partitions(5)
    assert len(found) == len(set(found)) == 41
    assert all(sorted(sum(groups, ())) == [0, 1, 2, 3, 4] for groups in found)


def test_every_configuration_has_its_turn() -> None:
    enumeration, seen, number = Enumeration(), set(), 0
    while number < enumeration.cycle:
        seen.add(enumeration.scenario(number).config)
        number += 300
    assert seen == set(TURNS)


def test_a_healed_network_that_cannot_finalise_is_reported() -> None:
    """The check of liveness can fail: with no rounds to heal in, nothing is final in time."""
    player, summary = Player(Enumeration(), heal_every=1), Summary()
    player.healed_rounds_extra = -10
    player.play(0, summary)
    assert "liveness" in summary.violations[0]
