"""Certificates as the members of a validator set would make them, for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from consensus.certificates import make_certificate
from consensus.types import Certificate
from ledger.types import Digest, Epoch, Era, Signature, View
from ledger.validators import Validator, ValidatorSet
from ledger.votes import Value, Vote, VoteKind, vote_signing_bytes

Statement = tuple[VoteKind, Era, Epoch, View, Value]
"""What all votes in a certificate say."""


def certify(
    chain_id: Digest,
    members: ValidatorSet,
    voters: Iterable[int],
    statement: Statement,
    sign: Callable[[Validator, bytes], Signature],
) -> Certificate:
    """Return the certificate of a statement that these members sign."""
    message = vote_signing_bytes(chain_id, *statement)
    return make_certificate(
        members, [Vote(*statement, voter, sign(members[voter], message)) for voter in voters]
    )
