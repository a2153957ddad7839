"""Events: what a transaction did, for those who follow accounts and objects.

Each operation that takes effect emits one event, in order, into the receipt. An event knows which
accounts and which objects it touches; that is how history is indexed. Events are part of the
receipt and so of its hash. Normative text: ``docs/protocol.md`` section 6.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from operator import attrgetter
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from ledger.records import (
    AccountStatus,
    AmountField,
    AssetClass,
    AssetField,
    Change,
    KeysField,
    OrganisationField,
    ProposalIdField,
    ProposalStatus,
    ThresholdField,
)
from ledger.types import Address, AddressField, Epoch, Era, TimeMs, View
from ledger.validators import Validator


class EventBase(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """What all events have in common: the encoding."""


class AccountRegistered(EventBase, frozen=True, tag=1):
    """An organisation admitted a new account."""

    account: AddressField
    organisation: OrganisationField
    admin: AddressField
    """Account that acted for the organisation."""


class KeysChanged(EventBase, frozen=True, tag=2):
    """An account replaced its keys and thresholds."""

    account: AddressField
    keys: KeysField
    transfer_threshold: ThresholdField
    admin_threshold: ThresholdField


class StatusChanged(EventBase, frozen=True, tag=3):
    """An organisation suspended or reactivated one of its accounts."""

    account: AddressField
    status: AccountStatus
    admin: AddressField


class AssetCreated(EventBase, frozen=True, tag=4):
    """An organisation defined a new asset."""

    asset: AssetField
    asset_class: AssetClass
    issuer: AddressField
    admin: AddressField


class Minted(EventBase, frozen=True, tag=5):
    """The issuer created units of an asset."""

    asset: AssetField
    issuer: AddressField
    to: AddressField
    amount: AmountField


class Burned(EventBase, frozen=True, tag=6):
    """The issuer destroyed units of an asset that it held."""

    asset: AssetField
    issuer: AddressField
    amount: AmountField


class Transferred(EventBase, frozen=True, tag=7):
    """Units of an asset moved between two accounts."""

    asset: AssetField
    source: AddressField
    to: AddressField
    amount: AmountField


class HolderAuthorised(EventBase, frozen=True, tag=8):
    """The issuer allowed an account to receive an asset, or withdrew that."""

    asset: AssetField
    holder: AddressField
    is_authorised: bool
    issuer: AddressField


class ChangeProposed(EventBase, frozen=True, tag=9):
    """An organisation proposed a change and approved it."""

    proposal: ProposalIdField
    organisation: OrganisationField
    change: Change
    status: ProposalStatus
    """Open, unless this one approval decided."""
    admin: AddressField


class ChangeVoted(EventBase, frozen=True, tag=10):
    """An organisation voted on a proposal."""

    proposal: ProposalIdField
    organisation: OrganisationField
    approve: bool
    status: ProposalStatus
    """After this vote: open, approved or rejected."""
    admin: AddressField


class ReadinessProven(EventBase, frozen=True, tag=11):
    """The node of a joining validator proved that it could vote."""

    validator: Validator
    expires_ms: TimeMs
    account: AddressField
    """Who posted it."""


class EvidenceEffect(IntEnum):
    """What evidence did to the validator that it accuses."""

    SUSPENDED = 1
    """Out of the set from the next boundary on."""
    RETAINED = 2
    """The rules for sets forbid to remove it now; it is for governance to replace it."""
    GONE = 3
    """No member of the next set any more."""


class EvidenceReported(EventBase, frozen=True, tag=12):
    """A validator signed two votes that an honest one never signs together."""

    organisation: OrganisationField
    validator: Validator
    era: Era
    epoch: Epoch
    view: View
    effect: EvidenceEffect
    code: Annotated[str, Meta(max_length=64)]
    """Error code of the rule that retained the validator; else empty."""
    account: AddressField
    """Who reported it."""


Event = (
    AccountRegistered
    | KeysChanged
    | StatusChanged
    | AssetCreated
    | Minted
    | Burned
    | Transferred
    | HolderAuthorised
    | ChangeProposed
    | ChangeVoted
    | ReadinessProven
    | EvidenceReported
)

EVENT_NAMES: Final[dict[type[Struct], str]] = {
    AccountRegistered: "account_registered",
    KeysChanged: "keys_changed",
    StatusChanged: "status_changed",
    AssetCreated: "asset_created",
    Minted: "minted",
    Burned: "burned",
    Transferred: "transferred",
    HolderAuthorised: "holder_authorised",
    ChangeProposed: "change_proposed",
    ChangeVoted: "change_voted",
    ReadinessProven: "readiness_proven",
    EvidenceReported: "evidence_reported",
}
"""Name of each event in JSON and in subscriptions."""

_Read = Callable[[Any], tuple[Any, ...]]
"""Reads fields of an event; their types differ from event to event."""

_ACCOUNT_FIELDS: Final = frozenset({"account", "admin", "holder", "issuer", "source", "to"})
_OBJECT_FIELDS: Final = frozenset({"asset", "organisation", "proposal"})


def _fields(event: type[Struct], names: frozenset[str]) -> tuple[str, ...]:
    return tuple(name for name in event.__struct_fields__ if name in names)


def _reader(fields: tuple[str, ...]) -> _Read:
    # Two paths to the same attribute make attrgetter return a tuple for a single field, too.
    return attrgetter(*fields, *fields[:1]) if fields else _nothing


def _nothing(_event: object) -> tuple[str, ...]:
    return ()


ACCOUNTS_OF: Final = {event: _reader(_fields(event, _ACCOUNT_FIELDS)) for event in EVENT_NAMES}
"""Reads the accounts of an event of a type, of which some may come twice."""
OBJECTS_OF: Final = {event: _reader(_fields(event, _OBJECT_FIELDS)) for event in EVENT_NAMES}
"""Reads the ids of the other objects of an event of a type; the first may come twice."""
_OBJECT_KINDS: Final = {event: _fields(event, _OBJECT_FIELDS) for event in EVENT_NAMES}


def event_accounts(event: Event) -> tuple[Address, ...]:
    """Return the accounts in whose history the event belongs, each once."""
    return tuple(dict.fromkeys(ACCOUNTS_OF[type(event)](event)))


def event_objects(event: Event) -> tuple[str, ...]:
    """Return the other objects that the event touches, as ``kind:id``."""
    kinds, ids = _OBJECT_KINDS[type(event)], OBJECTS_OF[type(event)](event)
    return tuple([f"{kind}:{value}" for kind, value in zip(kinds, ids, strict=False)])
