"""Puts two results side by side: ratios of the main figures, and what makes them incomparable."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mbi.bench.result import RESULT_VERSION
from mbi.bench.stages import stage_means
from mbi.errors import UsageError

Json = Mapping[str, Any]

SPEED_RATIO_MAX: Final = 1.15
"""Runs on one quiet machine differ by less; more, and the ratios are about the machine."""
_MACHINE: Final = ("cpu_model", "cores", "memory_bytes", "kernel", "python")
_NOT_PARAMETERS: Final = frozenset({"observer"})


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of both results."""

    name: str
    a: float | None
    b: float | None

    @property
    def ratio(self) -> float | None:
        """B by A; None if one is unknown or A is zero."""
        return None if self.a in (None, 0) or self.b is None else self.b / (self.a or 1)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two results side by side."""

    rows: list[Row]
    differences: list[str]
    """Why the ratios may say nothing about the program."""

    def to_json(self) -> dict[str, Any]:
        """Return the document of the command."""
        return {
            "figures": [
                {"name": row.name, "a": row.a, "b": row.b, "b_by_a": row.ratio} for row in self.rows
            ],
            "differences": self.differences,
        }


def load_result(path: Path) -> dict[str, Any]:
    """Read ``result.json`` from a file or a report directory; raises :class:`UsageError`."""
    file = path / "result.json" if path.is_dir() else path
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{file} does not exist; expected a result.json") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read as JSON ({error})") from error
    version = result.get("version") if isinstance(result, dict) else None
    if version != RESULT_VERSION or result.get("kind") not in ("run", "ramp"):
        raise UsageError(
            f"{file}: expected a result of version {RESULT_VERSION}, found version {version}"
        )
    return dict(result)


def compare(a: Json, b: Json) -> Comparison:
    """Compare two runs or two ramps; raises :class:`UsageError` for one of each."""
    if a["kind"] != b["kind"]:
        raise UsageError(f"a {a['kind']} cannot be compared with a {b['kind']}")
    figures = _ramp_figures if a["kind"] == "ramp" else _run_figures
    found_a, found_b = figures(a), figures(b)
    rows = [Row(name, value, found_b.get(name)) for name, value in found_a.items()]
    return Comparison(rows, list(_differences(a, b)))


def _run_figures(result: Json) -> dict[str, float | None]:
    nodes, latency, counts = result["nodes"], result["latency_ms"], result["transactions"]
    return {
        "finalized per s": result["throughput"]["transactions_per_s"],
        "operations per s": result["throughput"]["operations_per_s"],
        **{f"latency {name} ms": latency[name] for name in ("p50", "p90", "p95", "p99", "max")},
        "rejected": counts["rejected"],
        "unknown": counts["unknown"],
        "block interval p50 ms": result["blocks"]["interval_ms"]["p50"],
        "transactions per block p50": result["blocks"]["transactions"]["p50"],
        "cpu us per transaction": _mean(nodes, "cpu_us_per_transaction"),
        "cpu us per transaction, steady": result["building_blocks"]["cpu_us_per_transaction"],
        **{f"  of it {name}": value for name, value in stage_means(nodes).items()},
        "cpu by building blocks": result["building_blocks"]["ratio_mean"],
        "signature alone us": _alone_us(result),
        "rss bytes": _mean(nodes, "rss_bytes"),
        "disk bytes per transaction": _mean(nodes, "disk_bytes_per_transaction"),
    }


def _ramp_figures(result: Json) -> dict[str, float | None]:
    knee = result["knee"]
    return {
        "highest rate carried per s": knee["offered_per_s"],
        "finalized per s there": knee["finalized_per_s"],
        "latency p50 ms there": knee["p50_ms"],
        "latency p99 ms there": knee["p99_ms"],
        "cpu us per transaction there": knee["cpu_us_per_transaction"],
    }


def _alone_us(result: Json) -> float:
    alone: Json = result["building_blocks"]["signature_alone_us"]
    return float(alone["before"] + alone["after"]) / 2


def _mean(nodes: list[Json], name: str) -> float | None:
    known = [node[name] for node in nodes if node[name] is not None]
    return sum(known) / len(known) if known else None


def _differences(a: Json, b: Json) -> Iterator[str]:
    for name in _MACHINE:
        if a["machine"][name] != b["machine"][name]:
            yield f"machine: {name} is {a['machine'][name]} and {b['machine'][name]}"
    if a["topology"]["nodes"] != b["topology"]["nodes"]:
        yield f"topology: {a['topology']['nodes']} and {b['topology']['nodes']} nodes"
    names = dict.fromkeys([*a["parameters"], *b["parameters"]])
    for name in names:
        left, right = a["parameters"].get(name), b["parameters"].get(name)
        if name not in _NOT_PARAMETERS and left != right:
            yield f"parameters: {name} is {left} and {right}"
    for name, left in a["versions"]["libraries"].items():
        right = b["versions"]["libraries"].get(name)
        if left != right:
            yield f"versions: {name} is {left} and {right}"
    if a["kind"] == "run":
        left, right = _alone_us(a), _alone_us(b)
        if max(left, right) > SPEED_RATIO_MAX * min(left, right):
            yield f"machine: a signature check cost {left:g} us and {right:g} us when idle"
    for label, result in (("A", a), ("B", b)):
        if result["versions"]["commit_modified"]:
            yield f"versions: {label} was measured with files changed since its commit"
        if result["kind"] == "run" and not result["integrity"]["passed"]:
            yield f"integrity: {label} failed its check, its figures mean nothing"
