"""What the state holds: records of accounts, organisations, assets, holdings and parameters.

The state is a map from byte keys to records. The first byte of a key says what kind of record it
is; the rest is the object's own id. Records are never deleted: an empty holding stays with amount
0. Normative text: ``docs/protocol.md`` section 6.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

from ledger.block import BLOCK_BYTES_MAX, BLOCK_TRANSACTIONS_MAX
from ledger.text import ASSET_ID_BYTES_MAX, NAME_BYTES_MAX
from ledger.types import (
    AMOUNT_MAX,
    Address,
    AddressField,
    Amount,
    Height,
    PublicKeyField,
)
from ledger.validators import Chamber

KEYS_MAX: Final = 16
"""Keys of one account; bounds the work of adding up weights."""

WEIGHT_MAX: Final = 1000
"""Largest weight of one key, and of one organisation's share of throughput."""

THRESHOLD_MAX: Final = KEYS_MAX * WEIGHT_MAX
DECIMALS_MAX: Final = 18
"""Decimal places of an asset for display; amounts are always whole minor units."""

TRANSACTION_BYTES_MAX: Final = 64 * 1024
"""Upper bound for every network; a genesis may set less. 100 operations with 16 keys each fit."""

TRANSACTION_BYTES_MIN: Final = 1024
"""A transfer is about 200 bytes; a smaller limit would leave no room for a few signatures."""

VALIDITY_WINDOW_MS_MAX: Final = 600_000
"""Ten minutes: bounds the window of used nonces that every node keeps in memory."""

DAY_MS: Final = 86_400_000
"""A UTC day: the period of an asset's day limit."""

AmountField = Annotated[Amount, Meta(ge=1, le=AMOUNT_MAX)]
BalanceField = Annotated[Amount, Meta(ge=0, le=AMOUNT_MAX)]
AssetField = Annotated[str, Meta(min_length=1, max_length=ASSET_ID_BYTES_MAX)]
OrganisationField = Annotated[str, Meta(min_length=2, max_length=32)]
NameField = Annotated[str, Meta(min_length=1, max_length=NAME_BYTES_MAX)]
WeightField = Annotated[int, Meta(ge=1, le=WEIGHT_MAX)]
ThresholdField = Annotated[int, Meta(ge=1, le=THRESHOLD_MAX)]
DecimalsField = Annotated[int, Meta(ge=0, le=DECIMALS_MAX)]


class AssetClass(IntEnum):
    """What an asset is in law; issuing one needs a licence of its class."""

    E_MONEY = 1
    DEPOSIT = 2
    SECURITY = 3
    COMMODITY = 4
    VOUCHER = 5


class AccountStatus(IntEnum):
    """Whether an account takes part."""

    ACTIVE = 1
    SUSPENDED = 2
    """Neither acts nor receives; set and lifted by its organisation's admin."""


class KeyWeight(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """One key of an account and what its signature counts."""

    public_key: PublicKeyField
    weight: WeightField


KeysField = Annotated[tuple[KeyWeight, ...], Meta(min_length=1, max_length=KEYS_MAX)]
LicencesField = Annotated[tuple[AssetClass, ...], Meta(max_length=len(AssetClass))]


class Account(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """A registered participant. Keys rotate; the address stays."""

    address: AddressField
    organisation: OrganisationField
    """Sponsor, which registered the account and answers for it."""
    keys: KeysField
    transfer_threshold: ThresholdField
    """Weight of signatures needed to send and to move assets."""
    admin_threshold: ThresholdField
    """Weight needed to change the account itself or to act for its organisation."""
    status: AccountStatus
    created_height: Height


class Organisation(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """A member of the network: sponsors accounts and, with a licence, issues assets."""

    id: OrganisationField
    name: NameField
    kind: Chamber
    weight: WeightField
    """Share of throughput relative to the others."""
    licences: LicencesField
    """Ascending, without duplicates."""
    admin: AddressField
    """Account that acts for the organisation, at its admin threshold."""


class AssetPolicy(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """Rules that every transfer of an asset obeys. The issuer is exempt from the first three."""

    holder_authorisation: bool
    """Only accounts that the issuer has authorised may receive the asset."""
    transfer_max: AmountField | None
    """Largest amount of one transfer; None for no limit."""
    day_max: AmountField | None
    """Largest sum that one account sends per UTC day of block time; None for no limit."""
    memo_required: bool
    """A transaction that transfers the asset must carry a memo."""


class Asset(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """A kind of value. ``supply`` always equals the sum of all holdings."""

    id: AssetField
    name: NameField
    asset_class: AssetClass
    decimals: DecimalsField
    issuer: AddressField
    """Account that mints, burns and authorises holders."""
    policy: AssetPolicy
    supply: BalanceField


class Holding(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """What one account holds of one asset, and its standing with the issuer."""

    amount: BalanceField
    is_authorised: bool
    day: int
    """UTC day (block time // 86,400,000 ms) that ``day_sent`` counts; 0 without a day limit."""
    day_sent: BalanceField


EMPTY_HOLDING: Final = Holding(Amount(0), is_authorised=False, day=0, day_sent=Amount(0))


class Parameters(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """Limits that all nodes of a network share; set in genesis within what the protocol allows."""

    block_transactions_max: Annotated[int, Meta(ge=1, le=BLOCK_TRANSACTIONS_MAX)]
    block_bytes_max: Annotated[int, Meta(ge=TRANSACTION_BYTES_MIN, le=BLOCK_BYTES_MAX)]
    """Sum of the wire bytes of a block's transactions."""
    transaction_bytes_max: Annotated[int, Meta(ge=TRANSACTION_BYTES_MIN, le=TRANSACTION_BYTES_MAX)]
    validity_window_ms: Annotated[int, Meta(ge=1000, le=VALIDITY_WINDOW_MS_MAX)]
    """How far ahead of a block's time a transaction's ``valid_until`` may lie."""


Record = Account | Organisation | Asset | Holding | Parameters

ACCOUNT_PREFIX: Final = b"\x01"
ORGANISATION_PREFIX: Final = b"\x02"
ASSET_PREFIX: Final = b"\x03"
HOLDING_PREFIX: Final = b"\x04"
PARAMETERS_KEY: Final = b"\x05"
"""The only key of its kind."""

HOLDING_ASSET_OFFSET: Final = 1 + 20
"""A holding's key is prefix, address, asset id: an account's holdings are neighbours."""

STATE_KEY_BYTES_MAX: Final = 255
"""A key's length is one byte in its leaf of the state tree."""

RECORD_TYPES: Final[dict[int, type[Record]]] = {
    ACCOUNT_PREFIX[0]: Account,
    ORGANISATION_PREFIX[0]: Organisation,
    ASSET_PREFIX[0]: Asset,
    HOLDING_PREFIX[0]: Holding,
    PARAMETERS_KEY[0]: Parameters,
}
"""Type of the record under each first byte of a key."""


def account_key(address: Address) -> bytes:
    """Return the state key of an account."""
    return ACCOUNT_PREFIX + address


def organisation_key(organisation: str) -> bytes:
    """Return the state key of an organisation."""
    return ORGANISATION_PREFIX + organisation.encode()


def asset_key(asset: str) -> bytes:
    """Return the state key of an asset."""
    return ASSET_PREFIX + asset.encode()


def holding_key(address: Address, asset: str) -> bytes:
    """Return the state key of what one account holds of one asset."""
    return HOLDING_PREFIX + address + asset.encode()
