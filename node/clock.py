"""The wall clock, read in one place.

Only three things may depend on it: the time a leader writes into its block, whether a block is
too far ahead to vote for now, and when a pending transaction expires here. Timers use the
monotonic clock.
"""

from __future__ import annotations

import time

from ledger.types import TimeMs


def now_ms() -> TimeMs:
    """Return the present time in milliseconds since the Unix epoch."""
    return TimeMs(time.time_ns() // 1_000_000)
