"""Peers that send too much, read too little, or send what is no message."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import msgspec
import pytest

from consensus.types import StatusRequest
from p2p.errors import SlowPeer
from p2p.frames import encode_frame
from p2p.messages import (
    BlockAnswer,
    GetBlock,
    Goodbye,
    Hello,
    Message,
    Ping,
    Pong,
    Priority,
    TransactionBatch,
)
from p2p.queues import Overflow, QueueBound
from tests.unit.p2p.cluster import (
    DEADLINE_S,
    Node,
    RawPeer,
    at,
    hello_of,
    lab,
    listed,
    pair,
    raw_peer,
    wait_until,
    with_limits,
)

if TYPE_CHECKING:
    from pathlib import Path

    from consensus.inputs import PeerId
    from tests.unit.p2p.certificates import Files

STATUS_REQUEST = StatusRequest(bytes(16))
SMALL_QUEUES = {
    Priority.CONSENSUS: QueueBound(1000, 256 * 1024, Overflow.DISCONNECT),
    Priority.FETCH: QueueBound(16, 1024 * 1024, Overflow.REFUSE),
    Priority.TRANSACTIONS: QueueBound(16, 1024 * 1024, Overflow.DROP_OLDEST),
}


def batch(size: int = 60_000) -> TransactionBatch:
    return TransactionBatch((bytes(size),))


async def up(node: Node, peer: RawPeer, files: Files) -> None:
    """Say hello and wait until the node has accepted it."""
    peer.send(hello_of(files))
    assert isinstance(await peer.receive(), Hello)
    await wait_until(lambda: files.node_id in node.network.connected())


async def stuff(node: Node, peer_id: PeerId) -> None:
    """Send gossip until the node's queue for this peer has dropped some."""
    drops = node.info(peer_id).statistics.drops
    while not drops["transactions_queue_full"]:
        for _ in range(8):
            node.network.send(peer_id, batch(), priority=Priority.TRANSACTIONS)
        await asyncio.sleep(0)


async def test_a_slow_reader_is_bounded_and_gets_consensus_first(tmp_path: Path) -> None:
    """P6: old gossip is dropped, a vote overtakes the gossip that waits, others get everything."""
    limits = with_limits(silent_heartbeats=10_000, queue_bounds=SMALL_QUEUES)
    async with lab(tmp_path, limits) as place:
        two, three = place.issue("two"), place.issue("three")
        node = place.start(place.issue("one"), [listed(two, "two"), listed(three, "three")])
        other = place.start(three, [at(node)])
        await wait_until(lambda: node.network.connected() == [three.node_id])
        async with raw_peer(place, node, two) as slow:
            await up(node, slow, two)
            slow.stop_reading()
            await stuff(node, two.node_id)
            node.network.broadcast(STATUS_REQUEST, priority=Priority.CONSENSUS)
            waiting = node.network.queued_bytes(two.node_id)
            assert 0 < waiting <= sum(b.bytes_max for b in SMALL_QUEUES.values())
            # The other peer has it although the slow one has not read a byte of it.
            await wait_until(lambda: (node.id, STATUS_REQUEST) in other.seen.messages)
            queued_batches = SMALL_QUEUES[Priority.TRANSACTIONS].frames_max
            slow.go_on_reading()
            received: list[Message] = []
            after: list[Message] = []
            async with asyncio.timeout(DEADLINE_S):
                while STATUS_REQUEST not in received:
                    received.append(await slow.receive_next())
                while len(after) < queued_batches:
                    message = await slow.receive_next()
                    after += [message] if isinstance(message, TransactionBatch) else []
            # Everything that still waited in the queue came after the vote.
            assert len(after) == queued_batches


async def test_a_peer_that_lets_consensus_messages_pile_up_is_disconnected(tmp_path: Path) -> None:
    """P6: at the limit of the consensus class; the node and the other peers go on."""
    limits = with_limits(silent_heartbeats=10_000, queue_bounds=SMALL_QUEUES)
    async with lab(tmp_path, limits) as place:
        two = place.issue("two")
        node = place.start(place.issue("one"), [listed(two)])
        async with raw_peer(place, node, two) as slow:
            await up(node, slow, two)
            slow.stop_reading()
            await stuff(node, two.node_id)
            for _ in range(1001):
                node.network.send(two.node_id, STATUS_REQUEST, priority=Priority.CONSENSUS)
            await wait_until(lambda: node.seen.disconnected == [two.node_id])
            assert node.info(two.node_id).last_error == SlowPeer.code


async def test_a_peer_that_reads_nothing_for_long_is_disconnected(tmp_path: Path) -> None:
    """P6: even if nothing important piles up."""
    limits = with_limits(silent_heartbeats=10_000, write_stall_s=0.3, queue_bounds=SMALL_QUEUES)
    async with lab(tmp_path, limits) as place:
        two = place.issue("two")
        node = place.start(place.issue("one"), [listed(two)])
        async with raw_peer(place, node, two) as slow:
            await up(node, slow, two)
            slow.stop_reading()
            await stuff(node, two.node_id)
            await wait_until(lambda: node.seen.disconnected == [two.node_id])
            assert node.info(two.node_id).last_error == SlowPeer.code


async def test_a_silent_peer_is_disconnected(tmp_path: Path) -> None:
    """P4: a peer that is up and then says nothing, as one behind a cut cable."""
    async with lab(tmp_path, with_limits(heartbeat_s=0.05, silent_heartbeats=3)) as place:
        two = place.issue("two")
        node = place.start(place.issue("one"), [listed(two)])
        async with raw_peer(place, node, two) as peer:
            await up(node, peer, two)
            assert isinstance(last := (await peer.receive_all())[-1], Goodbye)
        assert last.reason == "peer_silent"
        assert node.seen.disconnected == [two.node_id]


async def test_heartbeats_keep_an_idle_link_up_and_measure_it(tmp_path: Path) -> None:
    limits = with_limits(heartbeat_s=0.02, silent_heartbeats=4)
    async with pair(tmp_path, limits) as (first, second):
        first.network.height = 7
        pings = 20
        before = first.info(second.id).statistics.messages_in
        await wait_until(lambda: first.info(second.id).statistics.messages_in > before + pings)
        assert (first.seen.disconnected, second.seen.disconnected) == ([], [])
        round_trip_s = first.info(second.id).round_trip_s
        assert round_trip_s is not None
        assert 0 < round_trip_s < 1
        assert second.info(first.id).height == 7


@pytest.mark.parametrize("flood", [Ping(1, 0), GetBlock(1, bytes(32))])  # type: ignore[arg-type]
async def test_a_flood_is_read_at_the_rate_limit_and_costs_no_tasks(
    tmp_path: Path, flood: Message
) -> None:
    """P7: reading pauses, nothing is dropped, no task is made per message, others are served."""
    rate, burst = 400.0, 50.0
    limits = with_limits(
        messages_per_s=rate, messages_burst=burst, request_cost=1.0, silent_heartbeats=10_000
    )
    async with lab(tmp_path, limits) as place:
        two, three = place.issue("two"), place.issue("three")
        node = place.start(place.issue("one"), [listed(two, "two"), listed(three, "three")])
        other = place.start(three, [at(node)])
        await wait_until(lambda: node.network.connected() == [three.node_id])
        async with raw_peer(place, node, two) as attacker:
            await up(node, attacker, two)
            tasks = len(asyncio.all_tasks())
            statistics = node.info(two.node_id).statistics
            loop = asyncio.get_running_loop()
            started_s = loop.time()
            attacker.send(*[flood] * 600)
            other.network.send(node.id, STATUS_REQUEST, priority=Priority.CONSENSUS)
            await wait_until(lambda: (three.node_id, STATUS_REQUEST) in node.seen.messages)
            assert statistics.messages_in < 600
            await wait_until(lambda: statistics.messages_in >= 601)
            assert loop.time() - started_s >= (600 - burst) / rate * 0.9
            assert len(asyncio.all_tasks()) <= tasks
            assert node.seen.disconnected == []


async def test_an_answer_is_refused_when_too_many_wait_already(tmp_path: Path) -> None:
    """P7: the answers to a flood of requests are bounded in bytes, the node is told."""
    limits = with_limits(silent_heartbeats=10_000, queue_bounds=SMALL_QUEUES)
    async with lab(tmp_path, limits) as place:
        two = place.issue("two")
        node = place.start(place.issue("one"), [listed(two)])
        async with raw_peer(place, node, two) as slow:
            await up(node, slow, two)
            slow.stop_reading()
            answer = BlockAnswer(1, bytes(1_000_000))
            accepted = 0
            while node.network.send(two.node_id, answer, priority=Priority.FETCH):
                accepted += 1
                await asyncio.sleep(0)
            assert 0 < accepted < 100
            assert node.network.queued_bytes(two.node_id) <= 1024 * 1024
            assert node.info(two.node_id).statistics.drops["fetch_queue_full"] == 1


async def test_bad_messages_are_counted_and_end_in_a_ban(tmp_path: Path) -> None:
    """P5, P12, P13: refused one by one, good ones between them pass, 100 points are too many."""
    async with lab(tmp_path, with_limits(silent_heartbeats=10_000)) as place:
        two = place.issue("two")
        node = place.start(place.issue("one"), [listed(two)])
        malformed = encode_frame(msgspec.msgpack.encode([34, "one", 0]))
        async with raw_peer(place, node, two) as peer:
            await up(node, peer, two)
            peer.writer.write(malformed * 4)
            peer.send(STATUS_REQUEST)
            await wait_until(lambda: node.seen.messages == [(two.node_id, STATUS_REQUEST)])
            # Points fade with time, so the fifth makes a little less than 100, the sixth more.
            peer.writer.write(malformed * 2)
            assert isinstance(last := (await peer.receive_all())[-1], Goodbye)
        assert last.reason == "misbehaved"
        assert node.info(two.node_id).statistics.refusals["malformed_message"] == 6
        assert node.info(two.node_id).banned_for_s > 0
        async with raw_peer(place, node, two) as peer:
            peer.send(hello_of(two))
            (refusal,) = await peer.receive_all()
        assert isinstance(refusal, Goodbye)
        assert refusal.reason == "peer_banned"


async def test_unknown_message_types_are_tolerated_longer(tmp_path: Path) -> None:
    """P12: a newer peer that sends a few messages we do not know keeps its connection."""
    async with lab(tmp_path, with_limits(silent_heartbeats=10_000)) as place:
        two = place.issue("two")
        node = place.start(place.issue("one"), [listed(two)])
        async with raw_peer(place, node, two) as peer:
            await up(node, peer, two)
            peer.writer.write(encode_frame(msgspec.msgpack.encode([99, 1])) * 10)
            peer.send(STATUS_REQUEST)
            await wait_until(lambda: node.seen.messages == [(two.node_id, STATUS_REQUEST)])
        assert node.info(two.node_id).statistics.refusals["unknown_message"] == 10


@pytest.mark.parametrize("length", [0, 2**20 + 2**16 + 1, 2**31, 2**32 - 1])
async def test_an_impossible_frame_length_ends_the_connection(tmp_path: Path, length: int) -> None:
    """P5: refused from the four bytes of the length, before anything else arrives."""
    async with lab(tmp_path) as place:
        two = place.issue("two")
        node = place.start(place.issue("one"), [listed(two)])
        async with raw_peer(place, node, two) as peer:
            await up(node, peer, two)
            peer.writer.write(length.to_bytes(4, "big"))
            assert isinstance(last := (await peer.receive_all())[-1], Goodbye)
        assert last.reason == ("frame_empty" if length == 0 else "frame_too_large")
        assert node.seen.disconnected == [two.node_id]


async def test_random_bytes_in_random_chunks_do_no_harm(tmp_path: Path) -> None:
    """P5: garbage after the hello; the node keeps serving the other peer."""
    draw = random.Random(5)
    async with lab(tmp_path) as place:
        names = [f"n{i}" for i in range(8)]
        liars = [place.issue(name) for name in names]
        three = place.issue("three")
        entries = [listed(f, n) for f, n in zip(liars, names, strict=True)]
        node = place.start(place.issue("one"), [*entries, listed(three, "three")])
        other = place.start(three, [at(node)])
        await wait_until(lambda: node.network.connected() == [three.node_id])
        for liar in liars:
            async with raw_peer(place, node, liar) as peer:
                await up(node, peer, liar)
                for _ in range(20):
                    peer.writer.write(draw.randbytes(draw.randrange(1, 2000)))
        other.network.send(node.id, STATUS_REQUEST, priority=Priority.CONSENSUS)
        await wait_until(lambda: (three.node_id, STATUS_REQUEST) in node.seen.messages)
        assert node.task.done() is False


async def test_pongs_answer_pings(tmp_path: Path) -> None:
    async with lab(tmp_path, with_limits(heartbeat_s=60.0)) as place:
        two = place.issue("two")
        node = place.start(place.issue("one"), [listed(two)])
        async with raw_peer(place, node, two) as peer:
            await up(node, peer, two)
            peer.send(Ping(5, 1), Ping(6, 2))
            assert [await peer.receive(), await peer.receive()] == [Pong(5), Pong(6)]
            assert node.info(two.node_id).height == 2
            assert node.seen.messages == []
