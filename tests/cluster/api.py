"""A plain HTTP client for tests: sends exactly what it is told and keeps no opinion of the answer.

Built on the standard library only, so that what the tests see is what any program would see.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import msgpack

MSGPACK: Final = "application/msgpack"
ANSWER_TIMEOUT_S: Final = 10.0
PAGE: Final = 100

# A connection closed by a stopped node, an answer cut short: both mean that it cannot be reached.
NO_ANSWER: Final = (OSError, http.client.HTTPException)


class NoAnswer(OSError):
    """The node closed the connection, refused it, or did not answer in time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and body of one answer."""

    status: int
    content_type: str
    body: bytes

    @property
    def document(self) -> Any:
        """The body read as JSON."""
        return json.loads(self.body)

    @property
    def unpacked(self) -> Any:
        """The body read as msgpack."""
        return msgpack.unpackb(self.body)


class Api:
    """One keep-alive connection to one node; opened when first used and again after a failure."""

    def __init__(
        self,
        url: str,
        timeout_s: float = ANSWER_TIMEOUT_S,
        watch: Callable[[bytes], None] | None = None,
    ) -> None:
        """``watch`` sees every body; the search for leaked keys is one."""
        parts = urlsplit(url)
        self.host, self.port = str(parts.hostname), int(parts.port or 80)
        self._timeout_s = timeout_s
        self._watch = watch
        self._connection: http.client.HTTPConnection | None = None

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send one request and return its answer; header names use ``_`` for ``-``.

        Raises :class:`NoAnswer`; nothing is tried twice, but what changes nothing and met a kept
        connection that the node has closed since.
        """
        was_kept = self._connection is not None
        try:
            return self._exchange(method, path, body, headers)
        except NoAnswer as error:
            is_closed = was_kept and isinstance(error.__cause__, ConnectionError)
            if method != "GET" or not is_closed:
                raise
        return self._exchange(method, path, body, headers)

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> Answer:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self.host, self.port, self._timeout_s)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            self._connection.request(method, path, body, names)
            response = self._connection.getresponse()
            answer = Answer(response.status, response.headers.get_content_type(), response.read())
        except NO_ANSWER as error:
            self.close()
            raise NoAnswer(f"{method} {path} on port {self.port}: {error!r}") from error
        if self._watch is not None:
            self._watch(answer.body)
        return answer

    def get(self, path: str) -> Any:
        """Return the document at ``path``, which must be there."""
        answer = self.request("GET", path)
        assert answer.status == 200, f"GET {path}: {answer.status} {answer.body[:300]!r}"
        return answer.document

    def items(self, path: str) -> Iterator[Any]:
        """Iterate over a list, oldest first, page after page."""
        cursor = ""
        while True:
            page = self.get(f"{path}?order=asc&limit={PAGE}{cursor}")
            yield from page["items"]
            # Where more will come, the last page has a cursor too.
            if page["next_cursor"] is None or len(page["items"]) < PAGE:
                return
            cursor = f"&cursor={page['next_cursor']}"

    def status(self) -> Any:
        """Return ``/v1/status``."""
        return self.get("/v1/status")

    def height(self) -> int:
        """Return the executed height."""
        return int(self.status()["height"])

    def submit(self, wire: bytes, query: str = "") -> Answer:
        """Post one signed transaction."""
        return self.request("POST", f"/v1/transactions{query}", wire, Content_Type=MSGPACK)

    def submit_batch(self, wires: list[bytes]) -> list[dict[str, Any]]:
        """Post many; return one result for each."""
        body = msgpack.packb(wires)
        answer = self.request("POST", "/v1/transactions/batch", body, Content_Type=MSGPACK)
        assert answer.status == 200, f"batch: {answer.status} {answer.body[:300]!r}"
        return list(answer.document["items"])

    def transaction(self, identifier: str) -> Any:
        """Return what the node knows about a transaction."""
        return self.get(f"/v1/transactions/{identifier}")

    def block_ids(self, height: int) -> list[str]:
        """Return the ids in a final block."""
        answer = self.request("GET", f"/v1/blocks/{height}/ids", Accept=MSGPACK)
        assert answer.status == 200, f"ids of block {height}: {answer.status}"
        return [identifier.hex() for identifier in answer.unpacked[2]]

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
