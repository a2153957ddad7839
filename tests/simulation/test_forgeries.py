"""Every kind of bad block, one rule broken each, against honest validators."""

from __future__ import annotations

import pytest

from tests.simulation import puppets
from tests.simulation.forgery import FORGERIES
from tests.simulation.stories import Story, calm

TURNS_MAX = 200
"""Transactions until a forger that leads every fifth view has surely forged twice."""


@pytest.mark.parametrize("name", sorted(FORGERIES))
def test_block_that_breaks_one_rule_gets_no_honest_vote(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C8: the checker fails at the first honest vote; the chain grows past the forger's views."""
    monkeypatch.setattr(puppets, "FORGERIES", {name: FORGERIES[name]})
    story = Story(calm(government=3, commercial=2, byzantine=(("g0", "forger"),)))
    needs_lag = name == "V4 not empty behind execution"
    for node in story.world.nodes.values():
        node.execution_ms = 2_000 if needs_lag else 1
    honest = tuple(story.world.nodes)
    for turn in range(TURNS_MAX):
        story.clients.submit(honest[turn % len(honest)])
        story.wait(200)
        if story.world.faults[f"forged block: {name}"] >= 2 and turn > 20:
            break
    for node in story.world.nodes.values():
        node.execution_ms = 1
    assert story.world.faults[f"forged block: {name}"] >= 2
    story.wait_final(story.clients.submit(honest[0]), 30_000, honest)
