"""How many transactions may wait at a time: as many as can be final soon, and no more.

Beyond the rate at which the network makes transactions final, every one that is let in makes the
others wait longer and none of them final sooner. So a node lets in at its own door what it expects
to be final within :data:`WAIT_S_MAX`, judged by how many have become final of late, and refuses
the rest before it spends anything on them. Pure: times are arguments. ADR 0022 gives the reasons.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from ledger.types import TimeMs

WAIT_S_MAX: Final = 1.0
"""Expected wait at which a node stops letting in: most clients would rather hear no at once."""
RATE_WINDOW_MS: Final = 5_000
"""Span of the recent past that tells the rate: several blocks even of a network in trouble."""
WAITING_MIN: Final = 2_048
"""So many may wait at any rate: half a full block. A network that has been idle shows no rate, and
one that is slower for a moment must not be choked by the memory of it."""


class FinalRate:
    """How many transactions per second have become final lately."""

    def __init__(self) -> None:
        """Begin with none."""
        self._blocks: deque[tuple[TimeMs, int]] = deque()
        self._total = 0

    def note(self, transactions: int, now_ms: TimeMs) -> None:
        """Count a block that became final now; none to forget what is past the window."""
        if transactions:
            self._blocks.append((now_ms, transactions))
            self._total += transactions
        while self._blocks and self._blocks[0][0] <= now_ms - RATE_WINDOW_MS:
            self._total -= self._blocks.popleft()[1]

    def waiting_max(self) -> int:
        """Return how many can be expected to be final within :data:`WAIT_S_MAX`."""
        return max(WAITING_MIN, int(self._total * WAIT_S_MAX * 1000) // RATE_WINDOW_MS)
