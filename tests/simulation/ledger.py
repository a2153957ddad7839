"""The ledger side of one boot of a node: the production code of storage, execution and application.

Nothing here is simulated but the disk under it. It is what ``node.home`` opens and ``node.node``
wires together, without threads and sockets: the chain and vote stores, the state and its
execution, the mempool, the pool of unexecuted blocks, and the application that builds and judges
them. A verdict may have to wait for transactions from peers; the coroutine that wants them is then
parked (:class:`Missing`) until the fetcher has them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from consensus.certificates import encoded_signers
from ledger.block import block_hash
from ledger.block_rules import UsedNonces
from ledger.errors import LedgerError
from ledger.history import History
from ledger.state import State
from ledger.transition import BlockExecution, BlockOutcome, admission_error
from ledger.types import Digest, Height, TimeMs
from ledger.votes import Round
from node.application import Application
from node.block_pool import BlockPool, PoolBlock
from node.costs import Costs
from node.epochs import Epochs
from node.errors import SubmissionRefused
from node.mempool import Mempool
from node.serving import Server
from storage.chain_store import ChainStore
from storage.schedule_store import ScheduleStore
from storage.schema import HEAD_KEY
from storage.state_store import StateStore
from storage.vote_store import VoteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from consensus.config import Restored
    from consensus.effects import RequestVerification
    from consensus.types import Certificate
    from ledger.block import Block
    from ledger.transaction import DecodedTransaction
    from storage.memory import MemoryBatch
    from tests.simulation.disk import Disk
    from tests.simulation.universe import Universe


class Missing:
    """Parks a coroutine until transactions of a proposal are here, or given up."""

    def __init__(self, request: RequestVerification, missing: Mapping[int, Digest]) -> None:
        self.request = request
        self.missing = missing
        """Position in the block to wire hash."""

    def __await__(self) -> Generator[Missing, dict[Digest, DecodedTransaction], Found]:
        found = yield self
        return Found(found)


class Found(NamedTuple):
    """What the fetcher brought."""

    transactions: dict[Digest, DecodedTransaction]


class _Source:
    """Port of the application: asks by parking its caller."""

    async def transactions(
        self, request: RequestVerification, missing: Mapping[int, Digest]
    ) -> dict[Digest, DecodedTransaction]:
        """Return those transactions that could be had."""
        found = await Missing(request, missing)
        return found.transactions


class Ledger:
    """Everything of a node that is not consensus, for one boot."""

    def __init__(
        self,
        universe: Universe,
        disk: Disk,
        *,
        is_needed: Callable[[Digest, Height], bool],
        now_ms: Callable[[], TimeMs],
    ) -> None:
        """Open the database; on an empty disk create it.

        Raises:
            StoreCorrupt: a record that is needed at the start is damaged.
        """
        identity = universe.chain_id
        self.universe = universe
        self.disk = disk
        self.chain = ChainStore(disk, identity)
        if disk.get(HEAD_KEY) is None:
            batch = disk.batch()
            self.chain.add_genesis(batch, universe.header, universe.outcome)
            disk.write(batch, sync=True)
        self.votes = VoteStore(disk, self.chain)
        self._schedules = ScheduleStore(disk)
        states = StateStore(disk)
        head = self.chain.head()
        history = History.load(head.height + 1, states.history_page)
        self.state = State.load(identity, states, states.records(), history)
        self.epochs = Epochs(self.chain, self._schedules, self.state)
        self.durable_height = head.height
        """Highest height whose batch was synced."""
        self.used = self._load_used()
        self.mempool = Mempool({})
        self.pool = BlockPool(is_needed)
        self.server = Server(self.pool, self.chain)
        self._now_ms = now_ms
        self._roots = {head.height: (head.state_root, head.history_root)}
        self.application = Application(
            identity,
            self.epochs,
            self.state,
            mempool=self.mempool,
            pool=self.pool,
            used=self.used,
            roots_at=self._roots_at,
            executed_height=lambda: self.durable_height,
            source=_Source(),
            now_ms=now_ms,
            costs=Costs(),
        )

    def restore(self, nonce: bytes) -> Restored:
        """Return what consensus knew; whole blocks above the head go back into the pool."""
        present = self.epochs.present.number
        unfinished = [b for b in self.chain.unfinished() if b.header.epoch == present]
        for block in unfinished:
            self.pool.add(self._pool_block(block))
        headers = tuple(block.header for block in unfinished)
        restored = self.votes.restore(nonce=nonce)
        return replace(restored, blocks=headers, closings=self.epochs.closings())

    # --- transactions -----------------------------------------------------------------------------

    def admit(self, wires: Sequence[bytes]) -> list[bytes]:
        """Put sound, new transactions into the mempool and return them."""
        added = []
        now_ms = self._now_ms()
        for wire in wires:
            try:
                decoded = self.universe.decode(wire)
            except LedgerError:
                continue
            if self.mempool.get_by_id(decoded.id) is not None or decoded.pair in self.used:
                continue
            if admission_error(self.state, decoded, now_ms) is not None:
                continue
            sender = self.state.account(decoded.transaction.sender)
            try:
                self.mempool.add(decoded, "" if sender is None else sender.organisation, now_ms)
            except SubmissionRefused:
                continue
            added.append(wire)
        return added

    def has_executed(self, transaction_id: Digest) -> bool:
        """Say whether a transaction is in the executed chain."""
        return self.chain.transaction(transaction_id) is not None

    # --- blocks -----------------------------------------------------------------------------------

    def pool_block(self, digest: Digest, block: Block) -> PoolBlock:
        """Return a whole block whose transactions are sound.

        Raises:
            LedgerError: one is not.
        """
        transactions = [self.universe.decode(wire) for wire in block.transactions]
        members = block.next_validators
        return PoolBlock(digest, block.header, block.parent_certificate, transactions, members)

    def execute(
        self, block: PoolBlock, certificate: Certificate | None
    ) -> tuple[BlockOutcome, MemoryBatch]:
        """Execute the next final block; return its outcome and the batch that makes it the head."""
        execution = BlockExecution(
            self.state,
            block.header,
            encoded_signers(block.parent_certificate),
            block.next_validators or None,
        )
        for transaction in block.transactions:
            execution.apply(transaction)
        outcome = execution.finish()
        batch = self.disk.batch()
        self.chain.add_finalized(batch, block.block_hash, block.to_block(), outcome, certificate)
        self._schedules.add(batch, outcome)
        header = block.header
        self.votes.prune(batch, Round(header.era, header.epoch, header.view))
        return outcome, batch

    def executed(self, block: PoolBlock, outcome: BlockOutcome) -> None:
        """Settle an executed block that is durable now."""
        height = block.header.height
        self.state.stored(height)
        self.epochs.executed(block.header, outcome, is_boundary=bool(block.next_validators))
        self.durable_height = height
        self._roots[height] = (outcome.state_root, outcome.history_root)
        self.used.add_block(block.header.time_ms, block.transactions)
        self.mempool.finalized(block.transactions, self._now_ms())
        self.pool.executed(height)

    def _pool_block(self, block: Block) -> PoolBlock:
        return self.pool_block(block_hash(self.universe.chain_id, block.header), block)

    def _roots_at(self, height: Height) -> tuple[Digest, Digest] | None:
        known = self._roots.get(height)
        if known is None and height <= self.durable_height:
            executed = self.chain.require_executed(height)
            known = self._roots[height] = (executed.state_root, executed.history_root)
        return known

    def _load_used(self) -> UsedNonces:
        used = UsedNonces()
        for block in self.chain.blocks(1, self.durable_height):
            transactions = [self.universe.decode(wire) for wire in block.transactions]
            used.add_block(block.header.time_ms, transactions)
        return used
