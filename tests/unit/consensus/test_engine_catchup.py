"""The engine and what is missing: relays, retries, answers, fetching (RE1, RE2, AN1, CE2, CE3)."""

from __future__ import annotations

import pytest

from consensus.catchup import FETCH_BY_HASH_MAX
from consensus.effects import (
    Broadcast,
    FetchBlock,
    FetchChain,
    Finalize,
    Halt,
    RequestVerification,
    Send,
)
from consensus.inputs import BlockReceived, TimerKind, Verdict, Verified
from consensus.peers import REPLIES_MAX
from consensus.types import SKIPS_MAX, CertificateMessage, GetCertificates, Proposal, Status
from ledger.types import Height, View
from ledger.votes import NULL_VALUE, Vote, VoteKind
from tests.unit.consensus.kit import EPOCH, ERA, Block, Driven, Net, follower

NOTARIZE, NULLIFY, FINALIZE = VoteKind.NOTARIZE, VoteKind.NULLIFY, VoteKind.FINALIZE


@pytest.fixture
def net() -> Net:
    return Net()


def receive_block(node: Driven, block: Block) -> None:
    node.feed(BlockReceived(block.header, block.parent_certificate))


class TestRelay:
    """RE1."""

    def test_a_certificate_formed_here_goes_to_those_that_did_not_show_it(self, net: Net) -> None:
        node = follower(net)
        block = net.block(1)
        node.propose(block)
        a, b = (i for i in net.others(node.me or 0) if i != net.leader(1))
        node.receive_votes(NOTARIZE, 1, block.value, [a, b])
        node.receive(net.vote(FINALIZE, a, 1, block.value), a)
        node.work()
        node.advance(50)
        relayed = {e.peer for e in node.all_of(Send) if isinstance(e.message, CertificateMessage)}
        assert relayed == {net.peer(b), net.peer(net.leader(1))}, "a showed that it knows it"

    def test_a_certificate_received_is_not_relayed(self, net: Net) -> None:
        node = follower(net)
        node.receive(CertificateMessage((net.nullification(1),)), net.leader(1))
        assert node.timer(TimerKind.RELAY) is None

    def test_finalizations_are_relayed_only_when_the_chain_rests(self, net: Net) -> None:
        """Under load the next proposal carries them."""
        for pending in (True, False):
            node = follower(net)
            node.work(pending=pending)
            block = net.block(1)
            node.propose(block)
            voters = [i for i in net.others(node.me or 0) if i != net.leader(1)]
            node.receive_votes(NOTARIZE, 1, block.value, voters)
            node.receive_votes(FINALIZE, 1, block.value, voters)
            relayed = node.sent(CertificateMessage, node.advance(50))
            kinds = {c.kind for message in relayed for c in message.certificates}
            assert (FINALIZE in kinds) != pending


class TestRetry:
    """RE2."""

    def test_own_votes_are_repeated_while_nothing_becomes_final(self, net: Net) -> None:
        """Section 5 rows 12 and 23: a lost FINALIZE is repeated until the block is final."""
        node = follower(net)
        block = net.block(1)
        node.propose(block)
        voters = [i for i in net.others(node.me or 0) if i != net.leader(1)]
        node.receive_votes(NOTARIZE, 1, block.value, voters)
        mine = net.vote(FINALIZE, node.me or 0, 1, block.value)
        for _ in range(3):
            assert Broadcast(mine) in node.advance(1_101)
        node.receive(CertificateMessage((net.finalization(block),)), voters[0])
        assert Broadcast(mine) not in node.advance(3_000)

    def test_a_lagging_node_is_answered_with_the_finalization(self, net: Net) -> None:
        """Section 5 row 12: all FINALIZE to one node lost, idle chain: final within a retry."""
        ahead, behind = follower(net), Driven(net, net.leader(1 + 2))
        block = net.block(1)
        for node in (ahead, behind):
            node.propose(block)
            node.receive(CertificateMessage((net.notarization(block),)), net.leader(1))
        ahead.receive(CertificateMessage((net.finalization(block),)), net.leader(1))
        repeated = [v for v in behind.sent(Vote, behind.advance(1_101)) if v.kind is FINALIZE]
        (answer,) = ahead.sent(CertificateMessage, ahead.receive(repeated[0], behind.me or 0))
        assert behind.receive(answer, ahead.me or 0)
        assert behind.finalized() == [block.hash]

    def test_the_own_proposal_is_repeated_in_place_of_its_vote(self, net: Net) -> None:
        node = Driven(net, net.leader(1))
        node.work()
        node.built(net.block(1))
        (proposal,) = node.sent(Proposal)
        effects = node.advance(1_101)
        assert node.sent(Proposal, effects) == [proposal]
        assert proposal.leader_vote not in node.sent(Vote, effects)

    def test_retries_are_spread(self, net: Net) -> None:
        times = set()
        for me in range(4):
            node = Driven(net, me)
            node.receive(net.vote(NULLIFY, net.leader(1), 1), net.leader(1))
            node.work()
            times.add(node.timer(TimerKind.RETRY))
        assert len(times) > 2


class TestAnswers:
    """AN1."""

    def test_a_status_from_behind_is_answered_with_what_is_missing(self, net: Net) -> None:
        node = follower(net)
        block = net.block(1)
        node.propose(block)
        certificates = (net.notarization(block), net.finalization(block), net.nullification(2))
        node.receive(CertificateMessage(certificates), net.leader(1))
        behind = Status(b"", ERA, EPOCH, View(1), Height(0), None, None, None)
        node.receive(behind, net.leader(2))
        (answer,) = node.sent(CertificateMessage)
        assert set(answer.certificates) == set(certificates)
        node.receive(behind, net.leader(2))
        assert node.effects == [], "once per peer, view and quarter of the retry period"

    def test_a_status_from_ahead_moves_this_node(self, net: Net) -> None:
        node = follower(net)
        status = Status(b"", ERA, EPOCH, View(9), Height(3), net.nullification(8), None, None)
        node.receive(status, net.leader(1))
        assert node.view == 9

    def test_a_claimed_height_or_view_without_proof_changes_nothing(self, net: Net) -> None:
        """Section 5 row 28: a peer advertises height 2^60."""
        node = follower(net)
        status = Status(b"", ERA, EPOCH, View(2**60), Height(2**60), None, None, None)
        node.receive(status, net.leader(1))
        assert node.view == 1
        assert node.all_of(FetchChain) == []

    def test_a_stuck_nullifier_is_answered_with_the_certificates_of_its_view(
        self, net: Net
    ) -> None:
        node = follower(net)
        node.receive(CertificateMessage((net.nullification(1),)), net.leader(1))
        node.receive(net.vote(NULLIFY, net.leader(2), 1), net.leader(2))
        assert node.sent(CertificateMessage) == [CertificateMessage((net.nullification(1),))]

    def test_certificates_are_sent_in_pages(self, net: Net) -> None:
        node = follower(net)
        for view in range(1, SKIPS_MAX + 20):
            node.receive(CertificateMessage((net.nullification(view),)), net.leader(1))
        node.receive(GetCertificates(EPOCH, View(3), View(2**64 - 1)), net.leader(2))
        (page,) = node.sent(CertificateMessage)
        assert [c.view for c in page.certificates] == list(range(3, 3 + SKIPS_MAX))

    @pytest.mark.parametrize(("first", "last"), [(5, 4), (-3, 2), (2**64 - 2, 2**64 - 1)])
    def test_senseless_ranges_are_not_answered(self, net: Net, first: int, last: int) -> None:
        node = follower(net)
        node.receive(GetCertificates(EPOCH, View(first), View(last)), net.leader(1))
        assert node.effects == []

    def test_answers_to_one_peer_are_limited(self, net: Net) -> None:
        """No peer can make this node talk without end."""
        node = follower(net)
        for view in range(1, 60):
            node.receive(CertificateMessage((net.nullification(view),)), net.leader(1))
        peer = net.leader(2)
        effects = [
            effect
            for view in range(1, 60)
            for effect in node.receive(GetCertificates(EPOCH, View(view), View(view)), peer)
        ]
        assert len(effects) == REPLIES_MAX
        node.now_ms += 250
        assert node.receive(GetCertificates(EPOCH, View(1), View(1)), peer) != []

    def test_a_peer_far_ahead_is_told_where_this_node_stands(self, net: Net) -> None:
        node = follower(net)
        node.receive(net.vote(NULLIFY, net.leader(1), 1_000), net.leader(1))
        (status,) = node.sent(Status)
        assert status.view == 1


class TestFetching:
    """CE2, CE3 without the blocks."""

    def test_a_notarized_block_that_is_missing_is_fetched_from_its_signers(self, net: Net) -> None:
        node = follower(net)
        block = net.block(1)
        signers = net.others(node.me or 0)
        node.receive(CertificateMessage((net.notarization(block, signers),)), net.leader(1))
        (fetch,) = node.all_of(FetchBlock)
        assert fetch.block_hash == block.hash
        assert set(fetch.peers) == {net.peer(i) for i in signers}
        receive_block(node, block)
        assert (FINALIZE, 1) in node.votes_cast()

    def test_a_fetch_is_made_once_per_retry(self, net: Net) -> None:
        node = follower(net)
        block = net.block(1)
        node.receive(CertificateMessage((net.notarization(block),)), net.leader(1))
        node.work()
        node.receive(CertificateMessage((net.notarization(block),)), net.leader(2))
        assert len(node.all_of(FetchBlock, node.history)) == 1
        assert len(node.all_of(FetchBlock, node.advance(1_101))) == 1

    def test_missing_ancestors_are_fetched_one_by_one(self, net: Net) -> None:
        node = follower(net)
        blocks = net.chain(3)
        node.receive(CertificateMessage((net.finalization(blocks[2]),)), net.leader(1))
        for block in reversed(blocks):
            assert node.all_of(FetchBlock)[-1].block_hash == block.hash
            receive_block(node, block)
        assert node.finalized() == [b.hash for b in blocks]

    def test_a_block_nobody_asked_for_is_ignored(self, net: Net) -> None:
        """Section 5 row 18: data is kept only under a key that was asked for."""
        node = follower(net)
        blocks = net.chain(3)
        receive_block(node, blocks[2])
        assert node.effects == []
        assert len(node.core.tree) == 0

    def test_a_long_gap_is_filled_by_height(self, net: Net) -> None:
        node = follower(net)
        blocks = net.chain(FETCH_BY_HASH_MAX + 4)
        target = net.finalization(blocks[-1])
        node.receive(CertificateMessage((target,)), net.leader(1))
        (fetch,) = node.all_of(FetchChain)
        assert (fetch.first, fetch.target) == (1, target)
        segment = blocks[:10]
        for block in segment:
            receive_block(node, block)
        assert node.finalized(node.history) == []
        node.receive(CertificateMessage((net.finalization(segment[-1]),)), net.leader(1))
        assert node.finalized() == [b.hash for b in segment]
        assert [e.first for e in node.all_of(FetchChain, node.history)] == [1]
        for block in reversed(blocks[10:]):  # few enough to be fetched by hash
            receive_block(node, block)
        assert node.finalized(node.history) == [b.hash for b in blocks]

    def test_the_end_of_a_segment_may_be_known_before_its_blocks(self, net: Net) -> None:
        node = follower(net)
        blocks = net.chain(FETCH_BY_HASH_MAX + 4)
        for certified in (blocks[9], blocks[-1]):
            node.receive(CertificateMessage((net.finalization(certified),)), net.leader(1))
        for block in blocks[:10]:
            receive_block(node, block)
        node.receive(CertificateMessage((net.finalization(blocks[9]),)), net.leader(1))
        assert node.finalized(node.history) == [b.hash for b in blocks[:10]]

    def test_a_lower_finalization_does_not_shorten_a_segment(self, net: Net) -> None:
        """CE3: each certified block on the way is enforced, and the way goes on above it."""
        node = follower(net)
        node.judge = None
        blocks = net.chain(FETCH_BY_HASH_MAX + 9)
        for certified in (blocks[3], blocks[-1]):
            node.receive(CertificateMessage((net.finalization(certified),)), net.leader(1))
        for block in blocks[:4]:
            receive_block(node, block)
        for certified in (blocks[3], blocks[1]):
            node.receive(CertificateMessage((net.finalization(certified),)), net.leader(1))
        node.feed(Verified(blocks[0].hash, Verdict.VALID))
        node.feed(Verified(blocks[1].hash, Verdict.VALID))
        assert [r.block_hash for r in node.all_of(RequestVerification)] == [blocks[2].hash]

    def test_blocks_below_a_finalization_are_final_as_soon_as_they_are_valid(
        self, net: Net
    ) -> None:
        """V3: a block may need the execution of its ancestors before it can be judged."""
        node = follower(net)
        node.judge = None
        blocks = net.chain(2)
        node.receive(CertificateMessage((net.finalization(blocks[1]),)), net.leader(1))
        for block in reversed(blocks):
            receive_block(node, block)
        node.feed(Verified(blocks[0].hash, Verdict.VALID))
        (done,) = node.all_of(Finalize)
        assert done.blocks == (blocks[0].hash,)
        assert done.certificate == net.finalization(blocks[1])
        node.feed(Verified(blocks[1].hash, Verdict.NOT_YET))
        node.executed(1)
        assert [r.block_hash for r in node.all_of(RequestVerification)] == [blocks[1].hash]
        node.feed(Verified(blocks[1].hash, Verdict.VALID))
        assert node.finalized() == [blocks[1].hash]

    def test_a_block_is_judged_after_its_parent(self, net: Net) -> None:
        node = follower(net)
        node.judge = None
        blocks = net.chain(2)
        node.receive(CertificateMessage((net.notarization(blocks[0]),)), net.leader(1))
        node.propose(blocks[1])
        receive_block(node, blocks[0])
        asked = [r.block_hash for r in node.all_of(RequestVerification, node.history)]
        assert asked == [blocks[0].hash]
        node.feed(Verified(blocks[0].hash, Verdict.VALID))
        asked = [r.block_hash for r in node.all_of(RequestVerification)]
        assert asked == [blocks[1].hash]

    @pytest.mark.parametrize("kind", [NOTARIZE, FINALIZE])
    def test_a_certified_whole_block_that_is_invalid_halts_the_node(
        self, net: Net, kind: VoteKind
    ) -> None:
        node = follower(net)
        node.judge = Verdict.INVALID
        block = net.block(1)
        node.receive(CertificateMessage((net.certificate(kind, 1, block.value),)), net.leader(1))
        receive_block(node, block)
        assert len(node.all_of(Halt)) == 1

    def test_a_payload_that_is_not_the_headers_halts_nobody(self, net: Net) -> None:
        """A Byzantine leader sends one header with different payloads."""
        node = follower(net)
        node.judge = Verdict.INVALID
        block = net.block(1)
        node.propose(block)
        assert node.votes_cast() == [(NULLIFY, 1)]
        node.receive(CertificateMessage((net.finalization(block),)), net.leader(2))
        assert [e.block_hash for e in node.all_of(FetchBlock)] == [block.hash]
        node.judge = Verdict.VALID
        receive_block(node, block)
        assert node.all_of(Halt, node.history) == []
        assert node.finalized() == [block.hash]

    def test_a_proposal_that_cannot_be_completed_is_fetched_whole_on_retry(self, net: Net) -> None:
        node = follower(net)
        node.judge = Verdict.NOT_YET
        block = net.block(1)
        node.propose(block)
        node.receive(CertificateMessage((net.notarization(block),)), net.leader(2))
        assert node.all_of(FetchBlock) == []
        effects = node.advance(1_101)
        assert [e.block_hash for e in node.all_of(FetchBlock, effects)] == [block.hash]

    def test_a_header_of_another_view_than_its_certificate_halts_the_node(self, net: Net) -> None:
        node = follower(net)
        block = net.block(1)
        certificate = net.certificate(NOTARIZE, 5, block.value)
        node.receive(CertificateMessage((certificate,)), net.leader(1))
        receive_block(node, block)
        assert len(node.all_of(Halt)) == 1

    def test_null_value_is_no_block(self, net: Net) -> None:
        node = follower(net)
        node.receive(CertificateMessage((net.nullification(1),)), net.leader(1))
        assert node.all_of(FetchBlock) == []
        assert net.nullification(1).value == NULL_VALUE

    def test_a_block_that_comes_after_it_was_finalised_is_ignored(self, net: Net) -> None:
        node = follower(net)
        blocks = net.chain(2)
        node.receive(CertificateMessage((net.finalization(blocks[0]),)), net.leader(1))
        node.propose(blocks[0])
        receive_block(node, blocks[0])
        assert node.finalized(node.history) == [blocks[0].hash]
        receive_block(node, blocks[0])
        node.propose(blocks[1])
        node.receive(CertificateMessage((net.notarization(blocks[1]),)), net.leader(1))
        assert node.all_of(Halt, node.history) == []
        assert (FINALIZE, 2) in node.votes_cast()
