"""Text that clients put into paths and queries: one accepted form for each kind of value.

Python's own conversions are too generous for an interface (``int(" 1_000 ")``, ``bytes.fromhex("0A
0b")``, full-width digits), so each kind has an exact pattern. A parser returns the value or raises
:class:`InvalidText` with what was expected. Threat lines T16 and T18.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ledger.address import parse_address
from ledger.errors import InvalidAddress
from ledger.records import STATE_KEY_BYTES_MAX
from ledger.types import AMOUNT_MAX, DIGEST_BYTES, Address, Amount, Digest, Height
from node.api.limits import (
    PAGE_ITEMS_DEFAULT,
    PAGE_ITEMS_MAX,
    TOPICS_MAX,
    WAIT_DEFAULT_S,
    WAIT_MAX_S,
)

JsonSchema = Mapping[str, Any]
"""A JSON Schema object, as OpenAPI 3.1 embeds it."""

_INTEGER: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_DIGEST: Final = re.compile(rf"[0-9a-f]{{{2 * DIGEST_BYTES}}}", re.ASCII)
_SECONDS: Final = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,3})?", re.ASCII)
STATE_KEY_HEX_MAX: Final = 2 * STATE_KEY_BYTES_MAX
"""Longest state key in hex digits."""
SEARCH_TEXT_MAX: Final = 128
"""Longest search text; the longest identifier has 64 characters."""
CURSOR_TEXT_MAX: Final = 256


class InvalidText(Exception):
    """The text is not of the expected form; the message says what is."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a route: how it is read, and how the documentation describes it."""

    name: str
    parse: Callable[[str], Any]
    """Returns the value or raises :class:`InvalidText`."""
    schema: JsonSchema
    description: str
    default: Any = None
    """Value if a query does not have it."""


def parse_integer(text: str) -> int:
    """Read a non-negative integer below 2^63 in plain ASCII digits."""
    if not _INTEGER.fullmatch(text) or (value := int(text)) > AMOUNT_MAX:
        raise InvalidText("an integer from 0 to 2^63-1, in digits without leading zeros")
    return value


def parse_height(text: str) -> Height:
    """Read a block height."""
    return Height(parse_integer(text))


def parse_amount(text: str) -> Amount:
    """Read a positive amount of minor units."""
    value = parse_integer(text)
    if value == 0:
        raise InvalidText("an amount of at least 1 minor unit")
    return Amount(value)


def parse_digest(text: str) -> Digest:
    """Read a SHA-256 digest: 64 lower-case hex digits."""
    if not _DIGEST.fullmatch(text):
        raise InvalidText("64 lower-case hex digits")
    return Digest(bytes.fromhex(text))


def parse_hex(text: str) -> bytes:
    """Read bytes: lower-case hex, two digits per byte, at least one."""
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    # Written back it must be the same text: ten times as fast as a pattern on a long one.
    if not data or data.hex() != text:
        raise InvalidText("lower-case hex digits, two for each byte")
    return data


def parse_state_key(text: str) -> bytes:
    """Read a key of the authenticated state, in hex."""
    if len(text) > STATE_KEY_HEX_MAX:
        raise InvalidText(f"at most {STATE_KEY_HEX_MAX} hex digits")
    return parse_hex(text)


def parse_account(text: str) -> Address:
    """Read a bech32m address; only the one form that the node itself prints is accepted."""
    try:
        return parse_address(text)
    except InvalidAddress as error:
        raise InvalidText(f"an account's address: {error}") from error


def pattern_parser(pattern: str, expected: str) -> Callable[[str], str]:
    """Return a parser of texts that match a pattern as a whole."""
    compiled = re.compile(pattern, re.ASCII)

    def parse(text: str) -> str:
        if not compiled.fullmatch(text):
            raise InvalidText(f"{expected} of the form {pattern}")
        return text

    return parse


def parse_limit(text: str) -> int:
    """Read a page size; more than the maximum means the maximum."""
    value = parse_integer(text)
    if value == 0:
        raise InvalidText("an integer of at least 1")
    return min(value, PAGE_ITEMS_MAX)


def parse_order(text: str) -> bool:
    """Read a sort order; True means newest first."""
    if text not in ("asc", "desc"):
        raise InvalidText("asc or desc")
    return text == "desc"


def parse_wait(text: str) -> bool:
    """Read the ``wait`` flag of a submission."""
    if text != "finalized":
        raise InvalidText("finalized (the only stage one can wait for)")
    return True


def parse_timeout(text: str) -> float:
    """Read a time limit in seconds; more than the maximum means the maximum."""
    if not _SECONDS.fullmatch(text):
        raise InvalidText("seconds as a number with up to 3 decimal places")
    return min(float(text), WAIT_MAX_S)


def parse_cursor_text(text: str) -> str:
    """Bound the length of an opaque cursor; :mod:`node.api.paging` reads its content."""
    if not 0 < len(text) <= CURSOR_TEXT_MAX or not text.isascii():
        raise InvalidText("the next_cursor of an earlier page")
    return text


def parse_search(text: str) -> str:
    """Bound a search text."""
    stripped = text.strip()
    if not 0 < len(stripped) <= SEARCH_TEXT_MAX:
        raise InvalidText(f"1 to {SEARCH_TEXT_MAX} characters")
    return stripped


def parse_topic_list(text: str) -> tuple[str, ...]:
    """Split a list of topics; :mod:`node.api.feed` knows which exist."""
    topics = tuple(text.split(","))
    if len(topics) > TOPICS_MAX or not all(topics):
        raise InvalidText(f"1 to {TOPICS_MAX} topics, separated by commas")
    return topics


DIGEST_SCHEMA: Final[JsonSchema] = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
HEX_SCHEMA: Final[JsonSchema] = {"type": "string", "pattern": "^([0-9a-f]{2})+$"}
DECIMAL_SCHEMA: Final[JsonSchema] = {"type": "string", "pattern": "^(0|[1-9][0-9]{0,19})$"}
HEIGHT_SCHEMA: Final[JsonSchema] = {"type": "integer", "minimum": 0}
ADDRESS_SCHEMA: Final[JsonSchema] = {"type": "string", "pattern": "^mbi1[02-9ac-hj-np-z]{6,90}$"}
TIME_SCHEMA: Final[JsonSchema] = {"type": "string", "format": "date-time"}

LIMIT = Parameter(
    "limit",
    parse_limit,
    {"type": "integer", "minimum": 1, "default": PAGE_ITEMS_DEFAULT},
    f"Items per page; more than {PAGE_ITEMS_MAX} means {PAGE_ITEMS_MAX}.",
    PAGE_ITEMS_DEFAULT,
)
CURSOR = Parameter(
    "cursor",
    parse_cursor_text,
    {"type": "string"},
    "`next_cursor` of the previous page of the same query.",
)
NEWEST_FIRST = Parameter(
    "order",
    parse_order,
    {"type": "string", "enum": ["asc", "desc"], "default": "desc"},
    "`desc` is newest first.",
    default=True,
)
NAME_ORDER = Parameter(
    "order",
    parse_order,
    {"type": "string", "enum": ["asc", "desc"], "default": "asc"},
    "Order of the identifiers.",
    default=False,
)
PAGE_BY_TIME: Final = (LIMIT, CURSOR, NEWEST_FIRST)
PAGE_BY_NAME: Final = (LIMIT, CURSOR, NAME_ORDER)

WAIT = Parameter(
    "wait",
    parse_wait,
    {"type": "string", "enum": ["finalized"]},
    "Answer when the transaction is final instead of at once.",
    default=False,
)
TIMEOUT = Parameter(
    "timeout",
    parse_timeout,
    {"type": "number", "minimum": 0, "default": WAIT_DEFAULT_S},
    f"Longest wait in seconds; more than {WAIT_MAX_S} means {WAIT_MAX_S}.",
    WAIT_DEFAULT_S,
)
