"""Claims: what became of a transaction, or what the state held, bound to one executed block.

A claim leads, hash by hash, to the *results* of one block: its hash, the state root and the
receipts root after it. The history tree leads from there to a later header, and a certificate from
that header to the validators; that part belongs to consensus (``consensus.light.proofs``), which
joins both into one file.

- ``TransactionClaim``: transaction and receipt, each with its path to a root of the block.
- ``StateClaim``: what a key held after the block, or that it held nothing.

Normative text: ``docs/proofs.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, NamedTuple

from msgspec import Meta, Struct

from ledger.block import Header, block_hash
from ledger.crypto import verify_many
from ledger.encoding import encode
from ledger.errors import LedgerError, ProofError
from ledger.merkle import dense_path, root_from_path
from ledger.receipt import Receipt, receipt_leaf
from ledger.records import STATE_KEY_BYTES_MAX, TRANSACTION_BYTES_MAX
from ledger.state_proof import PathField, StateProof, verify_state_proof
from ledger.transaction import DecodedTransaction, decode_transaction, wire_hash
from ledger.types import Digest, DigestField

CLAIM_PATHS: Final = 2
"""A claim has at most two Merkle paths."""


class TransactionClaim(
    Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=1
):
    """A transaction of the block, and its outcome."""

    transaction: Annotated[bytes, Meta(max_length=TRANSACTION_BYTES_MAX)]
    """Wire bytes."""
    receipt: Receipt
    index: Annotated[int, Meta(ge=0)]
    """Position in the block."""
    transaction_path: PathField
    receipt_path: PathField
    state_root: DigestField
    """After the block."""


class StateClaim(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=2):
    """What the state held under a key after the block, or that it held nothing."""

    key: Annotated[bytes, Meta(min_length=1, max_length=STATE_KEY_BYTES_MAX)]
    proof: StateProof
    state_root: DigestField
    """After the block; the proof leads to it."""
    receipts_root: DigestField
    """Of the block."""


Claim = TransactionClaim | StateClaim


class Results(NamedTuple):
    """What executing a block gave, as its leaf in the history tree commits to it."""

    block_hash: Digest
    state_root: Digest
    receipts_root: Digest


def make_transaction_claim(
    transactions: Sequence[bytes], receipts: Sequence[Receipt], index: int, state_root: Digest
) -> TransactionClaim:
    """Return the claim about the transaction at ``index`` of an executed block."""
    wire_hashes = [wire_hash(wire) for wire in transactions]
    leaves = [receipt_leaf(encode(receipt)) for receipt in receipts]
    return TransactionClaim(
        transactions[index],
        receipts[index],
        index,
        dense_path(wire_hashes, index),
        dense_path(leaves, index),
        state_root,
    )


def verify_transaction_claim(
    claim: TransactionClaim, header: Header, chain_id: Digest
) -> tuple[DecodedTransaction, Results]:
    """Return the transaction and the results of the block that the claim leads to.

    Raises ProofError, which names the step that fails.
    """
    try:
        decoded = decode_transaction(chain_id, claim.transaction)
    except LedgerError as error:
        raise ProofError(f"transaction: {error}") from error
    if not all(verify_many(decoded.signature_items())):
        raise ProofError("transaction: a signature does not verify")
    count, index = header.transaction_count, claim.index
    root = root_from_path(decoded.wire_hash, index, count, claim.transaction_path)
    if root != header.transactions_root:
        raise ProofError(
            f"transaction: expected a path to {header.transactions_root.hex()}, received one to "
            f"{root.hex()}"
        )
    if claim.receipt.transaction_id != decoded.id:
        raise ProofError(
            f"receipt: expected one of {decoded.id.hex()}, received one of "
            f"{claim.receipt.transaction_id.hex()}"
        )
    leaf = receipt_leaf(encode(claim.receipt))
    receipts_root = root_from_path(leaf, index, count, claim.receipt_path)
    return decoded, Results(block_hash(chain_id, header), claim.state_root, receipts_root)


def verify_state_claim(
    claim: StateClaim, header: Header, chain_id: Digest
) -> tuple[bytes | None, Results]:
    """Return the value under the key, None if absent, and the results that the claim leads to.

    Raises ProofError if it shows neither.
    """
    value = verify_state_proof(claim.state_root, claim.key, claim.proof)
    return value, Results(block_hash(chain_id, header), claim.state_root, claim.receipts_root)
