"""The strict codec against everything msgpack decoders let pass."""

from __future__ import annotations

import resource
import struct
import time

import msgpack
import pytest
from msgspec import Struct

from ledger.crypto import sha256
from ledger.encoding import StrictDecoder, encode
from ledger.errors import (
    EncodingError,
    LedgerError,
    MalformedEncoding,
    NonCanonicalEncoding,
    TooLarge,
)
from ledger.operations import Transfer
from ledger.records import TRANSACTION_BYTES_MAX
from ledger.transaction import Transaction, decode_transaction
from ledger.types import Amount
from tests.unit.ledger.builders import MYR, Chain, address

CHAIN = Chain()
WIRE = CHAIN.wire("alice", Transfer(None, address("bob"), MYR, Amount(5)), memo="hi", nonce=7)
FIELDS = msgpack.unpackb(WIRE)
VERSION, SENDER, NONCE, VALID_UNTIL, OPERATIONS, MEMO, SIGNATURES = range(7)


class Pair(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    number: int
    data: bytes


PAIRS = StrictDecoder(Pair, 100)


def decode(data: bytes) -> Transaction:
    return decode_transaction(CHAIN.chain_id, data).transaction


def refused(data: bytes) -> LedgerError:
    with pytest.raises(LedgerError) as refusal:
        decode(data)
    return refusal.value


def with_field(position: int, encoded: bytes) -> bytes:
    """Return the wire bytes with one field replaced by hand-made msgpack."""
    parts = [msgpack.packb(field) for field in FIELDS]
    parts[position] = encoded
    return b"\x97" + b"".join(parts)


def test_our_encoding_is_the_plain_msgpack_encoding() -> None:
    assert msgpack.packb(FIELDS) == WIRE
    assert decode(WIRE).nonce == 7
    assert with_field(NONCE, b"\x07") == WIRE


@pytest.mark.parametrize(
    ("position", "encoded"),
    [
        (VERSION, b"\xcc\x01"),
        (VERSION, b"\xd0\x01"),
        (NONCE, b"\xcc\x07"),
        (NONCE, b"\xcd\x00\x07"),
        (NONCE, b"\xce\x00\x00\x00\x07"),
        (NONCE, b"\xcf" + bytes(7) + b"\x07"),
        (NONCE, b"\xd0\x07"),
        (NONCE, b"\xd3" + bytes(7) + b"\x07"),
        (SENDER, b"\xc5\x00\x14" + FIELDS[SENDER]),
        (SENDER, b"\xc6\x00\x00\x00\x14" + FIELDS[SENDER]),
        (MEMO, b"\xd9\x02hi"),
        (MEMO, b"\xda\x00\x02hi"),
        (MEMO, b"\xdb\x00\x00\x00\x02hi"),
        (OPERATIONS, b"\xdc\x00\x01" + msgpack.packb(FIELDS[OPERATIONS][0])),
        (OPERATIONS, b"\xdd\x00\x00\x00\x01" + msgpack.packb(FIELDS[OPERATIONS][0])),
        (SIGNATURES, b"\xdc\x00\x01" + msgpack.packb(FIELDS[SIGNATURES][0])),
    ],
)
def test_wider_encodings_than_needed_are_refused(position: int, encoded: bytes) -> None:
    """T9: the value is the same, the bytes are not, and so the hash would not be."""
    data = with_field(position, encoded)
    assert msgpack.unpackb(data) == FIELDS, "the example must decode to the same value"
    assert isinstance(refused(data), NonCanonicalEncoding)
    assert refused(data).code == "non_canonical_encoding"


def test_a_wider_outer_array_is_refused() -> None:
    """T9: array16 of seven."""
    assert isinstance(refused(b"\xdc\x00\x07" + WIRE[1:]), NonCanonicalEncoding)


@pytest.mark.parametrize(
    "transaction_map",
    [
        b"\x82\xa1a\x01\xa1a\x02",
        b"\x82\xa1b\x01\xa1a\x02",
        b"\x82\xa1a\x01\xc4\x01a\x02",
        msgpack.packb({"version": 1}),
        msgpack.packb(dict(zip(Transaction.__struct_fields__, FIELDS, strict=True))),
        b"\x80",
    ],
)
def test_maps_are_never_read(transaction_map: bytes) -> None:
    """T10: without maps there are no duplicate, unordered or unknown keys."""
    assert isinstance(refused(transaction_map), MalformedEncoding)
    assert isinstance(refused(with_field(OPERATIONS, b"\x91" + transaction_map)), MalformedEncoding)


def test_a_further_field_is_refused() -> None:
    """T10: nothing unknown rides along."""
    assert isinstance(refused(msgpack.packb([*FIELDS, 0])), MalformedEncoding)
    operation = [*FIELDS[OPERATIONS][0], 0]
    assert isinstance(refused(with_field(OPERATIONS, msgpack.packb([operation]))), EncodingError)


@pytest.mark.parametrize("depth", [17, 513, 1024, 1025, 60_000])
@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xc0"])
def test_deep_nesting_is_refused_at_once(depth: int, opening: bytes) -> None:
    """T11: the type has a fixed depth, so no recursion follows the input."""
    nested = (opening * depth)[:60_000] + b"\xc0"
    started = time.thread_time()
    for data in (nested, with_field(OPERATIONS, nested), with_field(MEMO, nested)):
        refused(data)
    assert time.thread_time() - started < 0.05


def test_nesting_beyond_the_size_limit_is_not_even_looked_at() -> None:
    """T11: a million levels."""
    assert isinstance(refused(b"\x91" * 10**6), TooLarge)


@pytest.mark.parametrize("head", [b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"])
@pytest.mark.parametrize("position", range(7))
def test_a_claimed_length_allocates_nothing(head: bytes, position: int) -> None:
    """T12: four gigabytes claimed in five bytes."""
    claim = head + b"\xff\xff\xff\xff"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(claim)
    refused(with_field(position, claim))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024  # KiB


@pytest.mark.parametrize("empty", [b"\x80", b"\x90", b"\xc0", b"\xa0"])
def test_many_empty_values_are_refused_cheaply(empty: bytes) -> None:
    """T13: a megabyte of empty containers, and as many as fit the limit."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.thread_time()
    assert isinstance(refused(empty * 10**6), TooLarge)
    filling = TRANSACTION_BYTES_MAX - 400
    for position in (OPERATIONS, SIGNATURES):
        refused(with_field(position, b"\xdc" + struct.pack(">H", filling) + empty * filling))
    assert time.thread_time() - started < 0.02
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024  # KiB


@pytest.mark.parametrize(
    "value",
    [
        b"\xd4\x01\x00",  # ext
        b"\xd6\xff\x00\x00\x00\x00",  # timestamp 32
        b"\xc7\x0c\xff\x00\x00\x00\x00" + b"\x7f" + b"\xff" * 7,  # timestamp of 2^63-1 seconds
        b"\xcb" + struct.pack(">d", float("nan")),
        b"\xcb" + struct.pack(">d", float("inf")),
        b"\xcb" + struct.pack(">d", -0.0),
        b"\xcb" + struct.pack(">d", 1.0),
        b"\xca" + struct.pack(">f", 1.0),
        b"\xc1",
        b"\xc0",
        b"\xc3",
        b"\xff",
        b"\xd3" + b"\x80" + bytes(7),
    ],
    ids=bytes.hex,
)
@pytest.mark.parametrize("position", range(7))
def test_values_outside_the_type_system_are_refused(position: int, value: bytes) -> None:
    """T14: extensions, fractions, reserved bytes, nil, booleans and negatives in every field."""
    assert isinstance(refused(value), EncodingError)
    refused(with_field(position, value))


@pytest.mark.parametrize("cut", [0, 1, 2, 50, len(WIRE) - 1])
def test_truncated_input_is_refused(cut: int) -> None:
    """T14: also the empty input."""
    assert isinstance(refused(WIRE[:cut]), MalformedEncoding)


@pytest.mark.parametrize("trailing", [b"\x00", b"\xc0", b"\xc1", WIRE])
def test_trailing_bytes_are_refused(trailing: bytes) -> None:
    """T14: the standard decoder would ignore or keep them."""
    assert isinstance(refused(WIRE + trailing), EncodingError)


@pytest.mark.parametrize("text", [b"\xa1\xff", b"\xa3\xed\xa0\x80", b"\xa2\xc0\x80"])
def test_invalid_utf8_is_refused(text: bytes) -> None:
    """T15: stray bytes, a lone surrogate, an overlong zero."""
    assert isinstance(refused(with_field(MEMO, text)), MalformedEncoding)


def test_every_prefix_and_every_flipped_bit_gets_a_typed_answer() -> None:
    """T14: whatever one bit does, the answer is a value with another id, or a typed refusal."""
    for position in range(len(WIRE)):
        for bit in range(8):
            data = bytearray(WIRE)
            data[position] ^= 1 << bit
            try:
                changed = decode_transaction(CHAIN.chain_id, bytes(data))
            except LedgerError:
                continue
            assert changed.wire_hash != sha256(WIRE)
            assert encode(changed.transaction) == bytes(data)


def test_a_decoder_names_what_it_expected() -> None:
    assert PAIRS.decode(b"\x92\x01\xc4\x01a") == Pair(1, b"a")
    with pytest.raises(TooLarge, match="Pair: expected at most 100 bytes, got 101"):
        PAIRS.decode(bytes(101))
    with pytest.raises(NonCanonicalEncoding, match="Pair"):
        PAIRS.decode(b"\x92\xcc\x01\xc4\x01a")
    with pytest.raises(MalformedEncoding, match="Pair"):
        PAIRS.decode(b"\x92\x01\xa1a")
