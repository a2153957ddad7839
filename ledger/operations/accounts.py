"""Operations on accounts: registration, key rotation, suspension.

An account is registered by its organisation's admin and from then on controlled by its own keys.
A set of keys must be able to reach both thresholds, so nobody can lock an account for ever by
mistake. Normative text: ``docs/protocol.md`` section 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.address import address_of
from ledger.crypto import check_public_key
from ledger.errors import (
    AccountExists,
    AccountUnknown,
    AdminLockout,
    InvalidOperation,
    OrganisationUnknown,
)
from ledger.events import AccountRegistered, KeysChanged, StatusChanged
from ledger.operations.base import Actor, OperationBase, OperationSpec, Requirement, Threshold
from ledger.records import (
    Account,
    AccountStatus,
    KeysField,
    OrganisationField,
    ThresholdField,
    account_key,
)
from ledger.types import AddressField

if TYPE_CHECKING:
    from ledger.transaction import Transaction
    from ledger.view import View


class RegisterAccount(OperationBase, frozen=True, tag=1):
    """Admit a new account; acts for the organisation's admin."""

    organisation: OrganisationField
    keys: KeysField
    """The first key gives the account its address."""
    transfer_threshold: ThresholdField
    admin_threshold: ThresholdField


class SetKeys(OperationBase, frozen=True, tag=2):
    """Replace all keys and thresholds of the acting account."""

    keys: KeysField
    transfer_threshold: ThresholdField
    admin_threshold: ThresholdField


class SetStatus(OperationBase, frozen=True, tag=3):
    """Suspend or reactivate an account; acts for the admin of that account's organisation."""

    account: AddressField
    status: AccountStatus


def validate_keys(keys: KeysField, transfer_threshold: int, admin_threshold: int) -> None:
    """Raise unless the keys are sound, distinct, and can reach both thresholds."""
    if len({key.public_key for key in keys}) != len(keys):
        raise InvalidOperation("expected distinct keys, got a duplicate")
    for key in keys:
        check_public_key(key.public_key)
    total = sum(key.weight for key in keys)
    highest = max(transfer_threshold, admin_threshold)
    if total < highest:
        raise InvalidOperation(f"keys weigh {total} in all and can never reach threshold {highest}")


def _validate_keys_of(operation: RegisterAccount | SetKeys) -> None:
    validate_keys(operation.keys, operation.transfer_threshold, operation.admin_threshold)


def _require_register(operation: RegisterAccount, view: View) -> Requirement:
    return Requirement(Threshold.ADMIN, admin_of=operation.organisation)


def _register(
    operation: RegisterAccount, actor: Actor, transaction: Transaction, view: View
) -> AccountRegistered:
    address = address_of(operation.keys[0].public_key)
    if view.account(address) is not None:
        raise AccountExists(f"account {address.hex()} is registered already")
    account = Account(
        address,
        operation.organisation,
        operation.keys,
        operation.transfer_threshold,
        operation.admin_threshold,
        AccountStatus.ACTIVE,
        view.height,
    )
    view.put(account_key(address), account)
    return AccountRegistered(address, operation.organisation, actor.account.address)


def _require_admin(operation: SetKeys, view: View) -> Requirement:
    return Requirement(Threshold.ADMIN)


def _set_keys(
    operation: SetKeys, actor: Actor, transaction: Transaction, view: View
) -> KeysChanged:
    address = actor.account.address
    current = view.registered_account(address)
    changed = Account(
        address,
        current.organisation,
        operation.keys,
        operation.transfer_threshold,
        operation.admin_threshold,
        current.status,
        current.created_height,
    )
    view.put(account_key(address), changed)
    return KeysChanged(
        address, operation.keys, operation.transfer_threshold, operation.admin_threshold
    )


def _require_sponsor(operation: SetStatus, view: View) -> Requirement:
    account = view.account(operation.account)
    if account is None:
        raise AccountUnknown(f"account {operation.account.hex()} is not registered")
    return Requirement(Threshold.ADMIN, admin_of=account.organisation)


def _set_status(
    operation: SetStatus, actor: Actor, transaction: Transaction, view: View
) -> StatusChanged:
    current = view.registered_account(operation.account)
    organisation = view.organisation(current.organisation)
    if organisation is None:
        raise OrganisationUnknown(f"no organisation {current.organisation}")
    if organisation.admin == current.address:
        raise AdminLockout(f"{organisation.id} would have no working admin account")
    changed = Account(
        current.address,
        current.organisation,
        current.keys,
        current.transfer_threshold,
        current.admin_threshold,
        operation.status,
        current.created_height,
    )
    view.put(account_key(current.address), changed)
    return StatusChanged(current.address, operation.status, actor.account.address)


SPECS = (
    OperationSpec(
        1, "register_account", RegisterAccount, _require_register, _register, _validate_keys_of
    ),
    OperationSpec(2, "set_keys", SetKeys, _require_admin, _set_keys, _validate_keys_of),
    OperationSpec(3, "set_status", SetStatus, _require_sponsor, _set_status),
)
