"""Two and more nodes on loopback: connecting, messages, requests, restarts."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from consensus.types import Certificate, StatusRequest
from ledger.types import Epoch, Era, View
from ledger.votes import NULL_VALUE, VoteKind
from p2p.errors import PeerLeft, PeerUnavailable, RequestTimedOut, TooManyRequests
from p2p.messages import (
    BLOCK_WIRE_BYTES_MAX,
    BlockAnswer,
    ChainAnswer,
    GetBlock,
    GetChain,
    Message,
    Priority,
    TransactionBatch,
    Transactions,
)
from p2p.network import _code_of
from tests.unit.p2p.cluster import DEADLINE_S, at, lab, listed, pair, wait_until, with_limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from consensus.inputs import PeerId

STATUS_REQUEST = StatusRequest(bytes(16))
LARGEST_CERTIFICATE = Certificate(
    VoteKind.FINALIZE, Era(0), Epoch(0), View(1), NULL_VALUE, b"\xff" * 16, bytes(64 * 128)
)


async def test_a_message_arrives_as_it_was_sent(tmp_path: Path) -> None:
    async with pair(tmp_path) as (first, second):
        assert first.network.send(second.id, STATUS_REQUEST, priority=Priority.CONSENSUS)
        await wait_until(lambda: second.seen.messages == [(first.id, STATUS_REQUEST)])


async def test_what_the_network_does_is_measured(tmp_path: Path) -> None:
    """Callbacks of the loop are where its work begins; the node's handler is within one."""
    depth = 0
    seen: list[int] = []

    @contextmanager
    def measure() -> Iterator[None]:
        nonlocal depth
        depth += 1
        yield
        depth -= 1

    async with lab(tmp_path) as place:
        one, two = place.issue("one"), place.issue("two")
        first = place.start(one, [listed(two)], measure=measure)
        second = place.start(two, [at(first)])
        first.seen.answer = lambda _peer, _message: seen.append(depth)
        await wait_until(lambda: bool(second.seen.connected), "a link")
        second.network.gossip([b"wire"])
        await wait_until(lambda: seen == [1])
    assert depth == 0


async def test_gossip_is_batched_and_crosses_each_link_once(tmp_path: Path) -> None:
    async with pair(tmp_path) as (first, second):
        wires = [i.to_bytes(160, "big") for i in range(5000)]
        for wire in wires:
            first.network.gossip([wire])

        def batches() -> list[TransactionBatch]:
            return [m for _, m in second.seen.messages if isinstance(m, TransactionBatch)]

        await wait_until(lambda: sum(len(b.wires) for b in batches()) >= 5000)
        assert [w for b in batches() for w in b.wires] == wires
        assert len(batches()) < 30


async def test_a_request_is_answered_by_the_message_with_its_id(tmp_path: Path) -> None:
    async with pair(tmp_path) as (first, second):

        def answer(peer: PeerId, message: Message) -> None:
            assert isinstance(message, GetBlock)
            reply = BlockAnswer(message.request_id, message.block_hash)
            second.network.send(peer, reply, priority=Priority.FETCH)

        second.seen.answer = answer
        asked = [
            first.network.request(second.id, GetBlock(0, bytes([i]) * 32), 5.0)  # type: ignore[arg-type]
            for i in range(10)
        ]
        answers = await asyncio.gather(*asked)
        assert [a.block for a in answers] == [bytes([i]) * 32 for i in range(10)]
        assert first.seen.messages == []


async def test_a_restarted_peer_is_found_again(tmp_path: Path) -> None:
    async with lab(tmp_path) as place:
        one, two = place.issue("one"), place.issue("two")
        first = place.start(one, [listed(two)])
        second = place.start(two, [at(first)])
        await wait_until(lambda: bool(first.seen.connected and second.seen.connected))
        port = first.port
        await first.stop()
        await wait_until(lambda: second.seen.disconnected == [one.node_id])
        place.start(one, [listed(two)], port=port)
        await wait_until(lambda: len(second.seen.connected) == 2)


async def test_an_unanswered_request_times_out(tmp_path: Path) -> None:
    async with pair(tmp_path) as (first, second):
        with pytest.raises(RequestTimedOut):
            await first.network.request(second.id, GetChain(0, 1, 1), 0.05)


async def test_a_request_ends_with_the_connection(tmp_path: Path) -> None:
    async with pair(tmp_path) as (first, second):
        asked = asyncio.create_task(first.network.request(second.id, GetChain(0, 1, 1), 30.0))
        await wait_until(lambda: bool(second.seen.messages))
        await second.stop()
        with pytest.raises(PeerUnavailable):
            await asked


async def test_a_request_to_a_peer_that_is_down_fails_at_once(tmp_path: Path) -> None:
    async with lab(tmp_path) as place:
        two = place.issue("two")
        node = place.start(place.issue("one"), [listed(two)])
        with pytest.raises(PeerUnavailable):
            await node.network.request(two.node_id, GetChain(0, 1, 1), 5.0)
        assert not node.network.send(two.node_id, STATUS_REQUEST, priority=Priority.CONSENSUS)


async def test_waiting_requests_are_bounded(tmp_path: Path) -> None:
    """P7: our own side of it; a peer that never answers holds a bounded number of waiters."""
    async with pair(tmp_path, with_limits(requests_max=3)) as (first, second):
        chain = GetChain(0, 1, 1)
        waiting = [
            asyncio.create_task(first.network.request(second.id, chain, 30.0)) for _ in range(3)
        ]
        await wait_until(lambda: len(second.seen.messages) == 3)
        with pytest.raises(TooManyRequests):
            await first.network.request(second.id, chain, 30.0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        with pytest.raises(RequestTimedOut):  # the places are free again
            await first.network.request(second.id, chain, 0.05)


@pytest.mark.parametrize("answer", [BlockAnswer(4_000_000, None), Transactions(1, ())])
async def test_an_answer_nobody_waits_for_is_refused(tmp_path: Path, answer: Message) -> None:
    """P7, P9: an unknown id, or the right id with another type of answer, resolves nothing."""
    async with pair(tmp_path) as (first, second):
        asked = asyncio.create_task(first.network.request(second.id, GetChain(0, 1, 1), 30.0))
        await wait_until(lambda: bool(second.seen.messages))
        second.network.send(first.id, answer, priority=Priority.FETCH)
        refusals = first.info(second.id).statistics.refusals
        await wait_until(lambda: refusals["unsolicited_answer"] == 1)
        assert not asked.done()
        assert first.seen.messages == []
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)


async def test_a_broadcast_reaches_everyone_but_the_excluded(tmp_path: Path) -> None:
    async with lab(tmp_path) as place:
        files = [place.issue(name) for name in ("two", "three", "four")]
        node = place.start(place.issue("one"), [listed(f, f"n{i}") for i, f in enumerate(files)])
        others = [place.start(f, [at(node)]) for f in files]
        await wait_until(lambda: len(node.network.connected()) == 3)
        node.network.broadcast(STATUS_REQUEST, priority=Priority.CONSENSUS, exclude=(others[0].id,))
        node.network.broadcast(StatusRequest(b"2" * 16), priority=Priority.CONSENSUS)
        for other in others:
            await wait_until(lambda o=other: (node.id, StatusRequest(b"2" * 16)) in o.seen.messages)  # type: ignore[misc]
        assert [len(other.seen.messages) for other in others] == [1, 2, 2]


async def test_a_peer_penalised_by_the_node_is_banned_at_the_limit(tmp_path: Path) -> None:
    async with pair(tmp_path) as (first, second):
        first.network.penalise(second.id, "wrong_block", 60)
        assert 55 <= first.info(second.id).points <= 60
        assert first.info(second.id).is_connected
        first.network.penalise(second.id, "wrong_block", 60)
        assert not first.info(second.id).is_connected
        assert first.info(second.id).statistics.refusals["wrong_block"] == 2
        assert first.info(second.id).banned_for_s > 50
        await wait_until(lambda: second.info(first.id).last_error == "peer_banned")


async def test_a_defect_of_the_handler_ends_the_network(tmp_path: Path) -> None:
    """R3: an exception in a callback is not swallowed by the event loop."""
    async with pair(tmp_path) as (first, second):

        def fail(_peer: PeerId, _message: Message) -> None:
            raise ZeroDivisionError("a defect")

        first.seen.answer = fail
        second.network.send(first.id, STATUS_REQUEST, priority=Priority.CONSENSUS)
        with pytest.raises(ZeroDivisionError):
            async with asyncio.timeout(DEADLINE_S):
                await first.task
        await wait_until(lambda: second.seen.disconnected == [first.id])


async def test_stopping_says_goodbye_and_leaves_no_task(tmp_path: Path) -> None:
    """R4: the other side learns why, and nothing of the network is left."""
    async with lab(tmp_path) as place:
        one, two = place.issue("one"), place.issue("two")
        first = place.start(one, [listed(two)])
        second = place.start(two, [at(first)])
        await wait_until(lambda: bool(first.seen.connected and second.seen.connected))
        await first.stop()
        assert first.seen.disconnected == [two.node_id]
        await wait_until(lambda: second.info(one.node_id).last_error == "shutting_down")
        await second.stop()
        await wait_until(lambda: len(asyncio.all_tasks()) == 1)


async def test_cancelling_stops_as_well(tmp_path: Path) -> None:
    async with pair(tmp_path) as (first, second):
        first.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first.task
        await wait_until(lambda: second.seen.disconnected == [first.id])


async def test_an_address_in_use_is_known_before_anything_starts(tmp_path: Path) -> None:
    async with lab(tmp_path) as place:
        node = place.start(place.issue("one"), [])
        with pytest.raises(OSError, match="in use"):
            place.start(place.issue("two"), [], port=node.port)


async def test_a_large_block_fits_into_a_frame(tmp_path: Path) -> None:
    async with pair(tmp_path) as (first, second):
        block = bytes(BLOCK_WIRE_BYTES_MAX)

        def answer(peer: PeerId, message: Message) -> None:
            assert isinstance(message, GetChain)
            reply = ChainAnswer(message.request_id, (block,), LARGEST_CERTIFICATE, 9)
            second.network.send(peer, reply, priority=Priority.FETCH)

        second.seen.answer = answer
        received = await first.network.request(second.id, GetChain(0, 1, 64), 10.0)
        assert received.blocks == (block,)


def test_reasons_that_a_peer_invents_are_not_counted_by_name() -> None:
    """P13: text chosen by a peer never becomes the key of a counter."""
    assert {_code_of(PeerLeft(f"reason_{n}", "")) for n in range(100)} == {"peer_left"}
    assert _code_of(PeerLeft("wrong_genesis", "")) == "wrong_genesis"
