"""What every handler of the API shares: the node, its metrics, the limits and bounded places."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ledger.genesis import genesis_json
from node.api.feed import Feed
from node.api.problems import Problem

if TYPE_CHECKING:
    from prometheus_client import Gauge

    from node.api.limits import Limits
    from node.api.ports import NodeView
    from node.metrics import Metrics


class Places:
    """A bounded number of places; one more request for a place is answered 503."""

    def __init__(self, maximum: int, gauge: Gauge, code: str) -> None:
        self._maximum = maximum
        self._gauge = gauge
        self._code = code
        self.taken = 0

    @property
    def is_full(self) -> bool:
        """Tell whether all places are taken."""
        return self.taken >= self._maximum

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place.

        Raises:
            Problem: the code given at construction, if all places are taken.
        """
        if self.is_full:
            raise Problem(
                self._code,
                f"{self._maximum} are open, which is the limit of this node",
                headers={"Retry-After": "5"},
            )
        self.taken += 1
        self._gauge.set(self.taken)
        try:
            yield
        finally:
            self.taken -= 1
            self._gauge.set(self.taken)


def _end_on_fault(error: BaseException) -> None:
    raise error


@dataclass(slots=True)
class Context:
    """Shared by all handlers of one server."""

    view: NodeView
    metrics: Metrics
    limits: Limits
    allowed_hosts: frozenset[str] = frozenset()
    """Names, besides addresses and localhost, under which clients may reach this node."""
    allowed_origins: frozenset[str] = frozenset()
    """Origins of other sites whose pages may use this node."""
    on_fault: Callable[[BaseException], None] = _end_on_fault
    """Called with a broken invariant or a corrupt store: the process must end."""
    feed: Feed = field(init=False)
    waiters: Places = field(init=False)
    sse_clients: Places = field(init=False)
    websocket_clients: Places = field(init=False)

    streams: set[asyncio.Task[Any]] = field(default_factory=set)
    """Tasks of the open event streams."""

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Count the present task as an event stream, which :meth:`end_streams` ends."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a stream is served by a task")
        self.streams.add(task)
        try:
            yield
        finally:
            self.streams.discard(task)

    def end_streams(self) -> None:
        """Cancel every open event stream, because the node stops."""
        for task in self.streams:
            task.cancel()

    openapi_document: bytes = b""
    """Set once by the application, which knows the routes."""
    genesis_document: bytes = field(init=False)
    """Rendered once, before the first request: a load test's genesis has 100,000 accounts."""

    def __post_init__(self) -> None:
        self.genesis_document = genesis_json(self.view.genesis)
        http, limits = self.metrics.http, self.limits
        self.feed = Feed(self.view)
        self.waiters = Places(limits.waiters_max, http.waiters, "too_many_requests")
        self.sse_clients = Places(
            limits.sse_clients_max, http.streams.labels("sse"), "too_many_streams"
        )
        self.websocket_clients = Places(
            limits.websocket_clients_max, http.streams.labels("websocket"), "too_many_streams"
        )
