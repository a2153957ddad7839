"""What node processes use on this machine: processor time, memory, disk; read from ``/proc``."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mbi.bench.target import LocalProcess, TargetNode

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """A process at one moment."""

    cpu_s: float
    """User and system time since it started."""
    rss_bytes: int
    disk_bytes: int


def read_usage(process: LocalProcess) -> Usage | None:
    """Return what a process uses; None if it is gone."""
    try:
        text = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()
    cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return Usage(cpu_s, int(fields[21]) * _PAGE_BYTES, _disk_bytes(process.home))


def compare_usage(
    node: TargetNode, before: Usage | None, after: Usage | None, transactions: int
) -> dict[str, Any]:
    """Return what a node used between two moments; None where it cannot be known."""
    if before is None or after is None:
        return dict.fromkeys(("cpu_s", "cpu_us_per_transaction", "rss_bytes", "disk_growth_bytes"))
    cpu_s = after.cpu_s - before.cpu_s
    return {
        "cpu_s": round(cpu_s, 3),
        "cpu_us_per_transaction": round(cpu_s * 1e6 / transactions, 1) if transactions else None,
        "rss_bytes": after.rss_bytes,
        "disk_growth_bytes": after.disk_bytes - before.disk_bytes,
    }


def machine() -> dict[str, Any]:
    """Return what the numbers were measured on."""
    return {
        "cpus": os.cpu_count(),
        "cpu_model": _cpu_model(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES,
        "platform": platform.platform(),
        "python": platform.python_version(),
    }


def _cpu_model() -> str | None:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return None


def _disk_bytes(home: Path) -> int:
    total = 0
    for path in (home / "data").rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            # The database deletes files as it compacts.
            continue
    return total
