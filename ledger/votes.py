"""Votes: what validators sign about a view, what makes a vote well-formed, and how it is checked.

A *vote* is one validator's signed statement about one view. Votes are signed over a fixed 109-byte
binary form, not over msgpack, so there is exactly one encoding and a hardware signer can parse it.
They belong to the ledger because two of them in conflict are evidence, which transactions carry.
Normative text: ``docs/protocol-consensus.md``, Votes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from struct import Struct as BinaryLayout
from typing import Annotated, Final, NamedTuple

from msgspec import Meta, Struct

from ledger.types import (
    UINT64_MAX,
    ZERO_DIGEST,
    Digest,
    DigestField,
    Epoch,
    EpochField,
    Era,
    EraField,
    PublicKey,
    Signature,
    SignatureField,
    View,
    ViewField,
)
from ledger.validators import VALIDATORS_MAX, Validator, ValidatorSet

VOTE_TAG: Final = b"MBI-VOTE-v1".ljust(16, b"\0")
"""Domain tag in front of every signed vote."""

Sign = Callable[[bytes], Signature]
"""Signs with the validator's consensus key."""

Verify = Callable[[PublicKey, bytes, Signature], bool]
"""Checks a signature under the strict Ed25519 rule of the ledger."""


Electors = ValidatorSet | Sequence[Validator]
"""The members of an epoch by index: a set, or what the state records of it."""


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

    parent_view: ViewField
    block_hash: DigestField


NULL_VALUE: Final = Value(View(0), ZERO_DIGEST)
"""Value of every nullify vote."""


class Vote(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=1):
    """One validator's signed statement about one view."""

    kind: VoteKind
    era: EraField
    epoch: EpochField
    view: ViewField
    value: Value
    """:data:`NULL_VALUE` for NULLIFY."""
    voter: Annotated[int, Meta(ge=0, lt=VALIDATORS_MAX)]
    """Index in the validator set of the epoch."""
    signature: SignatureField
    """Over :func:`vote_signing_bytes`, by the voter's consensus key."""


_SIGNED = BinaryLayout(">16s32sIQQBQ32s")


def vote_signing_bytes(
    chain_id: Digest, kind: VoteKind, era: Era, epoch: Epoch, view: View, value: Value
) -> bytes:
    """Return the 109 bytes that a vote signs: tag, chain id, round, kind, value; big-endian."""
    return _SIGNED.pack(
        VOTE_TAG, chain_id, era, epoch, view, kind, value.parent_view, value.block_hash
    )


def is_value_of(kind: VoteKind, view: View, value: Value) -> bool:
    """Tell whether a vote of this kind in this view can be about this value."""
    if kind is VoteKind.NULLIFY:
        return value == NULL_VALUE
    return 0 <= value.parent_view < view and value.block_hash != ZERO_DIGEST


def check_vote(vote: Vote, size: int) -> str | None:
    """Return what no correct node sends about this vote, in constant time; None if all is well."""
    if not 0 <= vote.voter < size:
        return f"expected a voter below {size}, received {vote.voter}"
    if not 0 < vote.view <= UINT64_MAX:
        return f"expected a view from 1 to 2^64-1, received {vote.view}"
    if not is_value_of(vote.kind, vote.view, vote.value):
        return f"no {vote.kind.name} of view {vote.view} can be about {vote.value}"
    return None


def verify_vote(vote: Vote, chain_id: Digest, validators: Electors, verify: Verify) -> bool:
    """Tell whether a well-formed vote carries its voter's signature."""
    message = vote_signing_bytes(chain_id, vote.kind, vote.era, vote.epoch, vote.view, vote.value)
    return verify(validators[vote.voter].consensus_key, message, vote.signature)
