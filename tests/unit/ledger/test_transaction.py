"""Transactions: identity, signatures, and the rules that need no state."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.block import HEADER_TAG, block_hash
from ledger.crypto import sha256, verify, verify_many
from ledger.encoding import encode
from ledger.errors import (
    EncodingError,
    InvalidOperation,
    InvalidText,
    LedgerError,
    SignatureOrder,
    TooLarge,
    UnsupportedVersion,
    WeakPublicKey,
)
from ledger.genesis import chain_id
from ledger.operations import Operation, RegisterAccount, SetKeys, Transfer
from ledger.records import KeyWeight
from ledger.transaction import (
    SIGNATURES_MAX,
    TRANSACTION_TAG,
    decode_transaction,
    sign_transaction,
    transaction_id,
    wire_hash,
)
from ledger.types import AMOUNT_MAX, UINT64_MAX, Amount, Epoch, Era, PublicKey, View
from ledger.votes import NULL_VALUE, Value, VoteKind, vote_signing_bytes
from tests.unit.ledger.builders import (
    GENESIS_TIME_MS,
    MYR,
    Chain,
    address,
    key_weight,
    make_genesis,
    make_header,
    make_key,
)

CHAIN = Chain()
PAY = Transfer(None, address("bob"), MYR, Amount(5))
WIRE = CHAIN.wire("alice", PAY, nonce=7)
DECODED = decode_transaction(CHAIN.chain_id, WIRE)


def changed(**fields: object) -> bytes:
    """Return the wire bytes with fields replaced and the signature left as it was."""
    names = DECODED.transaction.__struct_fields__
    values = msgpack.unpackb(WIRE)
    return msgpack.packb(
        [fields.get(name, value) for name, value in zip(names, values, strict=True)]
    )


def test_the_preimage_is_tag_chain_and_body() -> None:
    body = msgpack.packb(msgpack.unpackb(WIRE)[:6])
    assert DECODED.preimage == TRANSACTION_TAG + CHAIN.chain_id + body
    assert DECODED.id == sha256(DECODED.preimage) == transaction_id(CHAIN.chain_id, WIRE)
    assert DECODED.wire_hash == wire_hash(WIRE) == sha256(b"MBI-WIRE-v1".ljust(16, b"\0") + WIRE)
    assert DECODED.pair == address("alice") + (7).to_bytes(8, "big")
    assert verify_many(DECODED.signature_items()) == [True]


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, SIGNATURES_MAX])
def test_the_body_is_found_behind_any_number_of_signatures(count: int) -> None:
    """The array header of the signatures grows from one byte to three at sixteen."""
    names = [f"key {number}" for number in range(count)]
    decoded = CHAIN.transaction("alice", PAY, signers=names)
    body = msgpack.packb(msgpack.unpackb(decoded.wire)[:6])
    assert decoded.preimage == TRANSACTION_TAG + CHAIN.chain_id + body
    assert verify_many(decoded.signature_items()) == [True] * count


def test_signatures_make_no_second_identity() -> None:
    one = CHAIN.transaction("alice", PAY, nonce=1, signers=["alice"], valid_until=GENESIS_TIME_MS)
    two = CHAIN.transaction("alice", PAY, nonce=1, signers=["bob"], valid_until=GENESIS_TIME_MS)
    assert one.id == two.id
    assert one.wire_hash != two.wire_hash


def test_a_transaction_of_another_network_does_not_verify() -> None:
    """T4: the chain id, a hash of the whole genesis, is inside what is signed."""
    twin = make_genesis(holders=("alice", "bob"))
    assert twin.network == CHAIN.genesis.network
    replayed = decode_transaction(chain_id(twin), WIRE)
    assert verify_many(replayed.signature_items()) == [False]
    assert replayed.id != DECODED.id


def test_signatures_of_votes_and_transactions_are_not_interchangeable() -> None:
    """T5: each kind of message begins with its own domain tag."""
    key = make_key("alice")
    header = make_header(1)
    value = Value(View(0), block_hash(CHAIN.chain_id, header))
    messages = [DECODED.preimage, HEADER_TAG + CHAIN.chain_id + encode(header)]
    for kind, voted in ((VoteKind.NOTARIZE, value), (VoteKind.NULLIFY, NULL_VALUE)):
        messages.append(vote_signing_bytes(CHAIN.chain_id, kind, Era(0), Epoch(0), View(1), voted))
    for signed in messages:
        signature = key.sign(signed)
        verified = [verify(key.public_key, message, signature) for message in messages]
        assert verified == [message == signed for message in messages]
    assert len({message[:16] for message in messages}) == 3
    with pytest.raises(EncodingError):
        decode_transaction(CHAIN.chain_id, messages[2])


INTEGER_FIELDS = ["version", "nonce", "valid_until"]
NOT_INTEGERS = [-1, True, False, 1.0, "1", None, b"1", [1], 2**63 + 0.5]


@pytest.mark.parametrize("field", INTEGER_FIELDS)
@pytest.mark.parametrize("value", NOT_INTEGERS, ids=repr)
def test_integer_fields_take_nothing_but_integers(field: str, value: object) -> None:
    """T7: True == 1 == 1.0 in Python, but not on the wire."""
    with pytest.raises(EncodingError):
        decode_transaction(CHAIN.chain_id, changed(**{field: value}))


@pytest.mark.parametrize("value", [*NOT_INTEGERS, 0, 2**63, UINT64_MAX], ids=repr)
def test_amounts_are_positive_signed_64_bit_integers(value: object) -> None:
    """T7, T8: zero, negative, too large, and everything that is no integer."""
    operation = msgpack.unpackb(WIRE)[4][0]
    with pytest.raises(EncodingError):
        decode_transaction(CHAIN.chain_id, changed(operations=[[*operation[:-1], value]]))


@pytest.mark.parametrize("amount", [1, AMOUNT_MAX])
def test_the_largest_and_smallest_amounts_are_well_formed(amount: int) -> None:
    decoded = CHAIN.transaction("alice", Transfer(None, address("bob"), MYR, Amount(amount)))
    operation = decoded.transaction.operations[0]
    assert isinstance(operation, Transfer)
    assert operation.amount == amount


@pytest.mark.parametrize("nonce", [0, 1, 2**63 - 1, 2**63, UINT64_MAX])
def test_any_64_bit_nonce_is_accepted(nonce: int) -> None:
    """T7: there are no sequence numbers, so no gap either."""
    assert CHAIN.transaction("alice", PAY, nonce=nonce).transaction.nonce == nonce


@pytest.mark.parametrize("nonce", [-1, UINT64_MAX + 1])
def test_other_nonces_cannot_be_signed(nonce: int) -> None:
    """T7."""
    with pytest.raises(LedgerError):
        CHAIN.wire("alice", PAY, nonce=nonce)


@pytest.mark.parametrize("length", [0, 1, 63, 65, 10_000])
def test_signatures_of_other_lengths_are_refused(length: int) -> None:
    """T3: before any cryptography."""
    key = make_key("alice").public_key
    with pytest.raises(EncodingError):
        decode_transaction(CHAIN.chain_id, changed(signatures=[[key, bytes(length)]]))
    with pytest.raises(EncodingError):
        decode_transaction(CHAIN.chain_id, changed(signatures=[[bytes(length), bytes(64)]]))


@pytest.mark.parametrize("signature", ["x" * 64, None, 5, True, [], {}], ids=repr)
def test_signatures_of_other_types_are_refused(signature: object) -> None:
    """T3."""
    key = make_key("alice").public_key
    with pytest.raises(EncodingError):
        decode_transaction(CHAIN.chain_id, changed(signatures=[[key, signature]]))


def test_a_transaction_needs_between_one_and_all_signatures() -> None:
    entry = [make_key("alice").public_key, bytes(64)]
    for count in (0, SIGNATURES_MAX + 1):
        with pytest.raises(EncodingError):
            decode_transaction(CHAIN.chain_id, changed(signatures=[entry] * count))


def test_signatures_are_sorted_and_distinct() -> None:
    first, second = sorted([make_key("alice").public_key, make_key("bob").public_key])
    entries = {key: [key, bytes(64)] for key in (first, second)}
    decode_transaction(CHAIN.chain_id, changed(signatures=[entries[first], entries[second]]))
    for order in ((second, first), (first, first)):
        with pytest.raises(SignatureOrder) as refusal:
            decode_transaction(CHAIN.chain_id, changed(signatures=[entries[key] for key in order]))
        assert refusal.value.code == "signature_order"


@pytest.mark.parametrize("version", [0, 2, 255])
def test_other_versions_are_refused(version: int) -> None:
    with pytest.raises(UnsupportedVersion):
        decode_transaction(CHAIN.chain_id, changed(version=version))


@pytest.mark.parametrize("count", [0, 101, 5_000])
def test_a_transaction_has_one_to_a_hundred_operations(count: int) -> None:
    operation = msgpack.unpackb(WIRE)[4][0]
    decode_transaction(CHAIN.chain_id, changed(operations=[operation] * 100))
    with pytest.raises(EncodingError):
        decode_transaction(CHAIN.chain_id, changed(operations=[operation] * count))


@pytest.mark.parametrize("tag", [0, 9, 255, -1, True, "7", None], ids=repr)
def test_unknown_operations_are_refused(tag: object) -> None:
    operation = msgpack.unpackb(WIRE)[4][0]
    with pytest.raises(EncodingError):
        decode_transaction(CHAIN.chain_id, changed(operations=[[tag, *operation[1:]]]))


@pytest.mark.parametrize("memo", ["\u202eevil", "a\x00", "cafe\u0301"], ids=ascii)
def test_hostile_memos_are_refused(memo: str) -> None:
    """T15."""
    with pytest.raises(InvalidText):
        decode_transaction(CHAIN.chain_id, changed(memo=memo))


def test_the_size_limit_of_a_network_comes_first() -> None:
    with pytest.raises(TooLarge):
        decode_transaction(CHAIN.chain_id, WIRE, len(WIRE) - 1)
    assert decode_transaction(CHAIN.chain_id, WIRE, len(WIRE)).id == DECODED.id


WEAK = KeyWeight(PublicKey(bytes([1]) + bytes(31)), 1)


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        (RegisterAccount(None, "bank", (WEAK,), 1, 1), WeakPublicKey),
        (SetKeys(None, (key_weight("alice"), WEAK), 1, 1), WeakPublicKey),
        (SetKeys(None, (key_weight("alice"), key_weight("alice")), 1, 1), InvalidOperation),
        (SetKeys(None, (key_weight("alice", 2),), 3, 1), InvalidOperation),
        (SetKeys(None, (key_weight("alice", 2),), 1, 3), InvalidOperation),
        (RegisterAccount(None, "bank", (key_weight("alice"),), 2, 1), InvalidOperation),
    ],
)
def test_unusable_keys_are_refused_before_any_state(
    operation: Operation, error: type[LedgerError]
) -> None:
    """T1: weak keys at registration; keys that could never reach a threshold lock an account."""
    with pytest.raises(error):
        CHAIN.wire("alice", operation)


@given(st.binary(max_size=400))
def test_random_bytes_get_a_typed_refusal(data: bytes) -> None:
    with pytest.raises(LedgerError):
        decode_transaction(CHAIN.chain_id, data)


def test_signing_refuses_what_nodes_would_refuse() -> None:
    with pytest.raises(LedgerError):
        sign_transaction(CHAIN.chain_id, address("alice"), 1, 1, [], "", [make_key("alice")])
