"""What a block does before its transactions: presence, due proposals, the turn of an epoch.

In this order:

0. In the first block of an era: close the epoch at the base of the plan, open the next one with the
   plan's set (``ledger.era``).
1. Note the proposer and the signers of the parent's certificate as seen at this height.
2. Stop if a feature governs this height that this version does not know.
3. Proposals whose time has come, in order of their numbers: open ones expire, approved ones take
   effect or are refused by their own rule.
4. In a boundary block: close the epoch, open the next one with the set in the block's body, and put
   the scheduled parameters into force if the block's executed height covers their schedule.

A block without any of this costs one record, the presence. Normative text: ``docs/protocol.md``
section 5.3.
"""

from __future__ import annotations

from typing import Final

from ledger.block import Header
from ledger.changes import plan_change
from ledger.era import EraStart, change_era
from ledger.errors import InvariantViolation, LedgerError
from ledger.governance import refusal_of
from ledger.records import (
    AGENDA_KEY,
    PARAMETERS_KEY,
    PRESENCE_KEY,
    VALIDATORS_KEY,
    Agenda,
    AgendaEntry,
    ChangeProposal,
    EpochRecord,
    OrganisationVote,
    Presence,
    ProposalStatus,
    Refusal,
    ValidatorsRecord,
    epoch_key,
    proposal_key,
)
from ledger.types import ZERO_DIGEST, Epoch, Height, ProposalId, TimeMs
from ledger.validators import Validator, ValidatorSet
from ledger.view import View

KNOWN_FEATURES: Final[frozenset[str]] = frozenset()
"""Features that this version implements, by name; a network decides at which height each begins."""


def begin_block(
    view: View,
    header: Header,
    signers: int,
    next_members: tuple[Validator, ...],
    start: EraStart | None = None,
) -> None:
    """Do what the block does before its transactions.

    ``signers`` (a mask) signed the parent's certificate, by the set of the parent's epoch;
    ``next_members`` are those of a boundary block's body, else empty; ``start`` says what the plan
    of the block's era does, if this is the first block of an era.

    Raises InvariantViolation if the block is none of this chain's, or if this version of the node
    does not know a feature that the network has activated.
    """
    if start is not None:
        change_era(view, header, start)
    record = view.validators()
    era = view.get(epoch_key(record.epoch)).era
    if (header.era, header.epoch) != (era, record.epoch):
        raise InvariantViolation(
            "epoch",
            f"block {header.height} is of era {header.era}, epoch {header.epoch}, not {era}, "
            f"{record.epoch}",
        )
    # The parent of an epoch's first block was certified by the set before: other indices.
    is_first = header.height == record.opened_height + 1
    _note_presence(view, (0 if is_first else signers) | 1 << header.proposer)
    agenda: Agenda = view.get(AGENDA_KEY)
    for feature in agenda.features:
        if feature.height <= header.height and feature.name not in KNOWN_FEATURES:
            raise InvariantViolation(
                "feature_unknown",
                f"feature {feature.name} governs this network from height {feature.height}: "
                "install a version of the node that knows it, then start again",
            )
    if agenda.entries and agenda.entries[0].due_ms <= view.time_ms:
        _settle_due(view, agenda)
    if next_members or header.next_validator_set_hash != ZERO_DIGEST:
        _turn_epoch(view, header, next_members)
    view.commit()


def _note_presence(view: View, mask: int) -> None:
    presence: Presence = view.get(PRESENCE_KEY)
    height = view.height
    seen = tuple([height if mask >> i & 1 else old for i, old in enumerate(presence.seen)])
    view.put(PRESENCE_KEY, Presence(seen))


# --- Proposals ------------------------------------------------------------------------------------


def _settle_due(view: View, agenda: Agenda) -> None:
    """Let the proposals take effect or expire whose time has come, in order of their numbers."""
    due = sorted(entry.proposal for entry in agenda.entries if entry.due_ms <= view.time_ms)
    waiting = tuple(entry for entry in agenda.entries if entry.due_ms > view.time_ms)
    view.put(AGENDA_KEY, Agenda(agenda.proposals, waiting, agenda.features))
    for number in due:
        proposal: ChangeProposal = view.get(proposal_key(number))
        if proposal.status is ProposalStatus.OPEN:
            settled = _with_status(proposal, ProposalStatus.EXPIRED)
        else:
            settled = _take_effect(proposal, view)
        view.put(proposal_key(number), settled)


def _take_effect(proposal: ChangeProposal, view: View) -> ChangeProposal:
    try:
        writes = plan_change(proposal.change, view, is_proposal=False)
    except LedgerError as error:
        return _with_status(proposal, ProposalStatus.REFUSED, refusal_of(error))
    view.put_all(writes)
    return _with_status(proposal, ProposalStatus.EFFECTIVE)


def _with_status(
    proposal: ChangeProposal, status: ProposalStatus, refusal: Refusal | None = None
) -> ChangeProposal:
    return ChangeProposal(
        proposal.id,
        proposal.change,
        proposal.organisation,
        proposal.created_ms,
        proposal.expires_ms,
        proposal.votes,
        status,
        proposal.effective_ms,
        refusal,
    )


def with_votes(
    proposal: ChangeProposal,
    votes: tuple[OrganisationVote, ...],
    status: ProposalStatus,
    view: View,
) -> ChangeProposal:
    """Return an open proposal with these votes and what they decide now."""
    effective = TimeMs(view.time_ms + view.parameters().change_notice_ms)
    return ChangeProposal(
        proposal.id,
        proposal.change,
        proposal.organisation,
        proposal.created_ms,
        proposal.expires_ms,
        votes,
        status,
        effective if status is ProposalStatus.APPROVED else TimeMs(0),
        None,
    )


def put_proposal(proposal: ChangeProposal, view: View) -> None:
    """Write a proposal, and on the agenda when something happens to it next."""
    view.put(proposal_key(proposal.id), proposal)
    agenda: Agenda = view.get(AGENDA_KEY)
    entries = [entry for entry in agenda.entries if entry.proposal != proposal.id]
    if proposal.status is ProposalStatus.OPEN:
        entries.append(AgendaEntry(proposal.expires_ms, proposal.id, proposal.organisation))
    elif proposal.status is ProposalStatus.APPROVED:
        entries.append(AgendaEntry(proposal.effective_ms, proposal.id, proposal.organisation))
    entries.sort(key=_by_time)
    count = max(agenda.proposals, proposal.id)
    view.put(AGENDA_KEY, Agenda(count, tuple(entries), agenda.features))


def _by_time(entry: AgendaEntry) -> tuple[TimeMs, ProposalId]:
    return entry.due_ms, entry.proposal


# --- Epochs ---------------------------------------------------------------------------------------


def _turn_epoch(view: View, header: Header, next_members: tuple[Validator, ...]) -> None:
    """Close the epoch at this boundary block and open the next one."""
    members = ValidatorSet(next_members) if next_members else None
    if (
        members is None
        or members.members != next_members
        or members.hash != header.next_validator_set_hash
    ):
        raise InvariantViolation(
            "next_validators", f"body and header of boundary block {header.height} disagree"
        )
    record = view.validators()
    closing: EpochRecord = view.get(epoch_key(record.epoch))
    opened = Epoch(record.epoch + 1)
    height = header.height
    view.put(
        epoch_key(record.epoch),
        EpochRecord(closing.era, closing.epoch, closing.members, closing.opened_height, height),
    )
    view.put(epoch_key(opened), EpochRecord(header.era, opened, next_members, height, Height(0)))
    presence: Presence = view.get(PRESENCE_KEY)
    seen = dict(zip(record.members, presence.seen, strict=True))
    view.put(PRESENCE_KEY, Presence(tuple(seen.get(member, height) for member in next_members)))
    if record.scheduled_height <= header.executed_height:
        view.put(PARAMETERS_KEY, record.scheduled_parameters)
    view.put(
        VALIDATORS_KEY,
        ValidatorsRecord(
            opened,
            next_members,
            height,
            record.scheduled,
            record.scheduled_parameters,
            record.scheduled_height,
        ),
    )
