"""Asynchronous client of a node's HTTP API.

    async with AsyncClient("http://127.0.0.1:26101") as client:
        status = await client.status()

Answers are the API's JSON documents as they are; errors are those of :mod:`mbi.errors`. Connections
are kept and reused. A call never waits longer than ``timeout`` seconds beyond what it asked the
node to wait.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import aiohttp

from mbi import calls
from mbi.calls import (
    FINAL_STATES,
    PAGE_MAX,
    POLL_FIRST_S,
    POLL_MAX_S,
    SERVER_WAIT_S,
    TIMEOUT_S,
    Call,
    Json,
    SubmitAnswer,
)
from mbi.errors import ApiProblem, OutcomeUnknown, Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


class AsyncClient:
    """Talks to one node. Use as an async context manager."""

    def __init__(self, url: str, timeout: float = TIMEOUT_S) -> None:
        self.url = calls.parse_node_url(url)
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> AsyncClient:
        self._session = aiohttp.ClientSession(
            auto_decompress=False, headers={"Accept-Encoding": "identity"}
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, call: Call) -> Any:
        """Carry out a call of :mod:`mbi.calls` and return the decoded answer."""
        patience = self._timeout + call.patience_s
        try:
            async with asyncio.timeout(patience):
                return await self._exchange(call)
        except TimeoutError as error:
            raise calls.timed_out(self.url, call, patience) from error
        except aiohttp.ClientConnectorError as error:
            raise calls.unreachable(self.url, error) from error
        except aiohttp.ClientError as error:
            raise calls.broken_off(self.url, call, error or type(error).__name__) from error

    async def get(self, path: str, **query: str | int | None) -> Any:
        """Return the answer to any GET route."""
        return await self.send(calls.get(path, **query))

    async def status(self) -> Json:
        """Return the node's summary: chain id, height, state."""
        return await self._object(calls.get("/v1/status"))

    async def genesis(self) -> Json:
        """Return the genesis document."""
        return await self._object(calls.get("/v1/genesis"))

    async def consensus(self) -> Json:
        """Return view, votes, who is missing and the halt reason."""
        return await self._object(calls.get("/v1/consensus"))

    async def ready(self) -> bool:
        """Tell whether the node is ready; raises only if it cannot be reached."""
        try:
            await self.send(calls.get("/readyz"))
        except calls.NotReady:
            return False
        return True

    async def block(self, reference: str | int) -> Json:
        """Return a block by height, hash or ``latest``."""
        return await self._object(calls.get("/v1/blocks", str(reference)))

    async def account(self, address: str) -> Json:
        """Return an account with its balances."""
        return await self._object(calls.get("/v1/accounts", address))

    async def asset(self, asset_id: str) -> Json:
        """Return an asset by ``ORGANISATION/CODE``."""
        return await self._object(calls.asset(asset_id))

    async def validators(self) -> list[Json]:
        """Return all validators."""
        return [item async for item in self.items("/v1/validators")]

    async def items(self, path: str, **query: str | int | None) -> AsyncIterator[Json]:
        """Yield every item of a paged list, page by page; ``limit`` bounds the total."""
        limit = query.pop("limit", None)
        left = None if limit is None else int(limit)
        cursor: str | None = None
        while left is None or left > 0:
            size = PAGE_MAX if left is None else min(PAGE_MAX, left)
            page = await self.get(path, limit=size, cursor=cursor, **query)
            for item in page["items"]:
                yield item
            left = None if left is None else left - len(page["items"])
            cursor = page["next_cursor"]
            if cursor is None:
                return

    async def submit(self, wire: bytes, wait_s: float | None = None) -> SubmitAnswer:
        """Post a signed transaction; with ``wait_s`` return when it is final or time is over."""
        return calls.submit_answer(await self.send(calls.submit(wire, wait_s)))

    async def submit_and_wait(self, wire: bytes, timeout: float) -> SubmitAnswer:
        """Post a signed transaction and wait until it is final in any way.

        Raises :class:`OutcomeUnknown` when the time is over or the node is lost; the node itself
        waits for :data:`SERVER_WAIT_S` at most, so longer waits go on by asking.
        """
        started = time.monotonic()
        answer = await self.submit(wire, min(timeout, SERVER_WAIT_S))
        if answer.status in FINAL_STATES:
            return answer
        try:
            return await self.wait_final(answer.id, timeout, since=started)
        except Unreachable as error:
            raise calls.lost_sight(answer.id, error) from error

    async def submit_batch(self, wires: Sequence[bytes]) -> list[SubmitAnswer]:
        """Post several signed transactions; one answer for each, in order."""
        answer = await self.send(calls.submit_batch(wires))
        items = answer["items"] if isinstance(answer, dict) else answer
        return [calls.submit_answer(item) for item in items]

    async def simulate(self, wire: bytes) -> Json:
        """Return what execution would answer now, without sending anything."""
        return await self._object(calls.simulate(wire))

    async def transaction(self, transaction_id: str) -> SubmitAnswer:
        """Return the status of a transaction; ``unknown`` if the node has not heard of it."""
        try:
            answer = await self.send(calls.get("/v1/transactions", transaction_id))
        except ApiProblem as problem:
            if problem.status != calls.HTTP_NOT_FOUND:
                raise
            return SubmitAnswer(transaction_id, "unknown", {"status": "unknown"})
        return calls.submit_answer(answer)

    async def wait_final(
        self, transaction_id: str, timeout: float, *, since: float | None = None
    ) -> SubmitAnswer:
        """Wait until a transaction is final in any way, or raise :class:`OutcomeUnknown`.

        ``since`` is a reading of ``time.monotonic``: when the waiting began, if not now.
        """
        deadline = (time.monotonic() if since is None else since) + timeout
        pause = POLL_FIRST_S
        while True:
            answer = await self.transaction(transaction_id)
            if answer.status in FINAL_STATES:
                return answer
            if time.monotonic() + pause > deadline:
                raise OutcomeUnknown(
                    f"transaction {transaction_id} is {answer.status} after {timeout:g} s; "
                    f"ask again with: mbi tx wait {transaction_id}"
                )
            await asyncio.sleep(pause)
            pause = min(2 * pause, POLL_MAX_S)

    async def events(
        self, topics: Sequence[str] = (), cursor: str | None = None
    ) -> AsyncIterator[Json]:
        """Yield events as they become final, without end; each carries its ``cursor``."""
        call = calls.events(topics, cursor)
        parser = calls.EventParser()
        endless = aiohttp.ClientTimeout(total=None, sock_connect=self._timeout)
        try:
            async with self._open().get(
                self.url + call.target, headers=call.headers, timeout=endless
            ) as answer:
                if answer.status >= calls.HTTP_BAD:
                    body = await answer.read()
                    calls.interpret(self.url, call, answer.status, answer.content_type, body)
                async for line in answer.content:
                    event = parser.feed(line.decode(errors="replace").rstrip("\r\n"))
                    if event is not None:
                        yield event
        except aiohttp.ClientError as error:
            raise calls.unreachable(self.url, error or type(error).__name__) from error

    async def _object(self, call: Call) -> Json:
        answer: Json = await self.send(call)
        return answer

    async def _exchange(self, call: Call) -> Any:
        async with self._open().request(
            call.method,
            self.url + call.target,
            data=call.body or None,
            headers=call.headers,
            allow_redirects=False,
        ) as answer:
            body = await answer.content.read(calls.ANSWER_BYTES_MAX)
            while not answer.content.at_eof() and len(body) < calls.ANSWER_BYTES_MAX:
                body += await answer.content.read(calls.ANSWER_BYTES_MAX - len(body))
            return calls.interpret(self.url, call, answer.status, answer.content_type, body)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("use AsyncClient inside `async with`")
        return self._session
