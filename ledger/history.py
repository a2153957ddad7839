"""The history tree: one leaf per executed block, so that one recent root proves everything older.

Leaf h commits to the hash, the state root and the receipts root of the block at height h. The
tree has the dense shape of ``ledger.merkle`` and only grows at its right edge. Its *pages* (the
up to 16 digests below one node) are kept on disk by (level, page number); in memory is only the
last page of each level. Normative text: ``docs/protocol.md`` section 6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ledger.crypto import tag, tagged_hash
from ledger.errors import InvariantViolation, ProofError
from ledger.merkle import ARITY, node_digest, root_digest, siblings_of
from ledger.types import DIGEST_BYTES, ZERO_DIGEST, Digest, Height

HISTORY_TAG: Final = tag("MBI-HIST-v1")

ReadPage = Callable[[bytes], bytes | None]
"""Returns the page stored under a page key."""


def history_leaf(block_hash: Digest, state_root: Digest, receipts_root: Digest) -> Digest:
    """Return the leaf of one executed block."""
    return tagged_hash(HISTORY_TAG, block_hash, state_root, receipts_root)


def page_key(level: int, number: int) -> bytes:
    """Return the key of a page: level in one byte, page number in eight, big-endian."""
    return level.to_bytes(1, "big") + number.to_bytes(8, "big")


class History:
    """The right edge of the tree after some number of blocks; ``append`` returns a new one."""

    __slots__ = ("_pages", "count", "root")

    def __init__(self, count: int = 0, pages: tuple[bytes, ...] = ()) -> None:
        """``pages`` are the last pages of each level, leaves first; see ``load``."""
        self.count = count
        """Executed blocks, genesis included: the height of the last is one less."""
        self._pages = pages
        self.root = root_digest(count, pages[-1] if count else ZERO_DIGEST)

    @classmethod
    def load(cls, count: int, read_page: ReadPage) -> History:
        """Return the edge after ``count`` blocks from stored pages.

        Raises InvariantViolation if a page is missing or of the wrong size.
        """
        pages: list[bytes] = []
        nodes = count
        while nodes:
            last = nodes - 1
            page = _read(read_page, len(pages), last // ARITY)
            if len(page) != (last % ARITY + 1) * DIGEST_BYTES:
                raise InvariantViolation("history_pages", f"level {len(pages)} ends elsewhere")
            pages.append(page)
            nodes = 0 if nodes == 1 else -(-nodes // ARITY)
        return cls(count, tuple(pages))

    def append(self, leaf: Digest) -> tuple[History, list[tuple[bytes, bytes]]]:
        """Return the edge with one more leaf, and the pages to write."""
        pages: list[bytes] = []
        writes = []
        index = self.count
        nodes = self.count + 1
        digest = leaf
        while True:
            level = len(pages)
            # The node at ``index`` is the level's last: new, or its digest has changed.
            before = self._pages[level][: index % ARITY * DIGEST_BYTES] if index % ARITY else b""
            page = before + digest
            pages.append(page)
            writes.append((page_key(level, index // ARITY), page))
            if nodes == 1:
                return History(self.count + 1, tuple(pages)), writes
            digest = node_digest(page)
            index //= ARITY
            nodes = -(-nodes // ARITY)


def _read(read_page: ReadPage, level: int, number: int) -> bytes:
    page = read_page(page_key(level, number))
    if page is None:
        raise InvariantViolation("history_pages", f"page {number} of level {level} is missing")
    return page


def history_path(read_page: ReadPage, count: int, height: Height) -> tuple[bytes, ...]:
    """Return the path of the leaf at ``height`` in the tree as it was after ``count`` blocks.

    Stored pages may be newer: nodes left of the old edge have not changed since, and the digests on
    the old edge are computed again from the pages below. Raises ProofError if no leaf is there.
    """
    if not 0 <= height < count:
        raise ProofError(f"expected a height below {count}, got {height}")
    path = []
    index = int(height)
    nodes = count
    edge: bytes | None = None
    level = 0
    while nodes > 1:
        last = nodes - 1
        known = last % ARITY * DIGEST_BYTES
        stored = _read(read_page, level, last // ARITY)
        edge_page = stored[:known] + (
            stored[known : known + DIGEST_BYTES] if edge is None else edge
        )
        same_page = index // ARITY == last // ARITY
        page = edge_page if same_page else _read(read_page, level, index // ARITY)
        path.append(siblings_of(page, index % ARITY))
        edge = node_digest(edge_page)
        index //= ARITY
        nodes = -(-nodes // ARITY)
        level += 1
    return tuple(path)
