"""Evidence: two votes of one validator that an honest one never signs together.

Every violation of safety leaves such pairs **within one view**, so evidence is a pure function of
two votes and the validator set of their epoch: no clocks, no heights, no other messages. Notarize
and nullify in one view is legal: it is what a validator does when a certificate does not come.
Normative text: ``docs/protocol-consensus.md``, The procedure, EV1.
"""

from __future__ import annotations

from ledger.errors import InvalidEvidence
from ledger.types import Digest
from ledger.votes import Electors, Verify, Vote, VoteKind, check_vote, verify_vote


def are_conflicting(a: Vote, b: Vote) -> bool:
    """Tell whether the contents of two votes prove a fault of their voter (signatures apart)."""
    if (a.voter, a.era, a.epoch, a.view) != (b.voter, b.era, b.epoch, b.view):
        return False
    if a.kind is not VoteKind.NULLIFY and b.kind is not VoteKind.NULLIFY:
        return a.value != b.value
    return {a.kind, b.kind} == {VoteKind.NULLIFY, VoteKind.FINALIZE}


def verify_evidence(
    a: Vote, b: Vote, chain_id: Digest, validators: Electors, verify: Verify
) -> None:
    """Check that two votes of an epoch with these validators prove a fault.

    Raises:
        InvalidEvidence: the votes do not conflict, or one is not the validator's.
    """
    if not are_conflicting(a, b):
        raise InvalidEvidence(f"votes of validators {a.voter} and {b.voter} do not conflict")
    for vote in (a, b):
        problem = check_vote(vote, len(validators))
        if problem is not None:
            raise InvalidEvidence(problem)
        if not verify_vote(vote, chain_id, validators, verify):
            raise InvalidEvidence(f"signature of validator {vote.voter} is not valid")
