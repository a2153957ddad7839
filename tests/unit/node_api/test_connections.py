"""Bounds on connections and bodies, over raw sockets on a real server."""

from __future__ import annotations

import asyncio
import gzip
import time

import pytest

from node.api.guard import client_group
from node.api.limits import BODY_BYTES_MAX, HEADERS_MAX, Limits
from tests.unit.node_api.conftest import Api, StartApi
from tests.unit.node_api.raw import DEADLINE_S
from tests.unit.node_api.test_problems import LEAKS
from tests.unit.waiting import until

GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
POST = b"POST /v1/transactions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/msgpack\r\n"
SHORT = Limits(head_timeout_s=0.2, body_timeout_s=0.2, write_stall_s=0.3, linger_s=0.2)

DROPPING_S_MAX = 0.1
"""Processor time to drop a million chunks: 0.007 measured; parsing them takes twice the limit."""


async def is_alive(api: Api) -> bool:
    return (await api.get("/healthz")).status == 200


def refused_count(api: Api, reason: str) -> float:
    value = api.context.metrics.registry.get_sample_value(
        "mbi_http_refused_total", {"reason": reason}
    )
    return value or 0.0


# --- A1: slow clients ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [b"", b"G", b"GET /healthz HTTP/1.1\r\nHost: 127", b"GET /healthz HTTP/1.1\r\nHost: a\r\n"],
    ids=["silent", "first byte", "within a header", "before the last line"],
)
async def test_connection_without_a_whole_head_is_cut(start_api: StartApi, sent: bytes) -> None:
    """A1: a head that does not arrive costs a connection for a bounded time only."""
    api = await start_api(limits=SHORT)
    peer = await api.connect(sent)
    assert await peer.read_all() == b""
    assert refused_count(api, "head_timeout") == 1
    assert await is_alive(api)


async def test_head_that_drips_is_cut(start_api: StartApi) -> None:
    """A1: bytes that keep coming do not extend the deadline."""
    api = await start_api(limits=SHORT)
    peer = await api.connect()

    async def drip() -> None:
        for byte in b"GET /healthz HTTP/1.1\r\nX-Long: " + b"x" * 8000:
            peer.writer.write(bytes([byte]))
            await asyncio.sleep(0.01)

    dripping = asyncio.create_task(drip())
    await peer.read_all()
    dripping.cancel()
    assert refused_count(api, "head_timeout") == 1


async def test_second_head_on_a_connection_has_the_same_deadline(start_api: StartApi) -> None:
    """A1: a good first request buys no time for a slow second one."""
    api = await start_api(limits=SHORT)
    peer = await api.connect(GET)
    await peer.read_answer()
    peer.writer.write(GET[:10])
    assert await peer.read_all() == b""
    assert refused_count(api, "head_timeout") == 1


async def test_quiet_kept_connection_outlives_the_head_deadline(start_api: StartApi) -> None:
    """Silence between requests is bounded by keep-alive, not by the deadline of a head."""
    api = await start_api(limits=SHORT)
    peer = await api.connect(GET)
    await peer.read_answer()
    await asyncio.sleep(2 * SHORT.head_timeout_s)
    peer.writer.write(GET)
    assert (await peer.read_answer()).startswith(b"HTTP/1.1 200")


async def test_kept_connection_is_closed_after_keep_alive(start_api: StartApi) -> None:
    api = await start_api(limits=Limits(keep_alive_s=0.2))
    peer = await api.connect(GET)
    await peer.read_answer()
    assert await peer.read_all() == b""


async def test_slow_body_is_answered_408(start_api: StartApi) -> None:
    """A1: the body has a deadline of its own."""
    api = await start_api(limits=SHORT)
    peer = await api.connect(POST + b"Content-Length: 1000\r\n\r\nfirst bytes")
    answer = await peer.read_all()
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'"code":"body_timeout"' in answer
    assert api.node.submitted == 0


async def test_long_request_is_not_cut_by_the_head_deadline(start_api: StartApi) -> None:
    """A handler that waits on purpose is no slow client."""
    api = await start_api(limits=SHORT)
    body = api.node.transfer()
    target = b"/v1/transactions?wait=finalized&timeout=1"
    head = POST.replace(b"/v1/transactions", target)
    peer = await api.connect(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    assert (await peer.read_answer()).startswith(b"HTTP/1.1 202")


async def test_client_that_reads_nothing_is_cut(start_api: StartApi) -> None:
    """P6: answers that nobody takes do not pile up."""
    api = await start_api(limits=SHORT)
    peer = await api.connect()
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a read transport
    request = GET.replace(b"/healthz", b"/openapi.json")

    async def ask() -> None:
        while True:
            peer.writer.write(request * 20)
            await peer.writer.drain()

    asking = asyncio.create_task(ask())
    await until(lambda: refused_count(api, "write_stall") == 1)
    asking.cancel()
    assert await is_alive(api)


# --- numbers ----------------------------------------------------------------------------------


async def test_connections_are_bounded(start_api: StartApi) -> None:
    """A1, S8: the one above the limit is told so and closed; a place that is left is free again."""
    api = await start_api(limits=Limits(connections_max=3))
    peers = [await api.connect(GET) for _ in range(3)]
    for peer in peers:
        await peer.read_answer()
    refused = await (await api.connect(GET)).read_all()
    assert refused.startswith(b"HTTP/1.1 503")
    assert b'"code":"too_many_connections"' in refused
    assert refused_count(api, "connections") == 1
    peers[0].writer.close()

    async def is_admitted() -> bool:
        return (await (await api.connect(GET)).read_answer()).startswith(b"HTTP/1.1 200")

    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                assert await is_admitted()
                break
            except AssertionError:
                await asyncio.sleep(0.01)


async def test_connections_of_one_address_are_bounded(start_api: StartApi) -> None:
    """A1: one address cannot take all places."""
    api = await start_api(limits=Limits(connections_loopback_max=2))
    for _ in range(2):
        await (await api.connect(GET)).read_answer()
    assert (await (await api.connect(GET)).read_all()).startswith(b"HTTP/1.1 503")
    assert refused_count(api, "connections_of_address") == 1


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::1", "::1", True),
        ("::1", "::2", False),
    ],
)
def test_clients_are_counted_by_network(a: str, b: str, same: bool) -> None:
    assert (client_group(a) == client_group(b)) is same


# --- A2, A3: hostile requests -------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "identity", "gzip, gzip"])
async def test_content_encoding_is_refused(api: Api, coding: str) -> None:
    """A2: no body is ever decompressed."""
    bomb = gzip.compress(bytes(BODY_BYTES_MAX * 8))
    head = POST + b"Content-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (
        coding.encode(),
        len(bomb),
    )
    answer = await (await api.connect(head + bomb)).read_answer()
    assert answer.startswith(b"HTTP/1.1 415")
    assert b'"code":"unsupported_media_type"' in answer
    assert api.node.submitted == 0


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * (HEADERS_MAX + 1) + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\x00b\r\n\r\n",
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        POST + b"Content-Length: 99999999999999999999\r\n\r\n",
        POST + b"Content-Length: -1\r\n\r\n",
    ],
)
async def test_malformed_request_is_a_constant_400(api: Api, request_bytes: bytes) -> None:
    """A3, A9: answered quickly, without a trace of the cause, and counted."""
    answer = await (await api.connect(request_bytes)).read_all()
    assert answer.split(b" ")[1] == b"400"
    assert b'"code":"bad_request"' in answer
    assert not LEAKS.search(answer)
    assert refused_count(api, "malformed") == 1


async def test_chunked_body_is_refused_unread(start_api: StartApi) -> None:
    """A3: a million one-byte chunks are dropped without parsing them."""
    api = await start_api(limits=Limits(linger_s=1.0))
    peer = await api.connect(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    answer = await peer.read_answer()
    assert answer.startswith(b"HTTP/1.1 411")
    started = time.process_time()
    peer.writer.write(b"1\r\nx\r\n" * 1_000_000)
    await peer.read_all()
    assert time.process_time() - started < DROPPING_S_MAX
    assert api.node.submitted == 0


@pytest.mark.parametrize("length", [BODY_BYTES_MAX + 1, 10**12])
async def test_long_body_is_refused_by_its_length(api: Api, length: int) -> None:
    peer = await api.connect(POST + b"Content-Length: %d\r\n\r\n" % length)
    answer = await peer.read_answer()
    assert answer.startswith(b"HTTP/1.1 413")
    assert b'"code":"body_too_large"' in answer


async def test_largest_body_is_read(api: Api) -> None:
    answer = await api.post(
        "/v1/transactions",
        data=bytes(BODY_BYTES_MAX),
        headers={"Content-Type": "application/msgpack"},
    )
    assert answer.json["code"] == "too_large"
    assert api.node.submitted == 1


async def test_body_on_a_route_without_one_is_refused(api: Api) -> None:
    answer = await api.get("/v1/status", data=b"x")
    assert (answer.status, answer.json["code"]) == (400, "bad_request")


async def test_unknown_expectation_is_refused(api: Api) -> None:
    head = POST + b"Expect: wonders\r\nContent-Length: 1\r\n\r\n"
    answer = await (await api.connect(head)).read_answer()
    assert answer.startswith(b"HTTP/1.1 417")
    assert b'"code":"expectation_failed"' in answer


async def test_100_continue_is_honoured(api: Api) -> None:
    body = api.node.transfer()
    head = POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
    peer = await api.connect(head)
    async with asyncio.timeout(DEADLINE_S):
        assert await peer.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    peer.writer.write(body)
    assert (await peer.read_answer()).startswith(b"HTTP/1.1 202")


async def test_pipelined_requests_are_answered_in_order(api: Api) -> None:
    peer = await api.connect(GET * 50)
    for _ in range(50):
        assert (await peer.read_answer()).startswith(b"HTTP/1.1 200")


# --- A6: foreign pages ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:26101", 200),
        ("[::1]:26101", 200),
        ("192.0.2.7", 200),
        ("localhost:26101", 200),
        ("node.example", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
        ("", 403),
        ("[::1", 403),
    ],
)
async def test_host_must_be_an_address_or_a_known_name(
    start_api: StartApi, host: str, status: int
) -> None:
    """A6: a page that rebinds its own name to this address cannot hide that name."""
    api = await start_api(allowed_hosts=frozenset({"node.example"}))
    answer = await (
        await api.connect(b"GET /v1/status HTTP/1.1\r\nHost: %b\r\n\r\n" % host.encode())
    ).read_answer()
    assert answer.startswith(b"HTTP/1.1 %d" % status)


@pytest.mark.parametrize("path", ["/v1/status", "/v1/ws", "/v1/events"])
@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "file://", "http://127.0.0.1", "https://evil.example"]
)
async def test_page_of_another_site_is_refused(api: Api, path: str, origin: str) -> None:
    """A6: a foreign page neither reads nor opens a stream."""
    headers = {"Origin": origin, "Upgrade": "websocket", "Connection": "Upgrade"}
    answer = await api.get(path, headers=headers)
    assert (answer.status, answer.json["code"]) == (403, "forbidden_origin")


async def test_own_and_listed_pages_are_welcome(start_api: StartApi) -> None:
    api = await start_api(allowed_origins=frozenset({"https://wallet.example"}))
    for origin in (api.url, "https://wallet.example"):
        assert (await api.get("/v1/status", headers={"Origin": origin})).status == 200
