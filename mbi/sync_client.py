"""Blocking client of a node's HTTP API, for scripts and for the command line.

    client = Client("http://127.0.0.1:26101")
    print(client.status()["height"])

The same calls, answers and errors as :class:`mbi.client.AsyncClient`, over ``http.client``. Each
call opens its own connection, so a client can be shared by threads and never holds one open.
"""

from __future__ import annotations

import http.client
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

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
    from collections.abc import Iterator, Sequence


class Client:
    """Talks to one node."""

    def __init__(self, url: str, timeout: float = TIMEOUT_S) -> None:
        self.url = calls.parse_node_url(url)
        self._timeout = timeout

    def send(self, call: Call) -> Any:
        """Carry out a call of :mod:`mbi.calls` and return the decoded answer."""
        connection, answer = self._open(call)
        try:
            body = answer.read(calls.ANSWER_BYTES_MAX)
        except TimeoutError as error:
            raise calls.timed_out(self.url, call, self._timeout + call.patience_s) from error
        except (http.client.HTTPException, OSError) as error:
            raise calls.broken_off(self.url, call, error) from error
        finally:
            connection.close()
        kind = answer.getheader("Content-Type") or ""
        return calls.interpret(self.url, call, answer.status, kind, body)

    def get(self, path: str, **query: str | int | None) -> Any:
        """Return the answer to any GET route."""
        return self.send(calls.get(path, **query))

    def status(self) -> Json:
        """Return the node's summary: chain id, height, state."""
        return self._object(calls.get("/v1/status"))

    def genesis(self) -> Json:
        """Return the genesis document."""
        return self._object(calls.get("/v1/genesis"))

    def consensus(self) -> Json:
        """Return view, votes, who is missing and the halt reason."""
        return self._object(calls.get("/v1/consensus"))

    def ready(self) -> bool:
        """Tell whether the node is ready; raises only if it cannot be reached."""
        try:
            self.send(calls.get("/readyz"))
        except calls.NotReady:
            return False
        return True

    def block(self, reference: str | int) -> Json:
        """Return a block by height, hash or ``latest``."""
        return self._object(calls.get("/v1/blocks", str(reference)))

    def account(self, address: str) -> Json:
        """Return an account with its balances."""
        return self._object(calls.get("/v1/accounts", address))

    def asset(self, asset_id: str) -> Json:
        """Return an asset by ``ORGANISATION/CODE``."""
        return self._object(calls.asset(asset_id))

    def validators(self) -> list[Json]:
        """Return all validators."""
        return list(self.items("/v1/validators"))

    def items(self, path: str, **query: str | int | None) -> Iterator[Json]:
        """Yield every item of a paged list, page by page; ``limit`` bounds the total."""
        limit = query.pop("limit", None)
        left = None if limit is None else int(limit)
        cursor: str | None = None
        while left is None or left > 0:
            size = PAGE_MAX if left is None else min(PAGE_MAX, left)
            page = self.get(path, limit=size, cursor=cursor, **query)
            yield from page["items"]
            left = None if left is None else left - len(page["items"])
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def submit(self, wire: bytes, wait_s: float | None = None) -> SubmitAnswer:
        """Post a signed transaction; with ``wait_s`` return when it is final or time is over."""
        return calls.submit_answer(self.send(calls.submit(wire, wait_s)))

    def submit_and_wait(self, wire: bytes, timeout: float) -> SubmitAnswer:
        """Post a signed transaction and wait until it is final in any way.

        Raises :class:`OutcomeUnknown` when the time is over or the node is lost; the node itself
        waits for :data:`SERVER_WAIT_S` at most, so longer waits go on by asking.
        """
        started = time.monotonic()
        answer = self.submit(wire, min(timeout, SERVER_WAIT_S))
        if answer.status in FINAL_STATES:
            return answer
        try:
            return self.wait_final(answer.id, timeout, since=started)
        except Unreachable as error:
            raise calls.lost_sight(answer.id, error) from error

    def submit_batch(self, wires: Sequence[bytes]) -> Sequence[SubmitAnswer]:
        """Post several signed transactions; one answer for each, in order."""
        answer = self.send(calls.submit_batch(wires))
        items = answer["items"] if isinstance(answer, dict) else answer
        return [calls.submit_answer(item) for item in items]

    def simulate(self, wire: bytes) -> Json:
        """Return what execution would answer now, without sending anything."""
        return self._object(calls.simulate(wire))

    def transaction(self, transaction_id: str) -> SubmitAnswer:
        """Return the status of a transaction; ``unknown`` if the node has not heard of it."""
        try:
            answer = self.send(calls.get("/v1/transactions", transaction_id))
        except ApiProblem as problem:
            if problem.status != calls.HTTP_NOT_FOUND:
                raise
            return SubmitAnswer(transaction_id, "unknown", {"status": "unknown"})
        return calls.submit_answer(answer)

    def wait_final(
        self, transaction_id: str, timeout: float, *, since: float | None = None
    ) -> SubmitAnswer:
        """Wait until a transaction is final in any way, or raise :class:`OutcomeUnknown`.

        ``since`` is a reading of ``time.monotonic``: when the waiting began, if not now.
        """
        deadline = (time.monotonic() if since is None else since) + timeout
        pause = POLL_FIRST_S
        while True:
            answer = self.transaction(transaction_id)
            if answer.status in FINAL_STATES:
                return answer
            if time.monotonic() + pause > deadline:
                raise OutcomeUnknown(
                    f"transaction {transaction_id} is {answer.status} after {timeout:g} s; "
                    f"ask again with: mbi tx wait {transaction_id}"
                )
            time.sleep(pause)
            pause = min(2 * pause, POLL_MAX_S)

    def events(self, topics: Sequence[str] = (), cursor: str | None = None) -> Iterator[Json]:
        """Yield events as they become final, without end; each carries its ``cursor``."""
        call = calls.events(topics, cursor)
        connection, answer = self._open(call)
        try:
            kind = answer.getheader("Content-Type") or ""
            if answer.status >= calls.HTTP_BAD:
                calls.interpret(self.url, call, answer.status, kind, answer.read())
            if connection.sock is not None:
                connection.sock.settimeout(None)
            parser = calls.EventParser()
            while line := answer.readline(calls.SSE_LINE_BYTES_MAX):
                event = parser.feed(line.decode(errors="replace").rstrip("\r\n"))
                if event is not None:
                    yield event
        except (http.client.HTTPException, OSError) as error:
            raise calls.unreachable(self.url, error) from error
        finally:
            connection.close()

    def _object(self, call: Call) -> Json:
        answer: Json = self.send(call)
        return answer

    def _open(self, call: Call) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        parts = urlsplit(self.url)
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        patience = self._timeout + call.patience_s
        connection = kind(parts.hostname or "", parts.port, timeout=patience)
        is_connected = False
        try:
            connection.connect()
            is_connected = True
            connection.request(
                call.method, parts.path + call.target, call.body or None, call.headers
            )
            return connection, connection.getresponse()
        except TimeoutError as error:
            connection.close()
            raise calls.timed_out(self.url, call, patience) from error
        except (http.client.HTTPException, OSError) as error:
            connection.close()
            if is_connected:
                raise calls.broken_off(self.url, call, error) from error
            raise calls.unreachable(self.url, error) from error
