"""Blocks: what validators agree on, one per height.

A header names its parent, its place (era, epoch, height, view), a commitment to its transactions
and, because execution is deferred, the roots of an *earlier* executed height. A block is the
header, the certificate that justified building on its parent, the transactions as the exact bytes
their senders signed and, in the boundary block that ends an epoch, the next set instead. Nothing
here checks validity: ``consensus.validity`` checks the chain rules, ``ledger.transaction`` the
transactions. Normative text: ``docs/protocol.md``, Blocks.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from ledger.types import (
    Digest,
    DigestField,
    EpochField,
    EraField,
    HeightField,
    TimeMs,
    ViewField,
)
from ledger.validators import VALIDATORS_MAX, Validator

HEADER_VERSION: Final = 1
"""Protocol version that a header carries; it changes at an epoch boundary only."""

HEADER_TAG: Final = b"MBI-HEAD-v1".ljust(16, b"\0")
"""Domain tag in front of every hashed header."""

BLOCK_TRANSACTIONS_MAX: Final = 4096
"""Upper bound for every network; a genesis may set fewer. Keeps one block's work below 0.5 s."""

BLOCK_BYTES_MAX: Final = 1024 * 1024
"""Upper bound for the wire bytes of all transactions of a block; one network frame carries it."""

PARENT_CERTIFICATE_BYTES_MAX: Final = 16 * 1024
"""A certificate of 100 validators is 6.5 KiB; twice that leaves room for larger sets."""


class Header(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """Everything a vote for a block commits to; field order is wire order."""

    version: Annotated[int, Meta(ge=0)]
    """:data:`HEADER_VERSION`."""
    era: EraField
    epoch: EpochField
    height: HeightField
    """Parent's height plus one."""
    view: ViewField
    """View in which the block was first proposed."""
    parent_hash: DigestField
    proposer: Annotated[int, Meta(ge=0, lt=VALIDATORS_MAX)]
    """Index of the leader in the validator set of the epoch."""
    time_ms: Annotated[TimeMs, Meta(ge=0)]
    """Proposer's clock in milliseconds; strictly greater than the parent's."""
    transactions_root: DigestField
    """Root over :func:`ledger.transaction.wire_hash` of each transaction, in order."""
    transaction_count: Annotated[int, Meta(ge=0, le=BLOCK_TRANSACTIONS_MAX)]
    body_bytes: Annotated[int, Meta(ge=0, le=BLOCK_BYTES_MAX)]
    """Sum of the lengths of the transactions' wire bytes."""
    parent_certificate_hash: DigestField
    """SHA-256 of the encoded certificate for the parent; zeros on the child of genesis."""
    validator_set_hash: DigestField
    """Set that votes on this block."""
    executed_height: HeightField
    """Finalised height whose result the next two fields certify (deferred execution)."""
    state_root: DigestField
    """Root of the state after ``executed_height``."""
    history_root: DigestField
    """Root over (block hash, state root, receipts root) of every executed block up to it."""
    next_validator_set_hash: DigestField
    """Set of the next epoch if this is a boundary block, otherwise zeros."""
    previous_boundary_hash: DigestField
    """Hash of the block that opened this epoch; the genesis block's hash in epoch 0."""


class Block(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """A header with its body: parent's certificate, transactions' wire bytes, next validators."""

    header: Header
    parent_certificate: Annotated[bytes, Meta(max_length=PARENT_CERTIFICATE_BYTES_MAX)]
    """Encoded notarization or finalization of the parent; empty on the child of genesis."""
    transactions: Annotated[list[bytes], Meta(max_length=BLOCK_TRANSACTIONS_MAX)]
    """Exact wire bytes of each signed transaction, in execution order."""
    next_validators: Annotated[tuple[Validator, ...], Meta(max_length=VALIDATORS_MAX)]
    """Set of the next epoch, ascending by consensus key; empty unless this is a boundary block."""


_encode = msgspec.msgpack.Encoder().encode


def block_hash(chain_id: Digest, header: Header) -> Digest:
    """Return SHA-256(tag || chain id || canonical header): the block's identity."""
    return Digest(sha256(HEADER_TAG + chain_id + _encode(header)).digest())
