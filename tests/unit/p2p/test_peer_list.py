"""The list of peers changes while the network runs: who joins is met, who leaves is gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from p2p.messages import Ping
from tests.unit.p2p.cluster import (
    at,
    hello_of,
    lab,
    listed,
    pair,
    raw_peer,
    wait_until,
)

if TYPE_CHECKING:
    from pathlib import Path

DROPPED_S = 5.0


async def test_a_peer_that_is_taken_off_the_list_is_dropped(tmp_path: Path) -> None:
    """P3: off the list without a restart; the live connection ends within 5 s, and stays ended."""
    async with pair(tmp_path) as (first, second):
        first.network.update_peers([])
        async with asyncio.timeout(DROPPED_S):
            await wait_until(lambda: second.id in first.seen.disconnected, "dropped")
        assert first.network.peers() == []
        refusals = first.network.refusals
        await wait_until(lambda: refusals["unknown_peer"] > 0, "the next attempt is refused")
        assert first.network.connected() == []


async def test_a_peer_that_is_added_is_admitted_and_dialled(tmp_path: Path) -> None:
    async with lab(tmp_path) as place:
        one, two = place.issue("one"), place.issue("two")
        first = place.start(one, [])
        second = place.start(two, [])
        first.network.update_peers([listed(two)])
        second.network.update_peers([at(first)])
        await wait_until(lambda: bool(first.seen.connected and second.seen.connected), "a link")


async def test_a_peer_that_moves_is_dialled_at_its_new_address(tmp_path: Path) -> None:
    async with lab(tmp_path) as place:
        one, two, wrong = place.issue("one"), place.issue("two"), place.issue("wrong")
        nobody = place.start(wrong, [])
        first = place.start(one, [listed(two)])
        moved = at(nobody)
        second = place.start(two, [type(moved)("peer", first.id, moved.host, moved.port)])
        await wait_until(lambda: nobody.network.refusals.total() > 0, "the old address is dialled")
        second.network.update_peers([at(first)])
        await wait_until(lambda: bool(first.seen.connected), "a link")


async def test_the_same_list_again_changes_nothing(tmp_path: Path) -> None:
    async with pair(tmp_path) as (first, second):
        info = second.network.peers()[0]
        second.network.update_peers([at(first)])
        assert second.network.connected() == [first.id]
        assert second.network.peers()[0].statistics is info.statistics
        assert not second.seen.disconnected


async def test_a_connection_in_its_handshake_ends_with_the_listing(tmp_path: Path) -> None:
    """P3: TLS was accepted under the old list, the hello comes under the new one."""
    async with lab(tmp_path) as place:
        one, two = place.issue("one"), place.issue("two")
        first = place.start(one, [listed(two)])
        async with raw_peer(place, first, two) as peer:
            await peer.receive_next()  # the hello: the connection was given to its peer
            first.network.update_peers([])
            peer.send(hello_of(two), Ping(1, 0))
            last = (await peer.receive_all())[-1]
        assert getattr(last, "reason", None) == "unknown_peer"
        assert not first.seen.connected
        assert not first.task.done()
