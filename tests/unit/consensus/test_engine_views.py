"""The engine, sentence by sentence: views, proposals and votes (consensus/engine.py)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from consensus.certificates import certificate_hash
from consensus.effects import (
    Penalise,
    Persist,
    RequestProposal,
    RequestVerification,
    Send,
)
from consensus.inputs import TimerKind, Verdict, Verified
from consensus.types import CertificateMessage, GetCertificates, GetProposal, Proposal
from ledger.block import block_hash
from ledger.errors import InvariantViolation
from ledger.types import Digest, Signature, View
from ledger.votes import NULL_VALUE, Value, Vote, VoteKind
from tests.unit.consensus.kit import CHAIN_ID, Block, Driven, Net, follower, notarize_by_others

NOTARIZE, NULLIFY, FINALIZE = VoteKind.NOTARIZE, VoteKind.NULLIFY, VoteKind.FINALIZE


@pytest.fixture
def net() -> Net:
    return Net()


class TestEnteringViews:
    """EN1."""

    def test_a_new_node_is_in_view_one(self, net: Net) -> None:
        assert Driven(net, 0).view == 1

    @pytest.mark.parametrize("kind", list(VoteKind))
    def test_any_certificate_of_a_view_leads_to_the_next(self, net: Net, kind: VoteKind) -> None:
        node = follower(net)
        value = NULL_VALUE if kind is NULLIFY else net.block(1).value
        node.receive(CertificateMessage((net.certificate(kind, 1, value),)), net.leader(1))
        assert node.view == 2

    def test_a_certificate_of_a_far_view_is_enough_without_those_between(self, net: Net) -> None:
        node = follower(net)
        node.receive(CertificateMessage((net.nullification(400),)), net.leader(1))
        assert node.view == 401

    def test_certificates_of_earlier_views_do_not_lead_back(self, net: Net) -> None:
        node = follower(net)
        node.receive(CertificateMessage((net.nullification(5),)), net.leader(1))
        node.receive(CertificateMessage((net.nullification(3),)), net.leader(1))
        assert node.view == 6

    def test_votes_without_quorum_do_not_change_the_view(self, net: Net) -> None:
        node = follower(net)
        node.receive_votes(NULLIFY, 1, NULL_VALUE, net.others(node.me or 0)[:2])
        assert node.view == 1

    def test_timers_of_the_view_end_with_it(self, net: Net) -> None:
        node = follower(net)
        node.work()
        assert node.timer(TimerKind.LEAD) is not None
        node.receive(CertificateMessage((net.nullification(1),)), net.leader(1))
        assert all(t.view != 1 for t in node.timers)


class TestProposing:
    """PR1, PR2."""

    def test_the_leader_asks_for_a_block_at_once_when_there_is_work(self, net: Net) -> None:
        node = Driven(net, net.leader(1))
        node.work()
        (request,) = node.all_of(RequestProposal)
        assert (request.view, request.parent) == (1, net.base_header)
        assert request.parent_certificate is None
        assert request.proposer == node.me
        assert not request.empty_allowed

    def test_others_do_not_ask(self, net: Net) -> None:
        node = follower(net)
        node.work()
        assert node.all_of(RequestProposal) == []

    def test_the_proposal_is_persisted_with_vote_and_block_before_it_leaves(self, net: Net) -> None:
        """P2, P4."""
        node = Driven(net, net.leader(1))
        node.work()
        block = net.block(1)
        effects = node.built(block)
        assert isinstance(effects[0], Persist)
        (proposal,) = node.sent(Proposal)
        assert effects[0].proposal == proposal
        assert effects[0].votes == (proposal.leader_vote,)
        assert effects[0].blocks == (block.hash,)
        assert proposal.leader_vote == net.vote(NOTARIZE, node.me or 0, 1, block.value)

    def test_the_next_leader_builds_on_a_notarized_block_that_is_not_final(self, net: Net) -> None:
        """Pipelining: two delays after the last proposal."""
        node = Driven(net, net.leader(2))
        node.work()
        block = net.block(1)
        node.propose(block)
        node.now_ms = 1_000
        notarize_by_others(node, block)
        (request,) = node.all_of(RequestProposal)
        assert (request.view, request.parent) == (2, block.header)
        assert request.parent_certificate is not None
        assert request.parent_certificate.value == block.value

    def test_the_interval_since_the_parent_is_kept(self, net: Net) -> None:
        """The first block after idle time is immediate, the next waits for the interval."""
        node = Driven(net, net.leader(2))
        node.work()
        block = net.block(1)
        node.propose(block)
        notarize_by_others(node, block)
        assert node.all_of(RequestProposal) == []
        assert node.timer(TimerKind.PROPOSE) == 50
        assert len(node.all_of(RequestProposal, node.advance(50))) == 1

    def test_a_leader_without_block_asks_again_when_work_comes(self, net: Net) -> None:
        node = Driven(net, net.leader(1))
        node.work()
        node.built_nothing(1)
        assert node.all_of(RequestProposal) == []
        assert len(node.all_of(RequestProposal, node.work())) == 1

    def test_a_leader_builds_once_per_view(self, net: Net) -> None:
        node = Driven(net, net.leader(1))
        node.work()
        node.built(net.block(1))
        node.work()
        assert node.all_of(RequestProposal) == []
        assert node.built(net.block(1, time_ms=9_999)) == []

    def test_a_leader_that_gave_the_view_up_does_not_propose_in_it(self, net: Net) -> None:
        node = Driven(net, net.leader(1))
        node.work()
        node.advance(800)
        assert node.votes_cast() == [(NULLIFY, 1)]
        node.built_nothing(1)
        assert node.all_of(RequestProposal, node.work()) == []

    def test_it_builds_above_nullified_views_and_shows_the_nullifications(self, net: Net) -> None:
        """C1 of the deviations: the proposal carries its ancestry."""
        node = Driven(net, net.leader(4))
        node.work()
        block = net.block(1)
        node.propose(block)
        skips = (net.nullification(2), net.nullification(3))
        node.receive(CertificateMessage((net.notarization(block), *skips)), net.leader(1))
        node.advance(100)
        request = node.all_of(RequestProposal, node.history)[-1]
        assert (request.view, request.parent) == (4, block.header)
        node.built(net.block(4, block, parent_certificate_hash=_named(request)))
        (proposal,) = node.sent(Proposal)
        assert proposal.skips == skips
        assert proposal.value.parent_view == 1

    def test_missing_certificates_are_asked_for_before_building(self, net: Net) -> None:
        node = Driven(net, net.leader(4))
        node.work()
        node.receive(CertificateMessage((net.nullification(3),)), net.leader(1))
        assert node.sent(GetCertificates) == [
            GetCertificates(net.base_header.epoch, View(1), View(2))
        ]
        assert node.all_of(RequestProposal) == []

    def test_a_block_of_its_own_that_breaks_a_rule_stops_the_node(self, net: Net) -> None:
        """Section 5 row 31: the leader checks its own block before it votes for it."""
        node = Driven(net, net.leader(1))
        node.work()
        with pytest.raises(InvariantViolation, match="V1: expected height 1"):
            node.built(net.block(1, height=2))
        assert node.signed == 0

    def test_a_single_validator_finalises_alone(self) -> None:
        """C7: n = 1."""
        node = Driven(Net(1, 0), 0)
        node.work()
        block = node.net.block(1)
        node.built(block)
        assert node.finalized() == [block.hash]


def _named(request: RequestProposal) -> Digest:
    return certificate_hash(request.parent_certificate)


class TestVoting:
    """NO1, NO2."""

    def test_a_valid_proposal_is_notarized_after_it_is_persisted(self, net: Net) -> None:
        """P1, P2: vote and body are on disk before the vote leaves."""
        node = follower(net)
        node.judge = None
        block = net.block(1)
        (request,) = [e for e in node.propose(block) if isinstance(e, RequestVerification)]
        assert (request.block_hash, request.payload) == (block.hash, b"payload")
        assert request.source == net.peer(net.leader(1))
        effects = node.feed(Verified(block.hash, Verdict.VALID))
        vote = net.vote(NOTARIZE, node.me or 0, 1, block.value)
        assert effects[0] == Persist(votes=(vote,), blocks=(block.hash,))
        assert node.sent(Vote) == [vote]

    def test_an_invalid_block_is_nullified_at_once(self, net: Net) -> None:
        """Section 5 row 5: no waiting for the timeout."""
        node = follower(net)
        node.judge = Verdict.INVALID
        node.propose(net.block(1))
        assert node.votes_cast() == [(NULLIFY, 1)]

    @pytest.mark.parametrize(
        "changes",
        [
            {"version": 2},
            {"height": 2},
            {"view": 2},
            {"parent_hash": Digest(b"x" * 32)},
            {"proposer": 9},
            {"time_ms": 1_000},
            {"validator_set_hash": Digest(b"x" * 32)},
            {"executed_height": 1},
            {"next_validator_set_hash": Digest(b"x" * 32)},
            {"previous_boundary_hash": Digest(b"x" * 32)},
        ],
        ids=str,
    )
    def test_a_header_that_breaks_a_rule_is_nullified_without_asking(
        self, net: Net, changes: dict[str, Any]
    ) -> None:
        """C8: every field flips the vote; the sender is not punished for one relay."""
        node = follower(net)
        good = net.block(1)
        header = msgspec.structs.replace(good.header, **changes)
        value = Value(View(0), block_hash(CHAIN_ID, header))
        bad = Block(header, value.block_hash, value, None)
        vote = net.vote(NOTARIZE, net.leader(1), 1, value)
        proposal = msgspec.structs.replace(
            net.proposal(good), header=header, value=bad.value, leader_vote=vote
        )
        node.receive(proposal, net.leader(1))
        assert node.votes_cast() == [(NULLIFY, 1)]
        assert node.all_of(RequestVerification) == []
        assert node.all_of(Penalise) == []

    def test_a_view_is_voted_for_once(self, net: Net) -> None:
        node = follower(net)
        node.propose(net.block(1))
        node.propose(net.block(1, time_ms=9_999))
        assert node.votes_cast(node.history) == [(NOTARIZE, 1)]

    def test_an_undecided_verdict_waits_and_is_asked_again_when_something_was_executed(
        self, net: Net
    ) -> None:
        """V2, V3: NOT_YET is not INVALID."""
        node = follower(net)
        node.judge = Verdict.NOT_YET
        node.propose(net.block(1))
        assert node.votes_cast(node.history) == []
        node.judge = Verdict.VALID
        node.executed(0)
        assert node.votes_cast() == [(NOTARIZE, 1)]

    def test_an_undecided_verdict_is_asked_again_on_retry(self, net: Net) -> None:
        node = follower(net)
        node.judge = Verdict.NOT_YET
        node.propose(net.block(1))
        node.judge = Verdict.VALID
        node.advance(1_101)
        assert (NOTARIZE, 1) in node.votes_cast()

    def test_a_late_verdict_counts(self, net: Net) -> None:
        node = follower(net)
        node.judge = None
        block = net.block(1)
        node.propose(block)
        node.feed(Verified(block.hash, Verdict.NOT_YET))
        node.feed(Verified(block.hash, Verdict.VALID))
        assert node.votes_cast() == [(NOTARIZE, 1)]

    def test_missing_ancestry_is_asked_of_the_proposer(self, net: Net) -> None:
        """A3, section 5 rows 2, 3 and 20: the way to skip certificates."""
        node = follower(net)
        block = net.block(3)
        node.receive(CertificateMessage((net.nullification(2),)), net.leader(1))
        node.propose(block)
        request = GetCertificates(net.base_header.epoch, View(1), View(1))
        assert node.all_of(Send) == [Send(net.peer(net.leader(3)), request)]
        node.receive(CertificateMessage((net.nullification(1),)), net.leader(3))
        assert node.votes_cast() == [(NOTARIZE, 3)]

    def test_the_certificates_of_a_proposal_move_a_node_to_its_view(self, net: Net) -> None:
        """NO1: evidence first."""
        node = follower(net)
        node.propose(net.block(2), [net.nullification(1)])
        assert node.view == 2
        assert node.votes_cast() == [(NOTARIZE, 2)]

    def test_a_proposal_whose_ancestry_is_impossible_is_nullified(self, net: Net) -> None:
        """A2: another block is certified in the parent's view."""
        node = follower(net)
        node.propose(net.block(1))
        notarize_by_others(node, net.block(1))
        block = net.block(2)  # on the base, but offered as if that were certified in view 1
        value = Value(View(1), block.hash)
        vote = net.vote(NOTARIZE, net.leader(2), 2, value)
        node.receive(net.proposal(block, value=value, leader_vote=vote), net.leader(2))
        assert node.votes_cast() == [(NULLIFY, 2)]

    def test_a_block_that_names_a_forged_parent_certificate_is_nullified(self, net: Net) -> None:
        """V1: the certificate in the block is verified, even if a genuine one is held."""
        node = follower(net)
        parent = net.block(1)
        node.propose(parent)
        notarize_by_others(node, parent)
        forged = msgspec.structs.replace(net.notarization(parent), signatures=bytes(64 * 4))
        node.propose(net.certified_by(net.block(2, parent), forged))
        assert node.votes_cast() == [(NULLIFY, 2)]

    def test_a_proposal_by_another_than_the_leader_is_refused(self, net: Net) -> None:
        """C5."""
        node = follower(net)
        other = net.leader(2)
        block = net.block(1)
        vote = net.vote(NOTARIZE, other, 1, block.value)
        node.receive(net.proposal(block, leader_vote=vote), other)
        assert len(node.all_of(Penalise)) == 1
        assert node.engine.status().view == 1
        assert node.votes_cast(node.history) == []

    @pytest.mark.parametrize("what", ["signature", "header", "certificate"])
    def test_what_the_leader_did_not_sign_is_refused(self, net: Net, what: str) -> None:
        node = follower(net)
        parent = net.block(1)
        node.propose(parent)
        notarize_by_others(node, parent)
        block = net.block(2, parent)
        proposal = net.proposal(block)
        forged = {
            "signature": net.proposal(
                block,
                leader_vote=msgspec.structs.replace(
                    proposal.leader_vote, signature=Signature(bytes(64))
                ),
            ),
            "header": net.proposal(block, header=net.block(2, parent, time_ms=9_999).header),
            "certificate": net.proposal(
                block, parent_certificate=net.notarization(parent, net.others(net.leader(3)))
            ),
        }[what]
        node.receive(forged, net.leader(2))
        assert len(node.all_of(Penalise)) == 1
        node.propose(block)
        assert (NOTARIZE, 2) in node.votes_cast(), "the genuine proposal still counts"

    def test_a_proposal_that_did_not_come_is_asked_of_a_voter_once(self, net: Net) -> None:
        node = follower(net)
        block = net.block(1)
        first, second = net.others(node.me or 0, net.leader(1))
        node.receive(net.vote(NOTARIZE, first, 1, block.value), first)
        assert node.sent(GetProposal) == [GetProposal(net.base_header.epoch, View(1))]
        node.receive(net.vote(NOTARIZE, second, 1, block.value), second)
        assert node.sent(GetProposal) == []

    def test_a_voter_repeats_the_proposal_it_voted_for(self, net: Net) -> None:
        node = follower(net)
        block = net.block(1)
        node.propose(block)
        node.receive(GetProposal(net.base_header.epoch, View(1)), net.leader(2))
        assert node.sent(Proposal) == [net.proposal(block)]

    def test_a_proposal_nobody_here_voted_for_is_not_repeated(self, net: Net) -> None:
        """I9: what is passed on must be checked, or honest nodes accuse each other."""
        node = follower(net)
        node.judge = Verdict.INVALID
        node.propose(net.block(1))
        node.receive(GetProposal(net.base_header.epoch, View(1)), net.leader(2))
        assert node.sent(Proposal) == []


class TestGivingUp:
    """NU1."""

    def test_without_a_proposal_the_view_is_nullified_when_lead_fires(self, net: Net) -> None:
        node = follower(net)
        node.work()
        assert node.votes_cast(node.advance(799)) == []
        assert node.votes_cast(node.advance(1)) == [(NULLIFY, 1)]

    def test_with_a_proposal_it_is_nullified_when_view_fires(self, net: Net) -> None:
        node = follower(net)
        node.judge = Verdict.NOT_YET
        node.work()
        node.propose(net.block(1))
        assert node.votes_cast(node.advance(1_999)) == []
        assert node.votes_cast(node.advance(1)) == [(NULLIFY, 1)]

    def test_a_leader_that_gives_up_is_followed_at_once(self, net: Net) -> None:
        node = follower(net)
        leader = net.leader(1)
        node.receive(net.vote(NULLIFY, leader, 1), leader)
        assert node.votes_cast() == [(NULLIFY, 1)]

    def test_a_notarize_vote_does_not_hinder_giving_up(self, net: Net) -> None:
        node = follower(net)
        node.propose(net.block(1))
        assert (NULLIFY, 1) in node.votes_cast(node.advance(2_000))

    def test_a_leader_that_cannot_be_heard_is_not_waited_for(self, net: Net) -> None:
        me = net.leader(4)
        node = Driven(net, me, connect=net.others(me, net.leader(1)))
        node.work()
        assert node.votes_cast(node.advance(0)) == [(NULLIFY, 1)]

    def test_without_a_quorum_in_reach_every_leader_is_waited_for(self, net: Net) -> None:
        node = Driven(net, net.leader(4), connect=[])
        node.work()
        assert node.votes_cast(node.advance(799)) == []

    def test_timeouts_grow_with_own_timeouts_and_are_capped(self, net: Net) -> None:
        """C14."""
        node = Driven(net, net.leader(4))
        node.work()
        waits = []
        for view in range(1, 40):
            start = node.now_ms
            while node.view == view and not any(
                vote == (NULLIFY, view) for vote in node.votes_cast(node.advance(50))
            ):
                assert node.now_ms - start < 60_000
            waits.append(node.now_ms - start)
            node.receive(CertificateMessage((net.nullification(view),)), net.leader(1))
        others = [wait for view, wait in enumerate(waits, 1) if net.leader(view) != node.me]
        assert others[0] == 800
        assert max(waits) <= 16_050

    def test_after_giving_up_a_late_notarization_still_moves_on(self, net: Net) -> None:
        """Section 5 row 6; and no FINALIZE is cast in a view that was given up."""
        node = follower(net)
        node.work()
        block = net.block(1)
        node.advance(800)
        node.propose(block)
        node.receive(CertificateMessage((net.notarization(block),)), net.leader(1))
        assert node.view == 2
        assert node.votes_cast(node.history) == [(NULLIFY, 1)]
