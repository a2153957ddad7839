"""The idle policy: nothing without work, everything at once with it (EN2)."""

from __future__ import annotations

import pytest

from consensus.certificates import certificate_hash
from consensus.effects import RequestProposal
from consensus.inputs import Timer, TimerKind
from consensus.timing import Timing
from consensus.types import CertificateMessage
from ledger.types import View
from ledger.votes import NULL_VALUE, VoteKind
from tests.unit.consensus.kit import Block, Driven, Net, follower

NOTARIZE, NULLIFY, FINALIZE = VoteKind.NOTARIZE, VoteKind.NULLIFY, VoteKind.FINALIZE


@pytest.fixture
def net() -> Net:
    return Net()


def finalize(node: Driven, block: Block) -> None:
    """Let a block be proposed, notarized and finalised, and its transactions vanish."""
    if block.view not in node.core.proposals:
        node.propose(block)
    voters = [i for i in node.net.others(node.me or 0) if i != node.net.leader(block.view)]
    node.receive_votes(NOTARIZE, block.view, block.value, voters)
    node.work(pending=False)
    node.receive_votes(FINALIZE, block.view, block.value, voters)


def test_a_node_without_work_has_no_timers_and_sends_nothing(net: Net) -> None:
    """I11, and section 3.10: no views, no blocks, no timers."""
    for me in (None, 0, 1, 2, 3):
        node = Driven(net, me)
        assert node.timers == {}
        assert node.advance(3_600_000) == []
        assert node.view == 1


def test_after_a_block_is_final_and_sealed_the_chain_rests(net: Net) -> None:
    node = follower(net)
    node.work()
    block = net.block(1)
    finalize(node, block)
    seal = net.block(2, block, transaction_count=0, body_bytes=0, executed_height=1)
    node.executed(1)
    node.advance(1_000)
    finalize(node, seal)
    node.executed(2)
    node.advance(100)
    assert node.timers == {}
    assert node.advance(3_600_000) == []
    assert node.engine.status().finalized_height == 2


def test_a_burst_is_followed_by_one_empty_block_that_publishes_the_root(net: Net) -> None:
    """(d): after the seal time, not earlier, and once."""
    node = Driven(net, net.leader(2))
    node.work()
    block = net.block(1)
    finalize(node, block)
    assert node.timer(TimerKind.SEAL) is None, "the root is not known before execution"
    node.executed(1)
    assert node.all_of(RequestProposal, node.advance(999)) == []
    (request,) = node.all_of(RequestProposal, node.advance(1))
    assert request.empty_allowed
    node.built(
        net.block(
            2,
            block,
            transaction_count=0,
            body_bytes=0,
            executed_height=1,
            parent_certificate_hash=certificate_hash(request.parent_certificate),
        )
    )
    own = node.core.proposals[View(2)]
    node.receive_votes(NOTARIZE, 2, own.value, net.others(node.me or 0)[:2])
    node.receive_votes(FINALIZE, 2, own.value, net.others(node.me or 0)[:2])
    node.executed(2)
    assert node.timer(TimerKind.SEAL) is None
    assert node.all_of(RequestProposal, node.advance(10_000)) == []


def test_every_new_block_starts_the_seal_time_anew(net: Net) -> None:
    node = follower(net)
    first = net.block(1)
    finalize(node, first)
    node.executed(1)
    node.advance(900)
    finalize(node, net.block(2, first, executed_height=0))
    node.executed(2)
    assert node.timer(TimerKind.SEAL) == 1_900


def test_work_wakes_a_view(net: Net) -> None:
    """(a)."""
    node = follower(net)
    node.work()
    assert {t.kind for t in node.timers} == {TimerKind.LEAD, TimerKind.VIEW, TimerKind.RETRY}


def test_work_that_vanishes_lets_the_view_rest_again(net: Net) -> None:
    node = follower(net)
    node.work()
    node.work(pending=False)
    assert node.timers == {}


def test_a_proposal_or_a_notarize_vote_wakes_a_view(net: Net) -> None:
    """(f)."""
    for with_proposal in (True, False):
        node = follower(net)
        block = net.block(1)
        if with_proposal:
            node.propose(block)
        else:
            node.receive(net.vote(NOTARIZE, net.leader(2), 1, block.value), net.leader(2))
        assert node.timer(TimerKind.VIEW) is not None


def test_one_nullify_vote_wakes_nobody_a_third_does(net: Net) -> None:
    """(g): one Byzantine node cannot wake the chain."""
    node = follower(net)
    two, three = net.leader(2), net.leader(3)
    node.receive(net.vote(NULLIFY, two, 1), two)
    assert node.timers == {}
    node.receive(net.vote(NULLIFY, three, 1), three)
    assert node.timer(TimerKind.VIEW) is not None


def test_a_notarized_block_that_does_not_become_final_wakes_the_next_view(net: Net) -> None:
    """(c)."""
    node = follower(net)
    block = net.block(1)
    node.propose(block)
    node.receive(CertificateMessage((net.notarization(block),)), net.leader(1))
    assert node.timer(TimerKind.VIEW) is None
    node.advance(2_000)
    assert Timer(TimerKind.VIEW, View(2)) in node.timers


def test_transactions_of_a_nullified_block_are_work(net: Net) -> None:
    """They are in no block that can become final, whoever proposed it."""
    node = follower(net)
    node.propose(net.block(1))
    node.receive(CertificateMessage((net.nullification(1),)), net.leader(1))
    assert node.timer(TimerKind.VIEW) is not None
    block = net.block(2)
    finalize(node, block)
    node.executed(1)
    assert {t.kind for t in node.timers} <= {TimerKind.SEAL, TimerKind.RELAY}


def test_the_beacon_makes_a_block_after_the_idle_time(net: Net) -> None:
    """(e)."""
    node = Driven(net, net.leader(1), timing=Timing(idle_ms=30_000))
    assert node.timers == {Timer(TimerKind.BEAT, View(0)): 30_000}
    assert node.all_of(RequestProposal, node.advance(29_999)) == []
    (request,) = node.all_of(RequestProposal, node.advance(1))
    assert request.empty_allowed


def test_no_waiting_on_the_good_path(net: Net) -> None:
    """Section 5 row 36: an idle chain finalises in a few network delays, without any timer."""
    node = Driven(net, net.leader(1))
    node.now_ms = 1_000_000
    node.work()
    block = net.block(1)
    node.built(block)
    others = net.others(node.me or 0)[:2]
    node.receive_votes(NOTARIZE, 1, block.value, others)
    node.receive_votes(FINALIZE, 1, block.value, others)
    assert node.finalized() == [block.hash]
    assert node.now_ms == 1_000_000


def test_when_a_quorum_returns_after_a_long_halt_the_first_block_is_quick(net: Net) -> None:
    """C14: the view did not run away during an hour of halt, and the next step needs no timer."""
    node = follower(net)
    node.work()
    node.advance(3_600_000)
    assert node.view == 1
    node.receive_votes(NULLIFY, 1, NULL_VALUE, net.others(node.me or 0)[:2])
    block = net.block(2)
    node.propose(block, [net.nullification(1)])
    assert node.votes_cast() == [(NOTARIZE, 2)]
