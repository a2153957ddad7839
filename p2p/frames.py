"""Length-prefixed frames over a byte stream.

A frame is a 4-byte big-endian length followed by that many bytes of payload. The length is judged
as soon as its four bytes are there, before anything is reserved for the payload. The parser gives
the same frames however the stream was cut into chunks. It knows no socket. Normative text:
``docs/network.md``, Frames.
"""

from __future__ import annotations

from typing import Final

from p2p.errors import FrameEmpty, FrameTooLarge

LENGTH_BYTES: Final = 4

HELLO_BYTES_MAX: Final = 2 * 1024
"""Until the peer is known it can make us hold no more than this."""

FRAME_BYTES_MAX: Final = 1024 * 1024 + 64 * 1024
"""The largest block with certificate and framing, see ``ledger.block.BLOCK_BYTES_MAX``."""


def encode_frame(payload: bytes) -> bytes:
    """Return the frame of one payload.

    Raises:
        FrameTooLarge: no receiver would take it.
    """
    if len(payload) > FRAME_BYTES_MAX:
        raise FrameTooLarge(len(payload), FRAME_BYTES_MAX)
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload


class FrameParser:
    """Cuts a byte stream into payloads.

    After an error the stream has no next frame and the parser must not be used any further.
    """

    def __init__(self, payload_bytes_max: int) -> None:
        self.payload_bytes_max = payload_bytes_max
        """May be changed between two calls of :meth:`next_payload`; holds from the next frame
        on."""
        self._buffer = bytearray()
        self._start = 0

    @property
    def buffered_bytes(self) -> int:
        """How much has arrived that belongs to no returned payload."""
        return len(self._buffer) - self._start

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        self._buffer += data

    def next_payload(self) -> bytes | None:
        """Return the next complete payload, or None if more bytes are needed.

        Raises:
            FrameEmpty, FrameTooLarge: the announced length is outside 1 to ``payload_bytes_max``.
        """
        body = self._start + LENGTH_BYTES
        if len(self._buffer) < body:
            self._compact()
            return None
        length = int.from_bytes(self._buffer[self._start : body], "big")
        if length == 0:
            raise FrameEmpty("expected a frame of at least 1 byte, received length 0")
        if length > self.payload_bytes_max:
            raise FrameTooLarge(length, self.payload_bytes_max)
        end = body + length
        if len(self._buffer) < end:
            self._compact()
            return None
        with memoryview(self._buffer) as view:
            payload = bytes(view[body:end])
        self._start = end
        return payload

    def _compact(self) -> None:
        """Forget the consumed part once per exhausted chunk, not once per frame."""
        if self._start:
            del self._buffer[: self._start]
            self._start = 0
