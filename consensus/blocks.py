"""The unfinalised blocks that this node knows, and the finalised block that they grow from.

A block is judged only after its parent, so a VALID block has a VALID path down to the finalised one
and every question about paths is a question about one block. Bodies are the driver's; here are
headers only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from consensus.inputs import PeerId, Verdict
from consensus.types import Certificate
from consensus.validity import is_boundary
from ledger.block import Header
from ledger.types import Digest, Height, View
from ledger.votes import VoteKind

FINAL_VIEWS_KEPT: Final = 1024
"""Views of finalised blocks remembered to recognise a conflicting finalization."""

UNREQUESTED_HEIGHTS_MAX: Final = 1024
"""Blocks of a chain segment are accepted up to this far above the finalised height."""


@dataclass(slots=True)
class KnownBlock:
    """One unfinalised block."""

    header: Header
    parent_certificate: Certificate | None
    payload: bytes | None
    """Of the proposal; None if the driver has the whole block."""
    source: PeerId | None
    """Who offered it."""
    seen_ms: int
    """Monotonic time at which it became known."""
    parent_view: View | None = None
    """View of the parent certificate, known when that is checked; None also after a restart."""
    is_linked: bool = False
    """The parent certificate is checked; it was before a block came to disk."""
    verdict: Verdict | None = None
    """None: not judged yet. INVALID and VALID are for ever."""
    is_asked: bool = False
    """The application is judging it."""
    is_durable: bool = False
    """Its body is on disk, or will be before the next vote leaves."""


class Gap(NamedTuple):
    """The first block that is missing on the way down from a block to the finalised one."""

    block_hash: Digest
    height: Height | None
    """None if nothing is known about it but its hash."""


class BlockTree:
    """Unfinalised blocks by hash, above one finalised block."""

    __slots__ = (
        "_base_hash",
        "_blocks",
        "_final_views",
        "_lowest_final_view",
        "final",
        "final_hash",
        "final_seen_ms",
        "final_view",
        "is_closed",
    )

    def __init__(
        self, final: Header, final_hash: Digest, final_view: View, base_hash: Digest
    ) -> None:
        self._base_hash: Final = base_hash
        self.is_closed = is_boundary(final) and final_hash != base_hash
        """Whether the boundary block is final: nothing is built or decided in this epoch (EP4)."""
        self.final = final
        """Highest finalised block."""
        self.final_hash = final_hash
        self.final_view = final_view
        """View in which it was certified; 0 for the base."""
        self.final_seen_ms: int | None = None
        """Monotonic time at which it became known; None if before the start."""
        self._blocks: dict[Digest, KnownBlock] = {}
        self._final_views: dict[View, Digest] = {final_view: final_hash}
        self._lowest_final_view = final_view

    def __len__(self) -> int:
        return len(self._blocks)

    def get(self, block_hash: Digest) -> KnownBlock | None:
        """Return an unfinalised block."""
        return self._blocks.get(block_hash)

    def header(self, block_hash: Digest) -> Header | None:
        """Return the header of the finalised or of an unfinalised block."""
        if block_hash == self.final_hash:
            return self.final
        block = self._blocks.get(block_hash)
        return None if block is None else block.header

    def is_sound(self, block_hash: Digest) -> bool:
        """Tell whether the block is finalised or VALID, so that its whole path is."""
        block = self._blocks.get(block_hash)
        is_valid = block is not None and block.verdict is Verdict.VALID
        return is_valid or block_hash == self.final_hash

    def seen_ms(self, block_hash: Digest) -> int | None:
        """Return when the block became known; None if it is not or was before the start."""
        if block_hash == self.final_hash:
            return self.final_seen_ms
        block = self._blocks.get(block_hash)
        return None if block is None else block.seen_ms

    def add(self, block_hash: Digest, block: KnownBlock) -> KnownBlock:
        """Remember a block; return the one that was known before, if any."""
        return self._blocks.setdefault(block_hash, block)

    def drop(self, block_hash: Digest) -> None:
        """Forget an unfinalised block, as if it had never been heard of."""
        self._blocks.pop(block_hash, None)

    def lowest_unsound(self, block_hash: Digest) -> tuple[Digest, KnownBlock] | Gap | None:
        """Walk down from a block that is not VALID to the block that has to be judged first.

        Returns the block to judge next, a :class:`Gap` if a block is missing, or None if the way
        does not lead to the finalised block: then it conflicts with it.
        """
        child: KnownBlock | None = None
        while True:
            block = self._blocks.get(block_hash)
            if block is None:
                if child is None:
                    return Gap(block_hash, None)
                height = Height(child.header.height - 1)
                return Gap(block_hash, height) if height > self.final.height else None
            if block.verdict is Verdict.INVALID or self.is_sound(block.header.parent_hash):
                return block_hash, block
            child, block_hash = block, block.header.parent_hash

    def sound_ancestor(self, block_hash: Digest) -> Digest | None:
        """Return the highest finalised or VALID block on the way down; None if there is a gap."""
        while not self.is_sound(block_hash):
            block = self._blocks.get(block_hash)
            if block is None:
                return None
            block_hash = block.header.parent_hash
        return block_hash

    def path(self, block_hash: Digest) -> list[Digest]:
        """Return the hashes from above the finalised block up to a VALID block, oldest first."""
        path = []
        while block_hash != self.final_hash:
            path.append(block_hash)
            block_hash = self._blocks[block_hash].header.parent_hash
        return path[::-1]

    def finalize(self, path: list[Digest], view: View | None) -> list[Header]:
        """Make the end of ``path`` the finalised block; return the headers of the path.

        ``view`` is that of its finalization, None if only a descendant has one. Blocks that can no
        longer be finalised are forgotten.
        """
        headers = []
        for block_hash in path:
            block = self._blocks[block_hash]
            headers.append(block.header)
            self._final_views[block.header.view] = block_hash
            self.final_seen_ms = block.seen_ms
        self.final, self.final_hash = headers[-1], path[-1]
        self.is_closed = is_boundary(self.final) and self.final_hash != self._base_hash
        self.final_view = self.final.view if view is None else view
        self._final_views[self.final_view] = self.final_hash
        height = self.final.height
        for block_hash in [h for h, b in self._blocks.items() if b.header.height <= height]:
            del self._blocks[block_hash]
        self._judge_anew()
        if len(self._final_views) > 2 * FINAL_VIEWS_KEPT:
            kept = sorted(self._final_views)[-FINAL_VIEWS_KEPT:]
            self._final_views = {v: self._final_views[v] for v in kept}
            self._lowest_final_view = kept[0]
        return headers

    def is_final(self, certificate: Certificate) -> bool:
        """Tell whether a certificate is of a finalised block, as far back as is remembered.

        A boundary block may be certified in many views, for it is repeated (EP2).
        """
        value = certificate.value
        is_known = self._final_views.get(certificate.view) == value.block_hash
        return is_known or (self.is_closed and value.block_hash == self.final_hash)

    def contradicts_final(self, finalization: Certificate) -> bool:
        """Tell whether a finalization is of a block off the chain, as far as that is decided."""
        view = finalization.view
        is_decided = view <= self.final_view or self.is_closed
        return (
            finalization.kind is VoteKind.FINALIZE
            and self._lowest_final_view <= view
            and is_decided
            and not self.is_final(finalization)
        )

    def accepts(self, header: Header, *, is_wanted: bool) -> bool:
        """Tell whether a block may be kept: above the finalised one, and asked for or next."""
        height = header.height - self.final.height
        if is_wanted:
            return height > 0
        is_linked = header.parent_hash == self.final_hash or header.parent_hash in self._blocks
        return is_linked and 0 < height <= UNREQUESTED_HEIGHTS_MAX

    def shrink(self, blocks_max: int) -> None:
        """Drop the lowest blocks; what was judged upon them has to be judged again."""
        excess = len(self._blocks) - blocks_max
        if excess <= 0:
            return
        by_height = sorted(self._blocks.items(), key=lambda item: item[1].header.height)
        for block_hash, _ in by_height[:excess]:
            del self._blocks[block_hash]
        self._judge_anew()

    def _judge_anew(self) -> None:
        """Take back the verdict VALID where the path is gone."""
        for block in sorted(self._blocks.values(), key=lambda block: block.header.height):
            if block.verdict is Verdict.VALID and not self.is_sound(block.header.parent_hash):
                block.verdict = None

    def forget_not_yet(self) -> None:
        """Let blocks that could not be judged yet be judged again."""
        for block in self._blocks.values():
            if block.verdict is Verdict.NOT_YET:
                block.verdict = None
