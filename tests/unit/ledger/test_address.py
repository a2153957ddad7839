"""One text form per address."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.address import format_address, parse_address
from ledger.errors import InvalidAddress, InvalidField
from ledger.json import parse_hex
from ledger.types import Address
from tests.unit.ledger.builders import address

ADDRESS = address("alice")
TEXT = format_address(ADDRESS)


@given(st.binary(min_size=20, max_size=20))
def test_text_and_bytes_correspond(data: bytes) -> None:
    text = format_address(Address(data))
    assert parse_address(text) == data
    assert text == text.lower()


def swapped(text: str, position: int) -> str:
    """Return the text with one character replaced by another of the alphabet."""
    other = "q" if text[position] != "q" else "p"
    return text[:position] + other + text[position + 1 :]


@pytest.mark.parametrize(
    "text",
    [
        TEXT.upper(),
        TEXT[:10].upper() + TEXT[10:],
        " " + TEXT,
        TEXT + "\n",
        TEXT[:20] + " " + TEXT[20:],
        TEXT[:-1],
        TEXT + "q",
        "abc" + TEXT[3:],
        TEXT[:4] + "b" + TEXT[5:],
        ADDRESS.hex(),
        "",
        "1" * 10_000,
        "ｍ" + TEXT[1:],
    ],
)
def test_every_other_spelling_is_refused(text: str) -> None:
    """T18: case twins, spaces, odd lengths, other alphabets, look-alikes."""
    with pytest.raises(InvalidAddress) as refusal:
        parse_address(text)
    assert refusal.value.code == "invalid_address"


@pytest.mark.parametrize("position", range(4, len(TEXT)))
def test_any_single_wrong_character_is_noticed(position: int) -> None:
    with pytest.raises(InvalidAddress):
        parse_address(swapped(TEXT, position))


def test_the_older_checksum_of_bech32_is_refused() -> None:
    """T18: the same data under BIP 173 would be a second text for one address."""
    from ledger import address as module

    original = module._BECH32M
    try:
        module._BECH32M = 1  # type: ignore[misc]
        bech32 = module.format_address.__wrapped__(ADDRESS)
    finally:
        module._BECH32M = original  # type: ignore[misc]
    with pytest.raises(InvalidAddress, match="checksum"):
        parse_address(bech32)


@pytest.mark.parametrize(
    "text",
    ["0g" * 32, "AB" * 32, "ab " * 32, " " + "ab" * 32, "ab" * 31, "a" * 63, "ab" * 32 + "\n"],
)
def test_hex_has_one_spelling(text: str) -> None:
    """T18: bytes.fromhex accepts spaces and capitals."""
    assert parse_hex("ab" * 32, "$", 32) == b"\xab" * 32
    with pytest.raises(InvalidField):
        parse_hex(text, "$", 32)
