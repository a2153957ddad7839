"""Checks after the load: all nodes agree, every transaction is there, the balances add up.

Every check ends in a sentence if it fails. One failure makes the whole run fail: a fast wrong
ledger has no throughput. What could not be checked, because the network had not come to rest in the
time given to it, is no failure and no success either: it is said, and such a run does not pass.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from mbi.bench.balances import Opening, check_balances
from mbi.bench.connection import Pool
from mbi.bench.http import request_bytes
from mbi.bench.load import ACCEPTED, UNANSWERED, Sent
from mbi.bench.target import Target, TargetNode
from mbi.bench.workload import Accounts, Prepared
from mbi.calls import MSGPACK
from mbi.client import AsyncClient
from mbi.errors import MbiError, OutcomeUnknown, Unreachable

CATCH_UP_S: Final = 60.0
"""How long every node has to reach the height of the others after the load."""
POLL_S: Final = 0.1
READERS: Final = 8
"""Requests at a time while blocks are read back."""
PROBLEMS_SHOWN: Final = 20

_decode_ids: Final = msgspec.msgpack.Decoder(tuple[int, int, list[bytes]]).decode


@dataclass(slots=True)
class Integrity:
    """Outcome of the checks."""

    problems: list[str] = field(default_factory=list)
    """What is wrong."""
    unfinished: list[str] = field(default_factory=list)
    """What could not be checked because the network had not come to rest."""
    checked: dict[str, Any] = field(default_factory=dict)
    failed_by_code: Counter[str] = field(default_factory=Counter)
    """Our final transactions without effect, by code of the receipt."""
    body_bytes: dict[int, int] = field(default_factory=dict)
    """Size of the transactions of each block, by height."""

    @property
    def passed(self) -> bool:
        """Whether everything was checked and nothing was wrong."""
        return not self.problems and not self.unfinished

    @property
    def verdict(self) -> str:
        """``passed``, ``violated``, or ``incomplete``: nothing wrong so far as it was checked."""
        if self.problems:
            return "violated"
        return "incomplete" if self.unfinished else "passed"

    def to_json(self) -> dict[str, Any]:
        """Return the integrity section of the report."""
        return {
            "passed": self.passed,
            "verdict": self.verdict,
            **self.checked,
            "problems": self.problems[:PROBLEMS_SHOWN],
            "unfinished": self.unfinished,
        }


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a run knows of its transactions, to be held against the nodes."""

    accounts: Accounts
    opening: Opening
    prepared: Prepared
    sent: Sent
    heights: Sequence[int]
    """Where the observer saw each transaction final; -1 where it did not."""
    first_height: int
    seen_height: int
    """Last height that the observer looked at."""
    pending: int
    """Transactions that still waited for a block when the time for it was over."""


async def check_integrity(target: Target, evidence: Evidence) -> Integrity:
    """Compare all nodes over the heights of the run.

    Raises nothing for a node that cannot be asked: that is one of the problems.
    """
    result, first = Integrity(), evidence.first_height
    try:
        last = await wait_common_height(target.nodes)
        blocks = [await _blocks(node, first, last) for node in target.nodes]
        result.body_bytes = {
            height: int(block["body_bytes"]) for height, block in blocks[0].items()
        }
        _compare_roots(result, target.nodes, [_roots(found) for found in blocks])
        for node in target.nodes:
            await _find_ids(result, node, evidence, last)
        await _check_balances(result, target, evidence)
    except OutcomeUnknown as error:
        result.unfinished.append(str(error))
    except MbiError as error:
        result.problems.append(f"not all nodes could be asked: {error}")
    result.checked |= {"first_height": first, "nodes": [node.name for node in target.nodes]}
    return result


async def wait_common_height(nodes: Sequence[TargetNode]) -> int:
    """Wait until all nodes are at least as high as the highest is now; return that height.

    Raises:
        OutcomeUnknown: a node is still on its way when the time is over.
        Unreachable: a node does not answer.
    """
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
            raise OutcomeUnknown(
                f"not all nodes reached height {target} within {CATCH_UP_S:g} s of the load: "
                f"{', '.join(behind)}"
            )
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


async def _find_ids(result: Integrity, node: TargetNode, evidence: Evidence, last: int) -> None:
    """Find every transaction that the observer saw final, at the same height, once, on one node."""
    numbers: dict[bytes, int] = {item: n for n, item in enumerate(evidence.prepared.ids)}
    heights, outcome = evidence.heights, evidence.sent.outcome
    found: dict[int, int] = {}
    for height, ids in await _read_ids(node, evidence.first_height, last):
        for identifier in ids:
            number = numbers.get(identifier)
            if number is None:
                continue
            if number in found:
                result.problems.append(f"{node.name}: {identifier.hex()} is final twice")
            found[number] = height
    missing = [n for n, height in enumerate(heights) if height >= 0 and found.get(n) != height]
    if missing:
        example = evidence.prepared.ids[missing[0]].hex()
        result.problems.append(
            f"{node.name}: {len(missing)} transactions that were seen final are not there "
            f"(the first: {example})"
        )
    # Blocks above those that the observer has looked at hold what it could not see in time.
    unseen = [n for n, height in found.items() if heights[n] < 0]
    overlooked = sum(found[number] <= evidence.seen_height for number in unseen)
    if overlooked:
        result.problems.append(f"{node.name} has {overlooked} transactions that others do not have")
    refused = sum(outcome[number] not in (ACCEPTED, UNANSWERED) for number in found)
    if refused:
        result.problems.append(f"{node.name} has {refused} final transactions that were refused")
    result.checked.setdefault("found_per_node", {})[node.name] = len(found)
    result.checked["final_after_observation"] = max(
        len(unseen) - overlooked, result.checked.get("final_after_observation", 0)
    )


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


async def _check_balances(result: Integrity, target: Target, evidence: Evidence) -> None:
    """Compare balances, which can only be done when nothing changes them any more."""
    late = result.checked["final_after_observation"]
    if evidence.pending or late:
        result.unfinished.append(
            f"the tail of the load was not awaited to its end ({evidence.pending} transactions "
            f"pending, {late} became final after the observation): balances were not compared"
        )
        return
    async with AsyncClient(target.nodes[0].url) as client:
        check = await check_balances(
            client, evidence.accounts, evidence.opening, evidence.prepared, evidence.heights
        )
    result.problems += check.problems
    result.failed_by_code = check.failed_by_code
    result.checked |= {"accounts_checked": check.accounts, "moved": str(check.moved)}
