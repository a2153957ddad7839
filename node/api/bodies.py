"""Request bodies: read within bounds, then decoded strictly.

Everything that could make a body expensive is refused before a byte of it is looked at: content
codings (A2), chunked transfer, whose parser costs a microsecond for each one-byte chunk (A3), a
length above the limit. JSON has one reading only: no duplicate keys, no numbers that are not
integers, no nesting beyond what documents need (T16, T17).
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final, NoReturn

import msgspec

from node.api.limits import BATCH_TRANSACTIONS_MAX, BODY_BYTES_MAX
from node.api.parameters import InvalidText, parse_hex
from node.api.problems import Problem
from node.api.routing import JSON_TYPE, MSGPACK_TYPE, Call

_wires_decoder: Final = msgspec.msgpack.Decoder(list[bytes])
JSON_INTEGER_DIGITS_MAX: Final = 19
"""No integer of any document is longer; amounts and nonces are strings anyway."""


async def read_body(call: Call) -> bytes:
    """Return the whole body.

    Raises:
        Problem: ``length_required``, ``body_too_large``, ``body_timeout`` or ``invalid_body``.
    """
    request = call.request
    length = request.content_length
    if length is None:
        raise Problem("length_required", "expected a Content-Length header and a body")
    if length > BODY_BYTES_MAX:
        raise Problem(
            "body_too_large", f"expected at most {BODY_BYTES_MAX} bytes, announced are {length}"
        )
    if request.content.is_eof():
        return await request.read()
    timeout_s = call.context.limits.body_timeout_s
    try:
        async with asyncio.timeout(timeout_s):
            return await request.read()
    except TimeoutError as error:
        raise Problem(
            "body_timeout", f"the body of {length} bytes did not arrive within {timeout_s:g} s"
        ) from error


def is_msgpack(call: Call) -> bool:
    """Tell whether the body is msgpack rather than JSON.

    Raises:
        Problem: ``unsupported_media_type`` if it is neither.
    """
    if call.request.headers.get("Content-Type") == MSGPACK_TYPE:
        return True  # before the header is taken apart: it is what submissions have
    content_type = call.request.content_type
    if content_type == MSGPACK_TYPE:
        return True
    if content_type == JSON_TYPE:
        return False
    raise Problem(
        "unsupported_media_type",
        f"expected Content-Type {JSON_TYPE} or {MSGPACK_TYPE}",
        headers={"Accept-Post": f"{JSON_TYPE}, {MSGPACK_TYPE}"},
    )


def parse_json(data: bytes) -> Any:
    """Read a JSON document that has exactly one meaning.

    Raises:
        Problem: ``invalid_body``.
    """
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
            parse_int=_integer,
        )
    except UnicodeDecodeError as error:
        raise Problem("invalid_body", "expected JSON in UTF-8") from error
    except RecursionError as error:
        raise Problem("invalid_body", "expected JSON of a few levels, this is nested") from error
    except json.JSONDecodeError as error:
        raise Problem(
            "invalid_body", f"expected JSON; {error.msg} at character {error.pos}"
        ) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Problem("invalid_body", "expected each key of an object once")
    return found


def _refuse_number(text: str) -> NoReturn:
    raise Problem(
        "invalid_body", "expected no fractions, exponents, NaN or Infinity; amounts are strings"
    )


def _integer(text: str) -> int:
    if len(text) > JSON_INTEGER_DIGITS_MAX:
        raise Problem("invalid_body", "expected integers of at most 19 digits")
    return int(text)


def parse_wire(data: bytes, *, msgpack: bool) -> bytes:
    """Return the signed bytes of one transaction: the body itself, or ``{"tx": "<hex>"}``.

    Raises:
        Problem: ``invalid_body``.
    """
    if msgpack:
        if not data:
            raise Problem("invalid_body", "expected a signed transaction, found an empty body")
        return data
    document = parse_json(data)
    try:
        return _wire_of(document)
    except InvalidText as error:
        raise Problem("invalid_body", f"expected {error}") from error


def parse_wires(data: bytes, *, msgpack: bool) -> list[bytes | None]:
    """Return the signed bytes of each transaction of a batch; None for an item that has none.

    An item is judged alone, so one bad item does not lose the others.

    Raises:
        Problem: ``invalid_body`` if there is no list, ``body_too_large`` if it is too long.
    """
    wires: list[bytes | None]
    if msgpack:
        try:
            wires = list(_wires_decoder.decode(data))
        except (msgspec.DecodeError, RecursionError) as error:
            raise Problem(
                "invalid_body", "expected a msgpack array whose items are signed transactions (bin)"
            ) from error
    else:
        document = parse_json(data)
        if not isinstance(document, list):
            raise Problem("invalid_body", 'expected a list of hex strings or {"tx": "<hex>"}')
        wires = [_wire_or_none(item) for item in document]
    if not wires:
        raise Problem("invalid_body", "expected at least one transaction")
    if len(wires) > BATCH_TRANSACTIONS_MAX:
        raise Problem(
            "body_too_large",
            f"expected at most {BATCH_TRANSACTIONS_MAX} transactions, found {len(wires)}",
        )
    return wires


def _wire_of(item: Any) -> bytes:
    if isinstance(item, dict) and item.keys() == {"tx"}:
        item = item["tx"]
    elif isinstance(item, dict):
        raise InvalidText('an object with the one key "tx"')
    if not isinstance(item, str):
        raise InvalidText('{"tx": "<hex of the signed transaction>"}')
    return parse_hex(item)


def _wire_or_none(item: Any) -> bytes | None:
    try:
        return _wire_of(item)
    except InvalidText:
        return None
