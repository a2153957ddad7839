"""The files of a benchmark: ``result.json``, ``report.html`` made from it, ``latencies.csv``."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any, Final

from mbi.bench.html import report_html
from mbi.bench.load import ACCEPTED, REJECTED, UNANSWERED
from mbi.bench.runner import Run

_OUTCOMES: Final = {
    0: "not_sent",
    ACCEPTED: "accepted",
    REJECTED: "rejected",
    UNANSWERED: "unanswered",
}


def write_report(directory: Path, run: Run) -> None:
    """Write all files; an older report in the directory is replaced."""
    write_result(directory, run.result)
    _write_latencies(directory / "latencies.csv", run)


def write_result(directory: Path, result: dict[str, Any]) -> None:
    """Write the numbers and the page that shows them."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (directory / "report.html").write_text(report_html(result), encoding="utf-8")


def _write_latencies(path: Path, run: Run) -> None:
    prepared, sent, watch = run.prepared, run.sent, run.watch
    with path.open("w", newline="", encoding="ascii") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "intended_s", "outcome", "height", "latency_ms"))
        for number, identifier in enumerate(prepared.ids):
            intended = sent.intended_s[number]
            if math.isnan(intended):
                continue
            height, final = watch.heights[number], watch.final_s[number]
            writer.writerow(
                (
                    identifier.hex(),
                    f"{intended - sent.started_s:.6f}",
                    _OUTCOMES[sent.outcome[number]],
                    height if height >= 0 else "",
                    "" if math.isnan(final) else f"{(final - intended) * 1000:.3f}",
                )
            )
