"""Wallet: builds and signs every operation, without a network.

    wallet = Wallet(chain_id, [key])
    signed = wallet.transfer("issuer/MYR", "mbi1...", 100)

The nonce is drawn from the operating system, so one account can sign in parallel on several
machines; sending the same bytes again is always safe. Several accounts act in one transaction by
several signers: :meth:`Wallet.sign` takes all keys at once, :func:`add_signatures` adds one signer
after the other.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ledger.address import address_of, format_address, parse_address
from ledger.crypto import SigningKey
from ledger.encoding import encode
from ledger.errors import LedgerError
from ledger.json import operation_from_json
from ledger.operations import SPEC_BY_NAME, Operation
from ledger.transaction import SignatureEntry, decode_transaction, sign_transaction
from ledger.types import UINT64_MAX, Address, Digest, TimeMs
from mbi.errors import UsageError

VALID_FOR_S: Final = 300
"""Half of the ten minutes that the protocol allows: room for clocks that differ."""


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """Bytes ready to be sent, and what identifies them."""

    id: str
    """Hex."""
    wire: bytes
    valid_until: TimeMs


class Wallet:
    """Signs for one sender with one or more keys. Never shows them."""

    def __init__(
        self, chain_id: Digest, keys: Sequence[SigningKey], sender: Address | None = None
    ) -> None:
        if not keys:
            raise UsageError("a wallet needs at least one key")
        self.chain_id = chain_id
        self.sender = address_of(keys[0].public_key) if sender is None else sender
        """The first key's address, unless the account has had its keys changed."""
        self._keys = tuple(keys)

    def __repr__(self) -> str:
        return f"Wallet({format_address(self.sender)}, keys={len(self._keys)})"

    def operation(self, name: str, **fields: Any) -> Operation:
        """Return an operation by its name and its fields in JSON form; see :func:`operation`."""
        return operation(name, fields)

    def transfer(self, asset: str, to: str, amount: int, memo: str = "") -> SignedTransaction:
        """Sign the transfer of an amount in minor units."""
        return self.sign(
            [operation("transfer", {"asset": asset, "to": to, "amount": str(amount)})], memo
        )

    def sign(
        self,
        operations: Sequence[Operation],
        memo: str = "",
        *,
        nonce: int | None = None,
        valid_for_s: float = VALID_FOR_S,
        cosigners: Sequence[SigningKey] = (),
    ) -> SignedTransaction:
        """Sign operations with all keys of the wallet and of ``cosigners``.

        Raises what every node would refuse, as a ``LedgerError``.
        """
        valid_until = TimeMs(time.time_ns() // 1_000_000 + int(valid_for_s * 1000))
        chosen = secrets.randbits(64) if nonce is None else nonce
        if not 0 <= chosen <= UINT64_MAX:
            raise UsageError(f"nonce must be from 0 to {UINT64_MAX}, got {chosen}")
        wire = sign_transaction(
            self.chain_id,
            self.sender,
            chosen,
            valid_until,
            operations,
            memo,
            _distinct((*self._keys, *cosigners)),
        )
        return signed_transaction(self.chain_id, wire)


def signed_transaction(chain_id: Digest, wire: bytes) -> SignedTransaction:
    """Return the identity of signed bytes; raises a ``LedgerError`` if they are malformed."""
    decoded = decode_transaction(chain_id, wire)
    return SignedTransaction(decoded.id.hex(), wire, decoded.transaction.valid_until)


def add_signatures(chain_id: Digest, wire: bytes, keys: Iterable[SigningKey]) -> bytes:
    """Return the same transaction signed by more keys; one that has signed changes nothing."""
    decoded = decode_transaction(chain_id, wire)
    entries = {entry.public_key: entry for entry in decoded.transaction.signatures}
    for key in keys:
        entries[key.public_key] = SignatureEntry(key.public_key, key.sign(decoded.preimage))
    body = decoded.transaction
    fields = (body.version, body.sender, body.nonce, body.valid_until, body.operations, body.memo)
    signatures = [entries[public_key] for public_key in sorted(entries)]
    return decode_transaction(chain_id, encode((*fields, signatures))).wire


def operation(name: str, fields: dict[str, Any]) -> Operation:
    """Return an operation from its fields in JSON form.

    Raises :class:`UsageError` for an unknown name and a ``LedgerError`` for a wrong field.
    """
    if name not in SPEC_BY_NAME:
        raise UsageError(f"no operation {name!r}; there are: {', '.join(SPEC_BY_NAME)}")
    return operation_from_json({"type": name, **fields})


def parse_account(text: str) -> Address:
    """Return an address from its text form; raises :class:`UsageError`."""
    try:
        return parse_address(text)
    except LedgerError as error:
        raise UsageError(f"address {text!r}: {error}") from error


def _distinct(keys: Iterable[SigningKey]) -> list[SigningKey]:
    return list({key.public_key: key for key in keys}.values())
