"""Blocks above the executed head that this node has in full.

Consensus orders digests; this is where the digests have bodies. A block enters as soon as its
transactions are at hand, is marked as checked once its body obeys every rule that needs no
state, and leaves when it is executed or when another block of its height is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from ledger.block import Block, Header
from ledger.block_rules import UsedNonces
from ledger.errors import InvariantViolation
from ledger.transaction import DecodedTransaction
from ledger.types import Digest, Height
from ledger.validators import Validator

BLOCKS_MAX: Final = 1_280
"""What consensus may know above the finalised block (1,024), and a stretch of a chain on its way.

Transactions that are pending too are shared with the mempool, so a block costs little more than its
list of references.
"""


IsNeeded = Callable[[Digest, Height], bool]
"""Tells of the hash and height of a block whether it may still matter."""


class PoolBlock:
    """A block with its transactions decoded, and the sets that rule V6 asks about."""

    __slots__ = (
        "block_hash",
        "hashes",
        "header",
        "is_checked",
        "next_validators",
        "parent_certificate",
        "transactions",
        "used",
    )

    def __init__(
        self,
        block_hash: Digest,
        header: Header,
        parent_certificate: bytes,
        transactions: Sequence[DecodedTransaction],
        next_validators: tuple[Validator, ...] = (),
    ) -> None:
        self.block_hash = block_hash
        self.header = header
        self.parent_certificate = parent_certificate
        """Encoded; empty on the child of a base."""
        self.transactions = transactions
        self.next_validators = next_validators
        """Empty unless this is a boundary block."""
        self.hashes = {transaction.wire_hash for transaction in transactions}
        self.used = UsedNonces(transactions)
        """(sender, nonce) of each transaction."""
        self.is_checked = False
        """Body and signatures were found valid, against these ancestors."""

    def to_block(self) -> Block:
        """Return the wire form."""
        wires = [transaction.wire for transaction in self.transactions]
        return Block(self.header, self.parent_certificate, wires, self.next_validators)


class PoolFull(Exception):
    """Too many unfinished blocks; the newcomer is dropped and fetched again when it matters."""


class BlockPool:
    """Unexecuted blocks by hash."""

    def __init__(self, is_needed: IsNeeded = lambda _digest, _height: True) -> None:
        """Start empty; ``is_needed`` tells whether consensus still refers to a block."""
        self._is_needed = is_needed
        self._blocks: dict[Digest, PoolBlock] = {}

    def get(self, block_hash: Digest) -> PoolBlock | None:
        """Return the block if it is here in full."""
        return self._blocks.get(block_hash)

    def require(self, block_hash: Digest) -> PoolBlock:
        """Return a block that must be here.

        Raises:
            InvariantViolation: consensus rests on a body that this node never stored.
        """
        block = self._blocks.get(block_hash)
        if block is None:
            raise InvariantViolation("bodies_at_hand", f"block {block_hash.hex()} is voted on")
        return block

    def add(self, block: PoolBlock) -> None:
        """Keep a block; a full pool first forgets what consensus has forgotten.

        Raises:
            PoolFull: there are ``BLOCKS_MAX`` that are needed.
        """
        if block.block_hash in self._blocks:
            return
        if len(self._blocks) >= BLOCKS_MAX:
            self._evict()
        if len(self._blocks) >= BLOCKS_MAX:
            raise PoolFull(f"{len(self._blocks)} unexecuted blocks, the limit is {BLOCKS_MAX}")
        self._blocks[block.block_hash] = block

    def _evict(self) -> None:
        for key, block in list(self._blocks.items()):
            if not self._is_needed(key, block.header.height):
                del self._blocks[key]

    def discard(self, block_hash: Digest) -> None:
        """Forget a block that turned out to be invalid."""
        self._blocks.pop(block_hash, None)

    def ancestors(self, parent_hash: Digest) -> Iterator[PoolBlock]:
        """Iterate from a parent down over the unexecuted blocks that are here."""
        block = self._blocks.get(parent_hash)
        while block is not None:
            yield block
            block = self._blocks.get(block.header.parent_hash)

    def executed(self, height: Height) -> None:
        """Forget every block at or below an executed height."""
        settled = [key for key, block in self._blocks.items() if block.header.height <= height]
        for key in settled:
            del self._blocks[key]

    def __iter__(self) -> Iterator[PoolBlock]:
        return iter(self._blocks.values())

    def __len__(self) -> int:
        return len(self._blocks)
