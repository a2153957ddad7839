"""Steady transfers through HTTP to all nodes in turn, and a record of what they answered."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ledger.crypto import SigningKey
from ledger.types import Digest
from mbi.client import AsyncClient
from mbi.drill.watch import ANSWER_S, DrillNode
from mbi.errors import MbiError, UsageError
from mbi.wallet import SignedTransaction, Wallet

REQUESTS_PER_S: Final = 10
"""Load in lumps would be another load."""
IN_FLIGHT_MAX: Final = 100
"""Requests without an answer; beyond, a turn is skipped: a network that hangs is not hammered."""
TAKEN: Final = frozenset({"accepted", "known", "pending", "finalized"})


@dataclass(frozen=True, slots=True)
class Payer:
    """Who pays whom."""

    wallet: Wallet
    asset: str
    receiver: str


@dataclass(slots=True)
class Sent:
    """What nodes answered to each transaction."""

    acknowledged: dict[str, bytes] = field(default_factory=dict)
    """Signed bytes by id of everything that a node took."""
    refused: set[str] = field(default_factory=set)
    """Refused by one node and offered to no other."""
    refusals: Counter[str] = field(default_factory=Counter)
    """By code."""
    unanswered: int = 0
    """Transactions that two nodes in a row did not answer: their outcome is open."""
    skipped: int = 0
    """Transactions that were due while too many requests were without an answer."""


class Load:
    """Sends ``rate`` transactions per second for as long as it runs."""

    def __init__(self, nodes: Sequence[DrillNode], payers: Sequence[Payer], rate: int) -> None:
        self.sent = Sent()
        self._nodes = nodes
        self._payers = payers
        self._size = max(1, rate // REQUESTS_PER_S)
        self._interval_s = self._size / rate
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Send until cancelled."""
        due = time.monotonic()
        for turn in itertools.count():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            # After a stall of this program the rate is kept from now on: no burst makes up for it.
            due = max(due, time.monotonic() - 1.0) + self._interval_s
            if len(self._tasks) >= IN_FLIGHT_MAX:
                self.sent.skipped += self._size
                continue
            payer = self._payers[turn % len(self._payers)]
            signed = [
                payer.wallet.transfer(payer.asset, payer.receiver, 1) for _ in range(self._size)
            ]
            task = asyncio.create_task(self._offer(turn, signed))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def settled(self) -> None:
        """Wait for the answers to everything sent."""
        await asyncio.gather(*self._tasks)

    async def send_again(self, identifiers: Sequence[str]) -> None:
        """Send the same bytes once more, as a client does that misses its transaction."""
        wires = [self.sent.acknowledged[identifier] for identifier in identifiers]
        for turn, first in enumerate(range(0, len(wires), self._size)):
            await self._post(
                self._nodes[turn % len(self._nodes)], wires[first : first + self._size]
            )

    async def _offer(self, turn: int, signed: Sequence[SignedTransaction]) -> None:
        """Offer to one node, and to the next if that one does not answer."""
        for step in range(2):
            node = self._nodes[(turn + step) % len(self._nodes)]
            statuses = await self._post(node, [item.wire for item in signed])
            if statuses is not None:
                for item, (status, code) in zip(signed, statuses, strict=True):
                    self._record(item, status, code, is_retry=step > 0)
                return
        self.sent.unanswered += len(signed)

    def _record(self, item: SignedTransaction, status: str, code: str, *, is_retry: bool) -> None:
        if status in TAKEN:
            self.sent.acknowledged[item.id] = item.wire
            return
        self.sent.refusals[code] += 1
        if not is_retry:
            self.sent.refused.add(item.id)

    async def _post(self, node: DrillNode, wires: Sequence[bytes]) -> list[tuple[str, str]] | None:
        """Return status and code of each transaction; None if the node did not answer."""
        try:
            async with AsyncClient(node.url, ANSWER_S) as client:
                answers = await client.submit_batch(wires)
        except MbiError:
            return None
        if len(answers) != len(wires):
            return None
        return [(answer.status, str(answer.document.get("code") or "")) for answer in answers]


def payers_of(document: Mapping[str, Any]) -> list[Payer]:
    """Return two funded accounts of a development network that pay each other.

    Raises:
        UsageError: there are no two accounts with the same asset.
    """
    accounts = [item for item in document["accounts"] if int(item["balance"]) > 0]
    if len(accounts) < 2 or accounts[0]["asset"] != accounts[1]["asset"]:
        raise UsageError("the network has no two funded accounts of one asset")
    chain_id = Digest(bytes.fromhex(document["chain_id"]))
    pair = accounts[:2]
    return [
        Payer(
            Wallet(chain_id, [SigningKey.from_seed(bytes.fromhex(payer["private_key"]))]),
            payer["asset"],
            receiver["address"],
        )
        for payer, receiver in (pair, pair[::-1])
    ]
