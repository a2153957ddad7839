"""The wire format: canonical msgpack, arrays only, one encoding for each value.

Types are msgspec structures written as arrays. A value is accepted only if its bytes equal our
own re-encoding of what they decode to, because msgpack decoders take wide integers, wide lengths
and trailing data without complaint. Length is bounded before decoding, and every type is of fixed
depth with a maximum length on each list, text and byte string, which msgspec checks before it
allocates. Normative text: ``docs/protocol.md`` section 1.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

import msgspec

from ledger.errors import MalformedEncoding, NonCanonicalEncoding, TooLarge

T = TypeVar("T")

encode: Final = msgspec.msgpack.Encoder().encode
"""Return the canonical bytes of a structure, list, integer, text, byte string, boolean or None."""

DECODING_REFUSALS: Final = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)
"""Everything the decoder raises for hostile bytes; a UnicodeDecodeError is a ValueError."""


class StrictDecoder(Generic[T]):
    """Decodes canonical bytes of one type and refuses everything else."""

    __slots__ = ("_bytes_max", "_decode", "_name")

    def __init__(self, type_: type[T], bytes_max: int) -> None:
        self._decode = msgspec.msgpack.Decoder(type_).decode
        self._bytes_max = bytes_max
        self._name = getattr(type_, "__name__", str(type_))

    def decode(self, data: bytes) -> T:
        """Return the value that ``data`` encodes.

        Raises TooLarge, MalformedEncoding or NonCanonicalEncoding.
        """
        if len(data) > self._bytes_max:
            raise TooLarge(
                f"{self._name}: expected at most {self._bytes_max} bytes, got {len(data)}"
            )
        try:
            value = self._decode(data)
        except DECODING_REFUSALS as error:
            raise MalformedEncoding(f"{self._name}: {error}") from error
        if encode(value) != data:
            raise NonCanonicalEncoding(f"{self._name}: bytes differ from the canonical encoding")
        return value
