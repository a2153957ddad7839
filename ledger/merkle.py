"""Merkle trees of one dense shape: arity 16, leaves numbered from 0 without gaps.

Level 0 holds the leaf digests in order. A node of the next level hashes the up to 16 digests
below it, so the tree over n leaves has exactly one shape, and the path from leaf i follows from i
and n alone: a right digest at a wrong place cannot pass. The root also binds the number of
leaves. Blocks use the tree for transactions, receipts, state and history; leaves of each kind
have their own domain tag. The wide nodes are what makes this fast: hashing is dominated by the
number of calls. Normative text: ``docs/protocol.md`` section 6.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from hashlib import sha256
from typing import Final

from ledger.crypto import tag
from ledger.errors import ProofError
from ledger.types import DIGEST_BYTES, ZERO_DIGEST, Digest

ARITY: Final = 16
NODE_TAG: Final = tag("MBI-NODE-v1")
ROOT_TAG: Final = tag("MBI-ROOT-v1")

PAGE_BYTES: Final = ARITY * DIGEST_BYTES
"""The digests below one node, side by side."""

PATH_LENGTH_MAX: Final = 16
"""16 levels of arity 16 number 2^64 leaves."""

_SHIFT: Final = 4
_MASK: Final = ARITY - 1

_STEP_DIGESTS: Final = 2048
"""Digests sorted into pages between two yields: about 0.6 ms."""

_STEP_PAGES: Final = 256
"""Nodes hashed between two yields of an update: about 0.3 ms."""


def node_digest(page: bytes) -> Digest:
    """Return the digest of the node above a page of 1 to 16 digests."""
    return Digest(sha256(NODE_TAG + page).digest())


def root_digest(count: int, top: bytes) -> Digest:
    """Return the root of a tree of ``count`` leaves whose highest digest is ``top``."""
    return Digest(sha256(ROOT_TAG + count.to_bytes(8, "big") + top).digest())


def dense_root(leaves: Sequence[bytes]) -> Digest:
    """Return the root over a list of leaf digests; the tree of no leaves has a root, too."""
    level = b"".join(leaves)
    if not level:
        return root_digest(0, ZERO_DIGEST)
    while len(level) > DIGEST_BYTES:
        level = _level_above(level)
    return root_digest(len(leaves), level)


def _level_above(level: bytes | bytearray) -> bytes:
    return b"".join(
        [
            sha256(NODE_TAG + level[start : start + PAGE_BYTES]).digest()
            for start in range(0, len(level), PAGE_BYTES)
        ]
    )


def dense_path(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Return the path of one leaf in a tree that is not kept; see ``DenseTree.path``."""
    return DenseTree(bytearray().join(leaves)).path(index)


def siblings_of(page: bytes, position: int) -> bytes:
    """Return a page without the digest at ``position``."""
    return page[: position * DIGEST_BYTES] + page[(position + 1) * DIGEST_BYTES :]


def root_from_path(leaf: bytes, index: int, count: int, path: Sequence[bytes]) -> Digest:
    """Return the root that a path leads to from the leaf at ``index`` of ``count``.

    Raises ProofError if the path does not have exactly the shape that index and count prescribe.
    """
    if not 0 <= index < count < 2**64:
        raise ProofError(f"expected a leaf index below {count}, got {index}")
    digest = leaf
    nodes = count
    for siblings in path:
        position = index & _MASK
        size = min(ARITY, nodes - (index - position))
        if nodes == 1 or len(siblings) != (size - 1) * DIGEST_BYTES:
            raise ProofError("the path does not fit the tree's size")
        split = position * DIGEST_BYTES
        digest = sha256(NODE_TAG + siblings[:split] + digest + siblings[split:]).digest()
        index >>= _SHIFT
        nodes = (nodes + _MASK) >> _SHIFT
    if nodes != 1:
        raise ProofError("the path ends below the root")
    return root_digest(count, digest)


class DenseTree:
    """All digests of a growing tree in memory, one byte array per level: 34 bytes per leaf.

    A whole block's changes are hashed at once, in steps, beside the tree; ``apply_update`` then
    puts them in. Between the steps the tree still answers for the previous root.
    """

    __slots__ = ("_levels", "_staged", "_staged_count", "count", "root")

    def __init__(self, leaves: bytearray | None = None) -> None:
        """Begin with these leaves, digests side by side, which are the tree's from now on."""
        self._levels = [bytearray() if leaves is None else leaves]
        while len(self._levels[-1]) > DIGEST_BYTES:
            self._levels.append(bytearray(_level_above(self._levels[-1])))
        self.count = len(self._levels[0]) // DIGEST_BYTES
        self.root = root_digest(self.count, bytes(self._levels[-1]) or ZERO_DIGEST)
        self._staged: list[dict[int, bytearray]] = []
        self._staged_count = 0

    def update_steps(
        self, changes: Iterable[tuple[int, bytes]], count: int
    ) -> Generator[None, None, Digest]:
        """Hash changed and new leaves, ascending by index; yield now and then; return the new root.

        ``count`` is the number of leaves afterwards; every new index must be among the changes.
        """
        staged: list[dict[int, bytearray]] = []
        pending: Iterable[tuple[int, bytes]] = changes
        nodes = count
        depth = 0
        work = 0
        while True:
            level = self._levels[depth] if depth < len(self._levels) else bytearray()
            pages: dict[int, bytearray] = {}
            for index, digest in pending:
                work += 1
                if not work % _STEP_DIGESTS:
                    yield
                number = index >> _SHIFT
                page = pages.get(number)
                if page is None:
                    start = number * PAGE_BYTES
                    page = pages[number] = level[start : start + PAGE_BYTES]
                start = (index & _MASK) * DIGEST_BYTES
                page[start : start + DIGEST_BYTES] = digest
            staged.append(pages)
            if nodes <= 1:
                break
            parents = []
            for number, page in pages.items():
                parents.append((number, sha256(NODE_TAG + page).digest()))
                if not len(parents) % _STEP_PAGES:
                    yield
            pending = parents
            nodes = (nodes + _MASK) >> _SHIFT
            depth += 1
        self._staged = staged
        self._staged_count = count
        top = staged[-1].get(0) or (self._levels[-1] if count else ZERO_DIGEST)
        return root_digest(count, bytes(top))

    def apply_update(self) -> None:
        """Put what ``update_steps`` hashed into the tree."""
        levels = self._levels
        while len(levels) < len(self._staged):
            levels.append(bytearray())
        for level, pages in zip(levels, self._staged, strict=False):
            for number, page in pages.items():
                start = number * PAGE_BYTES
                level[start : start + len(page)] = page
        self._staged = []
        self.count = self._staged_count
        self.root = root_digest(self.count, bytes(levels[-1]) if self.count else ZERO_DIGEST)

    def path(self, index: int) -> tuple[bytes, ...]:
        """Return, level by level from the leaf up, the other digests of the pages above it."""
        path = []
        for level in self._levels[:-1]:
            start = (index >> _SHIFT) * PAGE_BYTES
            path.append(siblings_of(bytes(level[start : start + PAGE_BYTES]), index & _MASK))
            index >>= _SHIFT
        return tuple(path)
