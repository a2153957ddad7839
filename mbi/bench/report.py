"""The files of a benchmark: numbers in ``result.json``, transactions in ``latencies.csv``."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any, Final

from mbi.bench.load import ACCEPTED, REJECTED, UNANSWERED, Sent
from mbi.bench.workload import Prepared

_OUTCOMES: Final = {
    0: "not_sent",
    ACCEPTED: "accepted",
    REJECTED: "rejected",
    UNANSWERED: "unanswered",
}


def count_outcomes(sent: Sent, heights: Any, failed: int) -> dict[str, Any]:
    """Return how many transactions ended how; what is neither final nor refused is unknown."""
    outcomes = list(sent.outcome)
    final = sum(height >= 0 for height in heights)
    unknown = sum(
        height < 0 and outcome in (ACCEPTED, UNANSWERED)
        for height, outcome in zip(heights, outcomes, strict=True)
    )
    return {
        "sent": sum(not math.isnan(intended) for intended in sent.intended_s),
        "accepted": outcomes.count(ACCEPTED),
        "finalized": final,
        "failed": failed,
        "rejected": outcomes.count(REJECTED),
        "rejected_by_code": dict(sorted(sent.rejected.items())),
        "unanswered": outcomes.count(UNANSWERED),
        "unknown": unknown,
    }


def write_report(
    directory: Path,
    result: dict[str, Any],
    prepared: Prepared,
    sent: Sent,
    final_s: Any,
    heights: Any,
) -> None:
    """Write both files; an older report in the directory is replaced."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    with (directory / "latencies.csv").open("w", newline="", encoding="ascii") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "intended_s", "outcome", "height", "latency_ms"))
        for number, identifier in enumerate(prepared.ids):
            intended = sent.intended_s[number]
            if math.isnan(intended):
                continue
            final = final_s[number]
            writer.writerow(
                (
                    identifier.hex(),
                    f"{intended - sent.started_s:.6f}",
                    _OUTCOMES[sent.outcome[number]],
                    heights[number] if heights[number] >= 0 else "",
                    "" if math.isnan(final) else f"{(final - intended) * 1000:.3f}",
                )
            )
