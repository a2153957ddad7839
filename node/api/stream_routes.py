"""Event streams: Server-Sent Events, and a WebSocket that carries several subscriptions.

Both read the same feed. A stream ends with a visible ``lagged`` event that says where to resume if
the client is too slow. Threat lines A5 and P6.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web
from msgspec import Struct

from node.api import schemas
from node.api.feed import (
    TOPIC_HELP,
    Chunk,
    Item,
    Lagged,
    Position,
    parse_position,
    parse_topics,
)
from node.api.headers import BASE_HEADERS, DATA_HEADERS
from node.api.limits import (
    TOPICS_MAX,
    WEBSOCKET_CLOSE_S,
    WEBSOCKET_HEARTBEAT_S,
    WEBSOCKET_MESSAGE_BYTES_MAX,
    WEBSOCKET_MESSAGES_PER_S,
    WEBSOCKET_SUBSCRIPTIONS_MAX,
)
from node.api.parameters import InvalidText, Parameter, parse_topic_list
from node.api.problems import Problem
from node.api.routing import Answer, Call, Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DEFAULT_TOPICS: Final = ("blocks",)
SUBSCRIPTION_ID_MAX: Final = 64
CLOSE_TRY_AGAIN: Final = WSCloseCode.TRY_AGAIN_LATER
"""1013: the client was too slow."""


def _follow(call: Call, after: Position, topics: frozenset[str]) -> AsyncIterator[Chunk | Lagged]:
    limits = call.context.limits
    return call.context.feed.follow(
        after,
        topics,
        lag_blocks=limits.stream_lag_blocks,
        heartbeat_s=limits.stream_heartbeat_s,
    )


# --- Server-Sent Events (HTML standard, section 9.2) ----------------------------------------------


async def events(call: Call) -> web.StreamResponse:
    """Stream events after a cursor, or from now on."""
    topics = parse_topics(call.query["topics"])
    after = _resume_point(call)
    with call.context.sse_clients.place(), call.context.stream(), call.cancelled_if_client_leaves():
        response = web.StreamResponse(
            headers={
                **DATA_HEADERS,
                "Content-Type": "text/event-stream; charset=utf-8",
                "X-Accel-Buffering": "no",
            }
        )
        await response.prepare(call.request)
        async for chunk in _follow(call, after, topics):
            if isinstance(chunk, Lagged):
                await response.write(_lagged_event(chunk))
                break
            await response.write(_sse(chunk))
    return response


def _resume_point(call: Call) -> Position:
    """Return where the stream begins; a reconnecting browser sends ``Last-Event-ID``.

    Raises:
        Problem: ``invalid_cursor``.
    """
    last_id = call.request.headers.get("Last-Event-ID")
    try:
        if last_id:
            return parse_position(last_id)
        cursor = call.query["cursor"]
        return call.context.feed.head() if cursor is None else parse_position(cursor)
    except InvalidText as error:
        raise Problem("invalid_cursor", f"expected {error}") from error


def _sse(chunk: Chunk) -> bytes:
    if not chunk.items:
        # An id without data moves the client's resume point and dispatches nothing.
        return b": silence\nid: %s\n\n" % str(chunk.reached).encode()
    return b"".join(
        b"id: %s\nevent: %s\ndata: %s\n\n"
        % (str(item.position).encode(), item.kind.encode(), item.data)
        for item in chunk.items
    )


def _lagged_event(lagged: Lagged) -> bytes:
    resume_from = str(lagged.resume_from).encode()
    return b'event: lagged\ndata: {"resume_from":"%s"}\n\n' % resume_from


# --- WebSocket ------------------------------------------------------------------------------------


class Subscribe(Struct, tag_field="op", tag="subscribe", forbid_unknown_fields=True):
    """Client's wish to receive topics."""

    id: str
    """Chosen by the client; names the subscription in every message."""
    topics: tuple[str, ...] = DEFAULT_TOPICS
    cursor: str | None = None


class Unsubscribe(Struct, tag_field="op", tag="unsubscribe", forbid_unknown_fields=True):
    """Client's wish to end a subscription."""

    id: str


_decode_request: Final = msgspec.json.Decoder(Subscribe | Unsubscribe).decode
_encode: Final = msgspec.json.Encoder().encode


class _TooSlow(Exception):
    """A subscription has lagged: the whole channel ends."""


class Channel:
    """One WebSocket client with its subscriptions."""

    def __init__(self, call: Call, socket: web.WebSocketResponse, group: asyncio.TaskGroup) -> None:
        self._call = call
        self._socket = socket
        self._group = group
        self._subscriptions: dict[str, asyncio.Task[None]] = {}
        self._credit = float(WEBSOCKET_MESSAGES_PER_S)
        self._credit_at = time.monotonic()

    async def serve(self) -> None:
        """Handle the client's messages until it leaves or breaks a rule."""
        async for message in self._socket:
            if not self._spend():
                await self._close(WSCloseCode.POLICY_VIOLATION, b"too many messages")
            elif message.type is WSMsgType.TEXT:
                await self._handle(message.data)
            elif message.type is WSMsgType.PING:
                await self._socket.pong(message.data)
            elif message.type is not WSMsgType.PONG:
                await self._close(WSCloseCode.UNSUPPORTED_DATA, b"text messages only")
        self.end()

    def end(self) -> None:
        """End every subscription."""
        for task in self._subscriptions.values():
            task.cancel()

    def _spend(self) -> bool:
        """Take one message from the client's allowance; False if there is none left."""
        now = time.monotonic()
        earned = (now - self._credit_at) * WEBSOCKET_MESSAGES_PER_S
        self._credit = min(self._credit + earned, WEBSOCKET_MESSAGES_PER_S) - 1
        self._credit_at = now
        return self._credit >= 0

    async def _handle(self, text: str) -> None:
        try:
            request = _decode_request(text)
        except (msgspec.DecodeError, RecursionError):
            await self._refuse(
                None, "invalid_body", 'expected {"op": "subscribe" or "unsubscribe", "id": ...}'
            )
            return
        if isinstance(request, Unsubscribe):
            task = self._subscriptions.pop(request.id, None)
            if task is not None:
                task.cancel()
            await self._send({"op": "unsubscribed", "id": request.id})
            return
        try:
            after, topics = self._check(request)
        except Problem as problem:
            await self._refuse(request.id[:SUBSCRIPTION_ID_MAX], problem.code, problem.detail)
            return
        await self._send({"op": "subscribed", "id": request.id, "cursor": str(after)})
        self._subscriptions[request.id] = self._group.create_task(
            self._deliver(request.id, after, topics)
        )

    def _check(self, request: Subscribe) -> tuple[Position, frozenset[str]]:
        if not 0 < len(request.id) <= SUBSCRIPTION_ID_MAX or request.id in self._subscriptions:
            raise Problem("invalid_parameter", "id: expected a short text that is not in use yet")
        if len(self._subscriptions) >= WEBSOCKET_SUBSCRIPTIONS_MAX:
            raise Problem(
                "too_many_streams",
                f"a channel has at most {WEBSOCKET_SUBSCRIPTIONS_MAX} subscriptions",
            )
        if not 0 < len(request.topics) <= TOPICS_MAX:
            raise Problem(
                "invalid_parameter", f"topics: expected 1 to {TOPICS_MAX} of {TOPIC_HELP}"
            )
        topics = parse_topics(request.topics)
        try:
            after = (
                self._call.context.feed.head()
                if request.cursor is None
                else parse_position(request.cursor)
            )
        except InvalidText as error:
            raise Problem("invalid_cursor", f"expected {error}") from error
        return after, topics

    async def _deliver(self, name: str, after: Position, topics: frozenset[str]) -> None:
        async for chunk in _follow(self._call, after, topics):
            if isinstance(chunk, Lagged):
                resume_from = str(chunk.resume_from)
                await self._send({"op": "lagged", "id": name, "resume_from": resume_from})
                raise _TooSlow
            for item in chunk.items:
                await self._socket.send_str(_event_message(name, item))

    async def _refuse(self, name: str | None, code: str, detail: str) -> None:
        await self._send({"op": "error", "id": name, "code": code, "detail": detail})

    async def _send(self, message: dict[str, Any]) -> None:
        await self._socket.send_str(_encode(message).decode())

    async def _close(self, code: int, reason: bytes) -> None:
        await self._socket.close(code=code, message=reason)


def _event_message(name: str, item: Item) -> str:
    head = {"op": "event", "id": name, "type": item.kind, "cursor": str(item.position)}
    return f'{_encode(head).decode()[:-1]},"data":{item.data.decode()}}}'


async def websocket(call: Call) -> web.StreamResponse:
    """Serve one WebSocket client."""
    socket = web.WebSocketResponse(
        autoping=False,
        heartbeat=WEBSOCKET_HEARTBEAT_S,
        compress=False,
        max_msg_size=WEBSOCKET_MESSAGE_BYTES_MAX,
        timeout=WEBSOCKET_CLOSE_S,
    )
    if not socket.can_prepare(call.request).ok:
        raise Problem(
            "upgrade_required",
            "expected a WebSocket handshake (RFC 6455)",
            headers={"Upgrade": "websocket", "Connection": "Upgrade"},
        )
    with (
        call.context.websocket_clients.place(),
        call.context.stream(),
        call.cancelled_if_client_leaves(),
    ):
        socket.headers.update(BASE_HEADERS)
        await socket.prepare(call.request)
        try:
            await _serve_socket(call, socket)
        except asyncio.CancelledError:
            await socket.close(code=WSCloseCode.GOING_AWAY, message=b"the node stops")
            raise
    return socket


async def _serve_socket(call: Call, socket: web.WebSocketResponse) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            await Channel(call, socket, group).serve()
    except* _TooSlow:
        await socket.close(code=CLOSE_TRY_AGAIN, message=b"too slow; resume from the cursor")
    except* ConnectionError:
        pass  # the client left while something was sent to it


TOPICS = Parameter(
    "topics",
    parse_topic_list,
    {"type": "string", "default": ",".join(DEFAULT_TOPICS)},
    f"Comma-separated: {TOPIC_HELP}.",
    DEFAULT_TOPICS,
)
STREAM_CURSOR = Parameter(
    "cursor",
    str,
    {"type": "string", "pattern": "^[0-9]+(-[0-9]+){0,2}$"},
    "Resume after this place: HEIGHT, HEIGHT-TRANSACTION or HEIGHT-TRANSACTION-EVENT, the same on "
    "every node. Without it the stream begins now. `Last-Event-ID` overrides it.",
)

ROUTES: Final = (
    Route(
        "GET",
        "/v1/events",
        "events",
        "Stream of what becomes final (Server-Sent Events)",
        events,
        {200: Answer("Events", media_type="text/event-stream")},
        query_parameters=(TOPICS, STREAM_CURSOR),
        problems=("invalid_cursor", "too_many_streams"),
        is_stream=True,
    ),
    Route(
        "GET",
        "/v1/ws",
        "events",
        "The same stream as a WebSocket with up to "
        f"{WEBSOCKET_SUBSCRIPTIONS_MAX} subscriptions; see docs/http.md",
        websocket,
        {101: Answer("WebSocket", schemas.ref("WebSocketMessage"))},
        problems=("upgrade_required", "too_many_streams"),
        is_stream=True,
    ),
)
