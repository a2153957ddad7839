"""Every kind of bad block, one rule broken each, against honest validators."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from ledger.types import Digest, View
from tests.simulation import puppets
from tests.simulation.forgery import FORGERIES, OF_PROPOSALS, Workshop
from tests.simulation.puppets import Forger
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


@pytest.mark.parametrize("name", sorted(OF_PROPOSALS))
def test_valid_block_that_one_node_is_offered_badly_may_be_voted_for(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong with one proposal of a block is not wrong with the block."""
    offered: set[Digest] = set()

    def lead(self: Forger, view: View) -> None:
        draft = self.draft(view)
        if draft is None:
            return
        bad = FORGERIES[name](draft, Workshop(self.world, self.random))
        if bad is not None:
            offered.add(self.conspiracy.add_block(draft.block))
            self.propose(replace(bad, corruption=name), view, self.peers[:1])
        self.propose(draft, view, self.peers[1:])

    monkeypatch.setattr(Forger, "lead", lead)
    story = Story(calm(government=3, commercial=2, byzantine=(("g0", "forger"),)))
    honest = tuple(story.world.nodes)
    for turn in range(TURNS_MAX):
        story.wait_final(story.clients.submit(honest[turn % len(honest)]), 30_000, honest)
        if not offered.isdisjoint(story.world.checker.knowledge.chain):
            return
    pytest.fail("no block that was offered in both ways became final")
