"""Pages of lists, and the cursors between them.

A cursor is the position of the last item seen together with a fingerprint of the query it belongs
to, so that it cannot be used with another one. It holds no secret and needs no memory in the node;
a forged one can only name another position of the same list. Positions never move, because
finalised data does not change. Threat line A4.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec
from aiohttp import web

from ledger.types import UINT64_MAX
from node.api.problems import Problem
from node.api.routing import Call, json_response

FINGERPRINT_BYTES: Final = 8
"""Enough to notice a cursor in the wrong place; it is no protection and need not be."""
INTEGER_BYTES: Final = 8


def _fingerprint(call: Call) -> bytes:
    """Digest path and parameters, except where in the list a page begins and how long it is."""
    fixed = sorted(
        (name, str(value)) for name, value in call.query.items() if name not in ("cursor", "limit")
    )
    text = msgspec.json.encode([call.request.path, fixed])
    return sha256(text).digest()[:FINGERPRINT_BYTES]


def read_cursor(call: Call) -> bytes | None:
    """Return the position that the query's cursor names, or None for the first page.

    Raises:
        Problem: ``invalid_cursor``.
    """
    text = call.query["cursor"]
    if text is None:
        return None
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as error:
        raise Problem("invalid_cursor", "expected the next_cursor of an earlier page") from error
    if data[:FINGERPRINT_BYTES] != _fingerprint(call):
        raise Problem("invalid_cursor", "expected a cursor of this path with these parameters")
    return data[FINGERPRINT_BYTES:]


def read_integer_cursor(call: Call, count: int) -> tuple[int, ...] | None:
    """Return the position that the cursor names as `count` integers, or None for the first page.

    Raises:
        Problem: ``invalid_cursor``.
    """
    position = read_cursor(call)
    if position is None:
        return None
    if len(position) != count * INTEGER_BYTES:
        raise Problem("invalid_cursor", "expected the next_cursor of an earlier page")
    return tuple(
        int.from_bytes(position[start : start + INTEGER_BYTES], "big")
        for start in range(0, len(position), INTEGER_BYTES)
    )


def integer_position(*values: int) -> bytes:
    """Return the position made of these integers, as :func:`read_integer_cursor` reads it."""
    return b"".join(min(value, UINT64_MAX).to_bytes(INTEGER_BYTES, "big") for value in values)


def page_response(call: Call, items: Sequence[Any], last: bytes | None) -> web.Response:
    """Render a page; `last` is the position of its last item, None if no page follows."""
    cursor = None
    if last is not None:
        data = _fingerprint(call) + last
        cursor = urlsafe_b64encode(data).decode().rstrip("=")
    return json_response(
        {
            "items": items,
            "next_cursor": cursor,
            "latest_height": call.context.view.status().executed_height,
        }
    )
