"""HTTP/1.1 for a load generator: requests as bytes, answers from bytes. No input or output.

It understands what a node sends: a status line, headers with Content-Length, a body. An ordinary
client library costs more processor time per request than the node that is to be measured.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from mbi.errors import Unreachable

HEAD_BYTES_MAX: Final = 16 * 1024
BODY_BYTES_MAX: Final = 16 * 1024 * 1024
"""The longest answer that a benchmark asks for is the ids of one block: 132 KiB."""

_HEAD_END: Final = b"\r\n\r\n"
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})(?: |$)")
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*(?:\r|$)", re.IGNORECASE)
_RETRY_AFTER: Final = re.compile(rb"\r\nretry-after:[ \t]*(\d{1,9})[ \t]*(?:\r|$)", re.IGNORECASE)
_CLOSES: Final = re.compile(rb"\r\nconnection:[ \t]*close[ \t]*(?:\r|$)", re.IGNORECASE)


class BadAnswer(Unreachable):
    """The peer does not speak the part of HTTP that nodes speak."""

    code = "bad_answer"


class Answer(NamedTuple):
    """One HTTP answer."""

    status: int
    body: bytes
    closes: bool = False
    """The server ends the connection after it."""
    retry_after_s: int | None = None


@lru_cache(maxsize=256)
def _head(url: str, method: str, path: str, accept: str, content_type: str) -> bytes:
    """Return all but the length of the body: the same for every request of a load."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {urlsplit(url).netloc}", f"Accept: {accept}"]
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    return "\r\n".join(lines).encode("ascii")


def request_bytes(
    url: str, method: str, path: str, body: bytes = b"", *, accept: str, content_type: str = ""
) -> bytes:
    """Return a whole request for one node."""
    head = _head(url, method, path, accept, content_type)
    if not body:
        return head + _HEAD_END
    return b"%b\r\nContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


class AnswerParser:
    """Splits a byte stream into answers; bytes may arrive cut at any place."""

    __slots__ = ("_buffer", "_head", "_length")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: tuple[int, bool, int | None] | None = None
        self._length = 0

    @property
    def is_idle(self) -> bool:
        """Whether no part of an answer is waiting."""
        return self._head is None and not self._buffer

    def feed(self, data: bytes) -> list[Answer]:
        """Take bytes and return the answers that they complete; raises :class:`BadAnswer`."""
        self._buffer += data
        answers: list[Answer] = []
        while True:
            if self._head is None and not self._read_head():
                return answers
            if self._head is None or len(self._buffer) < self._length:
                return answers
            status, closes, retry_after_s = self._head
            body = bytes(self._buffer[: self._length])
            del self._buffer[: self._length]
            self._head = None
            answers.append(Answer(status, body, closes, retry_after_s))

    def _read_head(self) -> bool:
        """Parse the head of the next answer if all of it is there."""
        end = self._buffer.find(_HEAD_END)
        if end < 0:
            if len(self._buffer) > HEAD_BYTES_MAX:
                raise BadAnswer(f"answer head longer than {HEAD_BYTES_MAX} bytes")
            return False
        head = bytes(self._buffer[:end])
        del self._buffer[: end + len(_HEAD_END)]
        status, length = _STATUS.match(head), _LENGTH.search(head)
        if status is None:
            raise BadAnswer(f"no HTTP status line: {head[:60]!r}")
        if length is None or int(length[1]) > BODY_BYTES_MAX:
            raise BadAnswer(f"answer without a usable Content-Length: {head[:200]!r}")
        self._length = int(length[1])
        retry_after = _RETRY_AFTER.search(head)
        self._head = (
            int(status[1]),
            _CLOSES.search(head) is not None,
            None if retry_after is None else int(retry_after[1]),
        )
        return True
