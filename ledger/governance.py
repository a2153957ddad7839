"""The pure rules of governance: who decides, and which sets of validators may follow each other.

Two questions are answered here about plain tuples of validators, without any state:

- *Is a proposal approved?* Each organisation has as many votes as it runs validators. Approval
  needs two thirds of all and more than half of each chamber that has members (``decide``).
- *May this set follow that one?* It must stay large enough, in all and in each chamber, its names
  and keys must be distinct, and those of its members that are at work now must be a quorum of it,
  so that no change can stop the chain (``check_sizes``, ``check_quorum``).

A refusal says in words who is missing. Normative text: ``docs/protocol.md`` section 4.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ledger.errors import (
    AbsentValidators,
    LedgerError,
    QuorumAbsent,
    SetTooSmall,
    ValidatorExists,
    ValidatorUnknown,
)
from ledger.records import Absence, OrganisationVote, ProposalStatus, Refusal, RotateKey
from ledger.types import Height, PublicKey
from ledger.validators import Chamber, Validator, ValidatorSet, mask_of

VALIDATORS_MIN: Final = 4
"""Fewest members that tolerate one traitor. A set that is smaller already may not shrink."""

CHAMBER_VALIDATORS_MIN: Final = 2
"""With one member alone, its failure would stop the chain."""

PRESENCE_ROUNDS: Final = 4
"""A member of a set of n is at work if it was seen in the last 4 n heights: four of its turns."""

_NAMED_MAX: Final = 5
"""Absent members that a refusal names."""

Members = tuple[Validator, ...]
"""A set: ascending by consensus key, as ``ValidatorSet`` orders it."""


# --- Votes ----------------------------------------------------------------------------------------


def decide(members: Members, votes: Sequence[OrganisationVote]) -> ProposalStatus:
    """Return APPROVED, REJECTED if approval is out of reach, or OPEN.

    ``members`` are those of the present set; an organisation without one has no vote.
    """
    approving = {vote.organisation for vote in votes if vote.approve}
    if _carries(members, [member.organisation in approving for member in members]):
        return ProposalStatus.APPROVED
    opposing = {vote.organisation for vote in votes if not vote.approve}
    if not _carries(members, [member.organisation not in opposing for member in members]):
        return ProposalStatus.REJECTED
    return ProposalStatus.OPEN


def _carries(members: Members, consents: Sequence[bool]) -> bool:
    """Tell whether two thirds of all and more than half of each chamber consent."""
    if 3 * sum(consents) < 2 * len(members):
        return False
    for chamber in Chamber:
        inside = [
            consent
            for member, consent in zip(members, consents, strict=True)
            if member.chamber is chamber
        ]
        if inside and 2 * sum(inside) <= len(inside):
            return False
    return True


# --- Sets -----------------------------------------------------------------------------------------


def ordered(members: Iterable[Validator]) -> Members:
    """Return a set in its order; raises InvalidValidatorSet if there are too many members."""
    return ValidatorSet(members).members


def member_with(members: Members, consensus_key: PublicKey) -> Validator:
    """Return the member with this key; raises ValidatorUnknown."""
    for member in members:
        if member.consensus_key == consensus_key:
            return member
    raise ValidatorUnknown(f"the next set has no validator with key {consensus_key.hex()}")


def with_member(members: Members, validator: Validator) -> Members:
    """Return the set with a further member; raises ValidatorExists or InvalidValidatorSet."""
    keys = {key for member in members for key in (member.consensus_key, member.node_key)}
    if validator.consensus_key == validator.node_key:
        raise ValidatorExists(f"{validator.name} would have one key for both purposes")
    for key in (validator.consensus_key, validator.node_key):
        if key in keys:
            raise ValidatorExists(f"key {key.hex()} belongs to a validator of the next set already")
    if any(member.name == validator.name for member in members):
        raise ValidatorExists(f"the next set has a validator named {validator.name} already")
    return ordered((*members, validator))


def without_member(members: Members, consensus_key: PublicKey) -> Members:
    """Return the set without a member; raises ValidatorUnknown or SetTooSmall."""
    leaving = member_with(members, consensus_key)
    remaining = tuple(member for member in members if member is not leaving)
    check_sizes(members, remaining, f"removing {leaving.name}")
    return remaining


def with_new_keys(members: Members, change: RotateKey) -> Members:
    """Return the set with other keys for one member; raises as the two functions above."""
    leaving = member_with(members, change.consensus_key)
    joining = rotated(leaving, change)
    if joining == leaving:
        raise ValidatorExists(f"{leaving.name} has these keys already")
    return with_member(tuple(m for m in members if m is not leaving), joining)


def rotated(validator: Validator, change: RotateKey) -> Validator:
    """Return a validator with its new keys."""
    return Validator(
        validator.name,
        validator.organisation,
        validator.chamber,
        change.new_consensus_key,
        change.new_node_key,
    )


def check_sizes(before: Members, after: Members, action: str) -> None:
    """Raise SetTooSmall if a set or chamber shrinks below its minimum; ``action`` says by what.

    What is below its minimum already may stay, but not shrink.
    """
    least = min(VALIDATORS_MIN, len(before))
    if len(after) < least:
        raise SetTooSmall(f"{action} would leave {_count(len(after))}; at least {least} are needed")
    for chamber in Chamber:
        least = min(CHAMBER_VALIDATORS_MIN, _size(before, chamber))
        size = _size(after, chamber)
        if size < least:
            raise SetTooSmall(
                f"{action} would leave {chamber.name.lower()} with {_count(size)}; "
                f"at least {least} are needed"
            )


def _size(members: Members, chamber: Chamber) -> int:
    return sum(member.chamber is chamber for member in members)


def _count(number: int) -> str:
    return "1 validator" if number == 1 else f"{number} validators"


def check_quorum(after: Members, absences: Mapping[PublicKey, Absence]) -> None:
    """Raise QuorumAbsent unless the members without an entry in ``absences`` are a quorum."""
    validators = ValidatorSet(after)
    present = mask_of(i for i, m in enumerate(validators) if m.consensus_key not in absences)
    if validators.has_quorum(present):
        return
    there = present.bit_count()
    absent = sorted((item.name, item.seen) for item in absences.values())
    refusal = Refusal(
        QuorumAbsent.code,
        there + validators.missing_for_quorum(present).members,
        there,
        tuple(Absence(name, seen) for name, seen in absent),
    )
    raise QuorumAbsent(
        refusal_text(refusal), absent=tuple(absent), needed=refusal.needed, present=there
    )


def refusal_of(error: LedgerError) -> Refusal:
    """Return what is recorded of the rule that forbade a change: no words, which may change."""
    if not isinstance(error, AbsentValidators):
        return Refusal(error.code, 0, 0, ())
    absent = tuple(
        Absence(name, None if seen is None else Height(seen)) for name, seen in error.absent
    )
    return Refusal(error.code, error.needed, error.present, absent)


def refusal_text(refusal: Refusal) -> str:
    """Return in words who is missing and how many; for other refusals, the code."""
    absent = [
        f"{item.name} is not ready"
        if item.seen is None
        else f"{item.name} has not been seen since height {item.seen}"
        for item in refusal.absent
    ]
    if not absent:
        return refusal.code
    shown = absent[:_NAMED_MAX]
    if len(absent) > _NAMED_MAX:
        shown.append(f"and {len(absent) - _NAMED_MAX} more")
    names = ", ".join(shown)
    if not refusal.needed:
        return names
    return (
        f"the new set needs {refusal.needed} present validators and has {refusal.present}: {names}"
    )
