"""What the state holds: accounts, organisations, assets, holdings, parameters, validators.

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
    TIME_MS_MAX,
    Address,
    AddressField,
    Amount,
    Epoch,
    Era,
    Height,
    ProposalId,
    PublicKey,
    PublicKeyField,
    TimeMs,
)
from ledger.validators import VALIDATORS_MAX, Chamber, Validator
from ledger.votes import Vote

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

GOVERNANCE_PERIOD_MS_MAX: Final = 366 * DAY_MS
"""Longest notice, life of a proposal, and age of a readiness: a network plans a year ahead."""

GOVERNANCE_PERIOD_MS_MIN: Final = 1000
"""A proposal must live, and a readiness count, for at least a few blocks."""

PROPOSALS_PER_ORGANISATION_MAX: Final = 4
"""Proposals of one organisation that wait for votes or for their time."""

AGENDA_MAX: Final = VALIDATORS_MAX * PROPOSALS_PER_ORGANISATION_MAX
"""Proposals of all organisations that wait at one time."""

FEATURES_MAX: Final = 64
"""Features of all times; each block looks at all of them."""

FEATURE_PATTERN: Final = r"[a-z][a-z0-9-]{1,31}"

AmountField = Annotated[Amount, Meta(ge=1, le=AMOUNT_MAX)]
BalanceField = Annotated[Amount, Meta(ge=0, le=AMOUNT_MAX)]
AssetField = Annotated[str, Meta(min_length=1, max_length=ASSET_ID_BYTES_MAX)]
OrganisationField = Annotated[str, Meta(min_length=2, max_length=32)]
NameField = Annotated[str, Meta(min_length=1, max_length=NAME_BYTES_MAX)]
WeightField = Annotated[int, Meta(ge=1, le=WEIGHT_MAX)]
ThresholdField = Annotated[int, Meta(ge=1, le=THRESHOLD_MAX)]
DecimalsField = Annotated[int, Meta(ge=0, le=DECIMALS_MAX)]


FeatureField = Annotated[str, Meta(pattern=rf"^{FEATURE_PATTERN}\Z", min_length=2, max_length=32)]
ProposalIdField = Annotated[ProposalId, Meta(ge=1, le=TIME_MS_MAX)]
GovernancePeriodField = Annotated[
    int, Meta(ge=GOVERNANCE_PERIOD_MS_MIN, le=GOVERNANCE_PERIOD_MS_MAX)
]
ValidatorsField = Annotated[tuple[Validator, ...], Meta(min_length=1, max_length=VALIDATORS_MAX)]


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
    change_notice_ms: Annotated[int, Meta(ge=0, le=GOVERNANCE_PERIOD_MS_MAX)]
    """Block time between the approval of a change and its effect."""
    change_lifetime_ms: GovernancePeriodField
    """How long a proposal waits for votes."""
    readiness_ms: GovernancePeriodField
    """How long a proof that a joining validator is ready counts."""


# --- Validators and governance --------------------------------------------------------------------


class ValidatorsRecord(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """Who votes now, and what the next boundary block will bring. Sets ascend by consensus key."""

    epoch: Epoch
    """Of ``members``."""
    members: ValidatorsField
    """The set that votes on the next block."""
    opened_height: Height
    """Of the boundary block that opened the epoch; 0 for genesis."""
    scheduled: ValidatorsField
    """The latest approved set; equals ``members`` unless something is pending."""
    scheduled_parameters: Parameters
    """The latest approved parameters; they come into force with an epoch, like a set."""
    scheduled_height: Height
    """Block whose execution scheduled the two; 0 for genesis."""


class Presence(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """When each member of the present set was last seen at work."""

    seen: Annotated[tuple[Height, ...], Meta(max_length=VALIDATORS_MAX)]
    """Per member: last height that it proposed or whose parent's certificate it signed."""


class EpochRecord(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """The set of one epoch: votes of that epoch are judged by it for ever."""

    era: Era
    epoch: Epoch
    members: ValidatorsField
    opened_height: Height
    closed_height: Height
    """Of the boundary block that closed it; 0 while the epoch is open."""


class AddValidator(
    Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=1
):
    """Give an organisation a further validator; its node must have proven that it is ready."""

    validator: Validator


class RemoveValidator(
    Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=2
):
    """Take a validator out of the set."""

    consensus_key: PublicKeyField


class RotateKey(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=3):
    """Replace both keys of a validator; the new ones must have been proven ready."""

    consensus_key: PublicKeyField
    """The present one."""
    new_consensus_key: PublicKeyField
    new_node_key: PublicKeyField


class SetPowers(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=4):
    """Replace an organisation's share of throughput and its licences."""

    organisation: OrganisationField
    weight: WeightField
    licences: LicencesField


class SetParameters(
    Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=5
):
    """Replace the limits of the network, from the next epoch on."""

    parameters: Parameters


class ActivateFeature(
    Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=6
):
    """Change the rules from a height on; nodes that do not know the feature stop there."""

    name: FeatureField
    height: Annotated[Height, Meta(ge=1, le=TIME_MS_MAX)]


Change = AddValidator | RemoveValidator | RotateKey | SetPowers | SetParameters | ActivateFeature

CHANGE_NAMES: Final[dict[type[Struct], str]] = {
    AddValidator: "add_validator",
    RemoveValidator: "remove_validator",
    RotateKey: "rotate_key",
    SetPowers: "set_powers",
    SetParameters: "set_parameters",
    ActivateFeature: "activate_feature",
}
"""Name of each change in JSON and on the command line."""


class ProposalStatus(IntEnum):
    """What has become of a proposal."""

    OPEN = 1
    """Waits for votes."""
    APPROVED = 2
    """Takes effect at its time, if its rule still holds then."""
    EFFECTIVE = 3
    REJECTED = 4
    """So many voted against it that it could no longer be approved."""
    EXPIRED = 5
    """Not approved in time."""
    REFUSED = 6
    """Approved, but its rule did not hold when its time came."""


class OrganisationVote(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """What one organisation says about a proposal."""

    organisation: OrganisationField
    approve: bool


class Absence(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """A member of a future set that does not count as present."""

    name: NameField
    seen: Height | None
    """Last height at which it was; None if it joins and is not ready."""


class Refusal(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """Why a change could not take effect. Words for it: ``ledger.governance.refusal_text``."""

    code: Annotated[str, Meta(min_length=1, max_length=64)]
    """Error code of the rule that forbade it."""
    needed: Annotated[int, Meta(ge=0, le=VALIDATORS_MAX)]
    """Present members that the new set needs, if it lacked a quorum; else 0."""
    present: Annotated[int, Meta(ge=0, le=VALIDATORS_MAX)]
    """Present members that it had; else 0."""
    absent: Annotated[tuple[Absence, ...], Meta(max_length=VALIDATORS_MAX)]
    """Who was missed, ascending by name."""


class ChangeProposal(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """A change of the network's rules or members that organisations vote on."""

    id: ProposalIdField
    change: Change
    organisation: OrganisationField
    """Whose admin proposed it."""
    created_ms: TimeMs
    expires_ms: TimeMs
    votes: Annotated[tuple[OrganisationVote, ...], Meta(max_length=VALIDATORS_MAX)]
    """Ascending by organisation; the latest of each that runs a validator."""
    status: ProposalStatus
    effective_ms: TimeMs
    """Earliest block time of its effect; 0 until it is approved."""
    refusal: Refusal | None
    """Why it is refused; None unless it is."""


class AgendaEntry(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """A proposal that something happens to at a time: expiry, or effect once it is approved."""

    due_ms: TimeMs
    proposal: ProposalIdField
    organisation: OrganisationField


class Feature(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """A change of the rules that was approved."""

    name: FeatureField
    height: Height
    """First height that it governs."""


class Agenda(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """What each block must look at before its transactions; small, so that looking is cheap."""

    proposals: Annotated[int, Meta(ge=0, le=TIME_MS_MAX)]
    """Made so far; the next one gets the next number."""
    entries: Annotated[tuple[AgendaEntry, ...], Meta(max_length=AGENDA_MAX)]
    """Ascending by time, then by proposal."""
    features: Annotated[tuple[Feature, ...], Meta(max_length=FEATURES_MAX)]
    """Ascending by name."""


class Readiness(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """A node's word, signed by its consensus key, that it is synced and could vote now."""

    validator: Validator
    posted_ms: TimeMs
    expires_ms: TimeMs
    """Chosen by the signer: the same word cannot be posted again later."""


class EvidenceRecord(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """Two votes that prove a fault: this consensus key can never enter a set again."""

    validator: Validator
    """Member of the votes' epoch that signed them."""
    first: Vote
    second: Vote
    height: Height
    """Of the block that recorded it."""


Record = (
    Account
    | Organisation
    | Asset
    | Holding
    | Parameters
    | ValidatorsRecord
    | Presence
    | EpochRecord
    | Agenda
    | ChangeProposal
    | Readiness
    | EvidenceRecord
)

ACCOUNT_PREFIX: Final = b"\x01"
ORGANISATION_PREFIX: Final = b"\x02"
ASSET_PREFIX: Final = b"\x03"
HOLDING_PREFIX: Final = b"\x04"
PARAMETERS_KEY: Final = b"\x05"
"""The only key of its kind, like the next two and the agenda's."""

VALIDATORS_KEY: Final = b"\x06"
PRESENCE_KEY: Final = b"\x07"
EPOCH_PREFIX: Final = b"\x08"
AGENDA_KEY: Final = b"\x09"
PROPOSAL_PREFIX: Final = b"\x0a"
READINESS_PREFIX: Final = b"\x0b"
EVIDENCE_PREFIX: Final = b"\x0c"

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
    VALIDATORS_KEY[0]: ValidatorsRecord,
    PRESENCE_KEY[0]: Presence,
    EPOCH_PREFIX[0]: EpochRecord,
    AGENDA_KEY[0]: Agenda,
    PROPOSAL_PREFIX[0]: ChangeProposal,
    READINESS_PREFIX[0]: Readiness,
    EVIDENCE_PREFIX[0]: EvidenceRecord,
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


def epoch_key(epoch: Epoch) -> bytes:
    """Return the state key of an epoch; keys ascend like the epochs."""
    return EPOCH_PREFIX + epoch.to_bytes(8, "big")


def proposal_key(proposal: ProposalId) -> bytes:
    """Return the state key of a proposal; keys ascend like the numbers."""
    return PROPOSAL_PREFIX + proposal.to_bytes(8, "big")


def readiness_key(consensus_key: PublicKey) -> bytes:
    """Return the state key of what the holder of a consensus key said about its readiness."""
    return READINESS_PREFIX + consensus_key


def evidence_key(consensus_key: PublicKey) -> bytes:
    """Return the state key of the evidence against a consensus key."""
    return EVIDENCE_PREFIX + consensus_key
