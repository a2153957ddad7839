"""The engine, sentence by sentence: finality and the faults of others (consensus/engine.py)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from consensus.effects import (
    Finalize,
    Halt,
    Penalise,
    Persist,
    ReportEvidence,
)
from consensus.inputs import Received, Verdict, Verified
from consensus.types import CertificateMessage, GetCertificates
from ledger.evidence import are_conflicting
from ledger.types import Digest, Signature, View
from ledger.votes import NULL_VALUE, Value, VoteKind, verify_vote
from tests.unit.consensus.kit import CHAIN_ID, Net, follower, notarize_by_others, verify

NOTARIZE, NULLIFY, FINALIZE = VoteKind.NOTARIZE, VoteKind.NULLIFY, VoteKind.FINALIZE


@pytest.fixture
def net() -> Net:
    return Net()


class TestDeciding:
    """CE1-CE3."""

    def test_a_notarization_leads_to_a_finalize_vote_with_the_certificate(self, net: Net) -> None:
        """P3: the FINALIZE vote is persisted with the notarization it rests on."""
        node = follower(net)
        block = net.block(1)
        node.propose(block)
        notarize_by_others(node, block)
        persisted = [e for e in node.effects if isinstance(e, Persist)]
        assert [v.kind for e in persisted for v in e.votes] == [FINALIZE]
        assert [c.kind for e in persisted for c in e.certificates] == [NOTARIZE]
        assert node.view == 2

    def test_a_quorum_of_finalize_votes_finalises(self, net: Net) -> None:
        node = follower(net)
        block = net.block(1)
        node.propose(block)
        notarize_by_others(node, block)
        node.receive_votes(FINALIZE, 1, block.value, net.others(node.me or 0)[:2])
        (done,) = node.all_of(Finalize)
        assert done.blocks == (block.hash,)
        assert done.certificate.kind is FINALIZE

    def test_a_late_notarization_of_an_old_view_still_gets_a_finalize_vote(self, net: Net) -> None:
        node = follower(net)
        node.judge = None
        block = net.block(1)
        node.propose(block)
        node.receive(CertificateMessage((net.nullification(3),)), net.leader(1))
        node.receive(CertificateMessage((net.notarization(block),)), net.leader(1))
        node.feed(Verified(block.hash, Verdict.VALID))
        assert node.votes_cast() == [(FINALIZE, 1)]
        assert node.view == 4

    def test_a_finalization_finalises_the_path_below_it(self, net: Net) -> None:
        node = follower(net)
        blocks = net.chain(3)
        for block in blocks:
            node.propose(block)
        assert node.finalized(node.history) == []
        node.receive(CertificateMessage((net.finalization(blocks[2]),)), net.leader(1))
        assert node.finalized() == [b.hash for b in blocks]

    def test_no_block_is_finalised_twice(self, net: Net) -> None:
        node = follower(net)
        blocks = net.chain(2)
        for block in blocks:
            node.propose(block)
            node.receive(CertificateMessage((net.finalization(block),)), net.leader(1))
            node.receive(CertificateMessage((net.finalization(block),)), net.leader(2))
        assert node.finalized(node.history) == [b.hash for b in blocks]

    def test_an_invalid_certificate_costs_its_sender_and_changes_nothing(self, net: Net) -> None:
        """C6."""
        node = follower(net)
        bad = msgspec.structs.replace(net.nullification(1), signatures=bytes(64 * 4))
        node.receive(CertificateMessage((bad,)), 0 if node.me else 1)
        assert len(node.all_of(Penalise)) == 1
        assert node.view == 1


def verify_evidence_of(net: Net, evidence: ReportEvidence) -> bool:
    """Tell whether both votes are signed and conflict."""
    votes = (evidence.first, evidence.second)
    return are_conflicting(*votes) and all(
        verify_vote(vote, CHAIN_ID, net.validators, verify) for vote in votes
    )


class TestFaults:
    """EV1, HA1 and votes that no correct node sends."""

    def test_two_proposals_of_a_leader_are_evidence_and_the_first_counts(self, net: Net) -> None:
        """C1: no fork; evidence stored; the view proceeds."""
        node = follower(net)
        first, second = net.block(1), net.block(1, time_ms=9_999)
        node.propose(first)
        node.propose(second)
        (evidence,) = node.all_of(ReportEvidence)
        assert {evidence.first.value, evidence.second.value} == {first.value, second.value}
        assert node.propose(second) == []
        notarize_by_others(node, first)
        assert node.view == 2

    @pytest.mark.parametrize("kind", [NOTARIZE, VoteKind.FINALIZE])
    def test_a_vote_in_a_certificate_is_evidence_against_a_held_vote(
        self, net: Net, kind: VoteKind
    ) -> None:
        """EV1: two processes with one key speak to different peers; only certificates join them."""
        node = follower(net)
        first, second = net.block(1), net.block(1, time_ms=9_999)
        node.propose(second)
        certificate = net.certificate(kind, 1, first.value)
        node.receive(CertificateMessage((certificate,)), net.leader(2))
        (evidence,) = node.all_of(ReportEvidence)
        assert {evidence.first.value, evidence.second.value} == {first.value, second.value}
        assert evidence.first.voter == evidence.second.voter == net.leader(1)
        assert verify_evidence_of(net, evidence)

    def test_a_vote_after_a_certificate_is_evidence_too(self, net: Net) -> None:
        """EV1: whichever comes first, and once."""
        node = follower(net)
        first, second = net.block(1), net.block(1, time_ms=9_999)
        node.receive(CertificateMessage((net.notarization(first),)), net.leader(2))
        assert not node.all_of(ReportEvidence)
        node.propose(second)
        node.receive(net.vote(NOTARIZE, net.leader(1), 1, second.value), net.leader(1))
        (evidence,) = node.all_of(ReportEvidence, node.history)
        assert verify_evidence_of(net, evidence)

    def test_a_certificate_that_agrees_accuses_nobody(self, net: Net) -> None:
        """NOTARIZE and NULLIFY of one view are legal (I9)."""
        node = follower(net)
        block = net.block(1)
        node.propose(block)
        node.receive(CertificateMessage((net.nullification(1),)), net.leader(2))
        node.receive(CertificateMessage((net.notarization(block),)), net.leader(2))
        assert not node.all_of(ReportEvidence, node.history)

    def test_double_votes_are_evidence_once(self, net: Net) -> None:
        """C2."""
        node = follower(net)
        voter = net.leader(2)
        for time_ms in (5_000, 6_000, 7_000):
            value = net.block(1, time_ms=time_ms).value
            node.receive(net.vote(NOTARIZE, voter, 1, value), voter)
        assert len(node.all_of(ReportEvidence, node.history)) == 1

    @pytest.mark.parametrize(
        "changes",
        [
            {"era": 1},
            {"epoch": 1},
            {"voter": 4},
            {"voter": -1},
            {"view": 0},
            {"view": -1},
            {"view": 2**63},
            {"view": 2**64 - 1},
            {"value": NULL_VALUE},
            {"value": Value(View(1), Digest(b"x" * 32))},
        ],
        ids=str,
    )
    def test_ill_formed_votes_are_refused_before_any_work(
        self, net: Net, changes: dict[str, Any]
    ) -> None:
        """C5: wrong era, epoch, view, signer, value: nothing stored, no signature checked."""
        node = follower(net)
        checked: list[object] = []
        node.core.tally._verify = lambda vote: bool(checked.append(vote))  # type: ignore[func-returns-value]
        vote = msgspec.structs.replace(
            net.vote(NOTARIZE, net.leader(1), 1, net.block(1).value), **changes
        )
        node.receive(vote, net.leader(1))
        assert checked == []
        assert len(node.core.tally) == 0

    def test_a_vote_on_the_channel_of_another_must_verify(self, net: Net) -> None:
        """C4 of the deviations: votes travel on their voter's channel."""
        node = follower(net)
        voter, relayer = net.leader(1), net.leader(2)
        vote = net.vote(NULLIFY, voter, 1, signature=Signature(bytes(64)))
        node.receive(vote, relayer)
        assert [e.peer for e in node.all_of(Penalise)] == [net.peer(relayer)]
        assert len(node.core.tally) == 0

    def test_a_forger_on_the_own_channel_is_found_when_it_matters(self, net: Net) -> None:
        node = follower(net)
        one, two, three = net.others(node.me or 0)
        node.receive(net.vote(NULLIFY, one, 1, signature=Signature(bytes(64))), one)
        node.receive(net.vote(NULLIFY, two, 1), two)
        node.receive(net.vote(NULLIFY, three, 1), three)
        assert [e.peer for e in node.all_of(Penalise, node.history)] == [net.peer(one)]

    def test_contradicting_certificates_halt_the_node(self, net: Net) -> None:
        node = follower(net)
        one, two = net.block(1), net.block(1, time_ms=9_999)
        node.receive(CertificateMessage((net.notarization(one),)), net.leader(1))
        node.receive(CertificateMessage((net.notarization(two),)), net.leader(1))
        (halt,) = node.all_of(Halt)
        assert set(halt.certificates) == {net.notarization(one), net.notarization(two)}
        assert node.timers == {}

    def test_nullification_and_finalization_of_one_view_halt_the_node(self, net: Net) -> None:
        node = follower(net)
        node.receive(CertificateMessage((net.nullification(1),)), net.leader(1))
        node.receive(CertificateMessage((net.finalization(net.block(1)),)), net.leader(1))
        assert len(node.all_of(Halt)) == 1

    def test_a_finalization_off_the_chain_halts_the_node(self, net: Net) -> None:
        node = follower(net)
        block = net.block(1)
        node.propose(block)
        node.receive(CertificateMessage((net.finalization(block),)), net.leader(1))
        other = net.block(1, time_ms=9_999)
        node.receive(CertificateMessage((net.finalization(other),)), net.leader(1))
        assert len(node.all_of(Halt)) == 1

    def test_a_finalization_of_a_skipped_view_halts_the_node(self, net: Net) -> None:
        node = follower(net)
        block = net.block(3)
        node.propose(block, [net.nullification(2)])
        node.receive(CertificateMessage((net.finalization(block),)), net.leader(3))
        assert node.finalized() == [block.hash]
        node.receive(CertificateMessage((net.finalization(net.block(1)),)), net.leader(1))
        assert len(node.all_of(Halt)) == 1

    def test_a_halted_node_casts_no_vote_and_keeps_serving(self, net: Net) -> None:
        node = follower(net)
        one, two = net.block(1), net.block(1, time_ms=9_999)
        for block in (one, two):
            node.receive(CertificateMessage((net.notarization(block),)), net.leader(1))
        node.work()
        node.propose(net.block(2, one))
        assert node.votes_cast(node.history) == []
        node.receive(GetCertificates(net.base_header.epoch, View(1), View(1)), net.leader(1))
        assert node.sent(CertificateMessage) == [CertificateMessage((net.notarization(one),))]
        assert node.engine.status().halted == "contradicting certificates"

    def test_another_process_with_the_same_key_stops_this_one(self, net: Net) -> None:
        """C4: the network stays safe, and the operator learns of it."""
        node = follower(net)
        me = node.me or 0
        vote = net.vote(NOTARIZE, me, 1, net.block(1).value)
        node.receive(vote, net.leader(1))
        (halt,) = node.all_of(Halt)
        assert "another process" in halt.reason

    def test_an_own_vote_that_comes_back_is_nothing(self, net: Net) -> None:
        node = follower(net)
        block = net.block(1)
        node.propose(block)
        node.receive(net.vote(NOTARIZE, node.me or 0, 1, block.value), net.leader(1))
        assert node.effects == []

    def test_a_forged_own_vote_is_nothing(self, net: Net) -> None:
        node = follower(net)
        bad = net.vote(
            NOTARIZE, node.me or 0, 1, net.block(1).value, signature=Signature(bytes(64))
        )
        node.receive(bad, net.leader(1))
        assert node.all_of(Halt) == []

    def test_memory_is_bounded_under_junk_votes(self, net: Net) -> None:
        """C2, C16, I10, section 5 row 41: 10^5 votes of one validator over all views."""
        node = follower(net)
        voter = net.leader(1)
        good = net.vote(NOTARIZE, voter, 1, net.block(1).value)
        for i in range(100_000):
            value = Value(View(0), Digest(b"\1" * 28 + i.to_bytes(4, "big")))
            junk = msgspec.structs.replace(good, view=View(1 + i % 4_000), value=value)
            node.engine.step(0, Received(net.peer(voter), junk))
        core = node.core
        assert len(core.tally) <= 17
        assert len(core.proposals) == 0
