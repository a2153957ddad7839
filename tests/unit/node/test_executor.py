"""Execution of final blocks: in slices, and durable before anyone hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from consensus.types import Certificate
from ledger.block import block_hash
from ledger.genesis import genesis_block
from ledger.history import History
from ledger.operations import Transfer
from ledger.state import State
from ledger.transaction import DecodedTransaction
from ledger.transition import BlockOutcome, execute_genesis
from ledger.types import Amount
from node import executor as executor_module
from node.block_pool import PoolBlock
from node.costs import Costs
from node.executor import SLICE_TRANSACTIONS, Executor
from node.writer import Writer
from storage.chain_store import ChainStore
from storage.memory import MemoryStore
from storage.schedule_store import ScheduleStore
from storage.state_store import StateStore
from storage.vote_store import VoteStore
from tests.unit.ledger.builders import MYR, Chain, address, make_header

SLICES = 4


class World:
    """An executor over a database that holds genesis."""

    def __init__(self) -> None:
        self.twin = Chain()
        chain_id, genesis = self.twin.chain_id, self.twin.genesis
        self.store, self.costs = MemoryStore(), Costs()
        self.chain = ChainStore(self.store, chain_id)
        batch = self.store.batch()
        self.chain.add_genesis(batch, genesis_block(genesis), execute_genesis(genesis))
        self.store.write(batch, sync=True)
        reader = StateStore(self.store)
        history = History.load(1, reader.history_page)
        state = State.load(chain_id, reader, reader.records(), history)
        self.writer = Writer(self.store, lambda _seconds: None, costs=self.costs)
        self.executor = Executor(
            self.chain,
            VoteStore(self.store, self.chain),
            ScheduleStore(self.store),
            self.store,
            state,
            self.writer,
            costs=self.costs,
        )

    def block(self, height: int) -> PoolBlock:
        """Return a block of transfers that takes some slices to execute."""
        pay = Transfer(None, address("bob"), MYR, Amount(1))
        transactions: list[DecodedTransaction] = [
            self.twin.transaction("alice", pay) for _ in range(SLICES * SLICE_TRANSACTIONS)
        ]
        header = make_header(height, transactions)
        return PoolBlock(block_hash(self.twin.chain_id, header), header, b"", transactions)

    async def execute(self, *blocks: PoolBlock) -> list[tuple[int, int, str]]:
        """Return, per block, its height, that of the head when it was told, and the first code."""
        told: list[tuple[int, int, str]] = []
        is_done = asyncio.Event()

        def on_executed(block: PoolBlock, outcome: BlockOutcome, _: Certificate | None) -> None:
            head = self.chain.head().height
            told.append((block.header.height, head, outcome.receipts[0].code))
            if len(told) == len(blocks):
                is_done.set()

        for block in blocks:
            self.executor.enqueue(block, None)
        running = asyncio.create_task(self.executor.run(on_executed))
        async with asyncio.timeout(10):
            await is_done.wait()
        running.cancel()
        return told


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.writer.close()


async def test_blocks_are_on_disk_when_they_are_told_in_their_order(world: World) -> None:
    assert await world.execute(world.block(1), world.block(2)) == [(1, 1, "ok"), (2, 2, "ok")]
    assert len(world.executor) == 0


async def test_others_get_a_turn_between_the_slices_of_a_block(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vote must not wait until a full block is executed."""
    monkeypatch.setattr(executor_module, "SLICE_SECONDS", 0.0)
    block, turns = world.block(1), 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(others())
    monkeypatch.setattr(world.writer, "write", _write_at_once(world))
    await world.execute(block)
    counting.cancel()
    assert turns >= SLICES


def _write_at_once(world: World) -> object:
    """Return a writer's method that gives nobody else a turn."""

    async def write(batch: object, *, sync: bool) -> None:
        world.store.write(batch, sync=sync)  # type: ignore[arg-type]

    return write


async def test_execution_is_charged_to_its_stages(world: World) -> None:
    await world.execute(world.block(1))
    assert all(world.costs.seconds[stage] > 0 for stage in ("execute", "tree", "write"))
