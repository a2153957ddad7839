"""Checks after the load: all nodes agree, every transaction is there, the balances add up.

Every check ends in a sentence if it fails. One failure makes the whole run fail: a fast wrong
ledger has no throughput.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from mbi.bench.connection import Pool
from mbi.bench.http import request_bytes
from mbi.bench.load import ACCEPTED, UNANSWERED, Sent
from mbi.bench.target import Target, TargetNode
from mbi.bench.workload import Accounts, Prepared, address_texts
from mbi.calls import MSGPACK
from mbi.client import AsyncClient
from mbi.errors import MbiError, Unreachable

CATCH_UP_S: Final = 30.0
"""How long every node has to reach the height of the others after the load."""
POLL_S: Final = 0.1
READERS: Final = 8
"""Requests at a time while accounts and blocks are read back."""
PROBLEMS_SHOWN: Final = 20

_decode_ids: Final = msgspec.msgpack.Decoder(tuple[int, int, list[bytes]]).decode


@dataclass(slots=True)
class Integrity:
    """Outcome of the checks."""

    problems: list[str] = field(default_factory=list)
    checked: dict[str, Any] = field(default_factory=dict)
    failed_by_code: Counter[str] = field(default_factory=Counter)
    """Our final transactions without effect, by code of the receipt."""
    failed_amount: int = 0
    """What they would have moved, in minor units."""
    body_bytes: dict[int, int] = field(default_factory=dict)
    """Size of the transactions of each block, by height."""

    @property
    def passed(self) -> bool:
        """Whether nothing was wrong."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Return the integrity section of the report."""
        return {"passed": self.passed, **self.checked, "problems": self.problems[:PROBLEMS_SHOWN]}


async def check_integrity(
    target: Target,
    accounts: Accounts,
    prepared: Prepared,
    sent: Sent,
    heights: Sequence[int],
    first_height: int,
) -> Integrity:
    """Compare all nodes over the heights of the run; ``heights`` is what the observer saw.

    Raises nothing for a node that cannot be asked: that is one of the problems.
    """
    result = Integrity()
    try:
        last_height = await _wait_common_height(target.nodes)
        blocks = [await _blocks(node, first_height, last_height) for node in target.nodes]
        result.body_bytes = {
            height: int(block["body_bytes"]) for height, block in blocks[0].items()
        }
        _compare_roots(result, target.nodes, [_roots(found) for found in blocks])
        for node in target.nodes:
            await _find_ids(result, node, prepared, sent, heights, first_height, last_height)
        await _check_balances(result, target, accounts, prepared, heights)
    except MbiError as error:
        result.problems.append(f"not all nodes could be asked: {error}")
    result.checked |= {"first_height": first_height, "nodes": [node.name for node in target.nodes]}
    return result


async def _wait_common_height(nodes: Sequence[TargetNode]) -> int:
    """Wait until all nodes are at least as high as the highest is now; return that height."""
    target = max(await asyncio.gather(*(_height(node) for node in nodes)))
    deadline = time.monotonic() + CATCH_UP_S
    while True:
        heights = await asyncio.gather(*(_height(node) for node in nodes))
        behind = [
            f"{node.name} at {height}"
            for node, height in zip(nodes, heights, strict=True)
            if height < target
        ]
        if not behind:
            return target
        if time.monotonic() > deadline:
            raise Unreachable(f"not at height {target} after {CATCH_UP_S:g} s: {', '.join(behind)}")
        await asyncio.sleep(POLL_S)


async def _height(node: TargetNode) -> int:
    async with AsyncClient(node.url) as client:
        return int((await client.status())["height"])


async def _blocks(node: TargetNode, first: int, last: int) -> dict[int, dict[str, Any]]:
    """Return the summary of every block, by height."""
    found: dict[int, dict[str, Any]] = {}
    async with AsyncClient(node.url) as client:
        async for block in client.items("/v1/blocks", order="desc"):
            height = int(block["height"])
            if first <= height <= last:
                found[height] = block
            if height <= first:
                break
    return found


def _roots(blocks: dict[int, dict[str, Any]]) -> dict[int, tuple[str, str]]:
    """Return block hash and state root of every height."""
    return {
        height: (str(block["hash"]), str(block["state_root"])) for height, block in blocks.items()
    }


def _compare_roots(
    result: Integrity, nodes: Sequence[TargetNode], roots: Sequence[dict[int, tuple[str, str]]]
) -> None:
    reference = roots[0]
    for node, found in zip(nodes[1:], roots[1:], strict=True):
        if found.keys() != reference.keys():
            result.problems.append(f"{node.name} lists other heights than {nodes[0].name}")
        for height in sorted(reference.keys() & found.keys()):
            if found[height] != reference[height]:
                result.problems.append(
                    f"height {height}: {node.name} has block and state {found[height]}, "
                    f"{nodes[0].name} has {reference[height]}"
                )
    result.checked |= {
        "heights_compared": len(reference),
        "last_height": max(reference, default=None),
        "state_root": reference[max(reference)][1] if reference else None,
    }


async def _find_ids(
    result: Integrity,
    node: TargetNode,
    prepared: Prepared,
    sent: Sent,
    heights: Sequence[int],
    first: int,
    last: int,
) -> None:
    """Find every transaction that the observer saw final, at the same height, once, on one node."""
    numbers: dict[bytes, int] = {item: number for number, item in enumerate(prepared.ids)}
    found: dict[int, int] = {}
    for height, ids in await _read_ids(node, first, last):
        for identifier in ids:
            number = numbers.get(identifier)
            if number is None:
                continue
            if number in found:
                result.problems.append(f"{node.name}: {identifier.hex()} is final twice")
            found[number] = height
    missing = [n for n, height in enumerate(heights) if height >= 0 and found.get(n) != height]
    if missing:
        example = prepared.ids[missing[0]].hex()
        result.problems.append(
            f"{node.name}: {len(missing)} transactions that were seen final are not there "
            f"(the first: {example})"
        )
    unseen = sum(heights[number] < 0 for number in found)
    if unseen:
        result.problems.append(f"{node.name} has {unseen} transactions nobody saw become final")
    refused = sum(sent.outcome[number] not in (ACCEPTED, UNANSWERED) for number in found)
    if refused:
        result.problems.append(f"{node.name} has {refused} final transactions that were refused")
    result.checked.setdefault("found_per_node", {})[node.name] = len(found)


async def _read_ids(node: TargetNode, first: int, last: int) -> list[tuple[int, list[bytes]]]:
    pool = Pool(node.url, READERS)

    async def read(height: int) -> tuple[int, list[bytes]]:
        path = f"/v1/blocks/{height}/ids"
        answer = await pool.request(request_bytes(node.url, "GET", path, accept=MSGPACK))
        try:
            return height, _decode_ids(answer.body)[2]
        except msgspec.DecodeError as error:
            raise Unreachable(f"{node.url}{path}: HTTP {answer.status}: {error}") from error

    try:
        return await asyncio.gather(*(read(height) for height in range(first, last + 1)))
    finally:
        pool.close()


async def _check_balances(
    result: Integrity,
    target: Target,
    accounts: Accounts,
    prepared: Prepared,
    heights: Sequence[int],
) -> None:
    """Compare every sender's balance with what its final transfers must have left of it."""
    spent = [0] * len(accounts.senders)
    for number, height in enumerate(heights):
        if height >= 0:
            spent[prepared.senders[number]] += prepared.amounts[number]
    async with AsyncClient(target.nodes[0].url) as client:
        senders = await _balances(client, address_texts(accounts.sender_addresses), accounts.asset)
        receivers = await _balances(client, address_texts(accounts.receivers), accounts.asset)
        differs = [
            index
            for index, (balance, out) in enumerate(zip(senders, spent, strict=True))
            if balance != accounts.funds - out
        ]
        if differs:
            await _count_failures(result, client, prepared, heights)
    total, expected = sum(senders) + sum(receivers), accounts.funds * len(senders)
    if total != expected:
        result.problems.append(f"balances add up to {total} minor units, expected {expected}")
    moved = sum(receivers)
    effective = sum(spent) - result.failed_amount
    if moved != effective:
        result.problems.append(
            f"receivers hold {moved} minor units, final transfers without failure make {effective}"
        )
    result.checked |= {"accounts_checked": len(senders) + len(receivers), "moved": str(moved)}


async def _count_failures(
    result: Integrity, client: AsyncClient, prepared: Prepared, heights: Sequence[int]
) -> None:
    """Read the receipts' codes: only needed if some balance shows that a transfer failed."""
    amounts = {
        prepared.ids[n].hex(): prepared.amounts[n]
        for n, height in enumerate(heights)
        if height >= 0
    }
    for height in sorted({height for height in heights if height >= 0}):
        async for item in client.items(f"/v1/blocks/{height}/transactions"):
            if item["id"] in amounts and item["code"] != "ok":
                result.failed_by_code[str(item["code"])] += 1
                result.failed_amount += amounts[item["id"]]


async def _balances(client: AsyncClient, addresses: Sequence[str], asset: str) -> list[int]:
    room = asyncio.Semaphore(READERS)

    async def read(address: str) -> int:
        async with room:
            account = await client.account(address)
        return balance_of(account, asset)

    return await asyncio.gather(*(read(address) for address in addresses))


def balance_of(account: dict[str, Any], asset: str) -> int:
    """Return what an account document says it holds of an asset."""
    for entry in account["balances"]:
        if entry["asset"] == asset:
            return int(entry["amount"])
    return 0
