"""Operations on assets: creation, issue, redemption, transfer, admission of holders.

Creating and issuing an asset needs a licence of its class. The supply changes by ``mint`` and
``burn`` only; ``transfer`` is the hot path of the whole system. Normative text:
``docs/protocol.md`` section 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ledger.errors import (
    AccountSuspended,
    AccountUnknown,
    AssetExists,
    DayLimitExceeded,
    ForeignIssuer,
    HolderNotAuthorised,
    InsufficientBalance,
    MemoRequired,
    SelfTransfer,
    SupplyOverflow,
    TransferLimitExceeded,
)
from ledger.events import AssetCreated, Burned, HolderAuthorised, Minted, Transferred
from ledger.operations.base import Actor, OperationBase, OperationSpec, Requirement, Threshold
from ledger.records import (
    DAY_MS,
    HOLDING_PREFIX,
    AccountStatus,
    AmountField,
    Asset,
    AssetClass,
    AssetField,
    AssetPolicy,
    DecimalsField,
    Holding,
    NameField,
    asset_key,
    holding_key,
)
from ledger.text import NAME_BYTES_MAX, organisation_of_asset, validate_text
from ledger.types import AMOUNT_MAX, Address, AddressField, Amount

if TYPE_CHECKING:
    from ledger.transaction import Transaction
    from ledger.view import View

_ACTIVE: Final = AccountStatus.ACTIVE


class CreateAsset(OperationBase, frozen=True, tag=4):
    """Define an asset; acts for the admin of the organisation that the id names."""

    asset: AssetField
    name: NameField
    asset_class: AssetClass
    decimals: DecimalsField
    issuer: AddressField
    """An account of the same organisation."""
    policy: AssetPolicy


class Mint(OperationBase, frozen=True, tag=5):
    """Create units and credit them; acts for the issuer."""

    asset: AssetField
    to: AddressField
    amount: AmountField


class Burn(OperationBase, frozen=True, tag=6):
    """Destroy units that the issuer holds; acts for the issuer."""

    asset: AssetField
    amount: AmountField


class Transfer(OperationBase, frozen=True, tag=7):
    """Move units from the acting account to another."""

    to: AddressField
    asset: AssetField
    amount: AmountField


class AuthoriseHolder(OperationBase, frozen=True, tag=8):
    """Allow an account to receive the asset, or withdraw that; acts for the issuer."""

    asset: AssetField
    holder: AddressField
    is_authorised: bool


# --- create_asset ---------------------------------------------------------------------------------


def _validate_create(operation: CreateAsset) -> None:
    organisation_of_asset(operation.asset)
    validate_text(operation.name, NAME_BYTES_MAX)


def _require_create(operation: CreateAsset, view: View) -> Requirement:
    organisation = organisation_of_asset(operation.asset)
    return Requirement(Threshold.ADMIN, admin_of=organisation, licence=operation.asset_class)


def _create(
    operation: CreateAsset, actor: Actor, transaction: Transaction, view: View
) -> AssetCreated:
    key = asset_key(operation.asset)
    if view.get(key) is not None:
        raise AssetExists(f"asset {operation.asset} exists already")
    issuer = view.registered_account(operation.issuer)
    if issuer.organisation != actor.account.organisation:
        raise ForeignIssuer(
            f"expected an issuer of {actor.account.organisation}, got one of {issuer.organisation}"
        )
    asset = Asset(
        operation.asset,
        operation.name,
        operation.asset_class,
        operation.decimals,
        operation.issuer,
        operation.policy,
        Amount(0),
    )
    view.put(key, asset)
    return AssetCreated(
        operation.asset, operation.asset_class, operation.issuer, actor.account.address
    )


# --- mint and burn --------------------------------------------------------------------------------


def _require_issuer_with_licence(operation: Mint, view: View) -> Requirement:
    asset = view.existing_asset(operation.asset)
    return Requirement(Threshold.TRANSFER, issuer_of=asset.id, licence=asset.asset_class)


def _require_issuer(operation: Burn | AuthoriseHolder, view: View) -> Requirement:
    return Requirement(Threshold.TRANSFER, issuer_of=operation.asset)


def _with_supply(asset: Asset, supply: int) -> Asset:
    return Asset(
        asset.id,
        asset.name,
        asset.asset_class,
        asset.decimals,
        asset.issuer,
        asset.policy,
        Amount(supply),
    )


def _with_amount(holding: Holding, amount: int) -> Holding:
    return Holding(Amount(amount), holding.is_authorised, holding.day, holding.day_sent)


def _check_receiver(view: View, asset: Asset, to: Address, holding: Holding) -> None:
    """Raise unless ``to`` is registered, active, and allowed to hold the asset."""
    receiver = view.account(to)
    if receiver is None:
        raise AccountUnknown(f"receiver {to.hex()} is not registered")
    if receiver.status is not _ACTIVE:
        raise AccountSuspended(f"receiver {to.hex()} is suspended")
    if asset.policy.holder_authorisation and not holding.is_authorised and to != asset.issuer:
        raise HolderNotAuthorised(f"{to.hex()} is not authorised to hold {asset.id}")


def _mint(operation: Mint, actor: Actor, transaction: Transaction, view: View) -> Minted:
    asset = view.existing_asset(operation.asset)
    supply = asset.supply + operation.amount
    if supply > AMOUNT_MAX:
        raise SupplyOverflow(f"supply of {asset.id} would be {supply}, at most {AMOUNT_MAX}")
    key = holding_key(operation.to, asset.id)
    holding = view.holding(key)
    _check_receiver(view, asset, operation.to, holding)
    view.put(asset_key(asset.id), _with_supply(asset, supply))
    view.put(key, _with_amount(holding, holding.amount + operation.amount))
    return Minted(asset.id, asset.issuer, operation.to, operation.amount)


def _burn(operation: Burn, actor: Actor, transaction: Transaction, view: View) -> Burned:
    asset = view.existing_asset(operation.asset)
    key = holding_key(asset.issuer, asset.id)
    holding = view.holding(key)
    if holding.amount < operation.amount:
        raise InsufficientBalance(f"needs {operation.amount} {asset.id}, holds {holding.amount}")
    view.put(asset_key(asset.id), _with_supply(asset, asset.supply - operation.amount))
    view.put(key, _with_amount(holding, holding.amount - operation.amount))
    return Burned(asset.id, asset.issuer, operation.amount)


# --- transfer -------------------------------------------------------------------------------------

_TRANSFER_REQUIREMENT: Final = Requirement(Threshold.TRANSFER)


def _require_transfer(operation: Transfer, view: View) -> Requirement:
    return _TRANSFER_REQUIREMENT


def _within_limits(holding: Holding, asset: Asset, amount: int, view: View) -> Holding:
    """Raise if a limit is exceeded; return the holding with its day's sum brought up to date."""
    policy = asset.policy
    if policy.transfer_max is not None and amount > policy.transfer_max:
        raise TransferLimitExceeded(
            f"{asset.id} allows {policy.transfer_max} per transfer, got {amount}"
        )
    if policy.day_max is None:
        return holding
    day = view.time_ms // DAY_MS
    sent = amount + (holding.day_sent if holding.day == day else 0)
    if sent > policy.day_max:
        raise DayLimitExceeded(f"{asset.id} allows {policy.day_max} per day, would be {sent}")
    return Holding(holding.amount, holding.is_authorised, day, Amount(sent))


def _transfer(
    operation: Transfer, actor: Actor, transaction: Transaction, view: View
) -> Transferred:
    amount = operation.amount
    to = operation.to
    source = actor.account.address
    asset = view.existing_asset(operation.asset)
    if source == to:
        raise SelfTransfer("source and receiver are the same account")
    if asset.policy.memo_required and not transaction.memo:
        raise MemoRequired(f"{asset.id} may be transferred only with a memo")
    suffix = asset.id.encode()
    source_key = HOLDING_PREFIX + source + suffix
    to_key = HOLDING_PREFIX + to + suffix
    sending = view.holding(source_key)
    receiving = view.holding(to_key)
    _check_receiver(view, asset, to, receiving)
    left = sending.amount - amount
    if left < 0:
        raise InsufficientBalance(f"needs {amount} {asset.id}, holds {sending.amount}")
    if source != asset.issuer:
        sending = _within_limits(sending, asset, amount, view)
    # Built in place, without calling Amount: the two records of the hot path.
    view.put(
        source_key,
        Holding(left, sending.is_authorised, sending.day, sending.day_sent),  # type: ignore[arg-type]
    )
    total = receiving.amount + amount
    view.put(
        to_key,
        Holding(total, receiving.is_authorised, receiving.day, receiving.day_sent),  # type: ignore[arg-type]
    )
    return Transferred(asset.id, source, to, amount)


# --- authorise_holder -----------------------------------------------------------------------------


def _authorise(
    operation: AuthoriseHolder, actor: Actor, transaction: Transaction, view: View
) -> HolderAuthorised:
    view.registered_account(operation.holder)
    key = holding_key(operation.holder, operation.asset)
    holding = view.holding(key)
    view.put(key, Holding(holding.amount, operation.is_authorised, holding.day, holding.day_sent))
    return HolderAuthorised(
        operation.asset, operation.holder, operation.is_authorised, actor.account.address
    )


SPECS = (
    OperationSpec(4, "create_asset", CreateAsset, _require_create, _create, _validate_create),
    OperationSpec(5, "mint", Mint, _require_issuer_with_licence, _mint),
    OperationSpec(6, "burn", Burn, _require_issuer, _burn),
    OperationSpec(7, "transfer", Transfer, _require_transfer, _transfer),
    OperationSpec(8, "authorise_holder", AuthoriseHolder, _require_issuer, _authorise),
)
