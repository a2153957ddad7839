"""HTTP/1.1 for a load generator: requests as bytes, answers from bytes. No input or output.

It understands what a node sends: a status line, headers with Content-Length, a body. An ordinary
client library costs more processor time per request than the node that is to be measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from mbi.errors import Unreachable

HEAD_BYTES_MAX: Final = 16 * 1024
BODY_BYTES_MAX: Final = 16 * 1024 * 1024
"""The longest answer that a benchmark asks for is the ids of one block: 132 KiB."""

_HEAD_END: Final = b"\r\n\r\n"


class BadAnswer(Unreachable):
    """The peer does not speak the part of HTTP that nodes speak."""

    code = "bad_answer"


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer."""

    status: int
    content_type: str
    body: bytes
    closes: bool
    """The server ends the connection after it."""


def request_bytes(
    url: str, method: str, path: str, body: bytes = b"", *, accept: str, content_type: str = ""
) -> bytes:
    """Return a whole request for one node."""
    host = urlsplit(url).netloc
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Accept: {accept}"]
    if body:
        lines += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


class AnswerParser:
    """Splits a byte stream into answers; bytes may arrive cut at any place."""

    __slots__ = ("_buffer", "_head", "_length")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: tuple[int, str, bool] | None = None
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
            status, content_type, closes = self._head
            body = bytes(self._buffer[: self._length])
            del self._buffer[: self._length]
            self._head = None
            answers.append(Answer(status, content_type, body, closes))

    def _read_head(self) -> bool:
        """Parse the head of the next answer if all of it is there."""
        end = self._buffer.find(_HEAD_END)
        if end < 0:
            if len(self._buffer) > HEAD_BYTES_MAX:
                raise BadAnswer(f"answer head longer than {HEAD_BYTES_MAX} bytes")
            return False
        lines = bytes(self._buffer[:end]).split(b"\r\n")
        del self._buffer[: end + len(_HEAD_END)]
        headers = dict(_header(line) for line in lines[1:])
        length = headers.get(b"content-length", b"")
        if not length.isdigit() or len(length) > 9 or int(length) > BODY_BYTES_MAX:
            raise BadAnswer(f"answer without a usable Content-Length: {length[:40]!r}")
        self._length = int(length)
        content_type = headers.get(b"content-type", b"").split(b";")[0].strip().decode("latin-1")
        closes = headers.get(b"connection", b"").lower() == b"close"
        self._head = (_status(lines[0]), content_type, closes)
        return True


def _status(line: bytes) -> int:
    parts = line.split(b" ", 2)
    if len(parts) < 2 or parts[0] not in (b"HTTP/1.1", b"HTTP/1.0") or not parts[1].isdigit():
        raise BadAnswer(f"no HTTP status line: {line[:60]!r}")
    return int(parts[1][:4])


def _header(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon:
        raise BadAnswer(f"no header line: {line[:60]!r}")
    return name.strip().lower(), value.strip()
