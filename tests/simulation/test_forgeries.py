"""Every kind of bad block, one rule broken each, against honest validators."""

from __future__ import annotations

import pytest

from tests.simulation import puppets
from tests.simulation.forgery import FORGERIES
from tests.simulation.stories import Story, calm


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
    for turn in range(70 if needs_lag else 40):
        story.clients.submit(honest[turn % len(honest)])
        story.wait(200)
    for node in story.world.nodes.values():
        node.execution_ms = 1
    assert story.world.faults[f"forged block: {name}"] >= 2
    story.wait_final(story.clients.submit(honest[0]), 30_000, honest)
