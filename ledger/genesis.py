"""Genesis: what all nodes of a network agree on before the first block.

People write it as JSON; nodes hash its canonical msgpack form, and that hash is the **chain id**
inside every signed preimage, so nothing signed for one network can be replayed on another.
Genesis names the organisations, their admin accounts, the first validators, and any accounts,
assets and balances to begin with. Normative text: ``docs/protocol.md`` section 7.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Annotated, Final, TypeVar

from msgspec import Meta, Struct

from ledger.address import address_of, format_address
from ledger.block import BLOCK_BYTES_MAX, BLOCK_TRANSACTIONS_MAX, HEADER_VERSION, Header
from ledger.crypto import check_public_key, tag, tagged_hash
from ledger.encoding import StrictDecoder, encode
from ledger.errors import GenesisError, LedgerError
from ledger.json import from_json, load_json, to_json
from ledger.operations.accounts import validate_keys
from ledger.records import (
    AGENDA_KEY,
    DAY_MS,
    PARAMETERS_KEY,
    PRESENCE_KEY,
    TRANSACTION_BYTES_MAX,
    VALIDATORS_KEY,
    VALIDITY_WINDOW_MS_MAX,
    Account,
    AccountStatus,
    Agenda,
    AmountField,
    Asset,
    AssetClass,
    AssetField,
    AssetPolicy,
    DecimalsField,
    EpochRecord,
    Holding,
    KeysField,
    LicencesField,
    NameField,
    Organisation,
    OrganisationField,
    Parameters,
    Presence,
    Record,
    ThresholdField,
    ValidatorsRecord,
    WeightField,
    account_key,
    asset_key,
    epoch_key,
    holding_key,
    organisation_key,
)
from ledger.state import first_records, tree_of
from ledger.text import (
    NAME_BYTES_MAX,
    organisation_of_asset,
    validate_organisation_id,
    validate_text,
)
from ledger.types import (
    AMOUNT_MAX,
    TIME_MS_MAX,
    ZERO_DIGEST,
    Address,
    AddressField,
    Amount,
    Digest,
    Epoch,
    Era,
    Height,
    PublicKeyField,
    TimeMs,
    View,
)
from ledger.validators import VALIDATORS_MAX, Chamber, Validator, ValidatorSet

T = TypeVar("T")

GENESIS_VERSION: Final = 1
GENESIS_TAG: Final = tag("MBI-GENESIS-v1")

GENESIS_BYTES_MAX: Final = 16 * 1024 * 1024
"""Enough for 100,000 accounts; read once, at start."""

ENTRIES_MAX: Final = 100_000
"""Longest list in a genesis: accounts and balances of a large load test."""


COUNCIL_MAX: Final = 32
"""Members of a recovery council; a plan carries their signatures."""


class GenesisOrganisation(
    Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True
):
    """A member of the network from the beginning."""

    id: OrganisationField
    name: NameField
    kind: Chamber
    weight: WeightField
    licences: LicencesField
    admin: AddressField
    """One of the accounts below, of this organisation."""


class GenesisAccount(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """An account from the beginning; its first key gives it its address."""

    organisation: OrganisationField
    keys: KeysField
    transfer_threshold: ThresholdField
    admin_threshold: ThresholdField


class GenesisAsset(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """An asset from the beginning; its supply is the sum of the balances below."""

    id: AssetField
    name: NameField
    asset_class: AssetClass
    decimals: DecimalsField
    issuer: AddressField
    policy: AssetPolicy


class GenesisBalance(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """What an account holds from the beginning; it counts as authorised by the issuer."""

    account: AddressField
    asset: AssetField
    amount: AmountField


DEFAULT_PARAMETERS: Final = Parameters(
    block_transactions_max=BLOCK_TRANSACTIONS_MAX,
    block_bytes_max=BLOCK_BYTES_MAX,
    transaction_bytes_max=TRANSACTION_BYTES_MAX,
    validity_window_ms=VALIDITY_WINDOW_MS_MAX,
    change_notice_ms=DAY_MS,
    change_lifetime_ms=14 * DAY_MS,
    # Longer than the notice: one proof lasts through the votes and the notice of one change.
    readiness_ms=3 * DAY_MS,
)
"""What a genesis holds unless its author chooses otherwise."""


class CouncilMember(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """A person or office that holds one offline key of the recovery council."""

    name: NameField
    chamber: Chamber
    """The chamber that appointed it."""
    public_key: PublicKeyField


class RecoveryCouncil(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """Signs the plan of an emergency recovery, with at least one signer of each chamber."""

    threshold: Annotated[int, Meta(ge=1, le=COUNCIL_MAX)]
    """Signatures that a plan needs."""
    members: Annotated[tuple[CouncilMember, ...], Meta(min_length=1, max_length=COUNCIL_MAX)]


class Genesis(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """A whole network before its first block. Field order is wire order."""

    version: Annotated[int, Meta(ge=GENESIS_VERSION, le=GENESIS_VERSION)]
    network: NameField
    """Name for people; networks of one name still differ in their chain id."""
    time_ms: Annotated[TimeMs, Meta(ge=1, le=TIME_MS_MAX)]
    dev: bool
    """A throw-away network: unencrypted keys and a faucet are allowed."""
    faucet: AddressField | None
    """Account that a development network gives from; None unless ``dev``."""
    parameters: Parameters
    organisations: Annotated[
        tuple[GenesisOrganisation, ...], Meta(min_length=1, max_length=ENTRIES_MAX)
    ]
    accounts: Annotated[tuple[GenesisAccount, ...], Meta(min_length=1, max_length=ENTRIES_MAX)]
    validators: Annotated[tuple[Validator, ...], Meta(min_length=1, max_length=VALIDATORS_MAX)]
    assets: Annotated[tuple[GenesisAsset, ...], Meta(max_length=ENTRIES_MAX)]
    balances: Annotated[tuple[GenesisBalance, ...], Meta(max_length=ENTRIES_MAX)]
    council: RecoveryCouncil | None
    """Who may let the network go on after the loss of a chamber; None if nobody may."""


GENESIS_DECODER: Final = StrictDecoder(Genesis, GENESIS_BYTES_MAX)


# --- Reading and writing --------------------------------------------------------------------------


def parse_genesis(json_bytes: bytes) -> Genesis:
    """Return the genesis that a JSON file describes, with every rule checked.

    Raises GenesisError, which names the path of the first problem and what is allowed there.
    """
    try:
        genesis = from_json(Genesis, load_json(json_bytes, GENESIS_BYTES_MAX))
    except LedgerError as error:
        raise GenesisError(str(error)) from error
    validate_genesis(genesis)
    return genesis


def genesis_json(genesis: Genesis) -> bytes:
    """Return the JSON file of a genesis; ``parse_genesis`` reads it back to an equal value."""
    return (json.dumps(to_json(genesis), indent=2, ensure_ascii=False) + "\n").encode()


def chain_id(genesis: Genesis) -> Digest:
    """Return the identity of the network: the hash of the canonical genesis."""
    return tagged_hash(GENESIS_TAG, encode(genesis))


# --- Rules ----------------------------------------------------------------------------------------


def _at(path: str, check: Callable[..., T], *arguments: object) -> T:
    """Run a check of a single value and name the path if it refuses."""
    try:
        return check(*arguments)
    except LedgerError as error:
        raise GenesisError(f"{path}: {error}") from error


def _distinct(path: str, what: str, values: Iterable[object]) -> None:
    seen: set[object] = set()
    for index, value in enumerate(values):
        if value in seen:
            shown = value.hex() if isinstance(value, bytes) else value
            raise GenesisError(f"{path}[{index}]: expected each {what} once, got {shown} again")
        seen.add(value)


def _known(path: str, what: str, value: object, known: dict[T, object] | set[T]) -> None:
    if value not in known:
        shown = format_address(Address(value)) if isinstance(value, bytes) else value
        raise GenesisError(f"{path}: expected {what} of this genesis, got {shown}")


def validate_genesis(genesis: Genesis) -> None:
    """Raise GenesisError unless the parts of a genesis fit together."""
    _at("$.network", validate_text, genesis.network, NAME_BYTES_MAX)
    if genesis.faucet is not None and not genesis.dev:
        raise GenesisError("$.faucet: expected null unless dev is true")
    kinds = _validate_organisations(genesis)
    accounts = _validate_accounts(genesis, kinds)
    for index, organisation in enumerate(genesis.organisations):
        path = f"$.organisations[{index}].admin"
        _known(path, "an account", organisation.admin, set(accounts))
        if accounts[organisation.admin] != organisation.id:
            raise GenesisError(f"{path}: expected an account of organisation {organisation.id}")
    if genesis.faucet is not None:
        _known("$.faucet", "an account", genesis.faucet, set(accounts))
    _validate_validators(genesis, kinds)
    _validate_council(genesis)
    _validate_assets(genesis, accounts)


def _validate_organisations(genesis: Genesis) -> dict[str, Chamber]:
    kinds: dict[str, Chamber] = {}
    for index, organisation in enumerate(genesis.organisations):
        path = f"$.organisations[{index}]"
        _at(f"{path}.id", validate_organisation_id, organisation.id)
        _at(f"{path}.name", validate_text, organisation.name, NAME_BYTES_MAX)
        if list(organisation.licences) != sorted(set(organisation.licences)):
            raise GenesisError(
                f"{path}.licences: expected each class once, in the order "
                + ", ".join(member.name.lower() for member in AssetClass)
            )
        kinds[organisation.id] = organisation.kind
    _distinct("$.organisations", "id", (item.id for item in genesis.organisations))
    return kinds


def _validate_accounts(genesis: Genesis, kinds: dict[str, Chamber]) -> dict[Address, str]:
    """Return the organisation of each account."""
    accounts: dict[Address, str] = {}
    for index, account in enumerate(genesis.accounts):
        path = f"$.accounts[{index}]"
        _known(f"{path}.organisation", "an organisation", account.organisation, set(kinds))
        _at(
            f"{path}.keys",
            validate_keys,
            account.keys,
            account.transfer_threshold,
            account.admin_threshold,
        )
        accounts[address_of(account.keys[0].public_key)] = account.organisation
    _distinct("$.accounts", "first key", (item.keys[0].public_key for item in genesis.accounts))
    return accounts


def _validate_validators(genesis: Genesis, kinds: dict[str, Chamber]) -> None:
    for index, validator in enumerate(genesis.validators):
        path = f"$.validators[{index}]"
        _at(f"{path}.name", validate_text, validator.name, NAME_BYTES_MAX)
        _known(f"{path}.organisation", "an organisation", validator.organisation, set(kinds))
        kind = kinds[validator.organisation]
        if validator.chamber is not kind:
            raise GenesisError(
                f"{path}.chamber: expected {kind.name.lower()}, as organisation "
                f"{validator.organisation} is; got {validator.chamber.name.lower()}"
            )
        _at(f"{path}.consensus_key", check_public_key, validator.consensus_key)
        _at(f"{path}.node_key", check_public_key, validator.node_key)
    validators = genesis.validators
    _distinct("$.validators", "name", (item.name for item in validators))
    # One key, one purpose: a vote must never double as a proof of node identity.
    keys = [item.consensus_key for item in validators] + [item.node_key for item in validators]
    _distinct("$.validators", "consensus and node key", keys)


def _validate_council(genesis: Genesis) -> None:
    council = genesis.council
    if council is None:
        return
    path = "$.council.members"
    for index, member in enumerate(council.members):
        _at(f"{path}[{index}].name", validate_text, member.name, NAME_BYTES_MAX)
        _at(f"{path}[{index}].public_key", check_public_key, member.public_key)
    _distinct(path, "name", (member.name for member in council.members))
    # One key, one purpose: a council key lies in a safe, the others on machines.
    machines = {key for item in genesis.validators for key in (item.consensus_key, item.node_key)}
    for index, member in enumerate(council.members):
        if member.public_key in machines:
            raise GenesisError(f"{path}[{index}].public_key: expected no key of a validator")
    _distinct(path, "public key", (member.public_key for member in council.members))
    if council.threshold > len(council.members):
        raise GenesisError(
            f"$.council.threshold: expected at most {len(council.members)}, the number of members, "
            f"got {council.threshold}"
        )
    for chamber in Chamber:
        if all(member.chamber is not chamber for member in council.members):
            raise GenesisError(f"{path}: expected a member appointed by the {chamber.name.lower()}")


def _validate_assets(genesis: Genesis, accounts: dict[Address, str]) -> None:
    licences = {item.id: item.licences for item in genesis.organisations}
    supply: dict[str, int] = {}
    for index, asset in enumerate(genesis.assets):
        path = f"$.assets[{index}]"
        owner = _at(f"{path}.id", organisation_of_asset, asset.id)
        _known(f"{path}.id", "an organisation before the slash", owner, set(licences))
        _at(f"{path}.name", validate_text, asset.name, NAME_BYTES_MAX)
        _known(f"{path}.issuer", "an account", asset.issuer, set(accounts))
        if accounts[asset.issuer] != owner:
            raise GenesisError(f"{path}.issuer: expected an account of organisation {owner}")
        if asset.asset_class not in licences[owner]:
            raise GenesisError(
                f"{path}.asset_class: {owner} has no licence for {asset.asset_class.name.lower()}"
            )
        supply[asset.id] = 0
    _distinct("$.assets", "id", (item.id for item in genesis.assets))
    for index, balance in enumerate(genesis.balances):
        path = f"$.balances[{index}]"
        _known(f"{path}.account", "an account", balance.account, set(accounts))
        _known(f"{path}.asset", "an asset", balance.asset, set(supply))
        supply[balance.asset] += balance.amount
        if supply[balance.asset] > AMOUNT_MAX:
            raise GenesisError(f"{path}.amount: supply of {balance.asset} exceeds {AMOUNT_MAX}")
    pairs = ((item.account, item.asset) for item in genesis.balances)
    _distinct("$.balances", "account and asset", pairs)


# --- The first state ------------------------------------------------------------------------------


def genesis_records(genesis: Genesis) -> dict[bytes, Record]:
    """Return the records of the state before the first block."""
    start = Height(0)
    members = ValidatorSet(genesis.validators).members
    records: dict[bytes, Record] = {
        PARAMETERS_KEY: genesis.parameters,
        VALIDATORS_KEY: ValidatorsRecord(
            Epoch(0), members, start, members, genesis.parameters, start
        ),
        PRESENCE_KEY: Presence((start,) * len(members)),
        epoch_key(Epoch(0)): EpochRecord(Era(0), Epoch(0), members, start, start),
        AGENDA_KEY: Agenda(0, (), ()),
    }
    for item in genesis.organisations:
        records[organisation_key(item.id)] = Organisation(
            item.id, item.name, item.kind, item.weight, item.licences, item.admin
        )
    for account in genesis.accounts:
        address = address_of(account.keys[0].public_key)
        records[account_key(address)] = Account(
            address,
            account.organisation,
            account.keys,
            account.transfer_threshold,
            account.admin_threshold,
            AccountStatus.ACTIVE,
            Height(0),
        )
    supply = dict.fromkeys((asset.id for asset in genesis.assets), 0)
    for balance in genesis.balances:
        supply[balance.asset] += balance.amount
        records[holding_key(balance.account, balance.asset)] = Holding(
            balance.amount, is_authorised=True, day=0, day_sent=Amount(0)
        )
    for asset in genesis.assets:
        records[asset_key(asset.id)] = Asset(
            asset.id,
            asset.name,
            asset.asset_class,
            asset.decimals,
            asset.issuer,
            asset.policy,
            Amount(supply[asset.id]),
        )
    return records


def genesis_state(genesis: Genesis) -> list[tuple[bytes, bytes]]:
    """Return keys and encoded values of the first state, ascending by key."""
    return sorted((key, encode(record)) for key, record in genesis_records(genesis).items())


def genesis_block(genesis: Genesis) -> Header:
    """Return the header of height 0, to which epoch 0 is anchored. No one votes on it."""
    state_root = tree_of(first_records(genesis_state(genesis))).root
    return Header(
        version=HEADER_VERSION,
        era=Era(0),
        epoch=Epoch(0),
        height=Height(0),
        view=View(0),
        parent_hash=ZERO_DIGEST,
        proposer=0,
        time_ms=genesis.time_ms,
        transactions_root=ZERO_DIGEST,
        transaction_count=0,
        body_bytes=0,
        parent_certificate_hash=ZERO_DIGEST,
        validator_set_hash=ZERO_DIGEST,
        executed_height=Height(0),
        state_root=state_root,
        history_root=ZERO_DIGEST,
        next_validator_set_hash=ZERO_DIGEST,
        previous_boundary_hash=ZERO_DIGEST,
    )
