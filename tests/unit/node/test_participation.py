"""What validators did is counted by key, over epochs and whatever their index becomes."""

from __future__ import annotations

import msgspec

from consensus.leader import leader, leader_order
from ledger.block import Header
from ledger.types import Digest, Epoch, Era, Height, View
from ledger.validators import ValidatorSet
from node.epochs import PresentEpoch
from node.participation import ParticipationLog
from tests.unit.node_api.fakes import FakeNode

NODE = FakeNode()
GENESIS = NODE.chain.require_executed(0).header


def epoch(number: int, validators: ValidatorSet) -> PresentEpoch:
    """Return an epoch of this set."""
    return PresentEpoch(Era(0), Epoch(number), GENESIS, Digest(bytes(32)), validators)


def block(view: int, proposer: int) -> Header:
    """Return the header of a block that this member led."""
    return msgspec.structs.replace(GENESIS, height=Height(view), view=View(view), proposer=proposer)


def test_who_stays_keeps_its_counts_though_its_index_changes() -> None:
    members = NODE.set.members
    log = ParticipationLog(NODE.chain_id, epoch(0, NODE.set))
    log.add(block(1, 1), None)
    log.enter(epoch(1, ValidatorSet(members[1:])))
    log.add(block(1, 0), None)
    assert [record.proposed for record in log.records()] == [2, *[0] * (len(members) - 2)]


def test_who_leaves_begins_anew_when_it_returns() -> None:
    log = ParticipationLog(NODE.chain_id, epoch(0, NODE.set))
    log.add(block(1, 0), None)
    log.enter(epoch(1, ValidatorSet(NODE.set.members[1:])))
    log.enter(epoch(2, NODE.set))
    assert [record.proposed for record in log.records()] == [0] * len(NODE.set)


def test_views_missed_at_the_begin_of_an_epoch_count() -> None:
    """Views restart at 1: the leaders of 1 and 2 let theirs pass."""
    log = ParticipationLog(NODE.chain_id, epoch(0, NODE.set))
    log.add(block(70, 0), None)
    log.enter(epoch(1, NODE.set))
    log.add(block(3, 0), None)
    order = leader_order(NODE.chain_id, Era(0), Epoch(1), NODE.set)
    expected = [0] * len(NODE.set)
    for view in (1, 2):
        expected[leader(order, View(view))] += 1
    assert [record.missed for record in log.records()] == expected
