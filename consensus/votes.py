"""Votes: what makes one well-formed, and how its signature is checked.

Normative text: ``docs/protocol-consensus.md``, Votes.
"""

from __future__ import annotations

from consensus.config import Verify
from consensus.types import NULL_VALUE, Value, Vote, VoteKind, vote_signing_bytes
from consensus.validators import ValidatorSet
from ledger.types import UINT64_MAX, ZERO_DIGEST, Digest, View


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


def verify_vote(vote: Vote, chain_id: Digest, validators: ValidatorSet, verify: Verify) -> bool:
    """Tell whether a well-formed vote carries its voter's signature."""
    message = vote_signing_bytes(chain_id, vote.kind, vote.era, vote.epoch, vote.view, vote.value)
    return verify(validators[vote.voter].consensus_key, message, vote.signature)
