"""From one epoch to the next: what a replica does around the switch (EP5-EP8)."""

from __future__ import annotations

import msgspec
import pytest

from consensus.effects import CancelTimer, FetchChain, RequestProposal, Send
from consensus.inputs import (
    Built,
    Executed,
    PeerConnected,
    PeerDisconnected,
    Received,
    Timer,
    TimerFired,
    TimerKind,
    Verdict,
    Verified,
)
from consensus.replica import CLOSINGS_KEPT, HELD_BACK_CERTIFICATES_MAX, HELD_BACK_MAX
from consensus.types import (
    CertificateMessage,
    ConsensusMessage,
    GetCertificates,
    GetProposal,
    Proposal,
    Status,
)
from ledger.errors import InvariantViolation
from ledger.types import Epoch, Era, Height, View
from ledger.votes import NULL_VALUE, VoteKind
from tests.unit.consensus.changes import Change, index, later_status
from tests.unit.consensus.kit import ERA, Net, validators


class TestSwitch:
    def test_the_new_engine_begins_on_the_boundary_block(self) -> None:
        """EP5: view 1, base is the boundary block, the set is the new one."""
        change = Change()
        node = change.switched()
        status = node.engine.status()
        assert (node.engine.era, node.engine.epoch, node.engine.view) == (0, 1, 1)
        assert (status.finalized_hash, status.finalized_view) == (change.boundary.hash, 0)
        assert status.me == node.me
        assert not status.closed
        assert node.engine.tip == change.boundary.hash

    def test_timers_of_the_old_epoch_are_cancelled(self) -> None:
        """Bug 11: nothing of the old epoch fires in the new one."""
        change = Change()
        node = change.node(change.before.leader(4))
        node.propose(change.boundary)
        voters = change.before.others(node.me or 0)
        node.receive_votes(VoteKind.NOTARIZE, 1, change.boundary.value, voters)
        node.receive_votes(VoteKind.FINALIZE, 1, change.boundary.value, voters)
        assert Timer(TimerKind.RELAY, View(1)) in node.timers
        change.switch(node)
        assert CancelTimer(Timer(TimerKind.RELAY, View(1))) in node.effects
        assert node.core.outbox.timers == node.timers

    def test_peers_are_greeted_with_the_new_epoch(self) -> None:
        change = Change()
        node = change.node(change.before.leader(4))
        change.finish(node)
        change.switch(node)
        others = change.before.others(change.before.leader(4))
        greeted = {e.peer for e in node.all_of(Send) if isinstance(e.message, Status)}
        assert greeted == {change.before.peer(i) for i in others}
        assert {status.epoch for status in node.sent(Status)} == {1}

    def test_work_that_waits_is_known_to_the_new_engine(self) -> None:
        """The driver tells of work only when it changes."""
        change = Change()
        node = change.node(change.before.leader(4))
        node.work()
        change.finish(node)
        change.switch(node)
        assert node.engine.status().work_pending
        assert node.timer(TimerKind.VIEW) is not None

    def test_the_new_set_publishes_its_state_on_an_idle_chain(self) -> None:
        """Reason (d): the boundary block changes the state, so a seal block follows."""
        change = Change()
        node = change.switched(change.before.leader(2))
        assert node.timer(TimerKind.SEAL) is not None

    def test_votes_of_the_new_epoch_are_signed_for_it(self) -> None:
        change = Change()
        node = change.switched()
        first = change.after.block(1)
        node.propose(first)
        vote = node.disk.votes[-1]
        assert (vote.epoch, vote.view, vote.value) == (1, 1, first.value)
        assert vote.voter == node.me

    def test_the_old_set_counts_for_nothing(self) -> None:
        """Bug 17: votes and certificates of a removed validator never help in the new epoch."""
        change = Change(validators(2, 2, first=1))
        node = change.switched(index(change, 1))
        after = change.after
        assert change.place(index(change, 0)) is None
        first = after.block(1)
        node.propose(first)
        old = change.before.certificate(VoteKind.FINALIZE, 1, first.value)
        stale = msgspec.structs.replace(old, epoch=Epoch(1))
        node.feed(Received(change.before.peer(index(change, 0)), CertificateMessage((stale,))))
        assert node.engine.status().finalized_hash == change.boundary.hash
        assert node.engine.status().certified_view == 0

    def test_only_a_later_epoch_can_be_opened(self) -> None:
        change = Change()
        node = change.switched()
        with pytest.raises(InvariantViolation, match="expected an epoch after"):
            change.switch(node)

    @pytest.mark.parametrize("kind", [VoteKind.NOTARIZE, VoteKind.FINALIZE])
    def test_only_the_finalization_of_the_base_opens_an_epoch(self, kind: VoteKind) -> None:
        change = Change()
        node = change.node(change.before.leader(4))
        change.finish(node)
        block = change.boundary if kind is VoteKind.NOTARIZE else change.before.block(3)
        wrong = change.before.certificate(kind, block.view, block.value)
        with pytest.raises(InvariantViolation, match="expected a finalization"):
            node.open(change.after, None, wrong)

    def test_a_halted_node_stays_where_it_is(self) -> None:
        """HA1: stopping for good is not undone by a set change."""
        change = Change()
        node = change.node(change.before.leader(4))
        change.finish(node)
        other = change.before.finalization(change.before.block(2))
        node.receive(CertificateMessage((other,)), change.before.leader(2))
        assert node.engine.status().halted is not None
        assert change.switch(node) == []
        assert node.engine.epoch == 0
        assert node.engine.status().halted is not None

    def test_an_epoch_after_the_next_can_be_reached(self) -> None:
        change = Change()
        node = change.switched()
        second = change.after.boundary(1, None, validators(2, 2))
        node.propose(second)
        closing = change.after.finalization(second)
        node.receive(CertificateMessage((closing,)), change.after.leader(2))
        third = Net(members=validators(2, 2), after=second)
        place = third.validators.index_of_key(change.after.validators[node.me or 0].consensus_key)
        node.open(third, place, closing)
        assert (node.engine.epoch, node.engine.view) == (2, 1)


class TestLateAnswers:
    """Answers to the old engine come to the new one: they must not be mistaken."""

    def test_a_block_built_for_the_old_epoch(self) -> None:
        change = Change()
        node = change.switched(change.before.leader(4))
        leader = next(v for v in range(1, 9) if change.after.leader(v) == node.me)
        for view in range(1, leader):
            skip = change.after.nullification(view)
            node.receive(CertificateMessage((skip,)), change.after.others(node.me or 0)[0])
        node.work()
        node.advance(50)
        assert node.all_of(RequestProposal, node.history)
        stale = change.before.block(leader).header
        node.feed(Built(View(leader), stale, b""))
        assert not node.sent(Proposal)
        node.feed(Built(View(leader), change.after.block(leader).header, b""))
        assert node.sent(Proposal)

    def test_a_verdict_an_execution_and_a_timer(self) -> None:
        change = Change()
        node = change.switched()
        before = node.engine.status()
        node.feed(Verified(change.before.block(3).hash, Verdict.INVALID))
        node.feed(Executed(Height(0)))
        node.feed(TimerFired(Timer(TimerKind.VIEW, View(1))))
        assert node.votes_cast() == []
        assert node.engine.status() == before


class TestStragglers:
    """EP6: peers that are still in an earlier epoch."""

    def test_they_are_answered_with_the_closing_certificate(self) -> None:
        """Bugs 3 and 43: one node that knows the decision brings all others over."""
        change = Change()
        node = change.switched()
        source = change.before.leader(2)
        vote = change.before.vote(VoteKind.NULLIFY, source, 5)
        effects = node.feed(Received(change.before.peer(source), vote))
        assert effects == [Send(change.before.peer(source), CertificateMessage((change.closing,)))]

    def test_the_answer_brings_them_over(self) -> None:
        """Bug 43: the straggler has not even seen the proposal."""
        change = Change()
        node, straggler = change.switched(), change.node(None)
        status = straggler.core.status(b"")
        node.feed(Received(change.before.peer(change.before.leader(3)), status))
        [answer] = node.sent(CertificateMessage)
        straggler.receive(answer, change.before.leader(4))
        assert straggler.core.certificates.finalization == change.closing

    @pytest.mark.parametrize("what", ["status", "proposal", "get proposal"])
    def test_anything_but_a_certificate_is_answered(self, what: str) -> None:
        change = Change()
        node = change.switched()
        source = change.before.leader(2)
        messages: dict[str, ConsensusMessage] = {
            "status": Status(b"", ERA, Epoch(0), View(1), Height(0), None, None, None),
            "proposal": change.before.proposal(change.before.block(2)),
            "get proposal": GetProposal(Epoch(0), View(1)),
        }
        node.feed(Received(change.before.peer(source), messages[what]))
        assert len(node.sent(CertificateMessage)) == 1

    def test_certificates_are_not_answered(self) -> None:
        """Two nodes would answer each other for ever."""
        change = Change()
        node = change.switched()
        message = CertificateMessage((change.closing,))
        assert node.feed(Received(change.before.peer(change.before.leader(2)), message)) == []

    def test_answers_are_limited(self) -> None:
        """Bug 41: a removed validator that talks without end gets four answers a second."""
        change = Change()
        node = change.switched()
        source = change.before.leader(2)
        answers = 0
        for view in range(1, 200):
            vote = change.before.vote(VoteKind.NULLIFY, source, view)
            answers += len(node.feed(Received(change.before.peer(source), vote)))
            node.advance(5)
        assert answers == 4

    def test_unconnected_peers_are_not_answered(self) -> None:
        change = Change()
        node = change.switched()
        peer = change.before.peer(change.before.leader(2))
        node.feed(PeerDisconnected(peer))
        vote = change.before.vote(VoteKind.NULLIFY, change.before.leader(2), 1)
        assert node.feed(Received(peer, vote)) == []

    def test_closings_of_before_a_restart_are_known(self) -> None:
        change = Change()
        node = change.switched()
        again = node.restart(finalized=change.boundary, closings=(change.closing,))
        peer = change.before.peer(change.before.leader(2))
        again.feed(PeerConnected(peer))
        again.feed(Received(peer, change.before.vote(VoteKind.NULLIFY, change.before.leader(2), 1)))
        assert again.sent(CertificateMessage)[0].certificates == (change.closing,)

    def test_closings_are_bounded(self) -> None:
        change = Change()
        node = change.switched()
        many = [msgspec.structs.replace(change.closing, epoch=Epoch(e)) for e in range(200)]
        again = node.restart(finalized=change.boundary, closings=tuple(many))
        assert sorted(place.epoch for place in again.engine._closings) == list(
            range(200 - CLOSINGS_KEPT, 200)
        )


class TestAhead:
    """EP7: peers that are in a later epoch already."""

    def test_what_came_too_early_is_replayed_after_the_switch(self) -> None:
        """Bug 25: messages before the engine that they are for."""
        change = Change()
        node = change.node(change.before.leader(4))
        change.finish(node)
        first = change.after.block(1)
        me = change.place(node.me or 0)
        others = change.after.others(*([] if me is None else [me]))
        leader = change.after.leader(1)
        change.after.under_test = [] if me is None else [me]
        for peer in others:
            node.feed(PeerConnected(change.after.peer(peer)))
        node.feed(Received(change.after.peer(leader), change.after.proposal(first)))
        for voter in others:
            vote = change.after.vote(VoteKind.FINALIZE, voter, 1, first.value)
            node.feed(Received(change.after.peer(voter), vote))
        assert node.engine.epoch == 0
        change.switch(node)
        assert node.finalized() == [first.hash]

    def test_a_hint_asks_the_peer_how_the_epoch_ended(self) -> None:
        """The own status, which the peer answers as a straggler's; nothing is believed."""
        change = Change()
        node = change.node(change.before.leader(4))
        peer = change.before.peer(change.before.leader(2))
        node.feed(Received(peer, later_status(1)))
        assert [e.peer for e in node.all_of(Send)] == [peer]
        assert node.sent(Status)[0].epoch == 0

    def test_a_hint_leads_to_a_request_for_the_chain(self) -> None:
        change = Change()
        node = change.node(change.before.leader(4))
        peer = change.before.peer(change.before.leader(2))
        node.feed(Received(peer, later_status(7)))
        node.advance(1_200)
        assert node.all_of(FetchChain) == [FetchChain(Height(1), None, (peer,))]

    def test_a_hint_wears_off(self) -> None:
        """Bug 28: a lie about the epoch costs some requests to the liar."""
        change = Change()
        node = change.node(change.before.leader(4))
        node.feed(Received(change.before.peer(change.before.leader(2)), later_status(2**60)))
        node.advance(60_000)
        assert len(node.all_of(FetchChain, node.history)) == 8
        assert not node.timers

    def test_a_closed_channel_ends_a_hint(self) -> None:
        change = Change()
        node = change.node(change.before.leader(4))
        peer = change.before.peer(change.before.leader(2))
        node.feed(Received(peer, later_status(7)))
        node.feed(PeerDisconnected(peer))
        node.advance(60_000)
        assert not node.all_of(FetchChain, node.history)

    def test_a_proven_target_comes_before_a_hint(self) -> None:
        change = Change()
        node = change.node(change.before.leader(4))
        node.receive(CertificateMessage((change.closing,)), change.before.leader(2))
        node.feed(Received(change.before.peer(change.before.leader(2)), later_status(1)))
        node.advance(1_200)
        assert not node.all_of(FetchChain)

    def test_a_peer_further_ahead_is_followed_after_the_switch(self) -> None:
        """Several changes behind: one epoch after the other, without another word of the peer."""
        change = Change()
        node = change.node(change.before.leader(4))
        peer = change.before.peer(change.before.leader(2))
        node.feed(Received(peer, later_status(3)))
        change.finish(node)
        change.switch(node)
        node.advance(1_200)
        assert FetchChain(Height(2), None, (peer,)) in node.all_of(FetchChain)

    def test_a_closed_engine_needs_no_hint(self) -> None:
        change = Change()
        node = change.node(change.before.leader(4))
        change.finish(node)
        node.feed(Received(change.before.peer(change.before.leader(2)), later_status(1)))
        node.advance(10_000)
        assert not node.sent(Status)
        assert not node.all_of(FetchChain)

    def test_what_is_held_back_is_bounded(self) -> None:
        """Bug 41: one peer, any number of messages of the next epoch."""
        change = Change()
        node = change.node(change.before.leader(4))
        peer = change.before.peer(change.before.leader(2))
        for view in range(1, 300):
            vote = change.after.vote(VoteKind.NULLIFY, 0, view)
            node.feed(Received(peer, vote))
            node.feed(Received(peer, change.after.proposal(change.after.block(view))))
        held = node.engine._channels[peer]
        assert len(held.others) == HELD_BACK_MAX
        assert held.proposal is not None
        node.feed(PeerDisconnected(peer))
        assert not node.engine._channels.get(peer)

    @pytest.mark.parametrize(("era", "epoch"), [(0, 2), (0, 2**40), (1, 0), (1, 1)])
    def test_only_messages_of_the_next_epoch_are_held_back(self, era: int, epoch: int) -> None:
        change = Change()
        node = change.node(change.before.leader(4))
        peer = change.before.peer(change.before.leader(2))
        vote = change.before.vote(
            VoteKind.NULLIFY, 0, 1, NULL_VALUE, era=Era(era), epoch=Epoch(epoch)
        )
        node.feed(Received(peer, vote))
        assert not node.engine._channels[peer].others

    def test_pages_of_certificates_are_not_held_back(self) -> None:
        """C16: half a megabyte each, and checked all at once when the epoch opens."""
        change = Change()
        node = change.node(change.before.leader(4))
        peer = change.before.peer(change.before.leader(2))
        skip = change.after.nullification(1)
        for count in (HELD_BACK_CERTIFICATES_MAX, HELD_BACK_CERTIFICATES_MAX + 1):
            node.feed(Received(peer, CertificateMessage((skip,) * count)))
        [held] = node.engine._channels[peer].others
        assert isinstance(held, CertificateMessage)
        assert len(held.certificates) == HELD_BACK_CERTIFICATES_MAX

    def test_held_back_messages_are_given_out_once(self) -> None:
        change = Change()
        node = change.node(change.before.leader(4))
        peer = change.before.peer(change.before.leader(2))
        node.feed(Received(peer, GetCertificates(Epoch(1), View(1), View(2))))
        change.finish(node)
        change.switch(node)
        assert not node.engine._channels[peer].others
