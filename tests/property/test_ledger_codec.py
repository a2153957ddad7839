"""The codec for all values: one encoding each, the same as plain msgpack, and strict about it."""

from __future__ import annotations

import json
import struct
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.crypto import SigningKey, verify_many
from ledger.encoding import encode
from ledger.errors import EncodingError, LedgerError
from ledger.json import from_json, operation_from_json, operation_to_json, to_json
from ledger.operations import Operation
from ledger.transaction import Transaction, decode_transaction, sign_transaction
from ledger.types import TIME_MS_MAX, Address, Digest
from tests.property.ledger_values import addresses, memos, nonces, operations, signers

CHAIN_ID = Digest(bytes(range(32)))

wires = st.builds(
    lambda sender, nonce, until, ops, memo, keys: sign_transaction(
        CHAIN_ID, sender, nonce, until, ops, memo, keys
    ),
    addresses,
    nonces,
    st.integers(0, TIME_MS_MAX),
    st.lists(operations, min_size=1, max_size=4),
    memos,
    signers,
)


@given(
    sender=addresses,
    nonce=nonces,
    until=st.integers(0, TIME_MS_MAX),
    ops=st.lists(operations, min_size=1, max_size=4),
    memo=memos,
    keys=signers,
)
def test_what_is_signed_is_what_is_decoded(
    sender: Address,
    nonce: int,
    until: int,
    ops: list[Operation],
    memo: str,
    keys: list[SigningKey],
) -> None:
    wire = sign_transaction(CHAIN_ID, sender, nonce, until, ops, memo, keys)
    decoded = decode_transaction(CHAIN_ID, wire)
    transaction = decoded.transaction
    assert (transaction.sender, transaction.nonce, transaction.valid_until) == (
        sender,
        nonce,
        until,
    )
    assert list(transaction.operations) == ops
    assert transaction.memo == memo
    assert verify_many(decoded.signature_items()) == [True] * len(keys)
    assert encode(transaction) == wire


@given(wires)
def test_plain_msgpack_reads_and_writes_the_same_bytes(wire: bytes) -> None:
    """The public library is the independent oracle of the encoding."""
    assert msgpack.packb(msgpack.unpackb(wire)) == wire


@given(operations)
def test_operations_survive_json(operation: Operation) -> None:
    text = json.dumps(operation_to_json(operation))
    assert operation_from_json(json.loads(text)) == operation


@given(wires)
def test_transactions_survive_json(wire: bytes) -> None:
    transaction = decode_transaction(CHAIN_ID, wire).transaction
    document = json.loads(json.dumps(to_json(transaction)))
    assert from_json(Transaction, document) == transaction


def widened(value: Any, choose: st.DataObject) -> bytes:
    """Encode a decoded value again with some lengths and integers wider than needed."""
    wide = choose.draw(st.integers(0, 5)) == 0
    if isinstance(value, list):
        head = struct.pack(">BH", 0xDC, len(value)) if wide else msgpack.packb(value)[:1]
        if len(value) > 15 and not wide:
            head = msgpack.packb(value)[:3]
        return bytes(head) + b"".join(widened(item, choose) for item in value)
    plain: bytes = msgpack.packb(value)
    if not wide:
        return plain
    if isinstance(value, bool) or value is None:
        return plain
    if isinstance(value, int):
        return struct.pack(">BQ", 0xCF, value)
    if isinstance(value, bytes):
        return struct.pack(">BI", 0xC6, len(value)) + value
    encoded = str(value).encode()
    return struct.pack(">BI", 0xDB, len(encoded)) + encoded


@given(wire=wires, choose=st.data())
def test_any_wider_encoding_of_the_same_value_is_refused(
    wire: bytes, choose: st.DataObject
) -> None:
    """T9: for every position where msgpack allows a choice."""
    fields = msgpack.unpackb(wire)
    data = widened(fields, choose)
    assert msgpack.unpackb(data) == fields
    if data == wire:
        return
    with pytest.raises(EncodingError):
        decode_transaction(CHAIN_ID, data)


@given(wire=wires, edits=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4))
def test_damaged_transactions_get_a_typed_answer(wire: bytes, edits: list[tuple[int, int]]) -> None:
    """T14: whatever is accepted re-encodes to itself."""
    data = bytearray(wire)
    for position, value in edits:
        data[position % len(data)] = value
    try:
        decoded = decode_transaction(CHAIN_ID, bytes(data))
    except LedgerError:
        return
    assert encode(decoded.transaction) == bytes(data)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=70),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=20,
)


@given(values)
def test_no_other_value_is_a_transaction(value: object) -> None:
    """T10, T14: maps, fractions and everything else that msgpack can say."""
    with pytest.raises(EncodingError):
        decode_transaction(CHAIN_ID, msgspec.msgpack.encode(value))
