"""Connections of the load generator: one request at a time each, kept open, pooled per node.

A request costs neither a task nor a future: its answer is handed to a callback. The generator
shares the machine with the nodes, so what it uses is taken from them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, cast
from urllib.parse import urlsplit

from mbi.bench.http import Answer, AnswerParser, BadAnswer
from mbi.errors import Unreachable

ANSWER_TIMEOUT_S: Final = 30.0
"""A node that answers later than this is broken; its transactions count as unknown."""
CONNECT_TIMEOUT_S: Final = 5.0
SWEEP_S: Final = 1.0
"""How often connections are looked at for answers that are overdue."""

Done = Callable[[Answer | Unreachable], None]
"""Takes the answer to a request, or why there is none."""


class _Connection(asyncio.Protocol):
    """One keep-alive connection of a pool."""

    __slots__ = ("_done", "_parser", "_pool", "_transport", "is_open", "sent_s")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._parser = AnswerParser()
        self._transport: asyncio.Transport | None = None
        self._done: Done | None = None
        self.sent_s = 0.0
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not every loop's transports derive from the class that the protocol promises.
        self._transport = cast("asyncio.Transport", transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        try:
            answers = self._parser.feed(data)
        except BadAnswer as error:
            self.fail(error)
            return
        for answer in answers:
            done, self._done = self._done, None
            if done is None:
                self.fail(BadAnswer("an answer that nobody asked for"))
                return
            if answer.closes:
                self.fail(Unreachable("connection closed by the node"))
            done(answer)
            # The callback may have ended the whole pool.
            if self.is_open and self._done is None:
                self._pool.is_free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(Unreachable(f"connection closed by the node ({exc or 'end of stream'})"))

    def send(self, data: bytes, done: Done, now_s: float) -> None:
        """Send a request; the connection must be open and free."""
        if self._transport is None:
            raise RuntimeError("a connection that was never made is not in the pool")
        self._done, self.sent_s = done, now_s
        self._transport.write(data)

    @property
    def is_busy(self) -> bool:
        """Whether an answer is awaited."""
        return self._done is not None

    def fail(self, error: Unreachable) -> None:
        """End the connection; what waits for its answer gets the error."""
        if self.is_open:
            self.is_open = False
            if self._transport is not None:
                self._transport.close()
            self._pool.is_gone(self)
        done, self._done = self._done, None
        if done is not None:
            done(error)


class Pool:
    """Connections to one node; opens a new one only when all are busy, up to a limit."""

    def __init__(self, url: str, size_max: int) -> None:
        parts = urlsplit(url)
        self.url = url
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._size_max = size_max
        self._free: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._backlog: deque[tuple[bytes, Done]] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False

    def send(self, data: bytes, done: Done) -> None:
        """Send a request as soon as a connection is free; ``done`` gets what came of it."""
        loop = asyncio.get_running_loop()
        if self._sweep is None:
            self._sweep = loop.call_later(SWEEP_S, self._look_for_overdue, loop)
        if self._free:
            self._free.pop().send(data, done, loop.time())
            return
        self._backlog.append((data, done))
        self._open()

    async def request(self, data: bytes) -> Answer:
        """Send a request and return its answer; raises :class:`Unreachable` if none comes."""
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def done(found: Answer | Unreachable) -> None:
            if waiting.done():
                return
            if isinstance(found, Unreachable):
                waiting.set_exception(found)
            else:
                waiting.set_result(found)

        self.send(data, done)
        return await waiting

    def close(self) -> None:
        """End all connections."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for task in self._opening:
            task.cancel()
        error = Unreachable(f"the connections to {self.url} were closed")
        for connection in list(self._all):
            connection.fail(error)
        while self._backlog:
            self._backlog.popleft()[1](error)

    def is_free(self, connection: _Connection) -> None:
        """Take back a connection that has its answer."""
        if self._backlog:
            data, done = self._backlog.popleft()
            connection.send(data, done, asyncio.get_running_loop().time())
        else:
            self._free.append(connection)

    def is_gone(self, connection: _Connection) -> None:
        """Forget a connection that has ended."""
        self._all.discard(connection)
        if connection in self._free:
            self._free.remove(connection)
        if self._backlog:
            self._open()

    def _open(self) -> None:
        """Make another connection unless there are enough."""
        if self._is_closed or len(self._all) + len(self._opening) >= self._size_max:
            return
        task = asyncio.get_running_loop().create_task(self._connect())
        self._opening.add(task)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, made = await loop.create_connection(
                    lambda: _Connection(self), self._host, self._port
                )
            if not made.is_open:
                raise ConnectionResetError("closed as soon as it was open")
        except (OSError, TimeoutError) as error:
            self._opened()
            # While other connections are open the request waits for one of them.
            if self._backlog and not self._all:
                self._backlog.popleft()[1](Unreachable(f"{self.url} cannot be reached ({error})"))
            if self._backlog and not self._all:
                self._open()
            return
        self._opened()
        self._all.add(made)
        self.is_free(made)

    def _opened(self) -> None:
        """Forget the running task: what it tries has ended, well or not."""
        task = asyncio.current_task()
        if task is not None:
            self._opening.discard(task)

    def _look_for_overdue(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweep = loop.call_later(SWEEP_S, self._look_for_overdue, loop)
        limit = loop.time() - ANSWER_TIMEOUT_S
        for connection in [item for item in self._all if item.is_busy and item.sent_s < limit]:
            connection.fail(Unreachable(f"{self.url} did not answer within {ANSWER_TIMEOUT_S:g} s"))
