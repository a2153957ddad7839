"""Certificates and the messages of the consensus protocol.

A *certificate* is a quorum of matching votes (``ledger.votes``) and is provable alone. The messages
are msgpack arrays with an integer tag; consensus treats a proposal's payload (the list of
transactions) as opaque bytes. Normative text: ``docs/protocol-consensus.md``, Certificates,
Proposals and Catch-up; source: Chan & Pass, "Simplex Consensus", eprint 2023/463.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from ledger.block import Header
from ledger.types import EpochField, EraField, HeightField, ViewField
from ledger.validators import VALIDATORS_MAX
from ledger.votes import Value, Vote, VoteKind

SKIPS_MAX: Final = 64
"""Nullifications carried inline in a proposal or in one page of certificates; the rest is paged."""

PAYLOAD_BYTES_MAX: Final = 4096 * 32
"""One 32-byte hash per transaction of the largest block."""


class Certificate(
    Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=2
):
    """A quorum of matching votes: notarization, nullification or finalization by kind."""

    kind: VoteKind
    era: EraField
    epoch: EpochField
    view: ViewField
    value: Value
    bitmap: Annotated[bytes, Meta(min_length=1, max_length=VALIDATORS_MAX // 8)]
    """Bit i (least significant first in each byte): validator i signed; ceil(n/8) bytes."""
    signatures: Annotated[bytes, Meta(min_length=64, max_length=64 * VALIDATORS_MAX)]
    """64 bytes per set bit, in index order."""


class Proposal(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=3):
    """Leader's signed offer of a block for a view, with evidence that it may extend its parent."""

    era: EraField
    epoch: EpochField
    view: ViewField
    value: Value
    header: Header
    payload: Annotated[bytes, Meta(max_length=PAYLOAD_BYTES_MAX)]
    """Opaque to consensus: the concatenated wire hashes of the block's transactions, or the encoded
    validator set that a boundary block names; empty if the block is repeated (EP2)."""
    parent_certificate: Certificate | None
    """Of the parent, None only where that is the epoch's base; of the block itself if it is
    repeated."""
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
    era: EraField
    epoch: EpochField
    view: ViewField
    executed_height: HeightField
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

    epoch: EpochField
    first: ViewField
    last: ViewField


class GetProposal(
    Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=8
):
    """Asks a validator that voted for a block to repeat the proposal it voted for."""

    epoch: EpochField
    view: ViewField


ConsensusMessage = (
    Vote | Proposal | CertificateMessage | StatusRequest | Status | GetCertificates | GetProposal
)
"""Everything validators say to each other about consensus; a node's transport carries it."""
