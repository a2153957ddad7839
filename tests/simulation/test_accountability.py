"""What a violation of safety leaves behind: enough signatures to name those who did it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.simulation.invariants import Violation, are_conflicting
from tests.simulation.options import expand
from tests.simulation.signatures import installed
from tests.simulation.simulation import Result, run_phases
from tests.simulation.world import World

FORKING_SEEDS = (1, 10, 11, 18, 28, 31, 32, 38)
"""Seeds in which a dishonest chamber beside an even honest one makes two certificates possible."""


def forked_world(seed: int) -> World | None:
    """Run 2+2 with a dishonest government (condition S broken); None if nothing came of it."""
    options = replace(
        expand(seed),
        government=2,
        commercial=2,
        observers=0,
        joiners=(),
        byzantine=(("g0", "equivocator"), ("g1", "equivocator")),
        whole_chamber=True,
        change_every_ms=0,
        chamber_stops="",
        disk_loss="",
        safety_ms=8_000,
        loss_percent=0,
        crash_every_ms=0,
        partition_every_ms=800,
        transaction_every_ms=50,
        idle_gaps=False,
        evidence=False,
        delay_ms=10,
    )
    world = World(options)
    try:
        with installed(world.scheme):
            run_phases(world, Result(seed))
    except Violation as violation:
        if violation.invariant != "I2":
            raise
        return world
    return None


@pytest.mark.simulation
def test_every_provoked_fork_has_its_culprits_and_accuses_nobody_honest() -> None:
    """I9, CONSENSUS 4.5: the signers of both certificates are at least 2q - n, and all traitors."""
    forks = 0
    for world in filter(None, map(forked_world, FORKING_SEEDS)):
        registry = world.checker.knowledge.registry
        members = registry.epochs[0, 0]
        size = members.everybody.bit_count()
        quorum = 2 * size // 3 + 1
        for view, certified in registry.certified.items():
            for first in certified:
                for second in certified - {first}:
                    if not are_conflicting(first, second):
                        continue
                    statements = registry.statements[view]
                    culprits = statements[first] & statements[second]
                    assert culprits.bit_count() >= 2 * quorum - size
                    assert culprits & ~members.byzantine == 0
                    forks += 1
    assert forks > 0, "without a fork this shows nothing"
