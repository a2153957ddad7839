"""Who takes part after a switch: joiners, leavers, nodes that restart or doubt (EP5, EP8)."""

from __future__ import annotations

import msgspec

from consensus.config import Restored
from consensus.effects import Persist
from consensus.inputs import (
    PeerConnected,
    Received,
)
from consensus.types import (
    Certificate,
    CertificateMessage,
    Status,
    StatusRequest,
)
from ledger.types import Epoch, Height, View
from ledger.votes import Round, VoteKind
from tests.unit.consensus.changes import JOINED, Change, index
from tests.unit.consensus.kit import ERA, Driven, Net, validators


class TestMembership:
    def test_a_joiner_follows_and_votes_from_the_switch_on(self) -> None:
        """An observer of epoch 0 whose key is in the set of epoch 1."""
        change = Change()
        node = change.node(None)
        change.finish(node)
        me = next(
            i
            for i, member in enumerate(change.after.validators)
            if change.before.validators.index_of_key(member.consensus_key) is None
        )
        assert node.votes_cast(node.history) == []
        node.open(change.after, me, change.closing)
        node.propose(change.after.block(1))
        assert node.votes_cast() == [(VoteKind.NOTARIZE, 1)]

    def test_a_leaver_votes_no_more_and_goes_on_serving(self) -> None:
        """Bug 37: a removed validator is an observer, not an error."""
        change = Change(validators(2, 2, first=1))
        leaver = index(change, 0)
        node = change.node(leaver)
        change.finish(node)
        change.switch(node)
        assert node.engine.status().me is None
        first = change.after.block(1)
        signed = node.signed
        node.feed(Received(change.after.peer(0), change.after.proposal(first)))
        final = change.after.finalization(first)
        node.feed(Received(change.after.peer(0), CertificateMessage((final,))))
        assert node.finalized(node.history)[-1] == first.hash
        node.feed(PeerConnected(change.after.peer(1)))
        node.feed(Received(change.after.peer(1), StatusRequest(bytes(16))))
        assert node.sent(Status)
        assert node.signed == signed

    def test_a_key_that_left_cannot_speak_in_the_new_epoch(self) -> None:
        """Bug 17: nor does its channel count as a validator's."""
        change = Change(validators(2, 2, first=1))
        node = change.switched(index(change, 1))
        gone = change.before.peer(index(change, 0))
        vote = change.after.vote(VoteKind.NULLIFY, 0, 1)
        forged = msgspec.structs.replace(vote, signature=bytes(64))
        node.feed(Received(gone, forged))
        assert len(node.core.tally) == 0


class TestRestart:
    """Bug 16: crashes around the switch."""

    def test_records_of_the_old_epoch_are_ignored_in_the_new_one(self) -> None:
        change = Change()
        node = change.node(change.before.leader(4))
        change.finish(node)
        sibling = change.before.block(2)
        higher = change.before.block(3, sibling)
        change.switch(
            node,
            votes=tuple(node.disk.votes),
            certificates=(change.closing, change.before.nullification(2)),
            blocks=(sibling.header, higher.header),
            proposals=(change.before.proposal(higher),),
            finalization=change.closing,
        )
        assert node.engine.view == 1
        assert len(node.core.tree) == 0
        assert len(node.core.tally) == 0
        assert node.core.proposals == {}
        assert node.votes_cast() == []

    def test_a_restart_in_the_new_epoch_knows_its_votes(self) -> None:
        """Views begin anew: own votes of view 1 are above the head though its view is higher."""
        change = Change()
        node = change.node(change.before.leader(4))
        change.before.under_test = [node.me or 0]
        late = change.before.boundary(1, None, JOINED)
        assert late == change.boundary
        change.finish(node)
        change.switch(node)
        first = change.after.block(1)
        node.propose(first)
        assert node.votes_cast() == [(VoteKind.NOTARIZE, 1)]
        again = node.restart(finalized=change.boundary)
        assert again.core.guard.made(View(1), VoteKind.NOTARIZE) is not None
        again.feed(PeerConnected(change.after.peer(change.after.leader(1))))
        other = change.after.block(1, None, time_ms=9_999)
        again.propose(other)
        votes = again.disk.votes
        assert all(vote.value != other.value for vote in votes)

    def test_a_sign_floor_of_the_old_epoch_allows_votes_in_the_new_one(self) -> None:
        change = Change()
        node = change.node(change.before.leader(4))
        change.finish(node)
        change.switch(node, sign_floor=Round(ERA, Epoch(0), View(99)))
        node.propose(change.after.block(1))
        assert (VoteKind.NOTARIZE, 1) in node.votes_cast()

    def test_a_sign_floor_of_the_new_epoch_holds(self) -> None:
        change = Change()
        node = change.node(change.before.leader(4))
        change.finish(node)
        change.switch(node, sign_floor=Round(ERA, Epoch(1), View(1)))
        node.propose(change.after.block(1))
        assert node.votes_cast() == []


class TestQuarantine:
    """EP8: a node that may have forgotten own votes around a switch."""

    NONCE = b"n" * 16

    def status(self, net: Net, view: int = 1, certified: Certificate | None = None) -> Status:
        proof = None if view == 1 else net.nullification(view - 1)
        round_ = (ERA, net.epoch, View(view), Height(0))
        return Status(self.NONCE, *round_, proof, certified, None)

    def doubtful(self, change: Change) -> Driven:
        restored = Restored(change.before.base_header, quarantined=True, nonce=self.NONCE)
        return Driven(change.before, change.before.leader(4), restored=restored)

    def test_it_goes_on_in_the_next_epoch(self) -> None:
        change = Change()
        node = self.doubtful(change)
        change.finish(node)
        change.switch(node)
        assert node.engine.status().quarantined
        node.propose(change.after.block(1))
        assert node.votes_cast() == []
        assert {request.nonce for request in node.sent(StatusRequest, node.history)} == {self.NONCE}

    def test_the_new_set_ends_it(self) -> None:
        change = Change()
        node = self.doubtful(change)
        change.finish(node)
        change.switch(node)
        for peer in change.after.others(node.me or 0):
            node.receive(self.status(change.after), peer)
        assert not node.engine.status().quarantined
        assert node.all_of(Persist, node.history)[-1].sign_floor == Round(ERA, Epoch(1), View(2))

    def test_answers_of_the_old_set_do_not_count_in_the_new_one(self) -> None:
        change = Change()
        node = self.doubtful(change)
        others = change.before.others(node.me or 0)
        node.receive(self.status(change.before), others[0])
        node.receive(self.status(change.before), others[1])
        change.finish(node)
        change.switch(node)
        peers = change.after.others(node.me or 0)
        for peer in peers[:2]:
            node.receive(self.status(change.after), peer)
        assert node.engine.status().quarantined

    def test_it_does_not_end_while_a_boundary_block_may_be_final(self) -> None:
        """The votes that were forgotten may be of the next epoch."""
        change = Change()
        node = self.doubtful(change)
        others = change.before.others(node.me or 0)
        node.propose(change.boundary)
        notarization = change.before.notarization(change.boundary, others)
        node.receive(CertificateMessage((notarization,)), others[0])
        for peer in others:
            node.receive(self.status(change.before, 2), peer)
        assert node.engine.status().quarantined
        node.receive(CertificateMessage((change.closing,)), others[0])
        for peer in others:
            node.receive(self.status(change.before, 2), peer)
        assert node.engine.status().quarantined

    def test_an_unknown_block_may_be_a_boundary_block(self) -> None:
        change = Change()
        node = self.doubtful(change)
        others = change.before.others(node.me or 0)
        block = change.before.block(1)
        notarization = change.before.notarization(block, others)
        for peer in others:
            node.receive(self.status(change.before, 2, notarization), peer)
        assert node.engine.status().quarantined
        node.propose(block)
        for peer in others:
            node.receive(self.status(change.before, 2, notarization), peer)
        assert not node.engine.status().quarantined

    def test_an_observer_in_doubt_is_quarantined_when_it_becomes_a_member(self) -> None:
        """Its key may have voted in the new epoch before the disk was lost."""
        change = Change()
        restored = Restored(change.before.base_header, quarantined=True, nonce=self.NONCE)
        node = Driven(change.before, None, restored=restored)
        change.finish(node)
        assert not node.engine.status().quarantined
        node.open(change.after, 0, change.closing)
        assert node.engine.status().quarantined

    def test_a_node_without_doubt_is_not_quarantined_by_a_switch(self) -> None:
        assert not Change().switched().engine.status().quarantined
