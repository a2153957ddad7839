"""What an approved change does to the state, and why it may not.

``plan_change`` returns the records that a change would write, or raises the rule that forbids it.
It is asked twice: when the change is proposed, so that what is hopeless is refused at once, and
when its time has come, and only then are the records written. In between the state may have
changed, so the second answer counts; the only difference between the two is that whoever joins
need not be ready yet when the change is proposed.

Sets and parameters are *scheduled*: they come into force with the next epoch, which the first
block whose executed height covers the schedule opens. Normative text: ``docs/protocol.md``
section 4.1.
"""

from __future__ import annotations

from ledger.errors import (
    ChamberMismatch,
    ExecutionError,
    FeatureExists,
    FeatureHeightPassed,
    KeyAccused,
    OrganisationUnknown,
    ValidatorNotReady,
)
from ledger.governance import (
    PRESENCE_ROUNDS,
    Members,
    check_quorum,
    with_member,
    with_new_keys,
    without_member,
)
from ledger.records import (
    AGENDA_KEY,
    FEATURES_MAX,
    PRESENCE_KEY,
    VALIDATORS_KEY,
    Absence,
    ActivateFeature,
    AddValidator,
    Agenda,
    Change,
    Feature,
    Organisation,
    Parameters,
    Presence,
    Readiness,
    Record,
    RemoveValidator,
    RotateKey,
    SetParameters,
    SetPowers,
    ValidatorsRecord,
    evidence_key,
    organisation_key,
    readiness_key,
)
from ledger.types import PublicKey
from ledger.validators import Validator
from ledger.view import View

Writes = dict[bytes, Record]
"""Records by state key."""


def plan_change(change: Change, view: View, *, is_proposal: bool) -> Writes:
    """Return what the change writes now; raises a LedgerError if it may not take effect.

    ``is_proposal``: members that join are taken to be ready when the time comes.
    """
    if isinstance(change, SetPowers):
        return _set_powers(change, view)
    if isinstance(change, SetParameters):
        return scheduled(view, parameters=change.parameters)
    if isinstance(change, ActivateFeature):
        return _activate(change, view)
    before = view.validators().scheduled
    after = _next_set(change, before)
    joining = [member for member in after if member not in before]
    for member in joining:
        check_organisation(member, view)
        check_not_accused(member.consensus_key, view)
        if not is_proposal and not is_ready(member, view):
            raise ValidatorNotReady(
                f"{member.name} is not ready: key {member.consensus_key.hex()} must prove it",
                absent=((member.name, None),),
            )
    check_quorum(after, absences(after, joining, view))
    return scheduled(view, members=after)


def _next_set(change: AddValidator | RemoveValidator | RotateKey, before: Members) -> Members:
    if isinstance(change, AddValidator):
        return with_member(before, change.validator)
    if isinstance(change, RemoveValidator):
        return without_member(before, change.consensus_key)
    return with_new_keys(before, change)


def scheduled(
    view: View, *, members: Members | None = None, parameters: Parameters | None = None
) -> Writes:
    """Return the record that lets a set or parameters follow at the next boundary."""
    record = view.validators()
    return {
        VALIDATORS_KEY: ValidatorsRecord(
            record.epoch,
            record.members,
            record.opened_height,
            record.scheduled if members is None else members,
            record.scheduled_parameters if parameters is None else parameters,
            view.height,
        )
    }


# --- Who may be a member --------------------------------------------------------------------------


def check_organisation(validator: Validator, view: View) -> None:
    """Raise OrganisationUnknown or ChamberMismatch unless an organisation can run it."""
    organisation = view.organisation(validator.organisation)
    if organisation is None:
        raise OrganisationUnknown(f"no organisation {validator.organisation}")
    if organisation.kind is not validator.chamber:
        raise ChamberMismatch(
            f"expected {organisation.kind.name.lower()}, as {organisation.id} is; "
            f"got {validator.chamber.name.lower()}"
        )


def check_not_accused(consensus_key: PublicKey, view: View) -> None:
    """Raise KeyAccused if evidence against the key is recorded."""
    if view.get(evidence_key(consensus_key)) is not None:
        raise KeyAccused(f"there is evidence against key {consensus_key.hex()}: use another key")


def is_ready(validator: Validator, view: View) -> bool:
    """Tell whether its node has proven with these keys, and lately, that it could vote."""
    readiness: Readiness | None = view.get(readiness_key(validator.consensus_key))
    return (
        readiness is not None
        and readiness.validator == validator
        and view.time_ms <= readiness.expires_ms
        and view.time_ms <= readiness.posted_ms + view.parameters().readiness_ms
    )


def absences(after: Members, joining: list[Validator], view: View) -> dict[PublicKey, Absence]:
    """Return the members of a future set that do not count as present.

    Present are those that join, members of the present set that were seen lately, and members of
    a pending set that are still ready.
    """
    members = view.validators().members
    presence: Presence = view.get(PRESENCE_KEY)
    seen = dict(zip(members, presence.seen, strict=True))
    oldest = view.height - PRESENCE_ROUNDS * len(members)
    absent: dict[PublicKey, Absence] = {}
    for member in after:
        if member in seen:
            if seen[member] < oldest:
                absent[member.consensus_key] = Absence(member.name, seen[member])
        elif member not in joining and not is_ready(member, view):
            absent[member.consensus_key] = Absence(member.name, None)
    return absent


# --- Other changes --------------------------------------------------------------------------------


def _set_powers(change: SetPowers, view: View) -> Writes:
    current = view.organisation(change.organisation)
    if current is None:
        raise OrganisationUnknown(f"no organisation {change.organisation}")
    changed = Organisation(
        current.id, current.name, current.kind, change.weight, change.licences, current.admin
    )
    return {organisation_key(current.id): changed}


def _activate(change: ActivateFeature, view: View) -> Writes:
    agenda: Agenda = view.get(AGENDA_KEY)
    if any(feature.name == change.name for feature in agenda.features):
        raise FeatureExists(f"feature {change.name} has its height already")
    if len(agenda.features) >= FEATURES_MAX:
        raise FeatureExists(f"expected at most {FEATURES_MAX} features")
    if change.height <= view.height:
        raise FeatureHeightPassed(
            f"expected a height above {view.height} for {change.name}, got {change.height}"
        )
    features = sorted(
        (*agenda.features, Feature(change.name, change.height)), key=lambda feature: feature.name
    )
    return {AGENDA_KEY: Agenda(agenda.proposals, agenda.entries, tuple(features))}


def suspend(consensus_key: PublicKey, view: View) -> str:
    """Take an accused member out of the next set at once, if the rules for sets allow that.

    Returns an empty text, or the code of the rule by which it stays for now.
    """
    try:
        after = without_member(view.validators().scheduled, consensus_key)
        check_quorum(after, absences(after, [], view))
    except ExecutionError as error:
        return error.code
    view.put_all(scheduled(view, members=after))
    return ""
