"""Token bucket: how much a peer may send per second before it is read more slowly.

Payment comes after delivery: one message may overdraw the bucket, then nothing more is taken from
the peer until the debt is paid by time. So a message larger than the burst still passes, and the
long-run rate holds.
"""

from __future__ import annotations


class TokenBucket:
    """Holds up to ``burst`` tokens and gains ``rate`` per second."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._updated_s: float | None = None

    def take(self, tokens: float, now_s: float) -> None:
        """Pay; the balance may become negative."""
        self._refill(now_s)
        self._tokens -= tokens

    def wait_s(self, now_s: float) -> float:
        """Return the seconds until the balance is no longer negative; 0 if it is not."""
        self._refill(now_s)
        return 0.0 if self._tokens >= 0 else -self._tokens / self._rate

    def _refill(self, now_s: float) -> None:
        if self._updated_s is not None and now_s > self._updated_s:
            gained = (now_s - self._updated_s) * self._rate
            self._tokens = min(self._burst, self._tokens + gained)
        self._updated_s = now_s
