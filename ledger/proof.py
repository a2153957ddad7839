"""Proof bundles: one file that shows what became of a transaction, or what the state held.

A bundle is checked offline with nothing but the genesis: every byte of it is bound, step by step,
to a header that a quorum of validators certified. For a transaction the steps are

- transaction and receipt, each with its path, to the roots of the block that contained it;
- that block's hash, state root and receipts root, with a path, to the ``history_root`` in a later
  header;
- that header to its finalization certificate.

Certificates are the business of the consensus package, so checking them is passed in as a function.
Normative text: ``docs/protocol.md`` section 6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Final, NamedTuple

from msgspec import Meta, Struct

from ledger.block import PARENT_CERTIFICATE_BYTES_MAX, Header, block_hash
from ledger.crypto import verify_many
from ledger.encoding import StrictDecoder, encode
from ledger.errors import LedgerError, ProofError
from ledger.history import history_leaf
from ledger.merkle import PAGE_BYTES, PATH_LENGTH_MAX, dense_path, root_from_path
from ledger.receipt import RECEIPT_BYTES_MAX, Receipt, receipt_leaf
from ledger.records import STATE_KEY_BYTES_MAX, TRANSACTION_BYTES_MAX
from ledger.state_proof import PathField, StateProof, verify_state_proof
from ledger.transaction import DecodedTransaction, decode_transaction, wire_hash
from ledger.types import Digest, DigestField

PROOF_VERSION: Final = 1

CertificateField = Annotated[bytes, Meta(min_length=1, max_length=PARENT_CERTIFICATE_BYTES_MAX)]

VerifyCertificate = Callable[[Header, bytes], bool]
"""Tells whether encoded certificate bytes are a valid finalization of the header."""


class TransactionBundle(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """Shows that a transaction is final, where, and with what outcome."""

    version: Annotated[int, Meta(ge=PROOF_VERSION, le=PROOF_VERSION)]
    transaction: Annotated[bytes, Meta(max_length=TRANSACTION_BYTES_MAX)]
    """Wire bytes."""
    receipt: Receipt
    index: Annotated[int, Meta(ge=0)]
    """Position in the block."""
    header: Header
    """Of the block that contains the transaction."""
    transaction_path: PathField
    receipt_path: PathField
    state_root: DigestField
    """After that block."""
    history_path: PathField
    certified_header: Header
    """A later header whose history covers the block."""
    certificate: CertificateField
    """Finalization of ``certified_header``."""


class StateBundle(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """Shows what the state held under a key, or that it held nothing, after an executed block."""

    version: Annotated[int, Meta(ge=PROOF_VERSION, le=PROOF_VERSION)]
    key: Annotated[bytes, Meta(min_length=1, max_length=STATE_KEY_BYTES_MAX)]
    proof: StateProof
    certified_header: Header
    """Its ``state_root`` is the one that the proof leads to."""
    certificate: CertificateField
    """Finalization of ``certified_header``."""


_PATHS_BYTES_MAX: Final = 3 * PATH_LENGTH_MAX * (PAGE_BYTES + 3)
BUNDLE_BYTES_MAX: Final = (
    TRANSACTION_BYTES_MAX + RECEIPT_BYTES_MAX + PARENT_CERTIFICATE_BYTES_MAX + _PATHS_BYTES_MAX
)
"""The largest parts together; a usual bundle takes 4 KiB."""

TRANSACTION_BUNDLE_DECODER: Final = StrictDecoder(TransactionBundle, BUNDLE_BYTES_MAX)
STATE_BUNDLE_DECODER: Final = StrictDecoder(StateBundle, BUNDLE_BYTES_MAX)


class ProvenTransaction(NamedTuple):
    """What a checked bundle proves."""

    decoded: DecodedTransaction
    receipt: Receipt
    header: Header
    certified_header: Header


def make_transaction_bundle(
    header: Header,
    transactions: Sequence[bytes],
    receipts: Sequence[Receipt],
    index: int,
    state_root: Digest,
    history_path: tuple[bytes, ...],
    certified_header: Header,
    certificate: bytes,
) -> bytes:
    """Return the encoded bundle of the transaction at ``index`` of an executed block.

    ``history_path`` is ``State.history_path(certified_header.executed_height + 1, header.height)``.
    """
    wire_hashes = [wire_hash(wire) for wire in transactions]
    leaves = [receipt_leaf(encode(receipt)) for receipt in receipts]
    bundle = TransactionBundle(
        PROOF_VERSION,
        transactions[index],
        receipts[index],
        index,
        header,
        dense_path(wire_hashes, index),
        dense_path(leaves, index),
        state_root,
        history_path,
        certified_header,
        certificate,
    )
    return encode(bundle)


def verify_transaction_bundle(
    data: bytes, chain_id: Digest, verify_certificate: VerifyCertificate
) -> ProvenTransaction:
    """Return what an encoded bundle proves on the network ``chain_id``.

    Raises ProofError, which names the step that fails, or EncodingError.
    """
    bundle = TRANSACTION_BUNDLE_DECODER.decode(data)
    header = bundle.header
    try:
        decoded = decode_transaction(chain_id, bundle.transaction)
    except LedgerError as error:
        raise ProofError(f"transaction: {error}") from error
    if not all(verify_many(decoded.signature_items())):
        raise ProofError("transaction: a signature does not verify")
    count = header.transaction_count
    index = bundle.index
    root = root_from_path(decoded.wire_hash, index, count, bundle.transaction_path)
    if root != header.transactions_root:
        raise ProofError("transaction: its path leads to another root than the block's")
    if bundle.receipt.transaction_id != decoded.id:
        raise ProofError("receipt: it belongs to another transaction")
    receipt_digest = receipt_leaf(encode(bundle.receipt))
    receipts_root = root_from_path(receipt_digest, index, count, bundle.receipt_path)
    leaf = history_leaf(block_hash(chain_id, header), bundle.state_root, receipts_root)
    certified = bundle.certified_header
    executed = certified.executed_height + 1
    if root_from_path(leaf, header.height, executed, bundle.history_path) != certified.history_root:
        raise ProofError("history: the block is not the one that the certified header executed")
    if not verify_certificate(certified, bundle.certificate):
        raise ProofError("certificate: it is no finalization of the certified header")
    return ProvenTransaction(decoded, bundle.receipt, header, certified)


def verify_state_bundle(
    data: bytes, verify_certificate: VerifyCertificate
) -> tuple[StateBundle, bytes | None]:
    """Return an encoded bundle and the value it proves; None where it proves absence.

    Raises ProofError or EncodingError.
    """
    bundle = STATE_BUNDLE_DECODER.decode(data)
    header = bundle.certified_header
    value = verify_state_proof(header.state_root, bundle.key, bundle.proof)
    if not verify_certificate(header, bundle.certificate):
        raise ProofError("certificate: it is no finalization of the certified header")
    return bundle, value
