"""Bounds on connections: their number, the time of a request to arrive, of a client to stall.

aiohttp waits for ever for a request head and for a client that reads nothing (measured: open after
200 s). The guard closes the gap without a timer per request: each connection notes when it began to
wait, and one sweep over all of them cuts what is overdue. Threat lines A1, A3, P13 and S8.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web

from node.api.limits import HEADER_BYTES_MAX, HEADERS_MAX, Limits
from node.api.problems import Problem, problem_response

if TYPE_CHECKING:
    from aiohttp.web_server import Server

    from node.metrics import HttpMetrics

SWEEP_S: Final = 1.0
"""Upper bound of the time between two sweeps; a deadline is kept within this."""
IPV6_NETWORK_BITS: Final = 64
"""One subscriber has at least this network, so it counts as one address."""
UNKNOWN_ADDRESS: Final = "0.0.0.0"
"""Stands for a client that was gone before it could be asked for its address."""

_REFUSAL: Final = (
    b'{"type":"/problems/too_many_connections","title":"Too many connections","status":503,'
    b'"code":"too_many_connections","detail":"this node has as many connections as it may have, '
    b'in all or from your address; close some, keep connections alive, or try again later"}'
)
REFUSED_RESPONSE: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"
    b"Retry-After: 5\r\nConnection: close\r\nContent-Length: "
    + str(len(_REFUSAL)).encode()
    + b"\r\n\r\n"
    + _REFUSAL
)
"""Written to a connection above the limit without reading anything from it."""


def client_group(host: str) -> str:
    """Return what counts as one client: the IPv4 address or the IPv6 network of 64 bits."""
    address = ip_address(host)
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        if not address.is_loopback:
            return f"{int(address) >> IPV6_NETWORK_BITS:x}/64"
    return str(address)


class ConnectionGuard:
    """Knows every connection of one server, admits new ones and cuts overdue ones."""

    def __init__(self, limits: Limits, metrics: HttpMetrics) -> None:
        self.limits = limits
        self._metrics = metrics
        self._connections: set[GuardedConnection] = set()
        self._per_group: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._connections)

    def admit(self, connection: GuardedConnection, host: str) -> str | None:
        """Take in a connection and return its group, or None if there are too many."""
        group = client_group(host)
        is_loopback = ip_address(group).is_loopback if "/" not in group else False
        limit = (
            self.limits.connections_loopback_max
            if is_loopback
            else self.limits.connections_per_address_max
        )
        if len(self._connections) >= self.limits.connections_max:
            self._metrics.refused.labels("connections").inc()
            return None
        if self._per_group[group] >= limit:
            self._metrics.refused.labels("connections_of_address").inc()
            return None
        self._connections.add(connection)
        self._per_group[group] += 1
        return group

    def release(self, connection: GuardedConnection, group: str) -> None:
        """Forget a closed connection."""
        self._connections.discard(connection)
        self._per_group[group] -= 1
        if not self._per_group[group]:
            del self._per_group[group]

    def sweep(self, now: float) -> None:
        """Cut every connection that is overdue; `now` is the loop's time."""
        head_before = now - self.limits.head_timeout_s
        stall_before = now - self.limits.write_stall_s
        for connection in list(self._connections):
            if connection.head_since is not None and connection.head_since <= head_before:
                self._metrics.refused.labels("head_timeout").inc()
                connection.abort()
            elif connection.stalled_since is not None and connection.stalled_since <= stall_before:
                self._metrics.refused.labels("write_stall").inc()
                connection.abort()

    def note_malformed(self) -> None:
        """Count a request that is not HTTP."""
        self._metrics.refused.labels("malformed").inc()

    @property
    def sweep_interval_s(self) -> float:
        """Time between two sweeps: a deadline is kept within a quarter of it."""
        return min(SWEEP_S, self.limits.head_timeout_s / 4, self.limits.write_stall_s / 4)


class GuardedConnection(web.RequestHandler):
    """aiohttp's connection with a deadline for the head, and constant answers to broken HTTP."""

    __slots__ = (
        "_group",
        "_guard",
        "_is_handling",
        "_wait",
        "discarding",
        "head_since",
        "stalled_since",
    )

    def __init__(
        self, server: Server, guard: ConnectionGuard, *, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=guard.limits.keep_alive_s,
            access_log=None,  # type: ignore[arg-type]  # documented: None switches it off
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
            max_headers=HEADERS_MAX,
            lingering_time=guard.limits.linger_s,
            auto_decompress=False,
        )
        self._guard = guard
        self._group: str | None = None
        self._wait: asyncio.Future[Any] | None = None
        self._is_handling = False
        self.head_since: float | None = None
        """Loop time since when a request head is awaited; None while a request is handled or the
        connection idles between two requests."""
        self.stalled_since: float | None = None
        """Loop time since when the client takes no more bytes."""
        self.discarding = False
        """Drop what still arrives: the body was refused and must cost nothing."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit the connection, or answer 503 and close without reading."""
        peer = transport.get_extra_info("peername")
        self._group = self._guard.admit(self, peer[0] if peer else UNKNOWN_ADDRESS)
        if self._group is None:
            self.discarding = True
            cast("asyncio.Transport", transport).write(REFUSED_RESPONSE)
            transport.close()
            return
        self.head_since = self._loop.time()
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Release the place, and end a wait on behalf of the client that left."""
        if self._group is None:
            return
        self._guard.release(self, self._group)
        if self._wait is not None:
            self._wait.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Start the deadline of a head with its first byte."""
        if self.discarding:
            return
        if data and self.head_since is None and not self._is_handling:
            self.head_since = self._loop.time()
        super().data_received(data)

    def request_started(self) -> None:
        """Note that a head is complete; called before its request is handled."""
        self.head_since = None
        self._is_handling = True

    def request_ended(self) -> None:
        """Note that the next bytes are another head; called after a request is handled."""
        self._is_handling = False

    def pause_writing(self) -> None:
        """Note that the client takes no more bytes."""
        self.stalled_since = self._loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Note that the client takes bytes again."""
        self.stalled_since = None
        super().resume_writing()

    def abort(self) -> None:
        """Close at once, dropping what is unsent."""
        transport = self.transport
        if transport is not None:
            transport.abort()

    def cancel_on_close(self, wait: asyncio.Future[Any] | None) -> None:
        """Cancel `wait` if the client leaves before it is done; None ends that."""
        self._wait = wait

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that is not HTTP, without a traceback in the log for each."""
        self._guard.note_malformed()
        response = problem_response(
            Problem("bad_request", "expected a well-formed HTTP/1.1 request within the limits")
        )
        response.force_close()
        return response
