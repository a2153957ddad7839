"""Where the processor time of a transaction goes, from two readings of a node's own counters.

Stages, process and transactions are read from one page, so what no stage covers is known too: the
*rest* is the event loop, sockets, TLS, HTTP, consensus itself and the interpreter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Final

Samples = dict[str, float]
"""Value of each counter, by name and labels."""
Json = Mapping[str, Any]

STAGE: Final = "mbi_node_stage_cpu_seconds_total"
PROCESS: Final = "mbi_process_cpu_seconds_total"
EXECUTED: Final = "mbi_chain_transactions_total"
SIGNATURE: Final = "signature"
REST: Final = "rest"
OTHER_BLOCKS_US: Final = 15.0
"""What all building blocks but the signature cost together, measured one by one without sockets,
consensus and a node around them (docs/performance.md)."""
RATIO_MAX: Final = 1.35
"""A node may cost this much more than its building blocks."""


def costs(grown: Samples, transactions: int | None = None) -> dict[str, Any] | None:
    """Return processor time per transaction by stage for what the counters grew.

    ``transactions`` are those to count; by default all that the node executed meanwhile. None if
    there are none, or if the node does not count stages.
    """
    seconds = {
        key.removeprefix(STAGE).strip("{}"): value
        for key, value in grown.items()
        if key.startswith(STAGE)
    }
    if transactions is None:
        transactions = round(sum(grown[key] for key in grown if key.startswith(EXECUTED)))
    if not seconds or PROCESS not in grown or transactions <= 0:
        return None
    each = 1e6 / transactions
    stages = {name: round(value * each, 2) for name, value in seconds.items()}
    stages[REST] = round((grown[PROCESS] - sum(seconds.values())) * each, 2)
    total = grown[PROCESS] * each
    return {
        "transactions": transactions,
        "cpu_us_per_transaction": round(total, 2),
        "stages_us_per_transaction": stages,
        "by_building_blocks": _ratio(total, seconds[SIGNATURE] * each),
    }


def summary(nodes: Sequence[Json], alone_us: tuple[float, float]) -> dict[str, Any]:
    """Return what a node costs in the steady window, by what its building blocks cost.

    ``alone_us``: one signature check without other work, before and after the run.
    """
    known: list[Json] = [node["steady"] for node in nodes if node["steady"] is not None]
    ratios = [node["by_building_blocks"] for node in known]
    worst = max(ratios, default=None)
    return {
        "cpu_us_per_transaction": _mean([node["cpu_us_per_transaction"] for node in known]),
        "signature_us": _mean([node["stages_us_per_transaction"][SIGNATURE] for node in known]),
        "signature_alone_us": {"before": alone_us[0], "after": alone_us[1]},
        "other_blocks_us": OTHER_BLOCKS_US,
        "ratio_mean": _mean(ratios),
        "ratio_worst": worst,
        "ratio_limit": RATIO_MAX,
        "within_limit": None if worst is None else worst <= RATIO_MAX,
    }


def stage_means(nodes: Sequence[Json]) -> dict[str, float]:
    """Return the mean of the nodes for each stage of the steady window; empty if unknown."""
    known = [node["steady"]["stages_us_per_transaction"] for node in nodes if node["steady"]]
    names = dict.fromkeys(name for stages in known for name in stages)
    return {
        name: round(fmean(stages[name] for stages in known if name in stages), 2) for name in names
    }


def limit_us(steady: Json) -> float:
    """Return what a transaction may cost the node whose steady window this is."""
    signature_us: float = steady["stages_us_per_transaction"][SIGNATURE]
    return round(RATIO_MAX * (signature_us + OTHER_BLOCKS_US), 2)


def _ratio(total_us: float, signature_us: float) -> float:
    return round(total_us / (signature_us + OTHER_BLOCKS_US), 3)


def _mean(values: Sequence[float]) -> float | None:
    return round(fmean(values), 3) if values else None
