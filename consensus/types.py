"""Votes, certificates and the messages of the consensus protocol.

A *vote* is one validator's signed statement about one view; a *certificate* is a quorum of matching
votes and is provable alone. Votes are signed over a fixed 109-byte binary form, not over msgpack,
so there is exactly one encoding and a hardware signer can parse it. The messages are msgpack arrays
with an integer tag; consensus treats a proposal's payload (the list of transactions) as opaque
bytes. Normative text: ``docs/protocol-consensus.md``, Votes to Proposals, and Catch-up; source:
Chan & Pass, "Simplex Consensus", eprint 2023/463.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct as BinaryLayout
from typing import Annotated, Final, NamedTuple

from msgspec import Meta, Struct

from ledger.block import Header
from ledger.types import ZERO_DIGEST, Digest, DigestField, Epoch, Era, Height, SignatureField, View

VOTE_TAG: Final = b"MBI-VOTE-v1".ljust(16, b"\0")
"""Domain tag in front of every signed vote."""

VALIDATORS_MAX: Final = 128
"""Largest validator set; bounds bitmaps and certificates before allocation."""

SKIPS_MAX: Final = 64
"""Nullifications carried inline in a proposal or in one page of certificates; the rest is paged."""

PAYLOAD_BYTES_MAX: Final = 4096 * 32
"""One 32-byte hash per transaction of the largest block."""


class VoteKind(IntEnum):
    """The three statements a validator can sign about a view."""

    NOTARIZE = 1
    """The leader's block is valid and may be built upon."""
    NULLIFY = 2
    """The view may be skipped."""
    FINALIZE = 3
    """I hold the notarization of this block and have not nullified the view."""


class Round(NamedTuple):
    """Total order of views over the life of a chain."""

    era: Era
    epoch: Epoch
    view: View


class Value(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """What a vote is about: a block, and the view its parent was certified in."""

    parent_view: View
    block_hash: DigestField


NULL_VALUE: Final = Value(View(0), ZERO_DIGEST)
"""Value of every nullify vote."""


class Vote(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=1):
    """One validator's signed statement about one view."""

    kind: VoteKind
    era: Era
    epoch: Epoch
    view: View
    value: Value
    """:data:`NULL_VALUE` for NULLIFY."""
    voter: int
    """Index in the validator set of the epoch."""
    signature: SignatureField
    """Over :func:`vote_signing_bytes`, by the voter's consensus key."""


class Certificate(
    Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=2
):
    """A quorum of matching votes: notarization, nullification or finalization by kind."""

    kind: VoteKind
    era: Era
    epoch: Epoch
    view: View
    value: Value
    bitmap: Annotated[bytes, Meta(min_length=1, max_length=VALIDATORS_MAX // 8)]
    """Bit i (least significant first in each byte): validator i signed; ceil(n/8) bytes."""
    signatures: Annotated[bytes, Meta(min_length=64, max_length=64 * VALIDATORS_MAX)]
    """64 bytes per set bit, in index order."""


class Proposal(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=3):
    """Leader's signed offer of a block for a view, with evidence that it may extend its parent."""

    era: Era
    epoch: Epoch
    view: View
    value: Value
    header: Header
    payload: Annotated[bytes, Meta(max_length=PAYLOAD_BYTES_MAX)]
    """Opaque to consensus: the concatenated wire hashes of the block's transactions."""
    parent_certificate: Certificate | None
    """Of the parent; None only where the parent is the epoch's base."""
    skips: Annotated[tuple[Certificate, ...], Meta(max_length=SKIPS_MAX)]
    """Nullifications of the views between parent and proposal, oldest first."""
    finalization: Certificate | None
    """Highest finalization the leader holds."""
    leader_vote: Vote
    """Leader's NOTARIZE vote; it is the signature of the proposal."""


class CertificateMessage(
    Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=4
):
    """Relays certificates: one that was just formed, or a page of those asked for."""

    certificates: Annotated[tuple[Certificate, ...], Meta(min_length=1, max_length=SKIPS_MAX)]


class StatusRequest(
    Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=5
):
    """Asks a peer where it stands; the nonce proves that the answer is fresh."""

    nonce: Annotated[bytes, Meta(min_length=16, max_length=16)]


class Status(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=6):
    """Where a node stands, each claim backed by a certificate."""

    nonce: Annotated[bytes, Meta(max_length=16)]
    """Of the request it answers; empty if unasked."""
    era: Era
    epoch: Epoch
    view: View
    executed_height: Height
    previous_view: Certificate | None
    """Any certificate of ``view - 1``: proves that the node may be in ``view``. None in view 1."""
    notarization: Certificate | None
    """Highest held."""
    finalization: Certificate | None
    """Highest held; None before the first block."""


class GetCertificates(
    Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=7
):
    """Asks for the certificates of a range of views of the present epoch, both ends included."""

    epoch: Epoch
    first: View
    last: View


class GetProposal(
    Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=8
):
    """Asks a validator that voted for a block to repeat the proposal it voted for."""

    epoch: Epoch
    view: View


ConsensusMessage = (
    Vote | Proposal | CertificateMessage | StatusRequest | Status | GetCertificates | GetProposal
)
"""Everything validators say to each other about consensus; a node's transport carries it."""

_SIGNED = BinaryLayout(">16s32sIQQBQ32s")


def vote_signing_bytes(
    chain_id: Digest, kind: VoteKind, era: Era, epoch: Epoch, view: View, value: Value
) -> bytes:
    """Return the 109 bytes that a vote signs: tag, chain id, round, kind, value; big-endian."""
    return _SIGNED.pack(
        VOTE_TAG, chain_id, era, epoch, view, kind, value.parent_view, value.block_hash
    )
