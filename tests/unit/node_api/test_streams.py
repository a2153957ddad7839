"""Event streams: order, topics, resumption, slow and rude clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType

from ledger.address import format_address
from node.api.feed import Chunk, Item, Lagged, Position, parse_position
from node.api.limits import (
    WEBSOCKET_MESSAGE_BYTES_MAX,
    WEBSOCKET_MESSAGES_PER_S,
    WEBSOCKET_SUBSCRIPTIONS_MAX,
    Limits,
)
from node.api.parameters import InvalidText
from tests.unit.node_api.conftest import Api, StartApi
from tests.unit.node_api.fakes import ALICE, ALICE_ADDRESS, ASSET, BOB
from tests.unit.node_api.test_problems import assert_problem
from tests.unit.waiting import DEADLINE_S, until

ALL = "blocks,transactions,events"


async def read_events(response: aiohttp.ClientResponse, count: int) -> list[dict[str, Any]]:
    """Return the next events of an SSE stream."""
    events: list[dict[str, Any]] = []
    event: dict[str, Any] = {}
    async with asyncio.timeout(DEADLINE_S):
        while len(events) < count:
            line = (await response.content.readline()).decode()
            assert line, "the stream has ended"
            name, _, value = line.rstrip("\n").partition(": ")
            if name == "data":
                event["data"] = json.loads(value)
            elif name in ("id", "event"):
                event[name] = value
            elif not name and "data" in event:
                events.append(event)
                event = {}
    return events


async def sse(api: Api, query: str, count: int, **headers: str) -> list[dict[str, Any]]:
    """Open a stream, return its first events, close it."""
    async with api.session.get(f"{api.url}/v1/events?{query}", headers=headers) as response:
        assert response.status == 200
        return await read_events(response, count)


def ids(events: list[dict[str, Any]]) -> list[str]:
    return [event["id"] for event in events]


# --- Server-Sent Events -------------------------------------------------------------------------


async def test_stream_is_in_chain_order_with_cursors(api: Api) -> None:
    node = api.node
    await node.finalize(node.transfer(), node.transfer(2**60))
    await node.finalize()
    events = await sse(api, f"topics={ALL}&cursor=0", 5)
    assert ids(events) == ["1", "1-0", "1-0-0", "1-1", "2"]
    assert [event["event"] for event in events] == [
        "block", "transaction", "transferred", "transaction", "block",
    ]  # fmt: skip
    assert events[0]["data"]["hash"] == node.chain.require_executed(1).block_hash.hex()
    assert events[2]["data"]["amount"] == "1"
    assert events[3]["data"]["status"] == "failed"
    assert events[3]["data"]["code"] == "insufficient_balance"


@pytest.mark.parametrize("place", range(7))
async def test_resumed_stream_continues_exactly(api: Api, place: int) -> None:
    """Whatever was the last event seen, nothing is lost and nothing repeated."""
    node = api.node
    await node.finalize(node.transfer(), node.transfer())
    await node.finalize(node.transfer())
    whole = await sse(api, f"topics={ALL}&cursor=0", 8)
    seen = whole[place]["id"]
    by_query = await sse(api, f"topics={ALL}&cursor={seen}", 7 - place)
    by_header = await sse(api, f"topics={ALL}&cursor=0", 7 - place, **{"Last-Event-ID": seen})
    assert by_query == by_header == whole[place + 1 :]


async def test_stream_without_cursor_begins_now(api: Api) -> None:
    await api.node.finalize()
    async with api.session.get(f"{api.url}/v1/events") as response:
        await until(lambda: api.context.sse_clients.taken == 1)
        await api.node.finalize()
        (event,) = await read_events(response, 1)
    assert (event["id"], event["event"]) == ("2", "block")


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("blocks", ["1", "2"]),
        ("transactions", ["1-0", "1-1", "2-0"]),
        ("events", ["1-0-0", "2-0-0"]),
        ("event:transferred", ["1-0-0", "2-0-0"]),
        (f"account:{format_address(ALICE_ADDRESS)}", ["1-0-0", "2-0-0"]),
        (f"asset:{ASSET}", ["1-0-0", "2-0-0"]),
        ("blocks,events", ["1", "1-0-0", "2", "2-0-0"]),
    ],
)
async def test_topics_select(api: Api, topic: str, expected: list[str]) -> None:
    node = api.node
    await node.finalize(node.transfer(sender=ALICE), node.transfer(2**60, sender=BOB))
    await node.finalize(node.transfer())
    assert ids(await sse(api, f"topics={topic}&cursor=0", len(expected))) == expected


async def test_one_transaction_can_be_followed(api: Api) -> None:
    node = api.node
    await node.finalize(node.transfer(), node.transfer())
    wanted = (await api.get("/v1/blocks/1/ids")).json["ids"][1]
    (event,) = await sse(api, f"topics=transaction:{wanted}&cursor=0", 1)
    assert (event["id"], event["data"]["id"]) == ("1-1", wanted)


@pytest.mark.parametrize(
    "topic",
    ["", "nonsense", "account:mbi1x", "transaction:00", "event:nonsense", "asset:", "blocks,,",
     ",".join(["blocks"] * 17), "asset:../x y"],
)  # fmt: skip
async def test_unknown_topic_is_refused(api: Api, topic: str) -> None:
    answer = await api.get("/v1/events", params={"topics": topic})
    assert_problem(answer, 400, "invalid_parameter")


async def test_silence_moves_the_resume_point(start_api: StartApi) -> None:
    """A client of a rare topic resumes near the head, not at its last event."""
    api = await start_api(limits=Limits(stream_heartbeat_s=0.02))
    node = api.node
    await node.finalize(node.transfer())
    async with api.session.get(f"{api.url}/v1/events?topics=event:burned&cursor=0") as response:
        async with asyncio.timeout(DEADLINE_S):
            assert await response.content.readline() == b": silence\n"
            assert await response.content.readline() == b"id: 1-0-0\n"


async def test_sse_clients_are_bounded_and_places_come_back(start_api: StartApi) -> None:
    """A5: one stream more than allowed is refused; a client that leaves frees its place."""
    api = await start_api(limits=Limits(sse_clients_max=1))
    async with api.session.get(f"{api.url}/v1/events"):
        refused = await api.get("/v1/events")
        assert_problem(refused, 503, "too_many_streams")
        assert refused.headers["Retry-After"]
    await until(lambda: api.context.sse_clients.taken == 0)
    assert await sse(api, "cursor=0", 0) == []


async def test_stop_ends_streams_at_once(api: Api) -> None:
    """R4: a node with streams stops as fast as one without."""
    async with (
        api.session.get(f"{api.url}/v1/events") as response,
        api.session.ws_connect(f"{api.url}/v1/ws") as socket,
    ):
        reading = asyncio.create_task(close_code(socket))
        await until(lambda: len(api.context.streams) == 2)
        async with asyncio.timeout(0.8):
            await api.server.stop()
        assert await reading == 1001
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.content.readline()


# --- the feed -----------------------------------------------------------------------------------


async def collect(chunks: AsyncIterator[Chunk | Lagged], count: int) -> list[Chunk | Lagged]:
    found = []
    async with asyncio.timeout(DEADLINE_S):
        async for chunk in chunks:
            found.append(chunk)
            if len(found) == count:
                break
    return found


async def test_stream_that_falls_behind_is_told_where_to_resume(api: Api) -> None:
    """P6: a slow client costs no memory; it gets a visible end and loses nothing."""
    topics = frozenset({"blocks"})
    stream = api.context.feed.follow(Position(0), topics, lag_blocks=3, heartbeat_s=0.01)
    assert await collect(stream, 1) == [Chunk((), Position(0))]
    for _ in range(4):
        await api.node.finalize()
    (lagged,) = await collect(stream, 1)
    assert lagged == Lagged(Position(0))
    again = api.context.feed.follow(Position(0), topics, lag_blocks=3, heartbeat_s=1)
    chunks = await collect(again, 4)
    assert [str(chunk.items[0].position) for chunk in chunks if isinstance(chunk, Chunk)] == [
        "1", "2", "3", "4",
    ]  # fmt: skip


async def test_replay_is_never_lagging(api: Api) -> None:
    """A client that reads old blocks is behind on purpose."""
    for _ in range(10):
        await api.node.finalize()
    stream = api.context.feed.follow(
        Position(0), frozenset({"blocks"}), lag_blocks=2, heartbeat_s=1
    )
    assert len(await collect(stream, 10)) == 10


async def test_rendered_blocks_are_shared_and_bounded(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.api.feed.CACHED_ITEMS_MAX", 5)
    for _ in range(20):
        await api.node.finalize(api.node.transfer())
    feed = api.context.feed
    for _ in range(2):
        stream = feed.follow(Position(0), frozenset({"blocks"}), lag_blocks=99, heartbeat_s=1)
        await collect(stream, 20)
    assert sum(len(items) for items in feed._rendered.values()) <= 5


@pytest.mark.parametrize("text", ["", "-", "1-", "-1", "1-2-3-4", "01", "1.2", "a", " 1", "1--2"])
def test_strange_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidText):
        parse_position(text)


@pytest.mark.parametrize("position", [Position(0), Position(7, 0), Position(7, 3, 0)])
def test_cursor_text_round_trips(position: Position) -> None:
    assert parse_position(str(position)) == position


def test_positions_sort_as_the_chain_does() -> None:
    order = [Position(1), Position(1, 0), Position(1, 0, 0), Position(1, 1), Position(2)]
    assert sorted([order[2], order[4], order[0], order[3], order[1]]) == order


# --- WebSocket ----------------------------------------------------------------------------------


@asynccontextmanager
async def open_socket(api: Api) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with api.session.ws_connect(f"{api.url}/v1/ws", max_msg_size=0) as socket:
        yield socket


async def ask(socket: aiohttp.ClientWebSocketResponse, **message: Any) -> dict[str, Any]:
    await socket.send_json(message)
    answer: dict[str, Any] = await socket.receive_json(timeout=DEADLINE_S)
    return answer


async def close_code(socket: aiohttp.ClientWebSocketResponse) -> int | None:
    """Read until the server closes; return its reason."""
    async with asyncio.timeout(DEADLINE_S):
        while (await socket.receive()).type not in (WSMsgType.CLOSE, WSMsgType.CLOSED):
            pass
    return socket.close_code


async def test_websocket_carries_several_subscriptions(api: Api) -> None:
    node = api.node
    await node.finalize(node.transfer())
    async with open_socket(api) as socket:
        subscribed = await ask(socket, op="subscribe", id="b", topics=["blocks"], cursor="0")
        assert subscribed == {"op": "subscribed", "id": "b", "cursor": "0"}
        first = await socket.receive_json(timeout=DEADLINE_S)
        assert (first["op"], first["id"], first["type"]) == ("event", "b", "block")
        assert (first["cursor"], first["data"]["height"]) == ("1", 1)
        await ask(socket, op="subscribe", id="e", topics=["events"])
        await node.finalize(node.transfer())
        found = [await socket.receive_json(timeout=DEADLINE_S) for _ in range(2)]
        assert {(item["id"], item["cursor"]) for item in found} == {("b", "2"), ("e", "2-0-0")}


async def test_websocket_subscription_can_be_ended(api: Api) -> None:
    async with open_socket(api) as socket:
        await ask(socket, op="subscribe", id="b", topics=["blocks"])
        assert await ask(socket, op="unsubscribe", id="b") == {"op": "unsubscribed", "id": "b"}
        await api.node.finalize()
        await ask(socket, op="subscribe", id="b", topics=["transactions"])


async def test_websocket_subscriptions_are_bounded(api: Api) -> None:
    """A5: ten thousand subscriptions are five."""
    async with open_socket(api) as socket:
        for number in range(WEBSOCKET_SUBSCRIPTIONS_MAX):
            answer = await ask(socket, op="subscribe", id=str(number))
            assert answer["op"] == "subscribed"
        refused = await ask(socket, op="subscribe", id="more")
        assert (refused["op"], refused["code"]) == ("error", "too_many_streams")
        await ask(socket, op="unsubscribe", id="0")
        assert (await ask(socket, op="subscribe", id="more"))["op"] == "subscribed"


@pytest.mark.parametrize(
    "message",
    [
        {"op": "subscribe"},
        {"op": "stop"},
        {"op": "subscribe", "id": "a", "extra": 1},
        {"op": "subscribe", "id": ""},
        {"op": "subscribe", "id": "a" * 65},
        {"op": "subscribe", "id": "a", "topics": []},
        {"op": "subscribe", "id": "a", "topics": ["nonsense"]},
        {"op": "subscribe", "id": "a", "topics": ["blocks"] * 17},
        {"op": "subscribe", "id": "a", "cursor": "x"},
        {"op": "subscribe", "id": 1},
        [],
        1,
        None,
    ],
)
async def test_bad_websocket_request_is_answered_with_an_error(api: Api, message: Any) -> None:
    async with open_socket(api) as socket:
        await socket.send_json(message)
        answer = await socket.receive_json(timeout=DEADLINE_S)
        assert answer["op"] == "error"
        assert answer["code"]
        assert (await ask(socket, op="subscribe", id="good"))["op"] == "subscribed"


@pytest.mark.parametrize("text", ["{", "[" * 60_000, "", "\x00"])
async def test_websocket_text_that_is_not_json_is_answered(api: Api, text: str) -> None:
    """T17 on the WebSocket."""
    async with open_socket(api) as socket:
        await socket.send_str(text)
        assert (await socket.receive_json(timeout=DEADLINE_S))["code"] == "invalid_body"


async def test_websocket_message_is_bounded(api: Api) -> None:
    """A5: closed with 1009 from the frame's header."""
    async with open_socket(api) as socket:
        await socket.send_str("x" * (WEBSOCKET_MESSAGE_BYTES_MAX + 1))
        assert await close_code(socket) == 1009


async def test_websocket_takes_text_only(api: Api) -> None:
    async with open_socket(api) as socket:
        await socket.send_bytes(b"\x00")
        assert await close_code(socket) == 1003


@pytest.mark.parametrize("kind", ["ping", "text"])
async def test_websocket_flood_is_cut(api: Api, kind: str) -> None:
    """A5: more messages than anyone needs end the channel with 1008, pings included."""
    async with open_socket(api) as socket:
        for _ in range(2 * WEBSOCKET_MESSAGES_PER_S):
            await (socket.ping() if kind == "ping" else socket.send_str("{}"))
        assert await close_code(socket) == 1008
    assert (await api.get("/healthz")).status == 200


async def test_websocket_ping_is_answered(api: Api) -> None:
    async with api.session.ws_connect(f"{api.url}/v1/ws", autoping=False) as socket:
        await socket.ping(b"hello")
        answer = await socket.receive(timeout=DEADLINE_S)
        assert (answer.type, answer.data) == (WSMsgType.PONG, b"hello")


async def test_websocket_is_never_compressed(api: Api) -> None:
    """A2: no decompression of what a client sends, here neither."""
    async with api.session.ws_connect(f"{api.url}/v1/ws", compress=15) as socket:
        assert socket.compress == 0


async def test_websocket_clients_are_bounded_and_places_come_back(start_api: StartApi) -> None:
    api = await start_api(limits=Limits(websocket_clients_max=1))
    async with open_socket(api):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await api.session.ws_connect(f"{api.url}/v1/ws")
        assert refused.value.status == 503
    await until(lambda: api.context.websocket_clients.taken == 0)


async def test_slow_websocket_client_is_closed_with_1013(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A5, P6: a client that reads too slowly gets `lagged` with `resume_from`, then 1013."""
    api = await start_api(limits=Limits(stream_lag_blocks=2))

    async def follow(*_: Any, **__: Any) -> AsyncIterator[Chunk | Lagged]:
        yield Chunk((Item(Position(5), "block", ("blocks",), b"{}"),), Position(5))
        yield Lagged(Position(5))

    monkeypatch.setattr(api.context.feed, "follow", follow)
    async with open_socket(api) as socket:
        await ask(socket, op="subscribe", id="b")
        assert (await socket.receive_json(timeout=DEADLINE_S))["cursor"] == "5"
        lagged = await socket.receive_json(timeout=DEADLINE_S)
        assert lagged == {"op": "lagged", "id": "b", "resume_from": "5"}
        assert await close_code(socket) == 1013


async def test_websocket_client_that_reads_nothing_is_cut(start_api: StartApi) -> None:
    """A5: with all buffers full the connection is aborted, and its subscriptions with it."""
    api = await start_api(limits=Limits(write_stall_s=0.3))
    node = api.node
    for _ in range(3):
        await node.finalize(*(node.transfer() for _ in range(800)))
    async with api.session.ws_connect(f"{api.url}/v1/ws", max_msg_size=0) as socket:
        transport = socket._response.connection.transport  # type: ignore[union-attr]
        transport.pause_reading()  # type: ignore[union-attr]
        for number in range(WEBSOCKET_SUBSCRIPTIONS_MAX):
            await socket.send_json(
                {"op": "subscribe", "id": str(number), "topics": ALL.split(","), "cursor": "0"}
            )
        await until(lambda: api.context.websocket_clients.taken == 1)
        await until(lambda: api.context.websocket_clients.taken == 0)
        transport.abort()  # type: ignore[union-attr]
    assert (await api.get("/healthz")).status == 200
