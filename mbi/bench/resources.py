"""What node processes use on this machine: processor time, memory, disk; read from ``/proc``.

A :class:`Meter` samples every node while the load runs. A node that is killed and started again
keeps one account: the processor time of both processes counts. What a process used between its last
sample and its death, at most :data:`SAMPLE_S`, is lost.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mbi.bench.target import LocalProcess, TargetNode

SAMPLE_S: Final = 1.0
SHORTEST_S: Final = 0.25
"""The kernel counts in ticks of 10 ms: over a shorter time the share would be a guess."""
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """A process at one moment."""

    pid: int
    cpu_s: float
    """User and system time since it started."""
    rss_bytes: int
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A node at one moment, all its processes together."""

    at_s: float
    """On the monotonic clock."""
    cpu_s: float
    rss_bytes: int
    disk_bytes: int


@dataclass(slots=True)
class NodeRecord:
    """The samples of one node."""

    samples: list[Sample] = field(default_factory=list)
    down_s: list[float] = field(default_factory=list)
    """Moments at which the node had no process."""
    restarts: int = 0
    _pid: int | None = None
    _ended_cpu_s: float = 0.0
    """Processor time of the processes before the present one."""

    def add(self, at_s: float, usage: Usage) -> None:
        """Take a reading; another process id means that the node was started again."""
        if self._pid not in (None, usage.pid):
            self.restarts += 1
            self._ended_cpu_s = self.samples[-1].cpu_s
        self._pid = usage.pid
        cpu_s = self._ended_cpu_s + usage.cpu_s
        self.samples.append(Sample(at_s, cpu_s, usage.rss_bytes, usage.disk_bytes))

    def summary(self, transactions: int) -> dict[str, Any]:
        """Return what the node used from the first to the last sample; None if it is unknown."""
        if len(self.samples) < 2:
            return dict.fromkeys(
                (
                    "cpu_s",
                    "cpu_us_per_transaction",
                    "rss_bytes",
                    "rss_bytes_max",
                    "disk_growth_bytes",
                    "disk_bytes_per_transaction",
                    "restarts",
                )
            )
        first, last = self.samples[0], self.samples[-1]
        cpu_s, disk_bytes = last.cpu_s - first.cpu_s, last.disk_bytes - first.disk_bytes
        return {
            "cpu_s": round(cpu_s, 3),
            "cpu_us_per_transaction": _each(cpu_s * 1e6, transactions),
            "rss_bytes": last.rss_bytes,
            "rss_bytes_max": max(sample.rss_bytes for sample in self.samples),
            "disk_growth_bytes": disk_bytes,
            "disk_bytes_per_transaction": _each(disk_bytes, transactions),
            "restarts": self.restarts,
        }

    def series(self, started_s: float) -> list[dict[str, Any]]:
        """Return processor use (1.0 is one core) and memory over time; None while it was down."""
        pairs = itertools.pairwise(self.samples)
        rows: list[dict[str, Any]] = [
            {
                "s": round(after.at_s - started_s, 2),
                "cpu": round((after.cpu_s - before.cpu_s) / (after.at_s - before.at_s), 3),
                "rss_mib": round(after.rss_bytes / 1024**2, 1),
            }
            for before, after in pairs
            if after.at_s - before.at_s >= SHORTEST_S
        ]
        gaps = [
            {"s": round(at_s - started_s, 2), "cpu": None, "rss_mib": None} for at_s in self.down_s
        ]
        return sorted([*rows, *gaps], key=lambda row: row["s"])


class Meter:
    """Samples all nodes of a target that run on this machine."""

    def __init__(self, nodes: Sequence[TargetNode]) -> None:
        self._nodes = nodes
        self.records = [NodeRecord() for _ in nodes]

    def sample(self) -> None:
        """Read every node of this machine once."""
        for node, record in zip(self._nodes, self.records, strict=True):
            if node.process is None:
                continue
            usage = read_usage(node.process)
            if usage is None:
                record.down_s.append(time.monotonic())
            else:
                record.add(time.monotonic(), usage)

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            self.sample()
            await asyncio.sleep(SAMPLE_S)


def read_usage(process: LocalProcess) -> Usage | None:
    """Return what a process uses; None if it is gone."""
    pid = process.pid
    if pid is None:
        return None
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()
    cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return Usage(pid, cpu_s, int(fields[21]) * _PAGE_BYTES, _disk_bytes(process.home))


def _each(total: float, transactions: int) -> float | None:
    return round(total / transactions, 1) if transactions else None


def _disk_bytes(home: Path) -> int:
    total = 0
    for path in (home / "data").rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            # The database deletes files as it compacts.
            continue
    return total
