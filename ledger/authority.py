"""Who may do what: the one place where signatures, thresholds, licences and offices are checked.

A transaction's *actors* are its sender and every operation's source. Authority is judged by the
accounts as they were before the transaction: a key that an operation adds cannot sign for a later
operation of the same transaction. The sender must reach its transfer threshold; beyond that each
operation states its requirement. Every signing key must belong to an actor, so nobody can attach
foreign signatures. Normative text: ``docs/protocol.md`` section 3.
"""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING, Final, Protocol

from ledger.errors import (
    AccountSuspended,
    AccountUnknown,
    InsufficientSignatures,
    LicenceMissing,
    NotIssuer,
    NotOrganisationAdmin,
    OrganisationUnknown,
    SuperfluousSignature,
)
from ledger.operations.base import Actor, Requirement, Threshold
from ledger.records import Account, AccountStatus
from ledger.types import Address, PublicKey

if TYPE_CHECKING:
    from ledger.transaction import Transaction
    from ledger.view import View


_ACTIVE: Final = AccountStatus.ACTIVE


class AccountReader(Protocol):
    """The part of the state that identifies actors."""

    def account(self, address: Address) -> Account | None:
        """Return an account, or None."""


def actors_of(transaction: Transaction, state: AccountReader) -> dict[Address, Actor]:
    """Return the acting accounts with the weight that signed for each.

    Raises AccountUnknown, AccountSuspended, SuperfluousSignature or InsufficientSignatures.
    """
    signatures = transaction.signatures
    signers: Container[PublicKey]
    if len(signatures) == 1:
        signers = (signatures[0].public_key,)
    else:
        signers = {entry.public_key for entry in signatures}
    claimed: set[PublicKey] = set()
    sender = transaction.sender
    actor = _actor(sender, state, signers, claimed)
    actors = {sender: actor}
    for operation in transaction.operations:
        source = operation.source
        if source is not None and source not in actors:
            actors[source] = _actor(source, state, signers, claimed)
    if len(claimed) != len(signatures):
        raise SuperfluousSignature("a signing key belongs to no acting account")
    if actor.weight < actor.account.transfer_threshold:
        raise InsufficientSignatures(
            f"sender needs weight {actor.account.transfer_threshold}, "
            f"signatures weigh {actor.weight}"
        )
    return actors


def _actor(
    address: Address,
    state: AccountReader,
    signers: Container[PublicKey],
    claimed: set[PublicKey],
) -> Actor:
    account = state.account(address)
    if account is None:
        raise AccountUnknown(f"account {address.hex()} is not registered")
    if account.status is not _ACTIVE:
        raise AccountSuspended(f"account {address.hex()} is suspended")
    weight = 0
    for key in account.keys:
        if key.public_key in signers:
            weight += key.weight
            claimed.add(key.public_key)
    return Actor(account, weight)


def enforce(requirement: Requirement, actor: Actor, view: View) -> None:
    """Raise the ExecutionError of the first part of a requirement that the actor does not meet."""
    account = actor.account
    if requirement.threshold is Threshold.TRANSFER:
        needed = account.transfer_threshold
    else:
        needed = account.admin_threshold
    if actor.weight < needed:
        raise InsufficientSignatures(
            f"needs {requirement.threshold.value} weight {needed}, signatures weigh {actor.weight}"
        )
    if requirement.admin_of is not None:
        organisation = view.organisation(requirement.admin_of)
        if organisation is None:
            raise OrganisationUnknown(f"no organisation {requirement.admin_of}")
        if organisation.admin != account.address:
            raise NotOrganisationAdmin(f"only the admin account of {organisation.id} may do this")
    if requirement.issuer_of is not None:
        asset = view.existing_asset(requirement.issuer_of)
        if asset.issuer != account.address:
            raise NotIssuer(f"only the issuer of {asset.id} may do this")
    if requirement.licence is not None:
        sponsor = view.organisation(account.organisation)
        if sponsor is None or requirement.licence not in sponsor.licences:
            raise LicenceMissing(
                f"{account.organisation} has no licence for {requirement.licence.name.lower()}"
            )
