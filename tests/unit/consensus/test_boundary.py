"""The end of an epoch: boundary blocks, their repetition, and the closed engine (V5, EP1-EP4)."""

from __future__ import annotations

import msgspec
import pytest

from consensus.effects import (
    FetchBlock,
    Finalize,
    Halt,
    Penalise,
    RequestProposal,
    RequestVerification,
    Send,
    SetTimer,
)
from consensus.errors import InvalidHeader
from consensus.inputs import BlockReceived, PeerConnected, TimerKind, Verdict
from consensus.timing import Timing
from consensus.types import CertificateMessage, GetProposal, Proposal, Status, StatusRequest
from consensus.validity import EpochRules, check_header
from ledger.types import Digest, Height, View
from ledger.votes import NULL_VALUE, Value, VoteKind
from tests.unit.consensus.kit import EPOCH, ERA, Block, Driven, Net, follower, validators

NET = Net(2, 2)
FOLLOWING = validators(3, 2)
SKIP = NET.nullification(1, NET.others(NET.leader(4)))
RULES = EpochRules(ERA, EPOCH, NET.validators, NET.order, NET.base.hash)


def with_boundary(net: Net, view: int = 1) -> tuple[Driven, Block]:
    """Return a node that has voted for a boundary block of view 1 and seen it notarized."""
    node = follower(net)
    boundary = net.boundary(view, None, FOLLOWING)
    node.propose(boundary)
    node.receive(CertificateMessage((net.notarization(boundary),)), net.leader(2))
    return node, boundary


def closed(net: Net) -> tuple[Driven, Block]:
    """Return a node that has finalised the boundary block of view 1."""
    node, boundary = with_boundary(net)
    node.receive(CertificateMessage((net.finalization(boundary),)), net.leader(2))
    assert node.finalized(node.history) == [boundary.hash]
    return node, boundary


class TestValidity:
    def test_a_boundary_block_is_a_valid_child(self) -> None:
        boundary = NET.boundary(1, None, FOLLOWING)
        check_header(boundary.header, NET.base_header, NET.base.hash, RULES)

    @pytest.mark.parametrize("field", ["transaction_count", "body_bytes"])
    def test_a_boundary_block_has_no_transactions(self, field: str) -> None:
        """V5."""
        boundary = NET.boundary(1, None, FOLLOWING, **{field: 1})
        with pytest.raises(InvalidHeader, match="V5"):
            check_header(boundary.header, NET.base_header, NET.base.hash, RULES)

    def test_nothing_is_built_on_a_boundary_block_in_its_epoch(self) -> None:
        """V5, bugs 14 and 15: heights after the end of an epoch belong to the next one."""
        boundary = NET.boundary(1, None, FOLLOWING)
        child = NET.block(2, boundary, transaction_count=0, body_bytes=0)
        with pytest.raises(InvalidHeader, match="V5"):
            check_header(child.header, boundary.header, boundary.hash, RULES)

    def test_the_base_of_an_epoch_is_a_boundary_block_with_children(self) -> None:
        boundary = NET.boundary(1, None, FOLLOWING)
        later = Net(members=FOLLOWING, after=boundary)
        rules = EpochRules(ERA, later.epoch, later.validators, later.order, boundary.hash)
        first = later.block(1)
        check_header(first.header, boundary.header, boundary.hash, rules)

    def test_the_voters_of_a_child_give_the_view_up(self) -> None:
        net = Net(2, 2)
        node, boundary = with_boundary(net)
        node.propose(net.block(2, boundary, transaction_count=0, body_bytes=0))
        assert (VoteKind.NULLIFY, 2) in node.votes_cast()
        assert (VoteKind.NOTARIZE, 2) not in node.votes_cast(node.history)


class TestRepetition:
    def test_the_next_leader_repeats_the_boundary_block(self) -> None:
        """EP2: bugs 14 and 33: the same bytes, and no block of its own."""
        net = Net(2, 2)
        node = Driven(net, net.leader(2))
        boundary = net.boundary(1, None, FOLLOWING)
        node.propose(boundary)
        node.receive(CertificateMessage((net.notarization(boundary),)), net.leader(1))
        node.work()
        node.advance(50)
        [proposal] = node.sent(Proposal)
        assert proposal.header == boundary.header
        assert (proposal.view, proposal.value) == (2, Value(View(1), boundary.hash))
        assert proposal.payload == b""
        assert proposal.parent_certificate == net.notarization(boundary)
        assert not node.all_of(RequestProposal, node.history)
        assert proposal.leader_vote in node.disk.votes
        assert proposal in node.disk.proposals
        assert boundary.hash in node.disk.blocks

    def test_without_transactions_it_is_repeated_when_it_does_not_become_final(self) -> None:
        """Reason (c): a chain never rests on an unfinished boundary."""
        net = Net(2, 2)
        node = Driven(net, net.leader(2))
        boundary = net.boundary(1, None, FOLLOWING)
        node.propose(boundary)
        node.receive(CertificateMessage((net.notarization(boundary),)), net.leader(1))
        node.advance(3_000)
        assert node.sent(Proposal, node.history)[0].header == boundary.header

    def test_a_repeated_block_is_voted_for_in_its_new_view(self) -> None:
        """EP3."""
        net = Net(2, 2)
        node, boundary = with_boundary(net)
        node.receive(net.repeated(boundary, 2), net.leader(2))
        assert (VoteKind.NOTARIZE, 2) in node.votes_cast()
        assert node.disk.votes[-1].value == Value(View(1), boundary.hash)
        assert not node.all_of(RequestVerification)

    def test_a_node_that_does_not_have_the_block_fetches_it(self) -> None:
        """The proposal's certificate proves that others have it."""
        net = Net(2, 2)
        node = follower(net)
        boundary = net.boundary(1, None, FOLLOWING)
        node.receive(net.repeated(boundary, 2), net.leader(2))
        assert node.all_of(FetchBlock)[0].block_hash == boundary.hash
        node.feed(BlockReceived(boundary.header, None))
        assert (VoteKind.NOTARIZE, 2) in node.votes_cast()
        assert boundary.hash in node.disk.blocks

    def test_a_repetition_in_a_later_view_needs_the_views_between_nullified(self) -> None:
        """A3 holds for the block itself as the parent."""
        net = Net(2, 2)
        node, boundary = with_boundary(net)
        node.receive(CertificateMessage((net.nullification(2),)), net.leader(2))
        node.receive(net.repeated(boundary, 3), net.leader(3))
        assert (VoteKind.NOTARIZE, 3) in node.votes_cast()

    def test_a_missing_nullification_is_asked_for(self) -> None:
        net = Net(2, 2)
        node = Driven(net, net.leader(3))
        boundary = net.boundary(1, None, FOLLOWING)
        node.propose(boundary)
        node.receive(CertificateMessage((net.notarization(boundary),)), net.leader(2))
        node.receive(CertificateMessage((net.nullification(3),)), net.leader(2))
        node.receive(net.repeated(boundary, 4), net.leader(4))
        assert (VoteKind.NOTARIZE, 4) not in node.votes_cast()
        node.receive(CertificateMessage((net.nullification(2),)), net.leader(2))
        assert (VoteKind.NOTARIZE, 4) in node.votes_cast()

    def test_an_ordinary_block_is_never_repeated(self) -> None:
        """EP3: its leader has broken the rules, so the view is given up at once."""
        net = Net(2, 2)
        node = follower(net)
        block = net.block(1)
        node.propose(block)
        node.receive(CertificateMessage((net.notarization(block),)), net.leader(2))
        node.receive(net.repeated(block, 2), net.leader(2))
        assert node.votes_cast() == [(VoteKind.NULLIFY, 2)]

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"payload": b"set"}, "payload_mismatch"),
            ({"parent_certificate": None}, "parent_certificate_mismatch"),
            ({"parent_certificate": SKIP}, "parent_certificate_mismatch"),
        ],
    )
    def test_what_the_leader_did_not_sign_is_checked(
        self, changes: dict[str, object], reason: str
    ) -> None:
        net = Net(2, 2)
        node, boundary = with_boundary(net)
        repeated = msgspec.structs.replace(net.repeated(boundary, 2), **changes)
        node.receive(repeated, net.leader(2))
        assert [effect.reason for effect in node.all_of(Penalise)] == [reason]
        node.receive(net.repeated(boundary, 2), net.leader(2))
        assert (VoteKind.NOTARIZE, 2) in node.votes_cast()

    def test_a_certificate_of_another_view_does_not_stand_for_the_value(self) -> None:
        net = Net(2, 2)
        node, boundary = with_boundary(net)
        wrong = net.certificate(VoteKind.NOTARIZE, 2, Value(View(1), boundary.hash))
        repeated = net.repeated(boundary, 3)
        node.receive(msgspec.structs.replace(repeated, parent_certificate=wrong), net.leader(3))
        assert node.all_of(Penalise)[0].reason == "parent_certificate_mismatch"

    def test_a_repetition_becomes_final_in_its_own_view(self) -> None:
        """Bug 10: the finalization of any view of the boundary block finalises it."""
        net = Net(2, 2)
        node, boundary = with_boundary(net)
        value = Value(View(1), boundary.hash)
        node.receive(net.repeated(boundary, 2), net.leader(2))
        voters = net.others(node.me or 0)
        node.receive_votes(VoteKind.NOTARIZE, 2, value, voters)
        assert (VoteKind.FINALIZE, 2) in node.votes_cast(node.history)
        node.receive_votes(VoteKind.FINALIZE, 2, value, voters)
        [final] = node.all_of(Finalize, node.history)
        assert (final.blocks, final.certificate.view) == ((boundary.hash,), 2)

    def test_finalizations_of_several_views_do_not_contradict(self) -> None:
        net = Net(2, 2)
        node, boundary = with_boundary(net)
        value = Value(View(1), boundary.hash)
        third = net.certificate(VoteKind.FINALIZE, 3, Value(View(2), boundary.hash))
        node.receive(CertificateMessage((third,)), net.leader(2))
        second = net.certificate(VoteKind.FINALIZE, 2, value)
        fourth = net.certificate(VoteKind.FINALIZE, 4, Value(View(3), boundary.hash))
        node.receive(CertificateMessage((second, fourth)), net.leader(2))
        assert node.core.halted is None
        assert len(node.all_of(Finalize, node.history)) == 1

    def test_a_certificate_that_repeats_an_ordinary_block_halts_the_node(self) -> None:
        """HA1: no quorum with an honest member signs that."""
        net = Net(2, 2)
        node = follower(net)
        block = net.block(1)
        node.propose(block)
        false = net.certificate(VoteKind.NOTARIZE, 2, Value(View(1), block.hash))
        node.receive(CertificateMessage((false,)), net.leader(2))
        assert node.all_of(Halt)

    def test_a_leader_that_restarts_repeats_its_repetition(self) -> None:
        """P4, bug 16: byte for byte, from disk."""
        net = Net(2, 2)
        node = Driven(net, net.leader(2))
        boundary = net.boundary(1, None, FOLLOWING)
        node.propose(boundary)
        node.receive(CertificateMessage((net.notarization(boundary),)), net.leader(1))
        node.work()
        node.advance(50)
        [proposal] = node.sent(Proposal)
        again = node.restart()
        assert again.sent(Proposal) == [proposal]

    def test_a_voter_repeats_the_proposal_for_others(self) -> None:
        net = Net(2, 2)
        node, boundary = with_boundary(net)
        node.receive(net.repeated(boundary, 2), net.leader(2))
        node.receive(GetProposal(EPOCH, View(2)), net.leader(1))
        [sent] = node.sent(Proposal)
        assert sent.parent_certificate == net.notarization(boundary)


class TestClosed:
    def test_a_closed_engine_waits_for_nothing(self) -> None:
        """EP4: no timer runs but the relay of what was formed here."""
        net = Net(2, 2)
        node, _ = closed(net)
        node.work()
        assert {timer.kind for timer in node.timers} <= {TimerKind.RELAY}
        assert node.engine.status().closed
        assert not node.engine.status().active
        node.advance(60_000)
        assert not node.timers

    def test_the_beacon_stops_and_later_views_are_not_entered(self) -> None:
        """EP4: certificates of stragglers' views change nothing."""
        net = Net(2, 2)
        node = follower(net, Timing())
        boundary = net.boundary(1, None, FOLLOWING)
        node.work()
        node.propose(boundary)
        node.receive(CertificateMessage((net.finalization(boundary),)), net.leader(2))
        assert not node.timers
        view = node.view
        node.receive(CertificateMessage((net.nullification(2),)), net.leader(2))
        assert node.view == view
        assert not node.timers

    def test_the_guard_signs_nothing_more(self) -> None:
        """EP4: below everything else, the only code that signs refuses."""
        net = Net(2, 2)
        node, _ = closed(net)
        assert not node.core.guard.may_vote(View(9))

    def test_a_closed_engine_votes_for_nothing(self) -> None:
        """EP4, bug 14: not even in views after the finalization."""
        net = Net(2, 2)
        node, boundary = closed(net)
        node.receive(net.repeated(boundary, 2), net.leader(2))
        node.receive(net.vote(VoteKind.NULLIFY, net.leader(2), 2), net.leader(2))
        node.receive(CertificateMessage((net.nullification(2),)), net.leader(2))
        node.receive_votes(VoteKind.NULLIFY, 3, NULL_VALUE, net.others(node.me or 0))
        node.advance(30_000)
        late = [vote for vote in node.votes_cast(node.history) if vote[1] > 1]
        assert late == []
        assert not node.all_of(SetTimer)

    @pytest.mark.parametrize("view", [1, 2, 9])
    @pytest.mark.parametrize("kind", list(VoteKind))
    def test_every_vote_of_the_epoch_is_answered_with_its_end(
        self, kind: VoteKind, view: int
    ) -> None:
        """EP4, bug 3: who is left in the epoch needs one certificate and nothing else."""
        net = Net(2, 2)
        node, boundary = closed(net)
        node.advance(5_000)
        value = NULL_VALUE if kind is VoteKind.NULLIFY else Value(View(view - 1), boundary.hash)
        node.receive(net.vote(kind, net.leader(2), view, value), net.leader(2))
        [sent] = node.all_of(Send)
        assert sent.message == CertificateMessage((net.finalization(boundary),))

    def test_a_proposal_and_a_status_are_answered_too(self) -> None:
        net = Net(2, 2)
        node, boundary = closed(net)
        node.advance(5_000)
        node.receive(net.repeated(boundary, 2), net.leader(2))
        assert node.sent(CertificateMessage)
        status = Status(b"", ERA, EPOCH, View(2), Height(0), net.nullification(1), None, None)
        node.receive(status, net.leader(3))
        assert node.sent(CertificateMessage)

    def test_another_block_finalised_after_the_boundary_is_a_contradiction(self) -> None:
        """HA1, bug 14: the boundary block is the last of its epoch."""
        net = Net(2, 2)
        node, _ = closed(net)
        other = net.block(2)
        node.receive(CertificateMessage((net.finalization(other),)), net.leader(2))
        assert node.all_of(Halt)

    def test_a_repetition_notarized_before_the_end_asks_for_nothing_after_it(self) -> None:
        """Found by the property test: the final block was looked for among those that are not."""
        net = Net(2, 2)
        node, boundary = with_boundary(net)
        again = net.certificate(VoteKind.NOTARIZE, 2, Value(View(1), boundary.hash))
        node.receive(net.repeated(boundary, 2), net.leader(2))
        node.receive(CertificateMessage((again, net.finalization(boundary))), net.leader(2))
        assert node.finalized(node.history) == [boundary.hash]
        assert not node.all_of(Halt)

    def test_another_block_finalised_before_the_end_is_known_is_a_contradiction_too(self) -> None:
        """HA1: whichever finalization comes first."""
        net = Net(2, 2)
        node, boundary = with_boundary(net)
        other = net.finalization(net.block(3))
        node.receive(CertificateMessage((other,)), net.leader(2))
        assert not node.all_of(Halt)
        node.receive(CertificateMessage((net.finalization(boundary),)), net.leader(2))
        assert node.all_of(Halt)

    def test_a_forged_finalization_is_no_contradiction(self) -> None:
        net = Net(2, 2)
        node, _ = closed(net)
        other = Value(View(1), Digest(b"x" * 32))
        forged = msgspec.structs.replace(
            net.certificate(VoteKind.FINALIZE, 2, other), signatures=bytes(64 * 3)
        )
        node.receive(CertificateMessage((forged,)), net.leader(2))
        assert not node.all_of(Halt)
        assert node.all_of(Penalise)

    def test_the_closing_finalization_is_relayed(self) -> None:
        """RE1: under load a finalization travels with the next proposal; here there is none."""
        net = Net(2, 2)
        node, boundary = with_boundary(net)
        node.work()
        voters = net.others(node.me or 0)
        node.receive_votes(VoteKind.FINALIZE, 1, boundary.value, voters)
        node.advance(50)
        relayed = [m.certificates for m in node.sent(CertificateMessage)]
        assert any(c.kind is VoteKind.FINALIZE for found in relayed for c in found)

    def test_a_restart_before_execution_closes_again(self) -> None:
        """Bug 16: the head is below the boundary block, its finalization is on disk."""
        net = Net(2, 2)
        node, boundary = closed(net)
        again = node.restart()
        assert again.finalized() == [boundary.hash]
        assert again.engine.status().closed
        assert not again.timers

    def test_a_new_channel_is_greeted_with_the_end(self) -> None:
        net = Net(2, 2)
        node, boundary = closed(net)
        node.feed(PeerConnected(net.peer(net.leader(2))))
        [status] = node.sent(Status)
        assert status.finalization == net.finalization(boundary)

    def test_a_request_for_status_is_answered(self) -> None:
        net = Net(2, 2)
        node, _ = closed(net)
        node.receive(StatusRequest(bytes(16)), net.leader(2))
        assert node.sent(Status)


class TestApplication:
    def test_the_set_is_judged_by_the_application(self) -> None:
        """V5: which set is right depends on execution."""
        net = Net(2, 2)
        node = follower(net)
        node.judge = Verdict.INVALID
        node.propose(net.boundary(1, None, FOLLOWING))
        assert node.votes_cast() == [(VoteKind.NULLIFY, 1)]

    def test_a_set_that_this_node_has_not_seen_scheduled_is_waited_for(self) -> None:
        """Bug 37: nodes execute at different times."""
        net = Net(2, 2)
        node = follower(net)
        node.judge = Verdict.NOT_YET
        node.propose(net.boundary(1, None, FOLLOWING))
        assert node.votes_cast() == []
        node.judge = Verdict.VALID
        node.executed(0)
        assert node.votes_cast() == [(VoteKind.NOTARIZE, 1)]
