"""Where execution stands, and everyone who waits for it.

Keeps the roots of recent heights (consensus compares them with headers), wakes those who wait
for a height or for a transaction, and remembers when recent blocks became final. Everything is
bounded.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from ledger.transition import BlockOutcome
from ledger.types import Digest, Height, TimeMs
from node.block_pool import PoolBlock
from storage.chain_store import ChainStore

RECENT_BLOCKS: Final = 1_024
"""Heights whose roots and times are in memory; older roots are read from disk."""


@dataclass(slots=True)
class BlockTimes:
    """When this node saw a block reach a stage."""

    finalized_ms: TimeMs
    executed_ms: TimeMs | None = None


class Progress:
    """The executed head, as a thing one can wait for."""

    def __init__(self, chain: ChainStore) -> None:
        """``chain`` has at least the genesis block."""
        head = chain.head()
        self.height = head.height
        """Executed and durable."""
        self.finalized_height = head.height
        self._chain = chain
        self._roots: OrderedDict[Height, tuple[Digest, Digest]] = OrderedDict()
        self._times: OrderedDict[Height, BlockTimes] = OrderedDict()
        self._advanced: asyncio.Future[None] | None = None
        self._waiters: dict[Digest, set[asyncio.Future[None]]] = {}

    def roots_at(self, height: Height) -> tuple[Digest, Digest] | None:
        """Return state root and history root after a height; None if it is not executed here."""
        if height > self.height:
            return None
        known = self._roots.get(height)
        if known is not None:
            return known
        executed = self._chain.require_executed(height)
        return Digest(executed.state_root), Digest(executed.history_root)

    def times_of(self, height: Height) -> BlockTimes | None:
        """Return when a recent block became final and executed here."""
        return self._times.get(height)

    def finalized(self, height: Height, time_ms: TimeMs) -> None:
        """Note that a block is final and queued for execution."""
        self.finalized_height = max(self.finalized_height, height)
        self._times[height] = BlockTimes(time_ms)
        if len(self._times) > RECENT_BLOCKS:
            self._times.popitem(last=False)

    def executed(self, block: PoolBlock, outcome: BlockOutcome, time_ms: TimeMs) -> None:
        """Note that a block is executed and durable, and wake whoever waits for it."""
        self.height = block.header.height
        self._roots[self.height] = (outcome.state_root, outcome.history_root)
        if len(self._roots) > RECENT_BLOCKS:
            self._roots.popitem(last=False)
        times = self._times.get(self.height)
        if times is not None:
            times.executed_ms = time_ms
        if self._advanced is not None:
            self._advanced.set_result(None)
            self._advanced = None
        if self._waiters:
            for transaction in block.transactions:
                for future in self._waiters.get(transaction.id, ()):
                    if not future.done():
                        future.set_result(None)

    async def wait_above(self, height: Height) -> Height:
        """Wait until the executed height is greater than ``height``; return it."""
        while self.height <= height:
            if self._advanced is None:
                self._advanced = asyncio.get_running_loop().create_future()
            # Shielded: one impatient waiter must not cancel the signal of the others.
            await asyncio.shield(self._advanced)
        return self.height

    async def wait_transaction(self, transaction_id: Digest, timeout_s: float) -> None:
        """Wait until a block with this transaction is executed, or the time is up.

        The API bounds the number of those who wait.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(transaction_id, set()).add(future)
        try:
            await asyncio.wait((future,), timeout=timeout_s)
        finally:
            futures = self._waiters[transaction_id]
            futures.discard(future)
            if not futures:
                del self._waiters[transaction_id]
            future.cancel()
