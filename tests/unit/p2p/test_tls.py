"""Who gets past TLS and past the list of configured peers, on both sides of a connection."""

from __future__ import annotations

import asyncio
import ssl
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from p2p.config import PeerConfig
from p2p.messages import Goodbye, Hello
from tests.unit.p2p.certificates import DAY, Authority, Files
from tests.unit.p2p.cluster import Lab, hello_of, lab, listed, raw_peer, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MINUTE = timedelta(minutes=1)


def _other_ca(place: Lab, name: str) -> Files:
    return Authority().issue(place.directory, name)


def _expired(place: Lab, name: str) -> Files:
    return place.authority.issue(place.directory, name, valid_from=-2 * DAY, valid_to=-MINUTE)


def _not_yet_valid(place: Lab, name: str) -> Files:
    return place.authority.issue(place.directory, name, valid_from=MINUTE, valid_to=DAY)


def _server_only(place: Lab, name: str) -> Files:
    return place.authority.issue(place.directory, name, uses=(ExtendedKeyUsageOID.SERVER_AUTH,))


def _client_only(place: Lab, name: str) -> Files:
    return place.authority.issue(place.directory, name, uses=(ExtendedKeyUsageOID.CLIENT_AUTH,))


def _self_signed(place: Lab, name: str) -> Files:
    return place.authority.issue(place.directory, name, self_signed=True)


BAD: dict[str, Callable[[Lab, str], Files]] = {
    "other CA": _other_ca,
    "expired": _expired,
    "not yet valid": _not_yet_valid,
    "self-signed": _self_signed,
}


@pytest.mark.parametrize("kind", [*BAD, "server-only use", "no certificate", "TLS 1.2"])
async def test_a_dialler_without_a_valid_certificate_reaches_no_code_of_ours(
    tmp_path: Path, kind: str
) -> None:
    """P1: refused in the TLS handshake; not a byte of ours is sent or read."""
    async with lab(tmp_path) as place:
        makers = {**BAD, "server-only use": _server_only}
        made = makers[kind](place, "two") if kind in makers else place.issue("two")
        node = place.start(place.issue("one"), [listed(made)])
        context = place.client_context(None if kind == "no certificate" else made)
        if kind == "TLS 1.2":
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        received = []
        try:
            async with raw_peer(place, node, made, context) as peer:
                peer.send(hello_of(made))
                received = await peer.receive_all()
        except (ssl.SSLError, ConnectionError):
            pass
        assert received == []
        await wait_until(lambda: node.network.tls_failures() == {"tls_handshake_failed": 1})
        assert node.network.tls_failures_by_address() == {"127.0.0.1": 1}
        assert node.seen.connected == []
        assert node.network.refusals.total() == 0
        assert node.info(made.node_id).statistics.bytes_in == 0


async def test_the_same_dialler_with_a_valid_certificate_is_let_in(tmp_path: Path) -> None:
    """P1, the control: nothing but the certificate makes the difference."""
    async with lab(tmp_path) as place:
        two = place.issue("two")
        node = place.start(place.issue("one"), [listed(two)])
        async with raw_peer(place, node, two) as peer:
            peer.send(hello_of(two))
            assert isinstance(await peer.receive(), Hello)
            await wait_until(lambda: node.seen.connected == [two.node_id])


@pytest.mark.parametrize("kind", [*BAD, "client-only use", "TLS 1.2"])
async def test_a_listener_without_a_valid_certificate_hears_nothing(
    tmp_path: Path, kind: str
) -> None:
    """P1, seen from the dialler: it does not introduce itself to an impostor."""
    async with lab(tmp_path) as place:
        makers = {**BAD, "client-only use": _client_only}
        made = makers[kind](place, "two") if kind in makers else place.issue("two")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(made.certificate_path, made.key_path)
        if kind == "TLS 1.2":
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        heard: list[bytes] = []

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.read(1))
            writer.close()

        server = await asyncio.start_server(listen, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        peer = PeerConfig("two", made.node_id, "127.0.0.1", port)
        node = place.start(place.issue("one"), [peer])
        await wait_until(lambda: node.info(made.node_id).last_error == "dial_failed")
        assert [data for data in heard if data] == []
        assert node.seen.connected == []
        await place.stop()
        server.close()
        await server.wait_closed()


async def test_the_right_ca_alone_opens_nothing(tmp_path: Path) -> None:
    """P2: a member of the network that is not on this node's list is told so and closed."""
    async with lab(tmp_path) as place:
        stranger = place.issue("stranger")
        node = place.start(place.issue("one"), [listed(place.issue("two"))])
        async with raw_peer(place, node, stranger) as peer:
            peer.send(hello_of(stranger))
            (refusal,) = await peer.receive_all()
        assert isinstance(refusal, Goodbye)
        assert refusal.reason == "unknown_peer"
        assert node.seen.connected == []
        assert node.network.refusals == {"unknown_peer": 1}


async def test_a_certificate_speaks_for_its_own_key_only(tmp_path: Path) -> None:
    """P2: the certificate of A with the claim to be B; both are on the list."""
    async with lab(tmp_path) as place:
        a, b = place.issue("a"), place.issue("b")
        node = place.start(place.issue("one"), [listed(a, "a"), listed(b, "b")])
        async with raw_peer(place, node, a) as peer:
            peer.send(hello_of(b))
            messages = await peer.receive_all()
        assert [type(m) for m in messages] == [Hello, Goodbye]
        assert isinstance(messages[1], Goodbye)
        assert messages[1].reason == "identity_mismatch"
        assert node.seen.connected == []
        assert node.network.refusals == {"identity_mismatch": 1}


async def test_an_address_that_answers_as_another_member_is_not_accepted(tmp_path: Path) -> None:
    """P2: we dialled B's address and found A there, certified and on the list."""
    async with lab(tmp_path) as place:
        one, a, b = place.issue("one"), place.issue("a"), place.issue("b")
        found = place.start(a, [listed(one)])
        wrong = PeerConfig("b", b.node_id, "127.0.0.1", found.port)
        node = place.start(one, [listed(a, "a"), wrong])
        await wait_until(lambda: node.network.refusals["identity_mismatch"] > 0)
        assert node.seen.connected == []
        assert found.seen.connected == []


async def test_a_node_does_not_talk_to_itself(tmp_path: Path) -> None:
    """P2: the own key is never a peer, whatever the configuration says."""
    async with lab(tmp_path) as place:
        one, two = place.issue("one"), place.issue("two")
        node = place.start(one, [listed(one, "me"), listed(two)])
        async with raw_peer(place, node, one) as peer:
            peer.send(hello_of(one))
            (refusal,) = await peer.receive_all()
        assert isinstance(refusal, Goodbye)
        assert refusal.reason == "unknown_peer"
