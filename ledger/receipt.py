"""Receipts: the recorded outcome of every transaction of a block, also of those that failed.

A failed transaction changes nothing and emits nothing; its receipt says which rule refused it and
at which operation. The receipts of a block are committed to by a Merkle root under
``history_root``. Normative text: ``docs/protocol.md`` section 6.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

from ledger.crypto import tag, tagged_hash
from ledger.encoding import StrictDecoder
from ledger.events import Event
from ledger.types import Digest, DigestField

RECEIPT_TAG: Final = tag("MBI-RECEIPT-v1")
"""Domain tag of a leaf of the receipts tree."""

RECEIPT_BYTES_MAX: Final = 256 * 1024
"""100 operations with the largest event (16 keys) stay below 100 KiB."""

OK_CODE: Final = "ok"
NO_OPERATION: Final = -1
"""``operation_index`` where no single operation is to blame."""


class ReceiptStatus(IntEnum):
    """Whether the transaction took effect."""

    FAILED = 0
    OK = 1


class Receipt(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """Outcome of one transaction."""

    transaction_id: DigestField
    status: ReceiptStatus
    code: Annotated[str, Meta(min_length=1, max_length=64)]
    """``ok``, or the code of the error that refused the transaction."""
    operation_index: int
    """Operation that failed; -1 if the transaction took effect or failed as a whole."""
    events: Annotated[tuple[Event, ...], Meta(max_length=100)]
    """One per operation, in order; empty for a failed transaction."""


RECEIPT_DECODER: Final = StrictDecoder(Receipt, RECEIPT_BYTES_MAX)


def receipt_leaf(receipt_bytes: bytes) -> Digest:
    """Return the leaf of the receipts tree for one encoded receipt."""
    return tagged_hash(RECEIPT_TAG, receipt_bytes)
