"""The tree of unfinalised blocks (consensus/blocks.py)."""

from __future__ import annotations

import pytest

from consensus.blocks import BlockTree, Gap, KnownBlock
from consensus.inputs import Verdict
from ledger.types import View
from tests.unit.consensus.kit import Block, Net

NET = Net()
CHAIN = NET.chain(6)


def known(block: Block, verdict: Verdict | None = None) -> KnownBlock:
    return KnownBlock(block.header, block.parent_certificate, None, None, 0, verdict=verdict)


def tree(*valid: Block) -> BlockTree:
    """Return a tree above genesis with these VALID blocks."""
    found = BlockTree(NET.base.header, NET.base.hash, View(0), NET.base.hash)
    for block in valid:
        found.add(block.hash, known(block, Verdict.VALID))
    return found


def test_the_lowest_block_that_is_not_judged_is_judged_first() -> None:
    found = tree(CHAIN[0])
    for block in CHAIN[1:4]:
        found.add(block.hash, known(block))
    lowest = found.lowest_unsound(CHAIN[3].hash)
    assert isinstance(lowest, tuple)
    assert lowest[0] == CHAIN[1].hash


def test_a_gap_tells_hash_and_height_of_what_is_missing() -> None:
    found = tree(CHAIN[0])
    found.add(CHAIN[3].hash, known(CHAIN[3]))
    assert found.lowest_unsound(CHAIN[3].hash) == Gap(CHAIN[2].hash, CHAIN[2].header.height)
    assert found.lowest_unsound(CHAIN[5].hash) == Gap(CHAIN[5].hash, None)


def test_a_way_that_misses_the_finalised_block_is_a_conflict() -> None:
    found = tree(CHAIN[0])
    found.finalize([CHAIN[0].hash], View(1))
    other = NET.block(2, NET.block(1, time_ms=9_999))
    found.add(other.hash, known(other))
    assert found.lowest_unsound(other.hash) is None


def test_finalising_forgets_what_can_no_longer_be_final() -> None:
    fork = NET.block(3)
    found = tree(*CHAIN[:3], fork)
    headers = found.finalize([b.hash for b in CHAIN[:2]], View(2))
    assert headers == [b.header for b in CHAIN[:2]]
    assert (found.final, found.final_view) == (CHAIN[1].header, 2)
    assert found.get(fork.hash) is None
    assert found.get(CHAIN[2].hash) is not None


@pytest.mark.parametrize("certified", [CHAIN[0], CHAIN[1]])
def test_a_finalization_off_the_chain_is_recognised(certified: Block) -> None:
    found = tree(*CHAIN[:2])
    found.finalize([b.hash for b in CHAIN[:2]], View(2))
    assert not found.contradicts_final(NET.finalization(certified))
    assert found.is_final(NET.finalization(certified))
    other = NET.block(certified.view, time_ms=9_999)
    assert found.contradicts_final(NET.finalization(other))
    assert not found.contradicts_final(NET.notarization(other))


def test_shrinking_leaves_no_valid_block_without_its_path() -> None:
    """I10: the tree is bounded, and what is VALID always has a VALID path."""
    found = tree(*CHAIN)
    found.shrink(4)
    assert len(found) == 4
    assert not any(found.is_sound(b.hash) for b in CHAIN)
    assert found.lowest_unsound(CHAIN[5].hash) == Gap(CHAIN[1].hash, CHAIN[1].header.height)
    found.shrink(4)
    assert len(found) == 4


def test_a_fork_that_lost_is_not_valid_any_more() -> None:
    """What stands on a dropped block conflicts with the chain, also if it was VALID before."""
    lost = NET.block(2, NET.block(1, time_ms=9_999))
    child = NET.block(3, lost)
    found = tree(*CHAIN[:2], NET.block(1, time_ms=9_999), lost, child)
    found.finalize([b.hash for b in CHAIN[:2]], View(2))
    assert not found.is_sound(child.hash)
    assert found.lowest_unsound(child.hash) is None


def test_the_sound_ancestor_is_the_end_of_what_can_be_finalised() -> None:
    found = tree(*CHAIN[:2])
    for block in CHAIN[2:4]:
        found.add(block.hash, known(block))
    assert found.sound_ancestor(CHAIN[3].hash) == CHAIN[1].hash
    assert found.sound_ancestor(CHAIN[5].hash) is None
    assert found.path(CHAIN[1].hash) == [CHAIN[0].hash, CHAIN[1].hash]
