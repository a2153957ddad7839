"""Era change: how a network goes on after one of its chambers is gone for good. The ledger's part.

When more than half of a chamber will never return, no quorum can form and no vote can change that.
A *recovery council*, named in genesis, then signs a *plan*: a base block, the next era and a new
validator set. What the surviving validators must have shown before, and why no final block is lost,
is the matter of ``consensus.recovery``; here are the rules that need no certificates. What the new
era does to the state is in ``ledger.era``. Normative text: ``docs/protocol-consensus.md``, Era
change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from ledger.crypto import check_public_key
from ledger.errors import LedgerError
from ledger.genesis import COUNCIL_MAX, Genesis, RecoveryCouncil
from ledger.types import PublicKeyField, SignatureField
from ledger.validators import Chamber, Validator, ValidatorSet
from ledger.votes import Verify


class CouncilSignature(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """What one member of the council says to a plan: yes."""

    public_key: PublicKeyField
    signature: SignatureField


CouncilSignatures = Annotated[tuple[CouncilSignature, ...], Meta(max_length=COUNCIL_MAX)]
"""Ascending by public key."""


class RecoveryRules(NamedTuple):
    """What a genesis says about era changes."""

    council: RecoveryCouncil | None
    chambers: Mapping[str, Chamber]
    """Of every organisation; neither ever changes."""

    @classmethod
    def of(cls, genesis: Genesis) -> RecoveryRules:
        """Return what this genesis says."""
        return cls(genesis.council, {item.id: item.kind for item in genesis.organisations})

    def problem_of_members(self, members: Sequence[Validator]) -> str | None:
        """Return why these cannot be the validators of a new era; None if they can.

        The council answers for whom it lets in: no readiness is asked for, and a chamber may stay
        empty for a while if its own appointees agree.
        """
        try:
            if ValidatorSet(members).members != tuple(members):
                return "the validators are not in the order of their consensus keys"
            for member in members:
                check_public_key(member.consensus_key)
                check_public_key(member.node_key)
        except LedgerError as error:
            return str(error)
        names = [member.name for member in members]
        keys = [key for member in members for key in (member.consensus_key, member.node_key)]
        if len(set(names)) < len(names):
            return f"a name occurs twice: {', '.join(sorted(names))}"
        council = () if self.council is None else self.council.members
        if len(set(keys).union(item.public_key for item in council)) < len(keys) + len(council):
            return "a key occurs twice, or is a key of the council"
        for member in members:
            if self.chambers.get(member.organisation) is not member.chamber:
                return (
                    f"{member.name}: organisation {member.organisation} is not one of the "
                    f"{member.chamber.name.lower()} chamber in the genesis"
                )
        return None

    def problem_of_council(
        self, message: bytes, signatures: Sequence[CouncilSignature], verify: Verify
    ) -> str | None:
        """Return why these signatures are not the council's word; None if they are."""
        council = self.council
        if council is None:
            return "the genesis names no recovery council: nobody may change the era"
        keys = [item.public_key for item in signatures]
        if keys != sorted(set(keys)):
            return "the signatures are not in the order of their keys, each once"
        member_of = {item.public_key: item for item in council.members}
        for item in signatures:
            if item.public_key not in member_of:
                return f"{item.public_key.hex()} is no key of the council"
            if not verify(item.public_key, message, item.signature):
                return f"the signature of {member_of[item.public_key].name} does not verify"
        if len(keys) < council.threshold:
            return f"the council must sign {council.threshold} times, it signed {len(keys)} times"
        for chamber in Chamber:
            if all(member_of[key].chamber is not chamber for key in keys):
                return f"no appointee of the {chamber.name.lower()} chamber has signed"
        return None


def reporters_needed(validators: ValidatorSet, chamber: Chamber, traitors: int) -> int | None:
    """Return how many members of a chamber must report; None if the chamber has no members.

    Every certificate has signers from at least half of each chamber, so more than half of one that
    are honest have seen everything that was certified: ``floor(size / 2) + 1``, and one more for
    each that may lie.
    """
    size = validators.chamber_mask(chamber).bit_count()
    return size // 2 + 1 + traitors if size else None


def problem_of_reporters(
    validators: ValidatorSet, reporters: Iterable[bytes], traitors: int
) -> str | None:
    """Return why reports with these consensus keys are too few; None if one chamber suffices."""
    mask = 0
    for key in reporters:
        index = validators.index_of_key(key)
        mask |= 0 if index is None else 1 << index
    shortfalls = []
    for chamber in Chamber:
        needed = reporters_needed(validators, chamber, traitors)
        if needed is None:
            continue
        found = (mask & validators.chamber_mask(chamber)).bit_count()
        if found >= needed:
            return None
        shortfalls.append(f"{found} of {needed} from the {chamber.name.lower()}")
    return f"expected reports from more than half of one chamber, received {', '.join(shortfalls)}"
