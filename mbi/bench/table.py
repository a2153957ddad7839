"""The table of a sitting: what networks of several sizes carry on one machine. Pure functions.

For each number of validators there are two runs on one network: a closed loop, which shows the
highest rate, and an open loop at half of it, which shows latency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Final

from mbi.bench.stages import OTHER_BLOCKS_US
from mbi.bench.svg import figure

Json = Mapping[str, Any]

COLUMNS: Final = {
    "validators": "validators",
    "finalized_per_s": "finalized/s",
    "bound_per_s": "bound/s",
    "of_bound": "of the bound",
    "cpu_us_per_transaction": "CPU us per transaction and node",
    "signature_us": "of it signature",
    "signature_alone_us": "a signature alone",
    "by_building_blocks": "by building blocks",
    "generator_us_per_transaction": "generator us",
    "half_p50_ms": "p50 ms at half",
    "half_p99_ms": "p99 ms at half",
    "block_interval_p50_ms": "block interval p50 ms",
    "disk_bytes_per_transaction": "disk bytes per transaction",
    "integrity": "integrity",
}
"""Key of a row, and heading."""


def row_of(validators: int, full: Json, half: Json) -> dict[str, Any]:
    """Return the row of one network.

    The bound is what the machine could do if nodes did nothing but what the building blocks cost,
    at the price that the signature had in the same run, and the generator were as it is.
    """
    blocks = full["building_blocks"]
    signature_us, generator_us = blocks["signature_us"], full["generator"]["cpu_us_per_transaction"]
    finalized = full["throughput"]["transactions_per_s"]
    bound = None
    if signature_us is not None and generator_us is not None:
        node_us = signature_us + OTHER_BLOCKS_US
        bound = full["machine"]["cores_usable"] * 1e6 / (validators * node_us + generator_us)
    return {
        "validators": validators,
        "finalized_per_s": finalized,
        "bound_per_s": bound,
        "of_bound": finalized / bound if bound and finalized is not None else None,
        "cpu_us_per_transaction": blocks["cpu_us_per_transaction"],
        "signature_us": signature_us,
        "signature_alone_us": fmean(blocks["signature_alone_us"].values()),
        "by_building_blocks": blocks["ratio_mean"],
        "generator_us_per_transaction": generator_us,
        "half_p50_ms": half["latency_ms"]["p50"],
        "half_p99_ms": half["latency_ms"]["p99"],
        "block_interval_p50_ms": full["blocks"]["interval_ms"]["p50"],
        "disk_bytes_per_transaction": _mean(full["nodes"], "disk_bytes_per_transaction"),
        "integrity": " and ".join(
            dict.fromkeys(run["integrity"]["verdict"] for run in (full, half))
        ),
    }


def table_result(rows: Sequence[dict[str, Any]], runs: Sequence[Json], command: str) -> Json:
    """Return the document of the command."""
    kept = ("version", "versions", "machine", "definitions")
    return {
        "kind": "table",
        **{name: runs[0][name] for name in kept},
        "finished": runs[-1]["finished"],
        "command": command,
        "rows": list(rows),
    }


def markdown(result: Json) -> str:
    """Return the table as text for a document, with the machine, the commit and the command."""
    machine, versions = result["machine"], result["versions"]
    modified = ", with changes" if versions["commit_modified"] else ""
    lines = [
        f"`{result['command']}`, commit {str(versions['commit'])[:7]}{modified}, "
        f"{result['finished']}; {machine['cores_usable']} cores, {machine['cpu_model']}, "
        f"{machine['memory_bytes'] / 1024**3:.0f} GiB, Linux {machine['kernel']}, "
        f"Python {machine['python']}",
        "",
        "| " + " | ".join(COLUMNS.values()) + " |",
        "|" + "---:|" * len(COLUMNS),
    ]
    lines += [
        "| " + " | ".join(figure(row[key]) for key in COLUMNS) + " |" for row in result["rows"]
    ]
    return "\n".join(lines) + "\n"


def _mean(nodes: Sequence[Json], name: str) -> float | None:
    known = [node[name] for node in nodes if node[name] is not None]
    return sum(known) / len(known) if known else None
