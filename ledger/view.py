"""A working copy of the records that one block touches, with undo for a single transaction.

Reads load a record once per block; writes stay here until the block is finished. Every write is
noted in a journal, so a transaction that fails is undone exactly. The view remembers each changed
record's value at the start of the block: that is what the invariants compare with, and what the
state writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ledger.errors import AccountUnknown, AssetUnknown
from ledger.records import (
    ACCOUNT_PREFIX,
    ASSET_PREFIX,
    EMPTY_HOLDING,
    PARAMETERS_KEY,
    VALIDATORS_KEY,
    Account,
    Asset,
    Holding,
    Organisation,
    Parameters,
    Record,
    ValidatorsRecord,
    organisation_key,
)
from ledger.types import Address, Digest, Height, TimeMs

_NOT_LOADED: Final = object()


class View:
    """Records of the state as one block sees and changes them."""

    __slots__ = ("_journal", "_load", "_records", "chain_id", "changed", "height", "time_ms")

    def __init__(
        self,
        load: Callable[[bytes], Record | None],
        chain_id: Digest,
        height: Height,
        time_ms: TimeMs,
    ) -> None:
        self._load = load
        self._records: dict[bytes, Any] = {}  # records, or None where there is none
        self._journal: list[tuple[bytes, Any]] = []
        self.changed: dict[bytes, Record | None] = {}
        """Record at the start of the block of each key that a successful transaction wrote."""
        self.chain_id = chain_id
        """Stands in what operations carry signatures of."""
        self.height = height
        """Of the block being executed."""
        self.time_ms = time_ms
        """Of the block being executed: the only clock that execution sees."""

    def get(self, key: bytes) -> Any:  # the first byte of the key decides the record's type
        """Return the record under ``key``, or None."""
        record = self._records.get(key, _NOT_LOADED)
        if record is _NOT_LOADED:
            record = self._records[key] = self._load(key)
        return record

    def put(self, key: bytes, record: Record) -> None:
        """Replace the record under ``key`` for the rest of the block, unless rolled back."""
        before = self._records.get(key, _NOT_LOADED)
        if before is _NOT_LOADED:
            before = self._load(key)
        self._journal.append((key, before))
        self._records[key] = record

    def put_all(self, records: Mapping[bytes, Record]) -> None:
        """Replace the records under several keys."""
        for key, record in records.items():
            self.put(key, record)

    def commit(self) -> None:
        """Keep what was written since the last commit or roll-back."""
        changed = self.changed
        for key, before in self._journal:
            if key not in changed:
                changed[key] = before
        self._journal.clear()

    def roll_back(self) -> None:
        """Undo what was written since the last commit or roll-back."""
        for key, before in reversed(self._journal):
            self._records[key] = before
        self._journal.clear()

    # --- Typed reads ---

    def parameters(self) -> Parameters:
        """Return the limits in force."""
        record: Parameters = self.get(PARAMETERS_KEY)
        return record

    def validators(self) -> ValidatorsRecord:
        """Return who votes on the next block, and what is scheduled."""
        record: ValidatorsRecord = self.get(VALIDATORS_KEY)
        return record

    def account(self, address: Address) -> Account | None:
        """Return an account, or None if it is not registered."""
        account: Account | None = self.get(ACCOUNT_PREFIX + address)
        return account

    def registered_account(self, address: Address) -> Account:
        """Return an account; raises AccountUnknown."""
        account = self.account(address)
        if account is None:
            raise AccountUnknown(f"account {address.hex()} is not registered")
        return account

    def organisation(self, organisation: str) -> Organisation | None:
        """Return an organisation, or None."""
        record: Organisation | None = self.get(organisation_key(organisation))
        return record

    def existing_asset(self, asset: str) -> Asset:
        """Return an asset; raises AssetUnknown."""
        record: Asset | None = self.get(ASSET_PREFIX + asset.encode())
        if record is None:
            raise AssetUnknown(f"no asset {asset!r}")
        return record

    def holding(self, key: bytes) -> Holding:
        """Return the holding under its key; an account holds nothing of what it never received."""
        return self.get(key) or EMPTY_HOLDING
