"""Operations of governance: proposing and voting on changes, readiness, evidence.

Organisations that run validators decide together, each with as many votes as it has validators in
the present set. A proposal counts as its organisation's approval. Each of these operations is much
work for few bytes, a tally over the set or signatures of validators' keys, so it stands alone in
its transaction: with a hundred votes in each, a block would take twenty seconds. The rules about
sets and majorities are in ``ledger.governance``, what a change does in ``ledger.changes``.
Normative text: ``docs/protocol.md`` section 4.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Meta

from ledger.agenda import put_proposal, with_votes
from ledger.changes import check_not_accused, check_organisation, plan_change, suspend
from ledger.crypto import SigningKey, check_public_key, tag, verify
from ledger.encoding import encode
from ledger.errors import (
    EvidenceExpired,
    EvidenceKnown,
    ForeignValidator,
    InvalidEvidence,
    InvalidOperation,
    InvalidReadiness,
    NotAlone,
    NotOrganisationAdmin,
    NotVoter,
    ProposalClosed,
    ProposalUnknown,
    TooManyProposals,
)
from ledger.events import (
    ChangeProposed,
    ChangeVoted,
    EvidenceEffect,
    EvidenceReported,
    ReadinessProven,
)
from ledger.evidence import verify_evidence
from ledger.governance import decide
from ledger.operations.base import Actor, OperationBase, OperationSpec, Requirement, Threshold
from ledger.records import (
    AGENDA_KEY,
    AGENDA_MAX,
    PROPOSALS_PER_ORGANISATION_MAX,
    AddValidator,
    Agenda,
    Change,
    ChangeProposal,
    EpochRecord,
    EvidenceRecord,
    OrganisationVote,
    ProposalIdField,
    ProposalStatus,
    Readiness,
    RotateKey,
    SetPowers,
    epoch_key,
    evidence_key,
    proposal_key,
    readiness_key,
)
from ledger.text import NAME_BYTES_MAX, validate_organisation_id, validate_text
from ledger.types import TIME_MS_MAX, Digest, ProposalId, SignatureField, TimeMs
from ledger.validators import Validator
from ledger.votes import Vote

if TYPE_CHECKING:
    from ledger.transaction import Transaction
    from ledger.view import View

JOIN_TAG: Final = tag("MBI-JOIN-v1")
"""Domain tag of what a joining consensus key signs."""

EVIDENCE_HEIGHTS_MAX: Final = 500_000
"""Evidence of an epoch counts until this many heights after its end: days at one block a second."""


class ProposeChange(OperationBase, frozen=True, tag=9):
    """Propose a change and approve it; acts for the admin of an organisation with a validator."""

    change: Change


class VoteChange(OperationBase, frozen=True, tag=10):
    """Say what an organisation thinks of an open proposal; a later vote replaces an earlier one."""

    proposal: ProposalIdField
    approve: bool


class ProveReadiness(OperationBase, frozen=True, tag=11):
    """Post the word of a validator's consensus key that its node is synced and could vote."""

    validator: Validator
    expires_ms: Annotated[TimeMs, Meta(ge=1, le=TIME_MS_MAX)]
    """Last block time at which the word counts."""
    signature: SignatureField
    """Over :func:`readiness_preimage`, by the validator's consensus key."""


class ReportEvidence(OperationBase, frozen=True, tag=12):
    """Report two votes of one validator that an honest one never signs together."""

    first: Vote
    second: Vote


# --- Without state --------------------------------------------------------------------------------


def _validate_propose(operation: ProposeChange) -> None:
    change = operation.change
    if isinstance(change, AddValidator):
        _validate_validator(change.validator)
    elif isinstance(change, RotateKey):
        check_public_key(change.new_consensus_key)
        check_public_key(change.new_node_key)
        if change.new_consensus_key == change.new_node_key:
            raise InvalidOperation("expected two different keys, one for each purpose")
    elif isinstance(change, SetPowers) and list(change.licences) != sorted(set(change.licences)):
        raise InvalidOperation("expected each licence once, in ascending order of its class")


def _validate_validator(validator: Validator) -> None:
    validate_text(validator.name, NAME_BYTES_MAX)
    validate_organisation_id(validator.organisation)
    check_public_key(validator.consensus_key)
    check_public_key(validator.node_key)
    if validator.consensus_key == validator.node_key:
        raise InvalidOperation("expected two different keys, one for each purpose")


def _validate_readiness(operation: ProveReadiness) -> None:
    _validate_validator(operation.validator)


def _require_admin(operation: ProposeChange | VoteChange, view: View) -> Requirement:
    return Requirement(Threshold.ADMIN)


def _require_any(operation: ProveReadiness | ReportEvidence, view: View) -> Requirement:
    return Requirement(Threshold.TRANSFER)


def _check_alone(transaction: Transaction) -> None:
    if len(transaction.operations) != 1:
        raise NotAlone(
            f"expected a transaction of one operation, got {len(transaction.operations)}"
        )


def _is_admin(actor: Actor, view: View) -> bool:
    """Tell whether the actor is the admin account of its organisation."""
    organisation = view.organisation(actor.account.organisation)
    return organisation is not None and organisation.admin == actor.account.address


# --- propose_change, vote_change ------------------------------------------------------------------


def _check_voter(actor: Actor, view: View) -> None:
    """Raise NotVoter unless the actor is admin of an organisation that runs a validator."""
    name = actor.account.organisation
    if not _is_admin(actor, view):
        raise NotVoter(f"only the admin account of {name} takes part in governance for it")
    if all(member.organisation != name for member in view.validators().members):
        raise NotVoter(f"{name} runs no validator of the present set")


def _propose(
    operation: ProposeChange, actor: Actor, transaction: Transaction, view: View
) -> ChangeProposed:
    _check_alone(transaction)
    _check_voter(actor, view)
    organisation = actor.account.organisation
    agenda: Agenda = view.get(AGENDA_KEY)
    own = sum(entry.organisation == organisation for entry in agenda.entries)
    if own >= PROPOSALS_PER_ORGANISATION_MAX or len(agenda.entries) >= AGENDA_MAX:
        raise TooManyProposals(
            f"expected at most {PROPOSALS_PER_ORGANISATION_MAX} waiting proposals of one "
            f"organisation and {AGENDA_MAX} in all, there are {own} and {len(agenda.entries)}"
        )
    plan_change(operation.change, view, is_proposal=True)
    proposal = ChangeProposal(
        ProposalId(agenda.proposals + 1),
        operation.change,
        organisation,
        view.time_ms,
        TimeMs(view.time_ms + view.parameters().change_lifetime_ms),
        (),
        ProposalStatus.OPEN,
        TimeMs(0),
        None,
    )
    decided = _count_vote(proposal, OrganisationVote(organisation, True), view)
    return ChangeProposed(
        decided.id, organisation, operation.change, decided.status, actor.account.address
    )


def _vote(operation: VoteChange, actor: Actor, transaction: Transaction, view: View) -> ChangeVoted:
    _check_alone(transaction)
    _check_voter(actor, view)
    proposal: ChangeProposal | None = view.get(proposal_key(operation.proposal))
    if proposal is None:
        raise ProposalUnknown(f"no proposal {operation.proposal}")
    if proposal.status is not ProposalStatus.OPEN:
        raise ProposalClosed(
            f"proposal {proposal.id} is {proposal.status.name.lower()}, not open for votes"
        )
    vote = OrganisationVote(actor.account.organisation, operation.approve)
    decided = _count_vote(proposal, vote, view)
    return ChangeVoted(
        decided.id, vote.organisation, vote.approve, decided.status, actor.account.address
    )


def _count_vote(proposal: ChangeProposal, vote: OrganisationVote, view: View) -> ChangeProposal:
    """Add a vote, tally all by the present set, and write the outcome."""
    members = view.validators().members
    voters = {member.organisation for member in members}
    kept = [
        item
        for item in proposal.votes
        if item.organisation in voters and item.organisation != vote.organisation
    ]
    votes = tuple(sorted([*kept, vote], key=lambda item: item.organisation))
    decided = with_votes(proposal, votes, decide(members, votes), view)
    put_proposal(decided, view)
    return decided


# --- prove_readiness ------------------------------------------------------------------------------


def readiness_preimage(chain_id: Digest, validator: Validator, expires_ms: int) -> bytes:
    """Return what a joining consensus key signs: tag, chain id, canonical [validator, expiry]."""
    return JOIN_TAG + chain_id + encode((validator, expires_ms))


def sign_readiness(
    chain_id: Digest, validator: Validator, expires_ms: TimeMs, key: SigningKey
) -> ProveReadiness:
    """Return the operation that posts a node's word; ``key`` is its consensus key."""
    signature = key.sign(readiness_preimage(chain_id, validator, expires_ms))
    return ProveReadiness(None, validator, expires_ms, signature)


def _prove(
    operation: ProveReadiness, actor: Actor, transaction: Transaction, view: View
) -> ReadinessProven:
    _check_alone(transaction)
    validator = operation.validator
    if validator.organisation != actor.account.organisation:
        raise ForeignValidator(
            f"expected a validator of {actor.account.organisation}, got {validator.organisation}"
        )
    check_organisation(validator, view)
    # Each key leaves a record for good: an office answers for that, no customer does.
    if not _is_admin(actor, view):
        raise NotOrganisationAdmin(
            f"only the admin account of {validator.organisation} may do this"
        )
    check_not_accused(validator.consensus_key, view)
    latest = view.time_ms + view.parameters().readiness_ms
    if not view.time_ms <= operation.expires_ms <= latest:
        raise InvalidReadiness(
            f"expected expires_ms from {view.time_ms} to {latest}, got {operation.expires_ms}"
        )
    preimage = readiness_preimage(view.chain_id, validator, operation.expires_ms)
    if not verify(validator.consensus_key, preimage, operation.signature):
        raise InvalidReadiness(
            f"the signature is not of key {validator.consensus_key.hex()} over this validator"
        )
    view.put(
        readiness_key(validator.consensus_key),
        Readiness(validator, view.time_ms, operation.expires_ms),
    )
    return ReadinessProven(validator, operation.expires_ms, actor.account.address)


# --- report_evidence ------------------------------------------------------------------------------


def _report(
    operation: ReportEvidence, actor: Actor, transaction: Transaction, view: View
) -> EvidenceReported:
    _check_alone(transaction)
    first, second = operation.first, operation.second
    epoch = _epoch_of(first, view)
    members = epoch.members
    if not 0 <= first.voter < len(members):
        raise InvalidEvidence(f"expected a voter below {len(members)}, got {first.voter}")
    accused = members[first.voter]
    key = accused.consensus_key
    if view.get(evidence_key(key)) is not None:
        raise EvidenceKnown(f"there is evidence against key {key.hex()} already")
    verify_evidence(first, second, view.chain_id, members, verify)
    view.put(evidence_key(key), EvidenceRecord(accused, first, second, view.height))
    effect, code = EvidenceEffect.GONE, ""
    if any(member.consensus_key == key for member in view.validators().scheduled):
        code = suspend(key, view)
        effect = EvidenceEffect.RETAINED if code else EvidenceEffect.SUSPENDED
    return EvidenceReported(
        accused.organisation,
        accused,
        first.era,
        first.epoch,
        first.view,
        effect,
        code,
        actor.account.address,
    )


def _epoch_of(vote: Vote, view: View) -> EpochRecord:
    """Return the epoch that a vote claims; raises InvalidEvidence or EvidenceExpired."""
    current = view.validators().epoch
    if not 0 <= vote.epoch <= current:
        raise InvalidEvidence(f"expected an epoch from 0 to {current}, got {vote.epoch}")
    epoch: EpochRecord | None = view.get(epoch_key(vote.epoch))
    if epoch is None:  # its era ended before its first block
        raise InvalidEvidence(f"nobody voted in epoch {vote.epoch}")
    if vote.era != epoch.era:
        raise InvalidEvidence(f"epoch {vote.epoch} belongs to era {epoch.era}, got {vote.era}")
    if epoch.closed_height and view.height > epoch.closed_height + EVIDENCE_HEIGHTS_MAX:
        raise EvidenceExpired(
            f"epoch {vote.epoch} ended at height {epoch.closed_height}, more than "
            f"{EVIDENCE_HEIGHTS_MAX} heights ago"
        )
    return epoch


SPECS = (
    OperationSpec(9, "propose_change", ProposeChange, _require_admin, _propose, _validate_propose),
    OperationSpec(10, "vote_change", VoteChange, _require_admin, _vote),
    OperationSpec(11, "prove_readiness", ProveReadiness, _require_any, _prove, _validate_readiness),
    OperationSpec(12, "report_evidence", ReportEvidence, _require_any, _report),
)
