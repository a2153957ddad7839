"""The idle policy: whether anything has to happen in the present view.

A chain without work has no views, no blocks and no timers (but a slow beacon). Work is:
transactions or a change of the set that wait, a block that is notarized and does not become final,
a state root that no final header carries yet, or other validators that have work. Normative text:
``docs/protocol-consensus.md``, Idle policy.
"""

from __future__ import annotations

from collections.abc import Iterable

from consensus.validity import is_boundary
from ledger.block import Header
from ledger.types import Height, View


def _is_full(header: Header) -> bool:
    """Tell whether a block changes the state by itself: transactions, or another validator set."""
    return header.transaction_count > 0 or is_boundary(header)


class Activity:
    """What this node knows about work; the engine adds what it sees of others in the view."""

    __slots__ = (
        "_last_full",
        "abandoned",
        "beat_view",
        "is_seal_due",
        "pending",
        "sealed",
        "unfinalized_ms",
    )

    def __init__(self, head: Header) -> None:
        self.pending = False
        """(a), (b) Transactions wait, or a change of the validator set."""
        self.abandoned = View(0)
        """(a) Highest nullified view whose block had transactions, which now wait for another."""
        self.unfinalized_ms: int | None = None
        """(c) Since when a notarized block has been above the finalised one."""
        self.is_seal_due = False
        """(d) The sealing block has been waited for long enough."""
        self.beat_view = View(0)
        """(e) View in which the beacon fired."""
        self.sealed = head.executed_height
        """Height whose state root is in the finalised header."""
        # An empty head says nothing about its parent: one needless seal block is the price.
        self._last_full = head.height if _is_full(head) else Height(max(head.height - 1, 0))

    @property
    def needs_seal(self) -> bool:
        """Whether the root of the last block that is not empty is in no finalised header yet."""
        return self._last_full > self.sealed

    def is_sealable(self, executed: Height) -> bool:
        """Tell whether that block is executed here, so that a header can carry its root."""
        return self.needs_seal and executed >= self._last_full

    def finalized(self, headers: Iterable[Header]) -> None:
        """Record newly finalised blocks, oldest first."""
        for header in headers:
            self.sealed = header.executed_height
            if _is_full(header):
                self._last_full = header.height
        if not self.needs_seal:
            self.is_seal_due = False

    def has_transactions(self, final_view: View) -> bool:
        """Tell whether transactions wait as far as this node knows: reason (a)."""
        return self.pending or self.abandoned > final_view

    def needs_block(self, view: View, final_view: View, now_ms: int, patience_ms: int) -> bool:
        """Tell whether the view needs a block, empty if need be: reasons (c), (d), (e)."""
        return (
            self.is_seal_due
            or self.beat_view == view
            or self.abandoned > final_view
            or (self.unfinalized_ms is not None and now_ms - self.unfinalized_ms >= patience_ms)
        )
