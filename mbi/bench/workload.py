"""The transactions of a benchmark: real accounts, real keys, all signed before the clock starts.

Senders and receivers are registered and funded through ordinary transactions. Senders only send
and receivers only receive, each transfer more than nothing: so a sender's final balance tells
exactly whether all its final transfers took effect.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from ledger.address import address_of, format_address
from ledger.crypto import SigningKey, sha256
from ledger.operations import Operation, RegisterAccount, Transfer
from ledger.records import KeyWeight
from ledger.transaction import OPERATIONS_MAX, TRANSACTION_TAG, TRANSACTION_VERSION
from ledger.types import Address, Amount, Digest
from mbi.bench.target import Target
from mbi.client import AsyncClient
from mbi.errors import OperationFailed

VALID_FOR_S: Final = 590
"""Just under the ten minutes that the protocol allows: signing, load and drain fit in it."""

NONCE_BITS: Final = 64
"""Random nonces of this size do not collide in the lifetime of a chain."""
SETUP_TIMEOUT_S: Final = 60.0
SETUP_IN_FLIGHT: Final = 40
"""Set-up transactions at a time: 4,000 registrations, far from any limit of a mempool."""
SIGN_CHUNK: Final = 250
"""Transactions signed between two turns of the event loop: some 20 ms."""

_encode: Final = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Workload:
    """What a transaction does."""

    meaning: str
    operations: int
    """Transfers in each transaction."""
    is_hot: bool
    """Whether one account receives everything."""


WORKLOADS: Final = {
    "transfer": Workload("one transfer per transaction, many receivers", 1, is_hot=False),
    "multi": Workload("ten transfers per transaction, to ten receivers", 10, is_hot=False),
    "hot": Workload("one transfer per transaction, all to one account", 1, is_hot=True),
}


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


async def make_accounts(
    client: AsyncClient,
    target: Target,
    pairs: int,
    funds: int,
    receivers: Sequence[Address],
) -> Accounts:
    """Register and fund ``pairs`` senders; waits until all of it is final."""
    senders = [SigningKey.from_seed(secrets.token_bytes(32)) for _ in range(pairs)]
    await _send_all(client, target, [_registration(target, key) for key in senders])
    addresses = [address_of(key.public_key) for key in senders]
    transfers = [Transfer(None, address, target.asset, Amount(funds)) for address in addresses]
    await _send_all(client, target, transfers)
    return Accounts(senders, list(receivers), target.asset, funds)


async def make_receivers(
    client: AsyncClient, target: Target, count: int, chosen: int, progress: Callable[[int], None]
) -> list[Address]:
    """Register ``count`` accounts without funds and return ``chosen`` of them, evenly spread.

    Registered one after the other, the accounts lie side by side in the state tree; the chosen ones
    lie as far apart as they can.
    """
    found: list[Address] = []
    step = SETUP_IN_FLIGHT * OPERATIONS_MAX
    for first in range(0, count, step):
        keys = [
            SigningKey.from_seed(secrets.token_bytes(32))
            for _ in range(first, min(count, first + step))
        ]
        await _send_all(client, target, [_registration(target, key) for key in keys])
        found += [address_of(key.public_key) for key in keys]
        progress(len(keys))
    return [found[index * count // chosen] for index in range(min(chosen, count))]


async def sign_transfers(
    chain_id: Digest,
    accounts: Accounts,
    count: int,
    batch: int,
    progress: Callable[[int], None],
    operations: int = 1,
) -> Prepared:
    """Sign ``count`` transactions of ``operations`` transfers of one unit, sender after sender."""
    prepared = Prepared(batch=batch)
    valid_until = _valid_until_ms()
    pairs = len(accounts.senders)
    senders = accounts.sender_addresses
    transfers = [
        Transfer(None, receiver, accounts.asset, Amount(1)) for receiver in accounts.receivers
    ]
    turns = len(transfers)
    moves = [
        tuple(transfers[(turn + step) % turns] for step in range(operations))
        for turn in range(turns)
    ]
    wires: list[bytes] = []
    first_nonce = secrets.randbits(32) << 31
    for number in range(count):
        sender = number % pairs
        # Each round of senders meets the receivers in another order.
        moved = moves[(number + number // pairs) % turns]
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
        prepared.amounts.append(operations)
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


def _registration(target: Target, key: SigningKey) -> RegisterAccount:
    return RegisterAccount(None, target.organisation, (KeyWeight(key.public_key, 1),), 1, 1)


def _set_up(target: Target, operations: Sequence[Operation]) -> bytes:
    """Return a signed transaction of the funder.

    Without the wallet's checks: they look at each new key twice, which takes 0.4 ms an account.
    """
    fields = (
        TRANSACTION_VERSION,
        address_of(target.funder.public_key),
        secrets.randbits(NONCE_BITS),
        _valid_until_ms(),
        tuple(operations),
        "",
    )
    return _sign(target.chain_id, fields, target.funder)[1]


def _valid_until_ms() -> int:
    return time.time_ns() // 1_000_000 + VALID_FOR_S * 1000


async def _send_all(client: AsyncClient, target: Target, operations: Sequence[Operation]) -> None:
    """Submit operations in full transactions and wait until all are final and have succeeded."""
    chunks = list(_chunks(operations))
    for first in range(0, len(chunks), SETUP_IN_FLIGHT):
        wires = [_set_up(target, chunk) for chunk in chunks[first : first + SETUP_IN_FLIGHT]]
        answers = [await client.submit(wire) for wire in wires]
        for answer in answers:
            outcome = await client.wait_final(answer.id, SETUP_TIMEOUT_S)
            if outcome.status != "finalized":
                code = outcome.document.get("code")
                raise OperationFailed(
                    f"set-up transaction {answer.id} {outcome.status}: {code}; the funding key "
                    "must be the admin of its organisation and hold enough of the asset"
                )


def _chunks(operations: Sequence[Operation]) -> Iterator[Sequence[Operation]]:
    return (
        operations[start : start + OPERATIONS_MAX]
        for start in range(0, len(operations), OPERATIONS_MAX)
    )


def address_texts(addresses: Sequence[Address]) -> list[str]:
    """Return the text forms of addresses."""
    return [format_address(address) for address in addresses]
