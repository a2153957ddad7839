"""Connections of the load generator: one request at a time each, kept open, pooled per node."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, cast
from urllib.parse import urlsplit

from mbi.bench.http import Answer, AnswerParser, BadAnswer
from mbi.errors import Unreachable

ANSWER_TIMEOUT_S: Final = 30.0
"""A node that answers later than this is broken; its transactions count as unknown."""
CONNECT_TIMEOUT_S: Final = 5.0


class _Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self) -> None:
        self._parser = AnswerParser()
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not every loop's transports derive from the class that the protocol promises.
        self._transport = cast("asyncio.Transport", transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        try:
            answers = self._parser.feed(data)
        except BadAnswer as error:
            self._fail(error)
            return
        for answer in answers:
            if answer.closes:
                self.close()
            if self._waiting is None or self._waiting.done():
                self._fail(BadAnswer("an answer that nobody asked for"))
                return
            self._waiting.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(Unreachable(f"connection closed by the node ({exc or 'end of stream'})"))

    def request(self, data: bytes) -> asyncio.Future[Answer]:
        """Send a request; the future yields its answer or an :class:`Unreachable`."""
        self._waiting = asyncio.get_running_loop().create_future()
        if self._transport is None or not self.is_open:
            self._waiting.set_exception(Unreachable("connection is closed"))
        else:
            self._transport.write(data)
        return self._waiting

    def close(self) -> None:
        """End the connection."""
        self.is_open = False
        if self._transport is not None:
            self._transport.close()

    def _fail(self, error: Unreachable) -> None:
        self.close()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)


class Pool:
    """Connections to one node; opens a new one only when all are busy, up to a limit."""

    def __init__(self, url: str, size_max: int) -> None:
        parts = urlsplit(url)
        self.url = url
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._free: deque[_Connection] = deque()
        self._slots = asyncio.Semaphore(size_max)
        self._all: set[_Connection] = set()

    async def request(self, data: bytes) -> Answer:
        """Send a request on a free connection; raises :class:`Unreachable` if no answer comes."""
        async with self._slots:
            connection = await self._take()
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    answer = await connection.request(data)
            except TimeoutError as error:
                connection.close()
                raise Unreachable(
                    f"{self.url} did not answer within {ANSWER_TIMEOUT_S:g} s"
                ) from error
            finally:
                if connection.is_open:
                    self._free.append(connection)
                else:
                    self._all.discard(connection)
            return answer

    def close(self) -> None:
        """End all connections."""
        for connection in self._all:
            connection.close()
        self._all.clear()

    async def _take(self) -> _Connection:
        while self._free:
            connection = self._free.pop()
            if connection.is_open:
                return connection
            self._all.discard(connection)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, made = await loop.create_connection(_Connection, self._host, self._port)
        except (OSError, TimeoutError) as error:
            raise Unreachable(f"{self.url} cannot be reached ({error})") from error
        self._all.add(made)
        return made
