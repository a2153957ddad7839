"""What to measure, as the command line says it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mbi.bench.workload import WORKLOADS, Workload
from mbi.errors import UsageError

CLOSED_LOOP_RATE_MAX: Final = 15_000
"""Transactions signed per second of a closed loop: more than two cores can finalize."""
CLOSED_LOOP_S_MAX: Final = 240.0
"""Of a closed loop nobody knows how much it will send, nor when: everything must be signed for the
highest rate, and be valid throughout, for which the protocol allows ten minutes."""
REQUESTS_PER_S_MIN: Final = 10
"""An open loop sends smaller batches rather than fewer requests: load in lumps is another load."""
SIGNED_MAX: Final = 4_000_000
"""Transactions signed beforehand: about 350 bytes of the generator's memory each, 1.4 GB in all."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of an open loop."""

    rate: float
    """Offered transactions per second."""
    duration_s: float

    @property
    def transactions(self) -> int:
        """How many are due in it."""
        return max(1, round(self.rate * self.duration_s))

    def __str__(self) -> str:
        return f"{self.rate:g}x{self.duration_s:g}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure."""

    phases: tuple[Phase, ...]
    """Of an open loop, one after the other; empty for a closed loop."""
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

    @classmethod
    def open_loop(
        cls,
        phases: Sequence[Phase],
        batch: int,
        pairs: int,
        workload: str = "transfer",
        accounts: int = 0,
        kill_at_s: float | None = None,
    ) -> Plan:
        """Return the plan of an open loop."""
        duration_s = sum(phase.duration_s for phase in phases)
        return cls(tuple(phases), None, duration_s, batch, pairs, workload, accounts, kill_at_s)

    def __post_init__(self) -> None:
        if self.in_flight is not None and self.duration_s > CLOSED_LOOP_S_MAX:
            raise UsageError(
                f"a closed loop lasts at most {CLOSED_LOOP_S_MAX:g} s, got {self.duration_s:g}; "
                "use --rate for longer runs"
            )
        if self.transactions > SIGNED_MAX:
            raise UsageError(
                f"{self.transactions:,} transactions would be signed beforehand, at most "
                f"{SIGNED_MAX:,} fit in memory; choose a lower rate or a shorter duration"
            )
        if self.pairs < self.kind.senders_min:
            raise UsageError(
                f"workload {self.workload} needs at least {self.kind.senders_min} senders"
            )

    @property
    def kind(self) -> Workload:
        """The workload."""
        return WORKLOADS[self.workload]

    @property
    def transactions(self) -> int:
        """How many to sign beforehand."""
        if self.in_flight is not None:
            return max(1, round(CLOSED_LOOP_RATE_MAX * self.duration_s))
        return sum(phase.transactions for phase in self.phases)

    @property
    def rate(self) -> float | None:
        """Offered transactions per second on average; None for a closed loop."""
        if self.in_flight is not None:
            return None
        if len(self.phases) == 1:
            return self.phases[0].rate
        return self.transactions / self.duration_s

    @property
    def receivers_registered(self) -> int:
        """Accounts registered to receive; those that really receive are some of them."""
        return max(self.accounts, self.pairs)

    @property
    def request_size(self) -> int:
        """Transactions per request, the same in all phases: the slowest decides."""
        if self.in_flight is not None:
            return self.batch
        slowest = min(phase.rate for phase in self.phases)
        return max(1, min(self.batch, int(slowest / REQUESTS_PER_S_MIN)))

    def due_s(self) -> Iterator[float]:
        """Yield when each request is due, in seconds since the load began: with its first one."""
        number, first, start_s = 0, 0, 0.0
        for phase in self.phases:
            while number < first + phase.transactions:
                yield start_s + (number - first) / phase.rate
                number += self.request_size
            first += phase.transactions
            start_s += phase.duration_s

    def to_json(self) -> dict[str, Any]:
        """Return the parameters section of the report."""
        return {
            "loop": "open" if self.in_flight is None else "closed",
            "rate": self.rate,
            "steps": ",".join(map(str, self.phases)) if len(self.phases) > 1 else None,
            "in_flight": self.in_flight,
            "duration_s": self.duration_s,
            "batch": self.batch,
            "request_size": self.request_size,
            "pairs": self.pairs,
            "workload": self.workload,
            "workload_meaning": self.kind.meaning,
            "operations_per_transaction": self.kind.operations,
            "accounts": self.accounts,
            "kill_at_s": self.kill_at_s,
        }


def parse_steps(text: str) -> tuple[Phase, ...]:
    """Return the phases of ``RATExSECONDS,...``; raises :class:`UsageError`."""
    phases = []
    for word in text.split(","):
        rate, _, duration_s = word.strip().partition("x")
        try:
            phase = Phase(float(rate), float(duration_s))
        except ValueError:
            phase = Phase(0.0, 0.0)
        if not (0 < phase.rate < float("inf") and 1 <= phase.duration_s < float("inf")):
            raise UsageError(
                f"expected steps like 3000x20,8000x60 (transactions per second x seconds, at least "
                f"one), got {word.strip()!r}"
            )
        phases.append(phase)
    return tuple(phases)
