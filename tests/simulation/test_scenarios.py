"""Single stories, where the random ones would tell too rarely what has to be told."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from consensus.types import SKIPS_MAX, CertificateMessage, Proposal
from consensus.validity import EXECUTION_LAG_MAX
from ledger.types import Epoch, Era, View
from ledger.votes import Round, Vote, VoteKind
from storage.schema import VOTE, round_key
from tests.simulation.options import Options, expand
from tests.simulation.workload import Workload
from tests.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ledger.types import Digest
    from p2p.messages import Message
    from tests.simulation.process import Process

HOUR_MS = 3_600_000


def calm(**changes: object) -> Options:
    """Return the options of a network of 2+2 without any fault."""
    options = replace(
        expand(0),
        government=2,
        commercial=2,
        observers=0,
        byzantine=(),
        whole_chamber=False,
        joiners=(),
        chamber_stops="",
        change_every_ms=0,
        evidence=False,
        disk_loss="",
        verification_ms=0,
        execution_ms=0,
        real_signatures=False,
        delay_ms=10,
        spread_ms=5,
        loss_percent=0,
        duplicate_percent=0,
        idle_ms=None,
    )
    return replace(options, **changes)  # type: ignore[arg-type]


class Story:
    """A world whose faults are told one by one."""

    def __init__(self, options: Options | None = None) -> None:
        self.world = World(options or calm())
        self.clients = Workload(self.world)
        self.world.start()

    def wait(self, duration_ms: int) -> None:
        self.world.timeline.run_until(self.world.timeline.now_ms + duration_ms)

    def leader(self, view: View) -> int:
        """Return the node that leads a view of the first epoch."""
        return self.world.leader((0, 0), view)

    def process(self, index: int) -> Process:
        process = self.world.nodes[index].process
        assert process is not None
        return process

    def wait_final(
        self, transaction: Digest, limit_ms: int, nodes: Iterable[int] = range(4)
    ) -> int:
        """Wait until nodes have executed a transaction; return how long that took."""
        begun_ms = self.world.timeline.now_ms

        def is_final() -> bool:
            return all(self.process(i).ledger.has_executed(transaction) for i in nodes)

        assert self.world.timeline.run_until(begun_ms + limit_ms, is_final), "not final in time"
        return self.world.timeline.now_ms - begun_ms

    def drop(self, is_dropped: Callable[[int, Message], bool] | None) -> None:
        """Lose all messages (by target) for which the condition holds; None: no more."""
        for node in self.world.nodes.values():
            node.filter = (
                None
                if is_dropped is None
                else lambda target, message: None if is_dropped(target, message) else message
            )


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
