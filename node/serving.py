"""Answers what peers ask for: transactions of a proposal, a block, a stretch of the chain.

Every answer is bounded by one frame, costs a few reads, and says "not here" rather than
nothing, so that the asker can go on to the next peer at once.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from ledger.block import BLOCK_BYTES_MAX, Block
from ledger.encoding import encode
from ledger.types import Digest, Height
from node.block_pool import BlockPool
from p2p.messages import (
    BLOCK_WIRE_BYTES_MAX,
    Answer,
    BlockAnswer,
    ChainAnswer,
    GetBlock,
    GetChain,
    GetTransactions,
    Request,
    Transactions,
)
from storage.chain_store import ChainStore

ANSWER_BYTES_MAX: Final = BLOCK_WIRE_BYTES_MAX
"""Blocks in one answer; the first block is sent whatever its size."""


class Server:
    """Reads answers from the pool of unexecuted blocks and from the chain."""

    def __init__(self, pool: BlockPool, chain: ChainStore) -> None:
        """Both are read only."""
        self._pool = pool
        self._chain = chain

    def answer(self, request: Request) -> Answer:
        """Return the answer to one request."""
        if isinstance(request, GetTransactions):
            return self._transactions(request)
        if isinstance(request, GetBlock):
            block = self._block(Digest(request.block_hash))
            data = None if block is None else encode(block)
            if data is not None and len(data) > ANSWER_BYTES_MAX:
                data = None
            return BlockAnswer(request.request_id, data)
        return self._stretch(request)

    def _block(self, block_hash: Digest) -> Block | None:
        pooled = self._pool.get(block_hash)
        if pooled is not None:
            return pooled.to_block()
        return self._chain.block(block_hash)

    def _transactions(self, request: GetTransactions) -> Transactions:
        nothing = Transactions(request.request_id, ())
        indexes = request.indexes
        block = self._block(Digest(request.block_hash))
        if block is None or indexes[-1] >= len(block.transactions):
            return nothing
        # Ascending, so that no transaction can be asked for a thousand times in one question.
        if any(before >= after for before, after in pairwise(indexes)):
            return nothing
        wires = tuple(block.transactions[index] for index in indexes)
        if sum(map(len, wires)) > BLOCK_BYTES_MAX:
            return nothing
        return Transactions(request.request_id, wires)

    def _stretch(self, request: GetChain) -> ChainAnswer:
        """Send blocks of one epoch, cut after the last one that has a finalization of its own."""
        blocks: list[bytes] = []
        era: int | None = None
        size = 0
        certified = 0
        head = self._chain.head().height
        last = min(request.first + request.count - 1, head)
        for height in range(request.first, last + 1):
            block = self._chain.block(Height(height))
            if block is None or era not in (None, block.header.era):
                break  # what follows an era change is judged by another set
            era = block.header.era
            data = encode(block)
            if blocks and size + len(data) > ANSWER_BYTES_MAX:
                break
            blocks.append(data)
            size += len(data)
            if self._chain.certificate(Height(height)) is not None:
                certified = len(blocks)
            if block.next_validators:
                break  # what follows is judged by another set
        if not certified:
            return ChainAnswer(request.request_id, tuple(blocks), None, head)
        certificate = self._chain.certificate(Height(request.first + certified - 1))
        return ChainAnswer(request.request_id, tuple(blocks[:certified]), certificate, head)
