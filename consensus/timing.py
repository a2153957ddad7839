"""How long the engine waits: the periods of its timers and how they adapt.

Times are integers in milliseconds of the driver's monotonic clock. Waiting never decides anything
that is signed into the chain: a late timer costs time, never safety. The defaults suit a national
network. Normative text: ``docs/protocol-consensus.md``, Timers.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

BACKOFF_MIN: Final = 1000
"""Factor on ``lead_ms`` and ``view_ms`` in thousandths: none."""

BACKOFF_MAX: Final = 8000
"""Cap of the factor: no view waits longer than 16 s, however long a halt was."""

JITTER_PERCENT: Final = 10
"""Retries are spread by this much, so that nodes do not all repeat at the same moment."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Periods in milliseconds; the back-off factor multiplies ``lead_ms`` and ``view_ms``."""

    relay_ms: int = 50
    """Before a certificate is forwarded to peers that have not shown that they know it."""
    lead_ms: int = 800
    """For a proposal to arrive: two network delays, ``relay_ms`` and the building of a block."""
    view_ms: int = 2000
    """For a view to end: ``lead_ms``, two network delays and the judging of a block."""
    retry_ms: int = 1000
    """Between repetitions of what may have been lost."""
    unfinalized_ms: int = 1000
    """Two network delay bounds: a block notarized for longer and not final needs another view."""
    seal_ms: int = 1000
    """After the last block with transactions, before an empty block publishes its state root."""
    idle_ms: int | None = 30_000
    """Liveness beacon: a block at least this often. None for never."""
    inactive_ms: int = 10_000
    """A leader not heard for this long, while a quorum was, is not waited for."""
    min_block_interval_ms: int = 50
    """Least time between the proposals of a block and of its parent."""


class Backoff:
    """Factor by which waiting grows after own timeouts: x 1.5 each, x 0.9 per finalised block.

    A slow decay instead of a reset: on a slow network a reset would fail every second view.
    """

    __slots__ = ("factor",)

    def __init__(self) -> None:
        self.factor = BACKOFF_MIN
        """In thousandths."""

    def grow(self) -> None:
        """Record an own timeout."""
        self.factor = min(BACKOFF_MAX, self.factor * 3 // 2)

    def decay(self) -> None:
        """Record a finalised block."""
        self.factor = max(BACKOFF_MIN, self.factor * 9 // 10)

    def scaled(self, period_ms: int) -> int:
        """Return the period times the factor."""
        return period_ms * self.factor // BACKOFF_MIN


def jittered(period_ms: int, who: int, attempt: int) -> int:
    """Return the period plus or minus ten percent, by a digest of who waits and how often."""
    span = period_ms * JITTER_PERCENT // 100
    draw = int.from_bytes(sha256(b"%d/%d" % (who, attempt)).digest()[:8], "big")
    return period_ms - span + draw % (2 * span + 1)
