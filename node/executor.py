"""Executes final blocks, one after the other, and makes each durable in one synced write.

Only final blocks are executed, once, in order (deferred execution), so there is no speculative
state to roll back and consensus never waits for this. The work is cut into slices, because it
shares the loop with consensus. What the API calls final has passed through here: block,
receipts, indexes, state and head are on disk together before anyone hears of them.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Final, TypeVar

import structlog

from consensus.certificates import encoded_signers
from consensus.recovery import RecoveryPlan
from consensus.types import Certificate
from ledger.errors import InvariantViolation
from ledger.state import State
from ledger.transaction import DecodedTransaction
from ledger.transition import BlockExecution, BlockOutcome
from ledger.votes import Round
from node.block_pool import PoolBlock
from node.costs import Costs, Stage
from node.recovery import start_for
from node.writer import Writer
from storage.chain_store import ChainStore
from storage.kv import Batch, KeyValueStore
from storage.schedule_store import ScheduleStore
from storage.vote_store import VoteStore

SLICE_SECONDS: Final = 0.004
"""Longest uninterrupted work on the loop; a vote waits no longer than this."""
SLICE_TRANSACTIONS: Final = 32
"""Transactions between two looks at the clock."""

log = structlog.get_logger("executor")

T = TypeVar("T")

OnExecuted = Callable[[PoolBlock, BlockOutcome, Certificate | None], None]


class Executor:
    """Owner of the ledger's state."""

    def __init__(
        self,
        chain: ChainStore,
        votes: VoteStore,
        schedules: ScheduleStore,
        store: KeyValueStore,
        state: State,
        writer: Writer,
        plans: Sequence[RecoveryPlan] = (),
        *,
        costs: Costs,
    ) -> None:
        """``state`` is that of the head of ``chain``; ``plans`` open its eras."""
        self.state = state
        self._chain = chain
        self._votes = votes
        self._schedules = schedules
        self._store = store
        self._writer = writer
        self._plans = plans
        self._costs = costs
        self._queue: deque[tuple[PoolBlock, Certificate | None]] = deque()
        self._wake = asyncio.Event()

    def enqueue(self, block: PoolBlock, certificate: Certificate | None) -> None:
        """Queue a final block; ``certificate`` if it is itself certified, not only a descendant."""
        self._queue.append((block, certificate))
        self._wake.set()

    def __len__(self) -> int:
        return len(self._queue)

    async def run(self, on_executed: OnExecuted) -> None:
        """Execute queued blocks until cancelled; calls ``on_executed`` when each is durable."""
        while True:
            await self._wake.wait()
            while self._queue:
                block, certificate = self._queue.popleft()
                _check_closing(block, certificate)
                outcome = await self._execute(block)
                with self._costs.measure("write"):
                    batch = self._batch(block, outcome, certificate)
                await self._writer.write(batch, sync=True)
                with self._costs.measure("execute"):
                    self.state.stored(block.header.height)
                    on_executed(block, outcome, certificate)
            self._wake.clear()

    async def _execute(self, block: PoolBlock) -> BlockOutcome:
        execution = BlockExecution(
            self.state,
            block.header,
            encoded_signers(block.parent_certificate),
            block.next_validators or None,
            start_for(block.header, self._plans),
        )
        await self._in_slices("execute", _apply_steps(execution, block.transactions))
        return await self._in_slices("tree", execution.finish_steps())

    async def _in_slices(self, stage: Stage, steps: Generator[None, None, T]) -> T:
        """Do all steps, and give way to consensus whenever they have taken long enough."""
        while True:
            with self._costs.measure(stage):
                started = time.perf_counter()
                try:
                    next(steps)
                    while time.perf_counter() - started < SLICE_SECONDS:
                        next(steps)
                except StopIteration as done:
                    result: T = done.value
                    return result
            await asyncio.sleep(0)

    def _batch(
        self, block: PoolBlock, outcome: BlockOutcome, certificate: Certificate | None
    ) -> Batch:
        """Return everything that the block leaves on disk."""
        batch = self._store.batch()
        self._chain.add_finalized(batch, block.block_hash, block.to_block(), outcome, certificate)
        self._schedules.add(batch, outcome)
        header = block.header
        self._votes.prune(batch, Round(header.era, header.epoch, header.view))
        return batch


def _apply_steps(
    execution: BlockExecution, transactions: Sequence[DecodedTransaction]
) -> Generator[None, None, None]:
    apply = execution.apply
    for index, transaction in enumerate(transactions, 1):
        apply(transaction)
        if not index % SLICE_TRANSACTIONS:
            yield


def _check_closing(block: PoolBlock, certificate: Certificate | None) -> None:
    """Demand the finalization of a boundary block itself: whoever is behind is shown it for ever.

    Nothing is built on a boundary block in its epoch, so nothing else can have made it final.
    """
    if block.next_validators and certificate is None:
        raise InvariantViolation(
            "closing_kept", f"boundary block {block.header.height} has no finalization of its own"
        )
