"""What ``mbi bench`` shows while it measures and when it is done."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from rich.progress import Progress, TaskID

from mbi.bench.compare import Comparison
from mbi.bench.ramp import Step
from mbi.bench.stages import stage_means
from mbi.bench.svg import figure
from mbi.cli.output import Output

NOTE_S: Final = 10.0
"""Between two lines about how far a stage is."""
VERDICTS: Final = {
    "passed": "passed",
    "violated": "VIOLATED",
    "incomplete": "NOT FULLY CHECKED",
}


class BenchDisplay:
    """Progress on stderr: a bar on a terminal, elsewhere a line every ten seconds."""

    def __init__(self, output: Output, progress: Progress) -> None:
        self._output = output
        self._progress = progress
        self._task: TaskID | None = None
        self._done, self._total = 0, 0
        self._noted_s = 0.0

    def stage(self, text: str, total: int | None = None) -> None:
        """Begin a stage."""
        self._output.note(text)
        self._done, self._total = 0, total or 0
        self._noted_s = time.monotonic()
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(text, total=total)

    def advance(self, steps: int) -> None:
        """Go on by some steps."""
        if self._task is not None:
            self._progress.advance(self._task, steps)
        self._done += steps
        if self._progress.disable and time.monotonic() > self._noted_s + NOTE_S:
            self._noted_s = time.monotonic()
            self._output.note(f"  {self._done:,} of {self._total:,}")


def show_run(output: Output, result: dict[str, Any], directory: Path) -> None:
    """Print the main figures of a run."""
    latency, counts = result["latency_ms"], result["transactions"]
    output.text("Benchmark", "bold")
    output.fields(
        {
            "offered": _number(result["offered_per_s"], "/s") or "closed loop",
            "finalized": _number(result["throughput"]["transactions_per_s"], "/s") or "unknown",
            "latency p50": _number(latency["p50"], "ms") or "unknown",
            "latency p99": _number(latency["p99"], "ms") or "unknown",
            "transactions": ", ".join(
                f"{counts[name]} {name}"
                for name in ("sent", "accepted", "finalized", "failed", "rejected", "unknown")
            ),
            "faults": ", ".join(f"{item['event']} at {item['s']} s" for item in result["faults"]),
            "last minute by first": _percent(result["throughput"]["last_by_first_minute"]),
            "generator": f"{figure(result['generator']['cores'])} cores, "
            f"{figure(result['generator']['cpu_us_per_transaction'])} us per transaction",
            "integrity": VERDICTS[result["integrity"]["verdict"]],
            "report": directory / "report.html",
        }
    )
    if len(result["phases"]) > 1:
        show_phases(output, result["phases"])
    output.table(
        (
            "node",
            "cpu s",
            "us per transaction",
            "rss MiB",
            "MiB per minute",
            "disk bytes per transaction",
            "loop lag p99 ms",
        ),
        (
            (
                node["name"],
                node["cpu_s"],
                node["cpu_us_per_transaction"],
                None if node["rss_bytes"] is None else node["rss_bytes"] // 1024**2,
                node["rss_mib_per_minute"],
                node["disk_bytes_per_transaction"],
                _lag(node),
            )
            for node in result["nodes"]
        ),
    )
    _show_stages(output, result)


def _show_stages(output: Output, result: dict[str, Any]) -> None:
    """Print where the processor time of a transaction goes in the steady window."""
    means = stage_means(result["nodes"])
    if not means:
        return
    total = sum(means.values())
    output.table(
        ("stage", "us per transaction and node", "share"),
        ((name, figure(value), f"{value / total:.0%}") for name, value in means.items()),
    )
    blocks = result["building_blocks"]
    alone = blocks["signature_alone_us"]
    output.text(
        f"{figure(blocks['cpu_us_per_transaction'])} us are {figure(blocks['ratio_mean'])} times "
        f"the building blocks (signature + {blocks['other_blocks_us']:g} us); "
        f"worst node {figure(blocks['ratio_worst'])}, limit {blocks['ratio_limit']:g}; a signature "
        f"check alone cost {alone['before']:g} us before the load and {alone['after']:g} us after"
    )


def show_phases(output: Output, phases: Sequence[dict[str, Any]]) -> None:
    """Print the phases of a run with steps."""
    output.table(
        ("from s", "offered /s", "finalized /s", "p50 ms", "p99 ms", "rejected", "normal after s"),
        (
            tuple(
                figure(phase[name])
                for name in (
                    "from_s",
                    "offered_per_s",
                    "finalized_per_s",
                    "latency_p50_ms",
                    "latency_p99_ms",
                    "rejected",
                    "normal_after_s",
                )
            )
            for phase in phases
        ),
    )


def show_step(output: Output, step: Step) -> None:
    """Tell about one step of a ramp, on stderr."""
    output.note(
        f"  {step.offered_per_s:,.0f}/s offered: {_number(step.finalized_per_s, '/s')} finalized, "
        f"p99 {_number(step.p99_ms, 'ms')}, {'carried' if step.holds else 'NOT carried'}"
    )


def show_ramp(output: Output, result: dict[str, Any], directory: Path) -> None:
    """Print the steps of a ramp and its knee."""
    output.table(
        (
            "offered /s",
            "finalized /s",
            "share",
            "p50 ms",
            "p99 ms",
            "rejected",
            "cpu us",
            "carried",
        ),
        (
            (
                *(
                    figure(step[name])
                    for name in (
                        "offered_per_s",
                        "finalized_per_s",
                        "finalized_of_offered",
                        "p50_ms",
                        "p99_ms",
                        "rejected",
                        "cpu_us_per_transaction",
                    )
                ),
                step["holds"],
            )
            for step in sorted(result["steps"], key=lambda step: float(step["offered_per_s"]))
        ),
    )
    knee = result["knee"]["offered_per_s"]
    passed = all(step["integrity_passed"] for step in result["steps"])
    output.fields(
        {
            "highest rate carried": _number(knee, "/s") or "none: begin lower with --from",
            "integrity": "passed" if passed else "VIOLATED",
            "report": directory / "report.html",
        }
    )


def show_comparison(output: Output, comparison: Comparison) -> None:
    """Print figures, ratios and warnings."""
    output.table(
        ("figure", "A", "B", "B by A"),
        (
            (
                row.name,
                figure(row.a),
                figure(row.b),
                None if row.ratio is None else f"{row.ratio:.3f}",
            )
            for row in comparison.rows
        ),
    )
    for difference in comparison.differences:
        output.warn(difference)


def _number(value: Any, unit: str) -> str | None:
    return None if value is None else f"{value:,.1f} {unit}"


def _percent(value: Any) -> str | None:
    return None if value is None else f"{value * 100:.1f} %"


def _lag(node: dict[str, Any]) -> str | None:
    lag = node["loop_lag_ms"]
    return None if lag is None or lag["p99_at_most"] is None else f"<= {lag['p99_at_most']:g}"
