"""What to measure, as the command line says it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from mbi.bench.workload import WORKLOADS, Workload

CLOSED_LOOP_RATE_MAX: Final = 15_000
"""Transactions signed per second of a closed loop: more than two cores can finalize."""
REQUESTS_PER_S_MIN: Final = 10
"""An open loop sends smaller batches rather than fewer requests: load in lumps is another load."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure."""

    rate: float | None
    """Offered transactions per second; None for a closed loop."""
    in_flight: int | None
    """Transactions in flight; None for an open loop."""
    duration_s: float
    batch: int
    """Transactions per request, at most."""
    pairs: int
    """Senders; there are as many receivers."""
    workload: str = "transfer"
    accounts: int = 0
    """Accounts registered before the load, for a larger state; receivers are some of them."""
    kill_at_s: float | None = None
    """When, after the load has begun, a validator is killed."""

    @property
    def kind(self) -> Workload:
        """The workload."""
        return WORKLOADS[self.workload]

    @property
    def transactions(self) -> int:
        """How many to sign beforehand."""
        return max(1, round((self.rate or CLOSED_LOOP_RATE_MAX) * self.duration_s))

    @property
    def receivers_registered(self) -> int:
        """Accounts registered to receive; those that really receive are some of them."""
        return max(self.accounts, self.pairs)

    @property
    def request_size(self) -> int:
        """Transactions per request."""
        if self.rate is None:
            return self.batch
        return max(1, min(self.batch, int(self.rate / REQUESTS_PER_S_MIN)))

    def to_json(self) -> dict[str, Any]:
        """Return the parameters section of the report."""
        return {
            **asdict(self),
            "loop": "open" if self.rate is not None else "closed",
            "request_size": self.request_size,
            "workload_meaning": self.kind.meaning,
            "operations_per_transaction": self.kind.operations,
        }
