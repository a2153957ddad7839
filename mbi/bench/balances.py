"""What the balances must be after a run, worked out from the final transactions, and what they are.

Nothing is assumed of a transaction but its operations: each account that they touch must hold
exactly what they moved, in each asset, and the supply must have grown by what they issued. If a
balance differs, the receipts tell which transactions failed; what then still differs is a problem.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ledger.address import address_of, format_address
from ledger.operations import Burn, Mint, Operation, RegisterAccount, Transfer
from ledger.types import Address
from mbi.bench.workload import Accounts, Draft, Prepared
from mbi.calls import HTTP_NOT_FOUND
from mbi.client import AsyncClient
from mbi.errors import ApiProblem

READERS: Final = 8
"""Requests at a time while accounts are read back."""
NEW_ACCOUNTS_READ_MAX: Final = 500
"""Of the accounts registered during the load, evenly spread. That each was registered and credited
shows in the issuer's balance."""


@dataclass(slots=True)
class Moves:
    """What transactions do to balances."""

    held: Counter[tuple[Address, str]] = field(default_factory=Counter)
    """Change by account and asset."""
    supply: Counter[str] = field(default_factory=Counter)
    """Change by asset."""
    registered: list[Address] = field(default_factory=list)
    moved: int = 0
    """Units that changed hands."""

    def add(self, draft: Draft, sign: int = 1) -> None:
        """Add what a transaction does, or with -1 take it back."""
        for operation in draft.operations:
            self._add(operation.source or draft.sender, operation, sign)

    def _add(self, actor: Address, operation: Operation, sign: int) -> None:
        if isinstance(operation, Transfer):
            amount = sign * operation.amount
            self.held[actor, operation.asset] -= amount
            self.held[operation.to, operation.asset] += amount
            self.moved += amount
        elif isinstance(operation, Mint):
            self.held[operation.to, operation.asset] += sign * operation.amount
            self.supply[operation.asset] += sign * operation.amount
        elif isinstance(operation, Burn):
            self.held[actor, operation.asset] -= sign * operation.amount
            self.supply[operation.asset] -= sign * operation.amount
        elif isinstance(operation, RegisterAccount) and sign > 0:
            self.registered.append(address_of(operation.keys[0].public_key))
        elif not isinstance(operation, RegisterAccount):
            raise TypeError(f"no workload contains {type(operation).__name__}")


@dataclass(frozen=True, slots=True)
class Opening:
    """What the funder and the supply were before the load, where the workload changes them."""

    held: dict[tuple[Address, str], int]
    supply: dict[str, int]


@dataclass(slots=True)
class BalanceCheck:
    """Outcome of the comparison."""

    problems: list[str] = field(default_factory=list)
    failed_by_code: Counter[str] = field(default_factory=Counter)
    """Our final transactions without effect, by code of the receipt."""
    accounts: int = 0
    """Accounts that were read."""
    moved: int = 0
    """Units that changed hands."""


async def read_opening(client: AsyncClient, accounts: Accounts) -> Opening:
    """Note everything that is there before the load."""
    assets = [asset for asset in (accounts.asset, accounts.security) if asset is not None]
    held: dict[tuple[Address, str], int] = {}
    supply: dict[str, int] = {}
    for index, sender in enumerate(accounts.sender_addresses):
        held[sender, accounts.asset] = accounts.funds
        if accounts.security is not None and index >= len(accounts.senders) // 2:
            held[sender, accounts.security] = accounts.funds
    if accounts.funder is not None:
        issuer = address_of(accounts.funder.public_key)
        document = await client.account(format_address(issuer))
        for asset in assets:
            held[issuer, asset] = balance_of(document, asset)
            supply[asset] = int((await client.asset(asset))["supply"])
    return Opening(held, supply)


async def check_balances(
    client: AsyncClient,
    accounts: Accounts,
    opening: Opening,
    prepared: Prepared,
    heights: Sequence[int],
) -> BalanceCheck:
    """Compare what is held with what the final transactions make; ``heights`` is -1 for others."""
    check = BalanceCheck()
    moves = Moves()
    for number, height in enumerate(heights):
        if height >= 0:
            moves.add(prepared.compose(number))
    assets = [asset for asset in (accounts.asset, accounts.security) if asset is not None]
    readable = _readable(accounts, moves)
    found = await _read(client, readable, assets)
    supply = {asset: int((await client.asset(asset))["supply"]) for asset in opening.supply}
    if _differences(opening, moves, found, supply):
        failed = await _failures(client, prepared, heights)
        check.failed_by_code = Counter(failed.values())
        for number in failed:
            moves.add(prepared.compose(number), -1)
    check.problems += _differences(opening, moves, found, supply)
    check.accounts, check.moved = len(readable), moves.moved
    return check


def _readable(accounts: Accounts, moves: Moves) -> list[Address]:
    """Return all accounts that took part, and some of those registered during the load."""
    taking_part = [*accounts.sender_addresses, *accounts.receivers]
    if accounts.funder is not None:
        taking_part.append(address_of(accounts.funder.public_key))
    step = -(-len(moves.registered) // NEW_ACCOUNTS_READ_MAX) or 1
    return taking_part + moves.registered[::step]


def _differences(
    opening: Opening,
    moves: Moves,
    found: dict[tuple[Address, str], int],
    supply: dict[str, int],
) -> list[str]:
    """Return what is wrong, in sentences: at most one for balances and one for each asset."""
    wrong = [
        (key, amount, expected)
        for key, amount in found.items()
        if amount != (expected := opening.held.get(key, 0) + moves.held[key])
    ]
    problems = []
    if wrong:
        (address, asset), amount, expected = wrong[0]
        problems.append(
            f"{len(wrong)} of {len(found)} balances are not what the final transactions make; the "
            f"first: {format_address(address)} holds {amount} {asset}, expected {expected}"
        )
    for asset, amount in supply.items():
        expected = opening.supply[asset] + moves.supply[asset]
        if amount != expected:
            problems.append(f"the supply of {asset} is {amount}, expected {expected}")
    return problems


async def _failures(
    client: AsyncClient, prepared: Prepared, heights: Sequence[int]
) -> dict[int, str]:
    """Return the codes of our final transactions without effect, by number, from the receipts."""
    numbers = {prepared.ids[n].hex(): n for n, height in enumerate(heights) if height >= 0}
    failed: dict[int, str] = {}
    for height in sorted({height for height in heights if height >= 0}):
        async for item in client.items(f"/v1/blocks/{height}/transactions"):
            number = numbers.get(item["id"])
            if number is not None and item["code"] != "ok":
                failed[number] = str(item["code"])
    return failed


async def _read(
    client: AsyncClient, addresses: Iterable[Address], assets: Sequence[str]
) -> dict[tuple[Address, str], int]:
    """Return what accounts hold; an account that is not registered holds nothing."""
    room = asyncio.Semaphore(READERS)

    async def read(address: Address) -> dict[str, Any]:
        async with room:
            try:
                return await client.account(format_address(address))
            except ApiProblem as problem:
                if problem.status != HTTP_NOT_FOUND:
                    raise
                return {"balances": []}

    chosen = list(addresses)
    documents = await asyncio.gather(*map(read, chosen))
    return {
        (address, asset): balance_of(document, asset)
        for address, document in zip(chosen, documents, strict=True)
        for asset in assets
    }


def balance_of(account: dict[str, Any], asset: str) -> int:
    """Return what an account document says it holds of an asset."""
    for entry in account["balances"]:
        if entry["asset"] == asset:
            return int(entry["amount"])
    return 0
