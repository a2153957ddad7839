"""Makes the accounts of a benchmark by ordinary transactions of the funder."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

from ledger.address import address_of
from ledger.crypto import SigningKey
from ledger.operations import CreateAsset, Mint, Operation, RegisterAccount, Transfer
from ledger.records import AssetClass, AssetPolicy, KeyWeight
from ledger.transaction import OPERATIONS_MAX, TRANSACTION_VERSION
from ledger.types import Address, Amount
from mbi.bench.plan import Plan
from mbi.bench.signing import sign
from mbi.bench.target import Target
from mbi.bench.workload import Accounts
from mbi.client import AsyncClient
from mbi.errors import OperationFailed

SETUP_VALID_FOR_S: Final = 300
NONCE_BITS: Final = 64
"""Random nonces of this size do not collide in the lifetime of a chain."""
SETUP_TIMEOUT_S: Final = 60.0
SETUP_IN_FLIGHT: Final = 40
"""Set-up transactions at a time: 4,000 registrations, far from any limit of a mempool."""
SEED_BYTES: Final = 32

Progress = Callable[[int], None]


async def make_accounts(
    client: AsyncClient, target: Target, plan: Plan, progress: Progress
) -> Accounts:
    """Register receivers and senders, and fund the senders for all that they will send.

    Raises:
        OperationFailed: the funder may not do it, or does not hold enough.
    """
    kind = plan.kind
    receivers = await _make_receivers(client, target, plan, progress)
    senders = [_new_key() for _ in range(plan.pairs)]
    await _send_all(client, target, (_registration(target, key) for key in senders))
    progress(len(senders))
    funds = -(-plan.transactions // plan.pairs) * kind.spent_max
    accounts = Accounts(
        senders,
        receivers,
        target.asset,
        funds,
        funder=target.funder if kind.uses_funder else None,
        organisation=target.organisation,
        seed=secrets.token_bytes(SEED_BYTES),
    )
    addresses = accounts.sender_addresses
    await _send_all(
        client,
        target,
        (Transfer(None, address, target.asset, Amount(funds)) for address in addresses),
    )
    if kind.has_security:
        accounts.security = security = await _create_security(client, target)
        sellers = addresses[len(addresses) // 2 :]
        await _send_all(
            client, target, (Mint(None, security, address, Amount(funds)) for address in sellers)
        )
    return accounts


async def _make_receivers(
    client: AsyncClient, target: Target, plan: Plan, progress: Progress
) -> list[Address]:
    """Register accounts without funds and return those that will receive, evenly spread.

    Registered one after the other, the accounts lie side by side in the state tree; the chosen ones
    lie as far apart as they can.
    """
    count = plan.receivers_registered
    chosen = 1 if plan.kind.is_hot else min(plan.pairs, count)
    places = {index * count // chosen for index in range(chosen)}
    found: list[Address] = []

    def registrations() -> Iterator[Operation]:
        for index in range(count):
            key = _new_key()
            if index in places:
                found.append(address_of(key.public_key))
            yield _registration(target, key)

    await _send_all(client, target, registrations(), progress)
    return found


async def _create_security(client: AsyncClient, target: Target) -> str:
    """Create the second asset, of the funder's organisation, and return its id."""
    asset = f"{target.organisation}/B{secrets.token_hex(4).upper()}"
    policy = AssetPolicy(
        holder_authorisation=False, transfer_max=None, day_max=None, memo_required=False
    )
    issuer = address_of(target.funder.public_key)
    name = "Bond for a benchmark"
    creation = CreateAsset(None, asset, name, AssetClass.SECURITY, 0, issuer, policy)
    await _send_all(client, target, [creation])
    return asset


def _new_key() -> SigningKey:
    return SigningKey.from_seed(secrets.token_bytes(SEED_BYTES))


def _registration(target: Target, key: SigningKey) -> RegisterAccount:
    return RegisterAccount(None, target.organisation, (KeyWeight(key.public_key, 1),), 1, 1)


async def _send_all(
    client: AsyncClient,
    target: Target,
    operations: Iterable[Operation],
    progress: Progress = lambda _: None,
) -> None:
    """Submit operations in full transactions and wait until all are final and have succeeded.

    The next transactions are made while nodes work on those before.
    """
    waiting: deque[asyncio.Task[int]] = deque()
    source = iter(operations)
    try:
        while chunk := tuple(islice(source, OPERATIONS_MAX)):
            if len(waiting) == SETUP_IN_FLIGHT:
                progress(await waiting.popleft())
            waiting.append(asyncio.create_task(_finish(client, target, chunk)))
            # It is sent before the next one is made.
            await asyncio.sleep(0)
        while waiting:
            progress(await waiting.popleft())
    finally:
        for task in waiting:
            task.cancel()


async def _finish(client: AsyncClient, target: Target, operations: tuple[Operation, ...]) -> int:
    """Send one set-up transaction, wait until it is final, and return its operations."""
    outcome = await client.submit_and_wait(_signed(target, operations), SETUP_TIMEOUT_S)
    if outcome.status != "finalized":
        code = outcome.document.get("code")
        raise OperationFailed(
            f"set-up transaction {outcome.id} {outcome.status}: {code}; the funding key must be "
            "the admin of its organisation, hold enough of the asset, and for settlements be "
            "licensed to issue securities"
        )
    return len(operations)


def _signed(target: Target, operations: tuple[Operation, ...]) -> bytes:
    """Return a signed transaction of the funder.

    Without the wallet's checks: they look at each new key twice, which takes 0.4 ms an account.
    """
    fields = (
        TRANSACTION_VERSION,
        address_of(target.funder.public_key),
        secrets.randbits(NONCE_BITS),
        time.time_ns() // 1_000_000 + SETUP_VALID_FOR_S * 1000,
        operations,
        "",
    )
    return sign(target.chain_id, fields, [target.funder])[1]
