"""What a node may rely on from its network, in memory and over TLS on loopback alike."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from consensus.inputs import PeerId
from consensus.types import StatusRequest
from p2p.errors import PeerUnavailable, RequestTimedOut
from p2p.memory import MemoryHub, MemoryNetwork
from p2p.messages import (
    BlockAnswer,
    ChainAnswer,
    GetBlock,
    GetChain,
    Message,
    Priority,
    TransactionBatch,
)
from tests.unit.p2p.cluster import Recorder, at, lab, listed, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from p2p.network import Network

KINDS = ("memory", "tls")


@dataclass
class End:
    """One of two connected nodes."""

    id: PeerId
    network: Network | MemoryNetwork
    seen: Recorder
    task: asyncio.Task[None]


@asynccontextmanager
async def two_ends(kind: str, directory: Path) -> AsyncIterator[tuple[End, End]]:
    """Run two nodes connected with each other."""
    if kind == "memory":
        hub = MemoryHub()
        ends = []
        for name in (b"a", b"b"):
            seen = Recorder()
            network = MemoryNetwork(hub, PeerId(name * 32), seen)
            task = asyncio.create_task(network.run())
            ends.append(End(network.node_id, network, seen, task))
        await wait_until(lambda: all(end.seen.connected for end in ends))
        yield ends[0], ends[1]
        for end in ends:
            end.network.stop()
        await asyncio.gather(*(end.task for end in ends), return_exceptions=True)
        return
    async with lab(directory) as place:
        one, two = place.issue("one"), place.issue("two")
        first = place.start(one, [listed(two)])
        second = place.start(two, [at(first)])
        await wait_until(lambda: bool(first.seen.connected and second.seen.connected))
        yield (
            End(first.id, first.network, first.seen, first.task),
            End(second.id, second.network, second.seen, second.task),
        )


@pytest.mark.parametrize("kind", KINDS)
async def test_messages_of_one_class_arrive_in_order(kind: str, tmp_path: Path) -> None:
    async with two_ends(kind, tmp_path) as (first, second):
        sent = [StatusRequest(bytes([i]) * 16) for i in range(200)]
        for message in sent:
            assert first.network.send(second.id, message, priority=Priority.CONSENSUS)
        await wait_until(lambda: len(second.seen.messages) == 200)
        assert second.seen.messages == [(first.id, message) for message in sent]


@pytest.mark.parametrize("kind", KINDS)
async def test_nothing_is_delivered_while_sending(kind: str, tmp_path: Path) -> None:
    """A handler that answers at once must not be called from inside its own send."""
    async with two_ends(kind, tmp_path) as (first, second):
        first.network.send(second.id, StatusRequest(bytes(16)), priority=Priority.CONSENSUS)
        assert second.seen.messages == []
        await wait_until(lambda: len(second.seen.messages) == 1)


@pytest.mark.parametrize("kind", KINDS)
async def test_gossip_arrives_whole_and_in_order(kind: str, tmp_path: Path) -> None:
    async with two_ends(kind, tmp_path) as (first, second):
        wires = [i.to_bytes(150, "big") for i in range(1000)]
        first.network.gossip([])
        first.network.gossip(wires[:500])
        first.network.gossip(wires[500:])

        def received() -> list[bytes]:
            batches = [m for _, m in second.seen.messages if isinstance(m, TransactionBatch)]
            return [wire for batch in batches for wire in batch.wires]

        await wait_until(lambda: len(received()) == 1000)
        assert received() == wires


@pytest.mark.parametrize("kind", KINDS)
async def test_concurrent_requests_get_their_own_answers(kind: str, tmp_path: Path) -> None:
    async with two_ends(kind, tmp_path) as (first, second):

        def answer(peer: PeerId, message: Message) -> None:
            reply: Message
            if isinstance(message, GetBlock):
                reply = BlockAnswer(message.request_id, None)
            else:
                assert isinstance(message, GetChain)
                reply = ChainAnswer(message.request_id, (b"block",) * message.count, None, 9)
            second.network.send(peer, reply, priority=Priority.FETCH)

        second.seen.answer = answer
        chains = [first.network.request(second.id, GetChain(0, 1, n), 5.0) for n in range(1, 9)]
        assert [len(a.blocks) for a in await asyncio.gather(*chains)] == list(range(1, 9))
        assert first.seen.messages == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_request_without_an_answer_fails(kind: str, tmp_path: Path) -> None:
    async with two_ends(kind, tmp_path) as (first, second):
        with pytest.raises(RequestTimedOut):
            await first.network.request(second.id, GetChain(0, 1, 1), 0.05)
        waiting = asyncio.create_task(first.network.request(second.id, GetChain(0, 1, 1), 30.0))
        await wait_until(lambda: len(second.seen.messages) == 2)
        second.network.stop()
        with pytest.raises(PeerUnavailable):
            await waiting
        with pytest.raises(PeerUnavailable):
            await first.network.request(second.id, GetChain(0, 1, 1), 5.0)


@pytest.mark.parametrize("kind", KINDS)
async def test_connections_and_disconnections_come_in_pairs(kind: str, tmp_path: Path) -> None:
    async with two_ends(kind, tmp_path) as (first, second):
        assert first.network.connected() == [second.id]
        assert [info.peer_id for info in first.network.peers()] == [second.id]
        second.network.stop()
        await second.task
        await wait_until(lambda: first.seen.disconnected == [second.id])
        assert second.seen.disconnected == [first.id]
        assert first.seen.connected == [second.id]
        assert first.network.connected() == []
        assert not first.network.send(
            second.id, StatusRequest(bytes(16)), priority=Priority.CONSENSUS
        )


@pytest.mark.parametrize("kind", KINDS)
async def test_a_defect_of_the_handler_ends_the_network(kind: str, tmp_path: Path) -> None:
    """R3."""
    async with two_ends(kind, tmp_path) as (first, second):

        def fail(_peer: PeerId, _message: Message) -> None:
            raise ZeroDivisionError("a defect")

        second.seen.answer = fail
        first.network.send(second.id, StatusRequest(bytes(16)), priority=Priority.CONSENSUS)
        with pytest.raises(ZeroDivisionError):
            await second.task
        await wait_until(lambda: first.seen.disconnected == [second.id])


async def test_a_link_in_memory_can_be_cut_and_healed() -> None:
    """What simulations of a node need and sockets cannot do."""
    hub = MemoryHub()
    seen = [Recorder(), Recorder()]
    networks = [MemoryNetwork(hub, PeerId(bytes([i]) * 32), seen[i]) for i in range(2)]
    tasks = [asyncio.create_task(network.run()) for network in networks]
    one, other = networks
    await wait_until(lambda: bool(seen[0].connected and seen[1].connected))
    hub.cut(one.node_id, other.node_id)
    assert seen[0].disconnected == [other.node_id]
    assert not one.send(other.node_id, StatusRequest(bytes(16)), priority=Priority.CONSENSUS)
    hub.heal(one.node_id, other.node_id)
    assert len(seen[1].connected) == 2
    for network in networks:
        network.stop()
    await asyncio.gather(*tasks)
