"""Single stories, where the random ones would tell too rarely what has to be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from consensus.types import SKIPS_MAX, CertificateMessage, Proposal
from consensus.validity import EXECUTION_LAG_MAX, is_boundary
from ledger.block import Block
from ledger.encoding import StrictDecoder, encode
from ledger.types import Digest, Epoch, Era
from ledger.votes import Round, Vote, VoteKind
from p2p.messages import BLOCK_WIRE_BYTES_MAX, BlockAnswer
from storage.schema import VOTE, round_key
from tests.simulation.faults import quarantine
from tests.simulation.stories import Story, calm

if TYPE_CHECKING:
    from collections.abc import Callable

    from p2p.messages import Message
    from tests.simulation.node import Node

HOUR_MS = 3_600_000
_decode_block = StrictDecoder(Block, BLOCK_WIRE_BYTES_MAX).decode


@pytest.mark.parametrize("idle_ms", [None, 30_000])
def test_first_block_soon_after_an_hour_without_quorum(idle_ms: int | None) -> None:
    """C14, CONSENSUS 5 #34: no timer has grown with the halt, no view was left."""
    story = Story(calm(idle_ms=idle_ms))
    story.wait_final(story.clients.submit(0), 1_000)
    down = [story.world.nodes[2], story.world.nodes[3]]
    for node in down:
        story.world.crash(node, "for an hour")
    story.clients.submit(0)
    height = len(story.world.checker.knowledge.chain)
    story.wait(HOUR_MS)
    assert len(story.world.checker.knowledge.chain) == height
    for node in down:
        story.world.restart(node)
    assert story.wait_final(story.clients.submit(0), 30_000) < 5_000


def test_transaction_on_an_idle_network_is_final_after_four_delays() -> None:
    """CONSENSUS 3.10: gossip, proposal, notarize, finalize; no timer has to fire."""
    story = Story(calm(delay_ms=1, spread_ms=1))
    for link in story.world.net.links.values():
        link.delay_min_ms, link.delay_spread_ms = 10, 0
    story.wait(60_000)
    for index in range(4):
        assert story.wait_final(story.clients.submit(index), 1_000) <= 4 * 10 + 5
        story.wait(10_000)


def test_crash_of_all_nodes_after_a_synced_nullification_leaves_the_view() -> None:
    """CONSENSUS 5 #1: with exactly a quorum up, each own vote is needed by its own node."""
    story = Story()
    story.wait_final(story.clients.submit(0), 1_000)
    view = story.process(0).replica.status().view
    leader = story.world.nodes[story.leader(view)]
    story.world.crash(leader, "for good")
    others = [index for index in story.world.nodes if index != leader.index]
    story.drop(lambda _, message: isinstance(message, Vote))
    story.clients.submit(others[0])
    story.wait(4_000)
    for index in others:
        node = story.world.nodes[index]
        at = Round(Era(0), Epoch(0), view)
        assert round_key(VOTE, at, VoteKind.NULLIFY) in node.disk.durable
        story.world.crash(node, "after its nullification")
    story.drop(None)
    for index in others:
        story.world.restart(story.world.nodes[index])
    story.wait_final(story.clients.submit(others[1]), 10_000, others)


def test_node_that_misses_every_finalization_is_final_on_an_idle_chain() -> None:
    """CONSENSUS 5 #12: repeated until it is, within two retries, and then silence."""
    story = Story()

    def is_lost(target: int, message: Message) -> bool:
        if target != 3:
            return False
        is_vote = isinstance(message, Vote) and message.kind is VoteKind.FINALIZE
        return is_vote or isinstance(message, CertificateMessage)

    story.drop(is_lost)
    transaction = story.clients.submit(0)
    story.wait(200)
    assert not story.process(3).ledger.has_executed(transaction)
    story.drop(None)
    assert story.wait_final(transaction, 10_000) <= 2 * story.world.timing.retry_ms + 500


def test_a_minute_without_any_vote_is_made_good() -> None:
    """C15: votes are sent again until the height is decided."""
    story = Story()
    story.drop(lambda _, message: isinstance(message, Vote | Proposal))
    transaction = story.clients.submit(1)
    story.wait(60_000)
    assert len(story.world.checker.knowledge.chain) == 1
    story.drop(None)
    story.wait_final(transaction, 10_000)


def test_slow_execution_holds_the_chain_back_and_recovers() -> None:
    """CONSENSUS 5 #42: consensus does not outrun execution by more than the allowed lag."""
    story = Story()
    for node in story.world.nodes.values():
        node.execution_ms = 1_000
    for _ in range(150):
        story.clients.submit(0)
        story.wait(100)
    last = story.clients.submit(0)
    headers = [
        story.world.checker.knowledge.headers[digest]
        for digest in story.world.checker.knowledge.chain
    ]
    full = [header for header in headers if header.transaction_count]
    assert max(header.height - header.executed_height for header in full) <= EXECUTION_LAG_MAX
    for node in story.world.nodes.values():
        node.execution_ms = 1
    story.wait_final(last, 30_000)


def test_a_block_may_survive_the_failed_sync_that_killed_its_process() -> None:
    """S6: nobody was told of the execution, and the next boot goes on from it, alone up there."""
    story = Story()
    for index in (1, 2, 3):
        story.world.nodes[index].execution_ms = 20_000
    node = story.world.nodes[0]
    story.clients.submit(0)
    _fail_first_sync_of_an_execution(story, node)
    assert story.world.timeline.run_until(5_000, lambda: not node.is_up)
    story.world.restart(node)
    assert story.process(0).ledger.durable_height == 1
    story.wait_final(story.clients.submit(0), 10_000, nodes=(0,))
    assert node.durable_height == 2


def _fail_first_sync_of_an_execution(story: Story, node: Node) -> None:
    """Let the disk keep the first executed block and say that it could not."""
    sync = node.disk.sync

    def failing(done: Callable[[bool], None]) -> None:
        ledger = story.process(node.index).ledger
        if ledger.chain.head().height == ledger.durable_height:
            sync(done)
            return
        node.disk.write(node.disk.batch(), sync=True)
        node.disk.sync = sync  # type: ignore[method-assign]
        done(False)

    node.disk.sync = failing  # type: ignore[method-assign]


@pytest.mark.parametrize("index", range(4))
def test_crash_after_every_single_effect_is_survived(index: int) -> None:
    """C3, C19, S6: whatever was done last, the restarted node signs nothing against it."""
    effects = 0
    has_crashed = True
    while has_crashed:
        effects += 1
        story = Story()
        node = story.world.nodes[index]
        node.disk.sync_ms = effects % 3
        story.process(index).crash_after = effects
        story.clients.submit((index + 1) % 4)
        story.wait(300)
        transaction = story.clients.submit((index + 1) % 4)
        story.wait(300)
        has_crashed = not node.is_up
        story.world.restart(node)
        story.wait_final(transaction, 20_000)
    assert effects > 20


def test_equivocating_leader_is_reported_and_the_chain_goes_on() -> None:
    """C1, C2: evidence at honest nodes, against the equivocator only, once per view."""
    story = Story(calm(government=3, commercial=2, byzantine=(("c1", "equivocator"),)))
    honest = tuple(story.world.nodes)
    for turn in range(30):
        story.clients.submit(honest[turn % 4])
        story.wait(200)
    assert story.world.checker.accusations.reported > 0
    story.wait_final(story.clients.submit(honest[0]), 30_000, honest)


def test_node_that_missed_more_nullifications_than_a_proposal_carries_asks_for_them() -> None:
    """CONSENSUS 5 #20: its vote is needed, so without the request the chain would stand still."""
    story = Story()
    story.wait_final(story.clients.submit(0), 1_000)
    for other in range(3):
        story.world.set_connected(3, other, connected=False)
    story.world.net.isolate(3)
    story.drop(lambda _, message: isinstance(message, Proposal))
    while story.process(0).replica.view < SKIPS_MAX + 10:
        story.clients.submit(0)
        story.wait(60_000)
    story.drop(None)
    story.world.crash(story.world.nodes[0], "for good")
    story.world.net.heal(range(4), 20)
    story.world.reconnect_all()
    story.wait_final(story.clients.submit(1), 60_000, (1, 2, 3))


def test_certificate_that_one_node_formed_reaches_the_others_before_any_retry() -> None:
    """CONSENSUS 5 #3, RE1: votes that only one node has seen do not cost the others a second."""
    story = Story()
    story.wait_final(story.clients.submit(0), 1_000)

    def is_kept_from_others(target: int, message: Message) -> bool:
        return isinstance(message, Vote) and target != 0

    story.drop(is_kept_from_others)
    took_ms = story.wait_final(story.clients.submit(1), 10_000)
    assert took_ms < story.world.timing.retry_ms


def test_observer_that_missed_the_end_is_helped_by_idle_validators() -> None:
    """CONSENSUS 5 #12, AN1: it casts no votes, so only its status can tell what it lacks."""
    story = Story(calm(observers=1))

    def is_lost(target: int, message: Message) -> bool:
        is_end = isinstance(message, Vote) and message.kind is VoteKind.FINALIZE
        return target == 4 and (is_end or isinstance(message, CertificateMessage | Proposal))

    story.wait_final(story.clients.submit(0), 1_000, range(5))
    story.drop(is_lost)
    transaction = story.clients.submit(0)
    story.wait(5_000)
    assert not story.process(4).ledger.has_executed(transaction)
    story.drop(None)
    story.wait_final(transaction, 10_000, range(5))


def test_quarantine_lasts_until_a_quorum_has_answered() -> None:
    """C3, CONSENSUS 3.13: one answer may come from a node that is itself far behind."""
    story = Story()
    story.wait_final(story.clients.submit(0), 1_000)
    node = story.world.nodes[3]
    story.world.crash(node, "and loses its disk")
    node.disk.wipe()
    quarantine(node)
    for other in (1, 2):
        story.world.set_connected(3, other, connected=False)
    story.world.restart(node)
    story.wait(3_000)
    assert story.process(3).replica.status().quarantined
    story.world.reconnect_all()
    story.wait(3_000)
    assert not story.process(3).replica.status().quarantined


def test_straggler_learns_at_once_how_its_epoch_ended() -> None:
    """CONSENSUS 5 #43, EP6: one word to any node is answered with the closing certificate."""
    story = Story(calm(government=3, commercial=2))
    straggler, others = 4, range(4)
    story.wait_final(story.clients.submit(0), 1_000, range(5))
    story.propose_removal(story.world.universe.validators[2].name, range(5))
    for other in others:
        story.world.set_connected(straggler, other, connected=False)
    story.world.net.isolate(straggler)
    story.wait_epoch(1, 10_000, others)
    story.wait(20_000)
    assert story.process(straggler).replica.epoch == 0
    story.world.net.heal([straggler, 0], 20)
    story.world.set_connected(straggler, 0, connected=True)
    assert story.wait_epoch(1, 10_000, [straggler]) < story.world.timing.retry_ms


def test_false_next_set_in_an_answer_does_not_make_the_block_invalid() -> None:
    """P9: who serves the boundary block with other members is not believed, and others are asked.

    The header commits to the members, so nothing about the block follows from a wrong list.
    """
    story = Story(calm(government=3, commercial=2))
    straggler, others = 4, range(4)
    lies = 0

    def lie(target: int, message: Message) -> Message | None:
        nonlocal lies
        if lies or target != straggler:
            return message
        if not isinstance(message, BlockAnswer) or message.block is None:
            return message
        block = _decode_block(message.block)
        if not block.next_validators:
            return message
        lies += 1
        forged = replace(block, next_validators=block.next_validators[1:])
        return replace(message, block=encode(forged))

    story.wait_final(story.clients.submit(0), 1_000, range(5))
    story.drop(lambda target, _: target == straggler)
    story.propose_removal(story.world.universe.validators[2].name, others)
    story.wait_epoch(1, 10_000, others)
    for other in others:
        story.world.nodes[other].filter = lie
    story.wait_epoch(1, 30_000, [straggler])
    assert lies == 1


def test_boundary_block_that_misses_its_view_is_proposed_again() -> None:
    """CONSENSUS 3.14: the same block, in a later view, becomes final; then the next epoch."""
    story = Story(calm(government=3, commercial=2))
    headers = story.world.checker.knowledge.headers
    repeated: set[Digest] = set()

    def is_lost(_: int, message: Message) -> bool:
        if isinstance(message, Proposal) and message.view > message.header.view:
            repeated.add(Digest(message.value.block_hash))
        if not isinstance(message, Vote) or message.kind is not VoteKind.FINALIZE:
            return False
        header = headers[Digest(message.value.block_hash)]
        return is_boundary(header) and message.view == header.view

    story.drop(is_lost)
    story.propose_removal(story.world.universe.validators[2].name, range(5))
    story.wait_epoch(1, 30_000, range(5))
    assert len(repeated) == 1
    story.wait_final(story.clients.submit(0), 10_000, range(5))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("letter", "duration_ms"), [("g", HOUR_MS), ("c", 24 * HOUR_MS)])
def test_chamber_down_for_long_halts_the_chain_and_returns_without_a_fork(
    letter: str, duration_ms: int
) -> None:
    """C14: 24 virtual hours, then the first new transaction is final within 5 s of the return."""
    story = Story()
    story.wait_final(story.clients.submit(0), 1_000)
    down = [story.world.nodes[i] for name, i in story.world.names.items() if name[0] == letter]
    up = [index for index in range(4) if story.world.nodes[index] not in down]
    for node in down:
        story.world.crash(node, "with its chamber")
    story.clients.submit(up[0])
    story.wait(10_000)
    height = len(story.world.checker.knowledge.chain)
    story.world.timeline.events_max = 40_000_000
    story.wait(duration_ms)
    assert len(story.world.checker.knowledge.chain) == height
    for node in down:
        story.world.restart(node)
    assert story.wait_final(story.clients.submit(up[0]), 30_000) < 5_000
