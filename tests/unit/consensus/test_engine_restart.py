"""The engine after a restart and after a loss of memory (RS1, RS2; section 5 of the design)."""

from __future__ import annotations

import msgspec
import pytest

from consensus.config import Restored
from consensus.effects import Broadcast, Finalize, Halt, Persist, RequestVerification, Send
from consensus.inputs import PeerConnected, TimerKind, Verdict, Verified
from consensus.types import Certificate, CertificateMessage, Proposal, Status, StatusRequest
from ledger.types import Height, View
from ledger.votes import NULL_VALUE, Round, Vote, VoteKind
from tests.unit.consensus.kit import EPOCH, ERA, Driven, Net, follower, notarize_by_others

NOTARIZE, NULLIFY, FINALIZE = VoteKind.NOTARIZE, VoteKind.NULLIFY, VoteKind.FINALIZE
NONCE = b"fresh nonce 1234"


@pytest.fixture
def net() -> Net:
    return Net()


def test_own_votes_are_sent_again_byte_for_byte(net: Net) -> None:
    """Section 5 row 21: signed once, sent as often as needed."""
    node = follower(net)
    block = net.block(1)
    node.propose(block)
    notarize_by_others(node, block)
    before = set(node.sent(Vote, node.history))
    after = node.restart()
    assert set(after.sent(Vote, after.history)) == {v for v in before if v.kind is FINALIZE}
    assert after.signed == 0


def test_a_node_that_gave_up_counts_its_own_vote_after_a_restart(net: Net) -> None:
    """Section 5 row 1: crash after the NULLIFY is on disk; it completes the quorum later."""
    node = follower(net)
    node.work()
    node.advance(800)
    assert node.disk.votes == [net.vote(NULLIFY, node.me or 0, 1)]
    after = node.restart()
    assert after.view == 1
    after.receive_votes(NULLIFY, 1, NULL_VALUE, net.others(node.me or 0)[:2])
    assert after.view == 2


def test_retry_runs_after_a_restart_with_open_votes(net: Net) -> None:
    """Section 5 row 11: a resumed vote has a timer."""
    node = follower(net)
    node.propose(net.block(1))
    after = node.restart()
    assert after.timer(TimerKind.RETRY) is not None
    assert node.disk.votes[0] in after.sent(Vote, after.advance(1_101))


def test_a_new_node_without_votes_does_not_retry(net: Net) -> None:
    assert Driven(net, 0).timer(TimerKind.RETRY) is None


def test_a_restarted_node_does_not_contradict_itself(net: Net) -> None:
    """C3, section 5 row 23."""
    node = follower(net)
    node.propose(net.block(1))
    after = node.restart(lose_unsynced=True)
    after.propose(net.block(1, time_ms=9_999))
    assert after.votes_cast(after.effects) == []


def test_a_restarted_leader_repeats_its_proposal_and_builds_no_second(net: Net) -> None:
    """P4."""
    node = Driven(net, net.leader(1))
    node.work()
    node.built(net.block(1))
    (proposal,) = node.sent(Proposal)
    after = node.restart()
    assert after.sent(Proposal, after.history) == [proposal]
    after.work()
    assert after.signed == 0
    after.feed(PeerConnected(net.peer(net.leader(2))))
    assert after.sent(Proposal) == [proposal]


@pytest.mark.parametrize("lose_unsynced", [False, True])
def test_the_view_is_that_of_votes_certificates_and_the_head(net: Net, lose_unsynced: bool) -> None:
    """RS1: never a view below one that was voted in."""
    node = follower(net)
    for view in (1, 2):
        node.receive(CertificateMessage((net.nullification(view),)), net.leader(1))
    node.work()
    node.advance(800)
    assert node.restart(lose_unsynced=lose_unsynced).view == 3


def test_certificates_count_without_votes(net: Net) -> None:
    node = follower(net)
    node.receive(CertificateMessage((net.nullification(7),)), net.leader(1))
    assert node.restart().view == 8
    assert node.restart(lose_unsynced=True).view == 1


def test_stored_certificates_and_blocks_lead_to_finality_again(net: Net) -> None:
    """RS1, section 5 row 4: finalised and not executed before the crash."""
    node = follower(net)
    blocks = net.chain(2)
    for block in blocks:
        node.propose(block)
        notarize_by_others(node, block)
    node.receive(CertificateMessage((net.finalization(blocks[1]),)), net.leader(1))
    after = node.restart()
    requests = after.all_of(RequestVerification, after.history)
    assert [r.payload for r in requests] == [None, None], "the driver has the whole blocks"
    assert after.finalized(after.history) == [b.hash for b in blocks]


def test_the_head_is_the_executed_one_whatever_is_certified(net: Net) -> None:
    """Section 5 row 4: fin is the tip that is stored, never the view of a later certificate."""
    blocks = net.chain(3)
    restored = Restored(
        finalized=blocks[0].header,
        finalization=net.finalization(blocks[2]),
        blocks=(blocks[1].header, blocks[2].header),
    )
    node = Driven(net, 0, restored=restored)
    assert node.finalized(node.history) == [blocks[1].hash, blocks[2].hash]
    assert node.engine.status().finalized_view == 3


def test_after_a_restart_nothing_at_or_below_the_head_is_signed(net: Net) -> None:
    blocks = net.chain(3)
    node = Driven(net, net.leader(4), restored=Restored(finalized=blocks[2].header))
    assert node.view == 4
    assert node.core.guard.floor == Round(ERA, EPOCH, View(3))


def test_a_channel_starts_with_status_and_open_votes(net: Net) -> None:
    node = follower(net)
    block = net.block(1)
    node.propose(block)
    notarize_by_others(node, block)
    node.feed(PeerConnected(net.peer(net.leader(1))))
    sent = [e.message for e in node.effects if isinstance(e, Send)]
    assert isinstance(sent[0], Status)
    assert (sent[0].view, sent[0].previous_view) == (2, sent[0].notarization)
    assert net.vote(FINALIZE, node.me or 0, 1, block.value) in sent


# --- quarantine (RS2) -----------------------------------------------------------------------------


def amnesiac(net: Net, me: int | None = None) -> Driven:
    restored = Restored(net.base_header, quarantined=True, nonce=NONCE)
    return Driven(net, net.leader(4) if me is None else me, restored=restored)


def answer(net: Net, view: int, proof: Certificate | None, nonce: bytes = NONCE) -> Status:
    return Status(nonce, ERA, EPOCH, View(view), Height(0), proof, None, None)


def test_a_node_that_may_have_forgotten_votes_does_not_vote(net: Net) -> None:
    """C3, section 5 row 24: an old database copy is restored."""
    node = amnesiac(net)
    node.work()
    node.propose(net.block(1))
    node.advance(5_000)
    assert node.signed == 0
    assert node.engine.status().quarantined


def test_it_asks_every_peer_and_asks_again(net: Net) -> None:
    node = amnesiac(net)
    assert node.sent(StatusRequest, node.history) == [StatusRequest(NONCE)] * 3
    assert Broadcast(StatusRequest(NONCE)) in node.advance(1_101)


def test_it_votes_above_the_highest_proven_view_of_a_quorum(net: Net) -> None:
    node = amnesiac(net)
    views = {voter: view for view, voter in enumerate(net.others(node.me or 0), 4)}
    for voter, view in views.items():
        node.receive(answer(net, view, net.nullification(view - 1)), voter)
    highest = max(views.values())
    floor = Round(ERA, EPOCH, View(highest + 1))
    assert [e.sign_floor for e in node.all_of(Persist, node.history)] == [floor]
    assert not node.engine.status().quarantined
    assert not node.core.guard.may_vote(View(highest + 1))
    assert node.core.guard.may_vote(View(highest + 2))


@pytest.mark.parametrize("what", ["two", "same", "stale nonce", "no proof", "proof of another"])
def test_less_than_a_proven_fresh_quorum_ends_no_quarantine(net: Net, what: str) -> None:
    node = amnesiac(net)
    one, two, three = net.others(node.me or 0)
    good = answer(net, 5, net.nullification(4))
    last, channel = {
        "two": (good, two),
        "same": (good, one),
        "stale nonce": (answer(net, 5, net.nullification(4), bytes(16)), three),
        "no proof": (answer(net, 5, None), three),
        "proof of another": (answer(net, 6, net.nullification(4)), three),
    }[what]
    for voter in (one, two):
        node.receive(good, voter)
    node.receive(last, channel)
    assert node.engine.status().quarantined


def test_a_forged_proof_ends_no_quarantine(net: Net) -> None:
    node = amnesiac(net)
    forged = msgspec.structs.replace(net.nullification(4), signatures=bytes(64 * 4))
    for voter in net.others(node.me or 0):
        node.receive(answer(net, 5, forged), voter)
    assert node.engine.status().quarantined


def test_own_votes_of_the_past_do_not_stop_a_quarantined_node(net: Net) -> None:
    node = amnesiac(net)
    node.receive(net.vote(NOTARIZE, node.me or 0, 1, net.block(1).value), net.leader(1))
    assert node.all_of(Halt) == []


def test_a_quarantined_node_follows_the_chain(net: Net) -> None:
    node = amnesiac(net)
    block = net.block(1)
    node.propose(block)
    node.receive(CertificateMessage((net.finalization(block),)), net.leader(1))
    assert node.finalized() == [block.hash]


def test_an_observer_needs_no_quarantine(net: Net) -> None:
    observer = Driven(net, None, restored=Restored(net.base_header, quarantined=True))
    assert not observer.engine.status().quarantined
    block = net.block(1)
    observer.propose(block)
    observer.receive_votes(NOTARIZE, 1, block.value, [net.leader(2), net.leader(3)])
    observer.receive_votes(FINALIZE, 1, block.value, range(3))
    assert observer.finalized(observer.history) == [block.hash]
    assert observer.signed == 0


def test_an_observer_sets_no_timers_of_views(net: Net) -> None:
    observer = Driven(net, None)
    observer.work()
    kinds = {timer.kind for timer in observer.timers}
    assert kinds <= {TimerKind.RETRY}


def test_an_undecided_verdict_after_restart_is_not_lost(net: Net) -> None:
    node = follower(net)
    block = net.block(1)
    node.propose(block)
    notarize_by_others(node, block)
    node.receive(CertificateMessage((net.finalization(block),)), net.leader(1))
    after = node.restart()
    assert after.finalized(after.history) == [block.hash]
    assert not [
        e for e in after.feed(Verified(block.hash, Verdict.VALID)) if isinstance(e, Finalize)
    ]


def test_a_node_in_quarantine_answers_no_request_for_a_status(net: Net) -> None:
    """RS2: it could report too low a view, and another quarantine would rest on that."""
    node = amnesiac(net)
    effects = node.receive(StatusRequest(b"n" * 16), net.others(node.me or 0)[0])
    assert [status.nonce for status in node.sent(Status, effects)] == []


@pytest.mark.parametrize("kind", [NOTARIZE, FINALIZE])
def test_a_vote_it_does_not_remember_stops_a_node(net: Net, kind: VoteKind) -> None:
    """HA1, C3: votes restored from an old copy show in the certificates of others."""
    me = net.leader(3)
    node = Driven(net, me)
    block = net.block(1)
    certificate = net.certificate(kind, 1, block.value, range(net.n))
    node.receive(CertificateMessage((certificate,)), net.leader(2))
    assert "did not make" in (node.engine.status().halted or "")
    assert node.votes_cast(node.history) == []


def test_votes_below_the_sign_floor_are_remembered_by_the_floor(net: Net) -> None:
    """P5: what a final block has settled is forgotten, and that is no sign of a lost disk."""
    me = net.leader(3)
    node = Driven(net, me)
    block = net.block(1)
    node.propose(block)
    node.receive_votes(NOTARIZE, 1, block.value, net.others(me))
    node.receive_votes(FINALIZE, 1, block.value, net.others(me))
    late = net.certificate(NOTARIZE, 1, block.value, range(net.n))
    node.receive(CertificateMessage((late,)), net.leader(2))
    assert node.engine.status().halted is None
