"""How large a block this node proposes, so that agreeing on it stays quick on a busy machine.

A block is agreed on only after every validator of a quorum has checked its transactions. Where
that takes longer than a view may last, views are given up and the work is done again, just when
there is most of it. So the size follows the time that recent blocks took: halved when they took too
long, raised by a quarter while they are quick (as TCP does with its window, RFC 5681). Small blocks
say nothing about large ones, so only those that use the present size raise it (RFC 7661): after
hours of little traffic a burst meets a size that was tried. It is a leader's own choice within the
limits of the genesis and no rule of the protocol.
"""

from __future__ import annotations

from typing import Final

QUICK_SECONDS: Final = 0.2
"""From proposal to notarization: below it blocks may grow."""
SLOW_SECONDS: Final = 0.4
"""Above it blocks shrink: a validator twice as slow still has judged a block, and proposes the
next one, before the others stop waiting for it (0.8 s)."""
TRANSACTIONS_FIRST: Final = 1024
"""Size of the first blocks; a small machine agrees on such a block within ``SLOW_SECONDS``."""
TRANSACTIONS_MIN: Final = 64
"""Smaller blocks would cost more than their transactions."""


class BlockPacer:
    """Largest number of transactions to propose now."""

    def __init__(self, transactions_max: int) -> None:
        """Take the largest block that the genesis allows."""
        self._transactions_max = transactions_max
        self.limit = min(transactions_max, TRANSACTIONS_FIRST)

    def allow(self, transactions_max: int) -> None:
        """Take over a new largest number of transactions of the network."""
        if transactions_max != self._transactions_max:
            self._transactions_max = transactions_max
            self.limit = min(self.limit, transactions_max)

    def observe(self, seconds: float, transactions: int) -> None:
        """Take note of how long a block took from its proposal to its notarization."""
        if seconds > SLOW_SECONDS:
            self.limit = max(min(TRANSACTIONS_MIN, self._transactions_max), self.limit // 2)
        elif seconds < QUICK_SECONDS and transactions > self.limit // 2:
            self.limit = min(self._transactions_max, self.limit + self.limit // 4 + 1)
