"""From the accepted socket to the accepted hello: deadlines, floods, networks and versions."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from p2p.config import PeerConfig
from p2p.frames import encode_frame
from p2p.messages import Goodbye, Hello, Ping, encode_message
from tests.unit.p2p.cluster import (
    OTHER_GENESIS,
    at,
    hello_of,
    lab,
    listed,
    raw_peer,
    wait_until,
    with_limits,
)

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_socket_that_says_nothing_is_closed_at_the_deadline(tmp_path: Path) -> None:
    """P4: TCP only, no TLS at all; counted by reason and by address."""
    async with lab(tmp_path) as place:
        node = place.start(place.issue("one"), [])
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(10):
                assert await reader.read(1) == b""
        writer.close()
        await wait_until(lambda: node.network.tls_failures() == {"tls_handshake_timeout": 1})
        assert node.network.tls_failures_by_address() == {"127.0.0.1": 1}


async def test_a_handshake_of_single_bytes_is_closed_at_the_deadline(tmp_path: Path) -> None:
    """P4: progress does not buy time."""
    async with lab(tmp_path) as place:
        node = place.start(place.issue("one"), [])
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
        client_hello_start = bytes.fromhex("1603010200010001fc0303") + bytes(400)
        with contextlib.suppress(ConnectionError):
            for byte in client_hello_start:
                writer.write(bytes([byte]))
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.02):
                        assert await reader.read(1) == b""
                        break
        writer.close()
        await wait_until(lambda: node.network.tls_failures().get("tls_handshake_timeout") == 1)


async def test_a_peer_that_never_completes_its_hello_is_closed_at_the_deadline(
    tmp_path: Path,
) -> None:
    """P4: TLS done, then the hello comes byte by byte and never ends."""
    async with lab(tmp_path) as place:
        two = place.issue("two")
        node = place.start(place.issue("one"), [listed(two)])
        async with raw_peer(place, node, two) as peer:
            received = asyncio.create_task(peer.receive_all())
            hello = encode_frame(encode_message(hello_of(two)))
            for byte in hello[:-1]:
                if received.done():
                    break
                peer.writer.write(bytes([byte]))
                await asyncio.wait([received], timeout=0.02)
            messages = await received
        assert isinstance(messages[-1], Goodbye)
        assert messages[-1].reason == "hello_timeout"
        assert node.network.refusals == {"hello_timeout": 1}
        assert node.seen.connected == []


async def test_a_flood_of_stalled_handshakes_does_not_keep_an_honest_peer_out(
    tmp_path: Path,
) -> None:
    """P4: 300 silent sockets; the newest handshake always finds room, the table stays bounded."""
    limits = with_limits(tls_handshake_s=30.0, handshakes_max=32)
    async with lab(tmp_path, limits) as place:
        one, two = place.issue("one"), place.issue("two")
        node = place.start(one, [listed(two)])
        silent = []
        for _ in range(300):
            _, writer = await asyncio.open_connection("127.0.0.1", node.port)
            silent.append(writer)
        try:
            honest = place.start(two, [at(node)], limits=with_limits())
            await wait_until(lambda: honest.seen.connected == [one.node_id])
            await wait_until(lambda: node.seen.connected == [two.node_id])
            await wait_until(lambda: node.network.tls_failures()["tls_handshake_evicted"] >= 268)
        finally:
            for writer in silent:
                writer.close()


@pytest.mark.parametrize("count", [40])
async def test_churn_leaves_nothing_behind(tmp_path: Path, count: int) -> None:
    """P8: connections that end half-way through the handshake leave no task and no channel."""
    async with lab(tmp_path) as place:
        node = place.start(place.issue("one"), [])
        await asyncio.sleep(0)
        tasks_before = len(asyncio.all_tasks())
        for _ in range(count):
            _, writer = await asyncio.open_connection("127.0.0.1", node.port)
            writer.write(b"\x16\x03\x01")
            writer.close()
        await wait_until(lambda: sum(node.network.tls_failures().values()) == count)
        await wait_until(lambda: len(asyncio.all_tasks()) <= tasks_before)


async def test_a_node_of_another_genesis_is_refused_with_the_reason(tmp_path: Path) -> None:
    """O3, T4: two networks with the same members never exchange more than hellos."""
    async with lab(tmp_path) as place:
        one, two = place.issue("one"), place.issue("two")
        first = place.start(one, [listed(two)])
        second = place.start(two, [at(first)], genesis=OTHER_GENESIS)
        await wait_until(lambda: first.info(two.node_id).last_error == "wrong_genesis")
        await wait_until(lambda: second.info(one.node_id).last_error == "wrong_genesis")
        assert first.seen.connected == []
        assert second.seen.connected == []
        assert first.info(two.node_id).banned_for_s == 0


async def test_a_future_version_is_refused_and_an_overlapping_one_is_not(tmp_path: Path) -> None:
    """P12: ranges of versions that do not meet part with a reason, ranges that meet connect."""
    async with lab(tmp_path) as place:
        two, three = place.issue("two"), place.issue("three")
        node = place.start(place.issue("one"), [listed(two, "two"), listed(three, "three")])
        async with raw_peer(place, node, two) as peer:
            peer.send(hello_of(two, versions=(2, 9)))
            _, refusal = await peer.receive_all()
        assert isinstance(refusal, Goodbye)
        assert refusal.reason == "version_unsupported"
        async with raw_peer(place, node, three) as peer:
            peer.send(hello_of(three, versions=(1, 9)))
            assert isinstance(await peer.receive(), Hello)
            await wait_until(lambda: node.seen.connected == [three.node_id])


async def test_what_comes_before_the_hello_is_not_read(tmp_path: Path) -> None:
    """P12: an application message first ends the connection and is not delivered."""
    async with lab(tmp_path) as place:
        two = place.issue("two")
        node = place.start(place.issue("one"), [listed(two)])
        async with raw_peer(place, node, two) as peer:
            peer.send(Ping(1, 1), hello_of(two))
            messages = await peer.receive_all()
        assert isinstance(messages[-1], Goodbye)
        assert messages[-1].reason == "hello_expected"
        assert node.seen.connected == []


async def test_a_hello_frame_is_small(tmp_path: Path) -> None:
    """P5: before the hello a frame of 2 KiB and a byte is refused from its length alone."""
    async with lab(tmp_path) as place:
        two = place.issue("two")
        node = place.start(place.issue("one"), [listed(two)])
        async with raw_peer(place, node, two) as peer:
            peer.writer.write((2049).to_bytes(4, "big"))
            messages = await peer.receive_all()
        assert isinstance(messages[-1], Goodbye)
        assert messages[-1].reason == "frame_too_large"
        await wait_until(lambda: node.info(two.node_id).banned_for_s > 0)


async def test_nodes_that_dial_each_other_keep_one_connection(tmp_path: Path) -> None:
    """Both ends keep the connection dialled by the smaller node id."""
    async with lab(tmp_path) as place:
        files = sorted([place.issue("a"), place.issue("b")], key=lambda f: f.node_id)
        small = place.start(files[0], [listed(files[1])])
        port = small.port
        await small.stop()
        # Both know the other's port, so both dial.
        dialled = PeerConfig("small", files[0].node_id, "127.0.0.1", port)
        big = place.start(files[1], [dialled])
        small = place.start(files[0], [at(big)], port=port)
        await wait_until(lambda: bool(small.seen.connected and big.seen.connected))
        await wait_until(
            lambda: (
                small.info(big.id).is_connected
                and big.info(small.id).is_connected
                and big.info(small.id).is_inbound != small.info(big.id).is_inbound
            )
        )
        assert small.network.connected() == [big.id]
        assert big.network.connected() == [small.id]


@pytest.mark.parametrize("dialled_by_small", [True, False])
async def test_of_two_directions_the_one_of_the_smaller_id_wins(
    tmp_path: Path, *, dialled_by_small: bool
) -> None:
    """A second connection in the other direction replaces, or yields to, the first."""
    async with lab(tmp_path) as place:
        files = sorted([place.issue("a"), place.issue("b")], key=lambda f: f.node_id)
        dialler, listener = files if dialled_by_small else files[::-1]
        node = place.start(listener, [listed(dialler)])
        dialling = place.start(dialler, [at(node)])
        await wait_until(lambda: bool(node.seen.connected and dialling.seen.connected))
        # Now the listener's own dial arrives at the dialler, by hand.
        async with raw_peer(place, dialling, listener) as peer:
            peer.send(hello_of(listener))
            first = await peer.receive()
            assert isinstance(first, Hello)
            if dialled_by_small:
                assert isinstance(last := (await peer.receive_all())[-1], Goodbye)
                assert last.reason == "duplicate_connection"
                assert dialling.seen.disconnected == []
            else:
                await wait_until(lambda: len(dialling.seen.connected) == 2)
                assert dialling.info(listener.node_id).is_inbound


async def test_a_second_connection_in_one_direction_yields_to_the_first(tmp_path: Path) -> None:
    """C4: a second process with a copied key does not push out the first."""
    async with lab(tmp_path) as place:
        one, two = place.issue("one"), place.issue("two")
        node = place.start(one, [listed(two)])
        first = place.start(two, [at(node)])
        await wait_until(lambda: bool(node.seen.connected and first.seen.connected))
        async with raw_peer(place, node, two) as twin:
            twin.send(hello_of(two))
            assert isinstance(last := (await twin.receive_all())[-1], Goodbye)
        assert last.reason == "duplicate_connection"
        assert node.seen.disconnected == []
        assert first.seen.disconnected == []
