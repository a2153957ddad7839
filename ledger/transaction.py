"""Transactions: what a sender signs, how it is identified, and the rules that need no state.

On the wire a transaction is an array of seven; the *body* is the same array without the
signatures. The signatures sign the *preimage*: tag, chain id, body. The **id** is the hash of the
preimage, so a signature cannot make a second identity; the **wire hash** covers the signatures
too and is what blocks commit to. There are no sequence numbers: a pair (sender, nonce) takes
effect at most once (``ledger.block_rules``). Normative text: ``docs/protocol.md`` section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated, Final

from msgspec import Meta, Struct
from msgspec.msgpack import Decoder

from ledger.crypto import SigningKey, tag
from ledger.encoding import DECODING_REFUSALS, encode
from ledger.errors import (
    MalformedEncoding,
    NonCanonicalEncoding,
    SignatureOrder,
    TooLarge,
    UnsupportedVersion,
)
from ledger.operations import SPEC_OF, Operation
from ledger.records import TRANSACTION_BYTES_MAX
from ledger.text import MEMO_BYTES_MAX, validate_text
from ledger.types import (
    ADDRESS_BYTES,
    TIME_MS_MAX,
    Address,
    AddressField,
    Digest,
    Nonce,
    PublicKeyField,
    SignatureField,
    TimeMs,
)

TRANSACTION_VERSION: Final = 1
TRANSACTION_TAG: Final = tag("MBI-TX-v1")
WIRE_TAG: Final = tag("MBI-WIRE-v1")

OPERATIONS_MAX: Final = 100
SIGNATURES_MAX: Final = 32
"""Checking them all takes 2 ms, the most that one transaction can cost a verifier."""

_SIGNATURE_ENTRY_BYTES: Final = 1 + (2 + 32) + (2 + 64)
"""Array of two, byte string of 32, byte string of 64."""

SENDER_PLACE: Final = slice(4, 4 + ADDRESS_BYTES)
"""Of the sender's address in every canonical encoding, without decoding it: behind the headers of
the array and of the byte string, and the version in one byte."""

_FIXED_ARRAY_MAX: Final = 15
"""Longest array whose msgpack header is one byte; longer ones take three."""


class SignatureEntry(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """One signature over the preimage, with the key that made it."""

    public_key: PublicKeyField
    signature: SignatureField


class Transaction(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """A signed list of operations that take effect together or not at all."""

    version: Annotated[int, Meta(ge=0)]
    """:data:`TRANSACTION_VERSION`."""
    sender: AddressField
    nonce: Annotated[Nonce, Meta(ge=0)]
    """Any 64-bit number; makes (sender, nonce) unique while ``valid_until`` has not passed."""
    valid_until: Annotated[TimeMs, Meta(ge=0, le=TIME_MS_MAX)]
    """Last block time, in milliseconds, at which the transaction may be included."""
    operations: Annotated[tuple[Operation, ...], Meta(min_length=1, max_length=OPERATIONS_MAX)]
    memo: Annotated[str, Meta(max_length=MEMO_BYTES_MAX)]
    signatures: Annotated[tuple[SignatureEntry, ...], Meta(min_length=1, max_length=SIGNATURES_MAX)]
    """In strictly ascending order of their keys."""


class DecodedTransaction(Struct, frozen=True, gc=False):
    """A transaction that keeps the rules which need no state; its signatures are not verified."""

    id: Digest
    wire_hash: Digest
    wire: bytes
    transaction: Transaction
    preimage: bytes
    """What the signatures sign."""
    pair: bytes
    """Sender and nonce, 28 bytes: takes effect at most once within the validity window."""

    def signature_items(self) -> list[tuple[bytes, bytes, bytes]]:
        """Return (public key, message, signature) of each signature, for ``verify_many``."""
        preimage = self.preimage
        return [
            (entry.public_key, preimage, entry.signature) for entry in self.transaction.signatures
        ]


_decode = Decoder(Transaction).decode
_VALIDATORS: Final = {
    structure: spec.validate for structure, spec in SPEC_OF.items() if spec.validate is not None
}


def _body_end(signature_count: int) -> int:
    """Return the (negative) offset in the wire bytes at which the signatures begin."""
    header = 1 if signature_count <= _FIXED_ARRAY_MAX else 3
    return -(header + signature_count * _SIGNATURE_ENTRY_BYTES)


def _preimage(chain_id: Digest, wire: bytes, signature_count: int) -> bytes:
    # 0x96 is the header of an array of six: the body is the wire array without its last element.
    return TRANSACTION_TAG + chain_id + b"\x96" + wire[1 : _body_end(signature_count)]


def decode_transaction(
    chain_id: Digest,
    wire: bytes,
    bytes_max: int = TRANSACTION_BYTES_MAX,
    *,
    wire_hash: Digest | None = None,
) -> DecodedTransaction:
    """Return the transaction that ``wire`` encodes, with its id.

    Checks everything that needs neither state, time nor cryptography; bounded work for any input.
    ``wire_hash`` of these bytes, if the caller has worked it out already.
    Raises EncodingError, TransactionError or ValueFormError.
    """
    if len(wire) > bytes_max:
        raise TooLarge(f"transaction: expected at most {bytes_max} bytes, got {len(wire)}")
    try:
        transaction = _decode(wire)
    except DECODING_REFUSALS as error:
        raise MalformedEncoding(f"transaction: {error}") from error
    if encode(transaction) != wire:
        raise NonCanonicalEncoding("transaction: bytes differ from the canonical encoding")
    signatures = transaction.signatures
    if transaction.version != TRANSACTION_VERSION:
        raise UnsupportedVersion(
            f"expected transaction version {TRANSACTION_VERSION}, got {transaction.version}"
        )
    if len(signatures) > 1:
        _check_order(signatures)
    if transaction.memo:
        validate_text(transaction.memo, MEMO_BYTES_MAX)
    for operation in transaction.operations:
        if type(operation) in _VALIDATORS:
            _VALIDATORS[type(operation)](operation)
    preimage = _preimage(chain_id, wire, len(signatures))
    # Plain digests: calling a NewType costs 0.1 us, and this runs for every transaction.
    return DecodedTransaction(
        sha256(preimage).digest(),  # type: ignore[arg-type]
        wire_hash or sha256(WIRE_TAG + wire).digest(),  # type: ignore[arg-type]
        wire,
        transaction,
        preimage,
        transaction.sender + transaction.nonce.to_bytes(8, "big"),
    )


def _check_order(signatures: tuple[SignatureEntry, ...]) -> None:
    previous = b""
    for entry in signatures:
        if entry.public_key <= previous:
            raise SignatureOrder(
                "expected signatures in ascending order of their keys, each key once"
            )
        previous = entry.public_key


def wire_hash(wire: bytes) -> Digest:
    """Return the hash of the signed bytes, which blocks and proposals commit to."""
    return Digest(sha256(WIRE_TAG + wire).digest())


def sender_bytes(wire: bytes) -> Address:
    """Return what is the sender's address if ``wire`` encodes a transaction, without a look at it.

    Every canonical encoding has it in the same place. Only decoding tells whether this is one.
    """
    return Address(wire[SENDER_PLACE])


def transaction_id(chain_id: Digest, wire: bytes) -> Digest:
    """Return the id of the transaction in ``wire``; raises as ``decode_transaction`` does."""
    return decode_transaction(chain_id, wire).id


def sign_transaction(
    chain_id: Digest,
    sender: Address,
    nonce: int,
    valid_until: int,
    operations: Sequence[Operation],
    memo: str,
    keys: Sequence[SigningKey],
) -> bytes:
    """Return the wire bytes of a transaction signed by ``keys``.

    Raises EncodingError, TransactionError or ValueFormError where nodes would refuse it.
    """
    fields = (TRANSACTION_VERSION, sender, nonce, valid_until, tuple(operations), memo)
    try:
        preimage = TRANSACTION_TAG + chain_id + encode(fields)
    except OverflowError as error:
        raise MalformedEncoding(f"transaction: {error}") from error
    ordered = sorted(keys, key=lambda key: key.public_key)
    signatures = [SignatureEntry(key.public_key, key.sign(preimage)) for key in ordered]
    return decode_transaction(chain_id, encode((*fields, signatures))).wire
