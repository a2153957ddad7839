"""Proof files: what became of a transaction, or what the state held, for anyone to check offline.

A file holds a claim of ``ledger.proof`` about one block and everything that binds the block to the
genesis: its place in the history tree of a final header, the finalization of that header, and every
change of the validator set from genesis to the header's epoch. Whoever has the genesis file checks
it without a network, a node or a database. Normative text: ``docs/proofs.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated, Final, NamedTuple

from msgspec import Meta, Raw, Struct

from consensus.light.client import LightClient, SetChange, check_results
from consensus.light.errors import DamagedProof
from consensus.types import Certificate
from ledger.block import Header
from ledger.crypto import tag
from ledger.encoding import StrictDecoder, encode
from ledger.errors import LedgerError
from ledger.proof import (
    Claim,
    Results,
    StateClaim,
    TransactionClaim,
    verify_state_claim,
    verify_transaction_claim,
)
from ledger.state_proof import PathField
from ledger.transaction import DecodedTransaction
from ledger.types import DIGEST_BYTES, ZERO_DIGEST, Digest, DigestField, Epoch

PROOF_VERSION: Final = 1
PROOF_TAG: Final = tag("MBI-PROOF-v1")

PROOF_BYTES_MAX: Final = 64 * 1024 * 1024
"""A change of 100 validators takes 14 KB, so there is room for over 4,000; usual: below 10 KB."""

CHANGES_MAX: Final = 65_536
"""Set changes in one file; the size limit is reached first."""

_DIGEST_FIELD_BYTES: Final = 2 + DIGEST_BYTES
"""The closing digest with its msgpack head, ``c4 20``."""


class ProofFile(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """Everything between a claim and the genesis, in the order of checking from the end."""

    version: Annotated[int, Meta(ge=PROOF_VERSION, le=PROOF_VERSION)]
    chain_id: DigestField
    """Hash of the genesis that the checker must hold."""
    changes: Annotated[tuple[SetChange, ...], Meta(max_length=CHANGES_MAX)]
    """Hand-overs from epoch 0 to the epoch of ``certified_header``."""
    certified_header: Header
    certificate: Certificate
    """Finalization of ``certified_header``."""
    history_path: PathField
    """From the results of ``header`` to ``certified_header.history_root``."""
    header: Header
    """Of the block that the claim is about."""
    claim: Claim
    digest: DigestField
    """SHA-256 of tag and all bytes before this field: shows damage, binds question to answer."""


_DECODER: Final = StrictDecoder(ProofFile, PROOF_BYTES_MAX)


class ProvenTransaction(NamedTuple):
    """What a checked file proves about a transaction."""

    claim: TransactionClaim
    decoded: DecodedTransaction
    header: Header
    """Of the block that contains it."""
    certified_header: Header
    epochs: Epoch
    """Set changes that were checked."""


class ProvenState(NamedTuple):
    """What a checked file proves about a key of the state."""

    claim: StateClaim
    value: bytes | None
    """None: the state held nothing under the key."""
    header: Header
    """Of the block after which it held this."""
    certified_header: Header
    epochs: Epoch
    """Set changes that were checked."""


def make_proof(
    chain_id: Digest,
    changes: Sequence[bytes],
    certified: tuple[Header, Certificate],
    history_path: tuple[bytes, ...],
    header: Header,
    claim: Claim,
) -> bytes:
    """Return the bytes of a proof file.

    ``changes`` are the encoded ``SetChange`` from genesis to the epoch of the certified header, and
    ``history_path`` is ``State.history_path(certified header.executed_height + 1, header.height)``.
    """
    fields = [
        PROOF_VERSION,
        chain_id,
        [Raw(change) for change in changes],
        *certified,
        history_path,
        header,
        claim,
        ZERO_DIGEST,
    ]
    return sealed(encode(fields))


def sealed(data: bytes) -> bytes:
    """Return a file's bytes with the closing digest put right."""
    return data[:-DIGEST_BYTES] + _closing_digest(data)


def check_proof(data: bytes, client: LightClient) -> ProvenTransaction | ProvenState:
    """Return what a proof file proves to a client that stands at its genesis.

    The client is taken through the set changes in the file. Costs one quorum of signatures for each
    change and one for the certified header.

    Raises:
        LightError: naming the first step that fails; also for bytes that are no proof file.
        LedgerError: the claim itself does not hold (``ProofError``).
    """
    file = _decode(data)
    if file.chain_id != client.chain_id:
        raise DamagedProof(
            f"expected a proof for network {client.chain_id.hex()}, received one for "
            f"{file.chain_id.hex()}"
        )
    for change in file.changes:
        client.apply(change)
    client.require_checkpoints()
    certified = file.certified_header
    client.check_final(certified, file.certificate)
    claim, header = file.claim, file.header
    if isinstance(claim, TransactionClaim):
        decoded, results = verify_transaction_claim(claim, header, client.chain_id)
        _check_history(file, results)
        return ProvenTransaction(claim, decoded, header, certified, client.epoch)
    value, results = verify_state_claim(claim, header, client.chain_id)
    _check_history(file, results)
    return ProvenState(claim, value, header, certified, client.epoch)


def _check_history(file: ProofFile, results: Results) -> None:
    check_results(file.certified_header, file.header.height, results, file.history_path)


def _decode(data: bytes) -> ProofFile:
    try:
        file = _DECODER.decode(data)
    except LedgerError as error:
        raise DamagedProof(f"these bytes are no proof file: {error}") from error
    expected = _closing_digest(data)
    if file.digest != expected:
        raise DamagedProof(
            f"the file is damaged: expected it to end with {expected.hex()}, received "
            f"{file.digest.hex()}"
        )
    return file


def _closing_digest(data: bytes) -> Digest:
    return Digest(sha256(PROOF_TAG + data[:-_DIGEST_FIELD_BYTES]).digest())
