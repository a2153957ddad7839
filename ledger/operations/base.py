"""What an operation is to the engine: its structure, what it requires, and its handler.

The engine checks every requirement in one place (``ledger.authority``) before a handler runs, so a
handler holds only its own rule. A handler reads and writes through the view, returns one event, and
refuses by raising an ExecutionError; the engine undoes whatever it had written.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import Struct

from ledger.records import Account, AssetClass
from ledger.types import AddressField

if TYPE_CHECKING:
    from ledger.events import Event
    from ledger.transaction import Transaction
    from ledger.view import View


class OperationBase(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """First fields of every operation; on the wire the tag stands before them."""

    source: AddressField | None
    """Account that the operation acts for; None for the sender."""


class Threshold(Enum):
    """Which of an account's two thresholds the signatures must reach."""

    TRANSFER = "transfer"
    ADMIN = "admin"


class Requirement(Struct, frozen=True, gc=False):
    """What must hold for the acting account before a handler runs."""

    threshold: Threshold
    admin_of: str | None = None
    """The acting account is the admin of this organisation."""
    issuer_of: str | None = None
    """The acting account is the issuer of this asset."""
    licence: AssetClass | None = None
    """The acting account's organisation holds a licence of this class."""


class Actor(Struct, frozen=True, gc=False):
    """An acting account as it was before the transaction, and the weight that signed for it."""

    account: Account
    weight: int


class OperationSpec(NamedTuple):
    """An entry of the registry. The operation's type is erased here: the registry maps it back."""

    tag: int
    """First element on the wire; never reused."""
    name: str
    """Name in JSON and on the command line."""
    structure: type[OperationBase]
    requirement: Callable[[Any, View], Requirement]
    handler: Callable[[Any, Actor, Transaction, View], Event]
    validate: Callable[[Any], None] | None = None
    """Checks fields without state; raises a LedgerError."""
