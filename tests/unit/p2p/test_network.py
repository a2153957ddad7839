"""Two and more nodes on loopback: connecting, messages, requests, restarts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from consensus.types import StatusRequest
from p2p.messages import (
    BlockAnswer,
    GetBlock,
    Message,
    Priority,
    TransactionBatch,
)
from tests.unit.p2p.cluster import (
    at,
    lab,
    listed,
    pair,
    wait_until,
)

if TYPE_CHECKING:
    from pathlib import Path

    from consensus.inputs import PeerId

STATUS_REQUEST = StatusRequest(bytes(16))


async def test_a_message_arrives_as_it_was_sent(tmp_path: Path) -> None:
    async with pair(tmp_path) as (first, second):
        assert first.network.send(second.id, STATUS_REQUEST, priority=Priority.CONSENSUS)
        await wait_until(lambda: second.seen.messages == [(first.id, STATUS_REQUEST)])


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
