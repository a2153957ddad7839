"""Addresses: 20 bytes that name an account, and their one text form.

An address is derived from the account's *first* public key and stays when keys rotate. The text
form is bech32m (BIP 350) with prefix ``mbi``, lower case only: one address has exactly one text.
Normative text: ``docs/protocol.md`` section 3.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from ledger.crypto import tag, tagged_hash
from ledger.errors import InvalidAddress
from ledger.types import ADDRESS_BYTES, Address, PublicKey

ADDRESS_PREFIX: Final = "mbi"
ADDRESS_TAG: Final = tag("MBI-ADDR-v1")

ADDRESS_TEXT_LENGTH: Final = len(ADDRESS_PREFIX) + 1 + 32 + 6
"""Prefix, separator, 160 bits in groups of five, checksum."""

_ALPHABET: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUES: Final = {character: value for value, character in enumerate(_ALPHABET)}
_GENERATORS: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32M: Final = 0x2BC830A3
_PREFIX_VALUES: Final = (
    [ord(c) >> 5 for c in ADDRESS_PREFIX] + [0] + [ord(c) & 31 for c in ADDRESS_PREFIX]
)

_TEXT_CACHE_SIZE: Final = 65_536
"""Text forms kept for repeated display; about 15 MB when full."""


def address_of(public_key: PublicKey) -> Address:
    """Return the address of the account whose first public key this is."""
    return Address(tagged_hash(ADDRESS_TAG, public_key)[:ADDRESS_BYTES])


def _polymod(values: list[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATORS):
            if top >> bit & 1:
                checksum ^= generator
    return checksum


@lru_cache(maxsize=_TEXT_CACHE_SIZE)
def format_address(address: Address) -> str:
    """Return the bech32m text of an address."""
    if len(address) != ADDRESS_BYTES:
        raise InvalidAddress(f"expected {ADDRESS_BYTES} bytes, got {len(address)}")
    number = int.from_bytes(address, "big")
    data = [number >> shift & 31 for shift in range(155, -1, -5)]
    checksum = _polymod(_PREFIX_VALUES + data + [0] * 6) ^ _BECH32M
    data += [checksum >> shift & 31 for shift in range(25, -1, -5)]
    return f"{ADDRESS_PREFIX}1" + "".join([_ALPHABET[value] for value in data])


def parse_address(text: str) -> Address:
    """Return the address that ``text`` names; raises InvalidAddress, which says what is wrong."""
    shown = repr(text[:64])
    if len(text) != ADDRESS_TEXT_LENGTH:
        raise InvalidAddress(f"expected {ADDRESS_TEXT_LENGTH} characters, got {len(text)}: {shown}")
    if not text.startswith(f"{ADDRESS_PREFIX}1"):
        raise InvalidAddress(f"expected an address that begins with {ADDRESS_PREFIX}1, got {shown}")
    data = [_VALUES.get(character, -1) for character in text[len(ADDRESS_PREFIX) + 1 :]]
    if -1 in data:
        raise InvalidAddress(f"expected only the characters {_ALPHABET} after mbi1, got {shown}")
    if _polymod(_PREFIX_VALUES + data) != _BECH32M:
        raise InvalidAddress(f"wrong checksum, mistyped address? got {shown}")
    number = 0
    for value in data[:-6]:
        number = number << 5 | value
    return Address(number.to_bytes(ADDRESS_BYTES, "big"))
