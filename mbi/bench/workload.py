"""The transactions of a benchmark: real accounts, real keys, all signed before the clock starts.

The ``transfer`` workload has as many senders as receivers. Both are registered and funded through
ordinary transactions. Senders only send and receivers only receive, each transfer more than
nothing: so a sender's final balance tells exactly whether all its final transfers took effect.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec

from ledger.address import address_of, format_address
from ledger.crypto import SigningKey, sha256
from ledger.operations import RegisterAccount, Transfer
from ledger.records import KeyWeight
from ledger.transaction import OPERATIONS_MAX, TRANSACTION_TAG, TRANSACTION_VERSION
from ledger.types import Address, Amount, Digest
from mbi.bench.target import Target
from mbi.client import AsyncClient
from mbi.errors import OperationFailed
from mbi.wallet import Wallet

T = TypeVar("T")

VALID_FOR_S: Final = 590
"""Just under the ten minutes that the protocol allows: signing, load and drain fit in it."""

SETUP_TIMEOUT_S: Final = 60.0
SIGN_CHUNK: Final = 250
"""Transactions signed between two turns of the event loop: some 20 ms."""

_encode: Final = msgspec.msgpack.Encoder().encode


@dataclass(slots=True)
class Accounts:
    """Senders with keys, and the addresses that receive."""

    senders: list[SigningKey]
    receivers: list[Address]
    asset: str
    funds: int
    """What every sender holds before the first transfer, in minor units."""

    @property
    def sender_addresses(self) -> list[Address]:
        """Addresses of the senders, in their order."""
        return [address_of(key.public_key) for key in self.senders]


@dataclass(slots=True)
class Prepared:
    """Signed transactions in sending order, in request bodies of ``batch`` each."""

    bodies: list[bytes] = field(default_factory=list)
    ids: list[Digest] = field(default_factory=list)
    senders: list[int] = field(default_factory=list)
    """Index of the sender of each transaction."""
    amounts: list[int] = field(default_factory=list)
    batch: int = 1

    def batch_range(self, index: int) -> range:
        """Return the transaction numbers in one request body."""
        first = index * self.batch
        return range(first, min(first + self.batch, len(self.ids)))


async def make_accounts(client: AsyncClient, target: Target, pairs: int, funds: int) -> Accounts:
    """Register and fund ``pairs`` senders and receivers; waits until all of it is final."""
    wallet = Wallet(target.chain_id, [target.funder])
    senders = [SigningKey.from_seed(secrets.token_bytes(32)) for _ in range(pairs)]
    receivers = [SigningKey.from_seed(secrets.token_bytes(32)) for _ in range(pairs)]
    registrations = [
        RegisterAccount(None, target.organisation, (KeyWeight(key.public_key, 1),), 1, 1)
        for key in (*senders, *receivers)
    ]
    await _send_all(client, [wallet.sign(chunk).wire for chunk in _chunks(registrations)])
    addresses = [address_of(key.public_key) for key in senders]
    transfers = [Transfer(None, address, target.asset, Amount(funds)) for address in addresses]
    await _send_all(client, [wallet.sign(chunk).wire for chunk in _chunks(transfers)])
    return Accounts(senders, [address_of(key.public_key) for key in receivers], target.asset, funds)


async def sign_transfers(
    chain_id: Digest,
    accounts: Accounts,
    count: int,
    batch: int,
    progress: Callable[[int], None],
) -> Prepared:
    """Sign ``count`` transfers of one unit, sender after sender; ``progress`` gets each advance."""
    prepared = Prepared(batch=batch)
    valid_until = time.time_ns() // 1_000_000 + VALID_FOR_S * 1000
    pairs = len(accounts.senders)
    senders = accounts.sender_addresses
    operations = [
        (Transfer(None, receiver, accounts.asset, Amount(1)),) for receiver in accounts.receivers
    ]
    wires: list[bytes] = []
    first_nonce = secrets.randbits(32) << 31
    for number in range(count):
        sender = number % pairs
        # Each round of senders meets the receivers in another order.
        moved = operations[(number + number // pairs) % pairs]
        fields = (
            TRANSACTION_VERSION,
            senders[sender],
            first_nonce + number,
            valid_until,
            moved,
            "",
        )
        identifier, wire = _sign(chain_id, fields, accounts.senders[sender])
        wires.append(wire)
        prepared.ids.append(identifier)
        prepared.senders.append(sender)
        prepared.amounts.append(1)
        if len(wires) == batch or number == count - 1:
            prepared.bodies.append(wires[0] if batch == 1 else _encode(wires))
            wires = []
        if number % SIGN_CHUNK == SIGN_CHUNK - 1:
            progress(SIGN_CHUNK)
            await asyncio.sleep(0)
    return prepared


def _sign(chain_id: Digest, fields: tuple[Any, ...], key: SigningKey) -> tuple[Digest, bytes]:
    """Return id and bytes: ``sign_transaction`` without its checks, at a third of the cost."""
    preimage = TRANSACTION_TAG + chain_id + _encode(fields)
    signatures = ((key.public_key, key.sign(preimage)),)
    return sha256(preimage), _encode((*fields, signatures))


async def _send_all(client: AsyncClient, wires: Sequence[bytes]) -> None:
    """Submit the set-up transactions and wait until each is final and has succeeded."""
    answers = [await client.submit(wire) for wire in wires]
    for answer in answers:
        outcome = await client.wait_final(answer.id, SETUP_TIMEOUT_S)
        if outcome.status != "finalized":
            code = outcome.document.get("code")
            raise OperationFailed(
                f"set-up transaction {answer.id} {outcome.status}: {code}; the funding key must be "
                "the admin of its organisation and hold enough of the asset"
            )


def _chunks(operations: Sequence[T]) -> Iterator[Sequence[T]]:
    return (
        operations[start : start + OPERATIONS_MAX]
        for start in range(0, len(operations), OPERATIONS_MAX)
    )


def address_texts(addresses: Sequence[Address]) -> list[str]:
    """Return the text forms of addresses."""
    return [format_address(address) for address in addresses]
