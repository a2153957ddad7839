"""Assembles ``result.json``: everything that was measured, and how it is defined."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from mbi.bench.finality import POLL_S, FinalityWatch
from mbi.bench.integrity import Integrity
from mbi.bench.internals import Moment, Readings, describe
from mbi.bench.load import ACCEPTED, UNANSWERED, Sent
from mbi.bench.machine import machine, versions
from mbi.bench.phases import NORMAL_FACTOR, SLICE_S, describe_phases, describe_refusals
from mbi.bench.plan import Plan
from mbi.bench.resources import NodeRecord
from mbi.bench.stages import OTHER_BLOCKS_US, summary
from mbi.bench.statistics import (
    MINUTE_S,
    ObservedBlock,
    block_summary,
    latency_summary,
    memory_window,
    minutes,
    slope,
    steady_window,
    throughput,
)
from mbi.bench.target import Target
from mbi.bench.timeline import latency_classes, seconds

RESULT_VERSION: Final = 3
MIB: Final = 1024**2

DEFINITIONS: Final = {
    "clock": "monotonic clock of the load generator, for sending and for finality alike",
    "open_loop": "latency counts from the moment a request was due by the schedule, whether or not "
    "the generator or a node was late; no wait is left out (no coordinated omission)",
    "closed_loop": "latency counts from the moment the request left; a slow network slows the load "
    "down, so do not compare it with an open loop",
    "sent_again": "in a closed loop what a node refuses for now is sent again after the time that "
    "it states; its latency counts from the first time",
    "final": "the observed node (the first) shows the transaction in a block with a finality "
    f"certificate; it is asked every {POLL_S * 1000:g} ms, and that delay is not subtracted",
    "steady_window": "from the end of the warm-up (a fifth of the run, at most 5 s) to the last "
    "moment at which load was offered",
    "throughput": "our transactions in final blocks observed in the steady window, by its length",
    "unknown": "sent, not refused, and not final when nothing was pending any more",
    "cpu": "user and system time of the node processes from just before the load to the end of the "
    "drain, by the finalized transactions; the load generator is counted apart",
    "stages": "processor time of the threads for each stage of a node's work "
    "(mbi_node_stage_cpu_seconds_total at /metrics); rest is what its process used beyond them: "
    "event loop, sockets, TLS, HTTP, consensus, interpreter",
    "steady": "processor time from the end of the warm-up to the end of the load, by the "
    "transactions that the node itself executed meanwhile",
    "by_building_blocks": "processor time of a node by that of its signature stage in the same "
    f"window and {OTHER_BLOCKS_US:g} us for all other building blocks",
    "phases": "finalized in blocks observed in the phase; latencies and refusals of what was due "
    f"in it; normal again: the first {SLICE_S:g} s whose median latency is at most "
    f"{NORMAL_FACTOR:g} times that of the earlier phase with the same rate, else of the phase's "
    "last third",
    "rss_slope": "least squares over samples from three minutes after the load began (in shorter "
    "runs from half of it) to its end",
    "generator_cores": "processor time of the load generator from just before the load to the end "
    "of the drain, by the elapsed time: it shares the machine with the nodes",
    "signature_alone": "processor time of one signature check by the generator, just before the "
    "load and just after the drain: what this machine could do at that moment",
    "loop_lag": "delay of a timer on the node's event loop; upper bound of the histogram's class",
}


@dataclass(frozen=True, slots=True)
class Generator:
    """What the load generator itself used, from just before the load to the end of the drain."""

    cpu_s: float
    elapsed_s: float
    rss_bytes_max: int


@dataclass(slots=True)
class Measured:
    """What a run left behind."""

    target: Target
    plan: Plan
    sent: Sent
    watch: FinalityWatch
    integrity: Integrity
    records: Sequence[NodeRecord]
    readings: Sequence[Mapping[Moment, Readings]]
    signature_us: tuple[float, float]
    """Of one check by the generator, just before the load and after the drain."""
    setup_s: float
    """How long registering and funding the accounts took."""
    signing_s: float
    generator: Generator
    faults: list[dict[str, Any]]


def count_outcomes(sent: Sent, heights: Sequence[int], failed: int) -> dict[str, Any]:
    """Return how many transactions ended how; what is neither final nor refused is unknown."""
    outcomes = sent.outcome
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
        **describe_refusals(list(sent.refusals.values())),
        "unanswered": outcomes.count(UNANSWERED),
        "unknown": unknown,
    }


def make_result(measured: Measured) -> dict[str, Any]:
    """Return the document."""
    plan, sent, watch = measured.plan, measured.sent, measured.watch
    window = steady_window(sent.started_s, sent.ended_s)
    failed_by_code = measured.integrity.failed_by_code
    counts = count_outcomes(sent, watch.heights, failed_by_code.total())
    rates = throughput(watch.blocks, window)
    operations = plan.kind.operations
    per_s = rates["transactions_per_s"]
    nodes = _nodes(measured, counts["finalized"])
    return {
        "version": RESULT_VERSION,
        "kind": "run",
        "finished": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "versions": versions(measured.target.software),
        "machine": machine(),
        "topology": _topology(measured.target),
        "parameters": {**plan.to_json(), "observer": measured.target.nodes[0].name},
        "definitions": DEFINITIONS,
        "offered_per_s": plan.rate,
        "throughput": {
            **rates,
            "operations_per_s": None if per_s is None else per_s * operations,
            "finalized_of_offered": None if not plan.rate or per_s is None else per_s / plan.rate,
            **minutes(watch.blocks, window),
        },
        "steady_window": {
            "from_s": round(window[0] - sent.started_s, 3),
            "to_s": round(window[1] - sent.started_s, 3),
        },
        "latency_ms": latency_summary(sent.intended_s, watch.final_s, window),
        "phases": describe_phases(plan.phases, sent, watch.final_s, watch.blocks),
        "transactions": {**counts, "failed_by_code": dict(sorted(failed_by_code.items()))},
        "blocks": _blocks(watch.blocks, window, measured.integrity.body_bytes),
        "building_blocks": summary(nodes, measured.signature_us),
        "nodes": nodes,
        "setup": {
            "accounts_registered": plan.receivers_registered + plan.pairs,
            "seconds": round(measured.setup_s, 3),
            "transactions_signed": plan.transactions,
            "signing_s": round(measured.signing_s, 3),
        },
        "generator": {
            **_generator(measured.generator, counts["sent"]),
            "lateness_ms_max": round(sent.lateness_s_max * 1000, 3),
            "failovers": sent.failovers,
            "sent_again": sent.sent_again,
            "missed_polls": watch.missed_polls,
        },
        "faults": measured.faults,
        "integrity": measured.integrity.to_json(),
        "series": {
            "seconds": seconds(sent.intended_s, watch.final_s, watch.blocks, sent.started_s),
            "latency": latency_classes(sent.intended_s, watch.final_s, window),
            "nodes": {
                node.name: record.series(sent.started_s)
                for node, record in zip(measured.target.nodes, measured.records, strict=True)
            },
        },
    }


def _topology(target: Target) -> dict[str, Any]:
    return {
        "chain_id": target.chain_id.hex(),
        "nodes": len(target.nodes),
        "roles": [
            {
                "name": node.name,
                "role": None if node.process is None else node.process.entry.role,
                "chamber": None if node.process is None else node.process.entry.chamber,
                "url": node.url,
            }
            for node in target.nodes
        ],
    }


def _generator(used: Generator, sent: int) -> dict[str, Any]:
    return {
        "cpu_s": round(used.cpu_s, 3),
        "cores": round(used.cpu_s / used.elapsed_s, 3) if used.elapsed_s else None,
        "cpu_us_per_transaction": round(used.cpu_s * 1e6 / sent, 1) if sent else None,
        "rss_bytes_max": used.rss_bytes_max,
    }


def _blocks(
    blocks: Sequence[ObservedBlock], window: tuple[float, float], body_bytes: dict[int, int]
) -> dict[str, Any]:
    gaps = [
        (after.observed_s - before.observed_s) * 1000
        for before, after in itertools.pairwise(blocks)
        if window[0] <= after.observed_s <= window[1]
    ]
    return {
        **block_summary(blocks, window, body_bytes),
        "longest_gap_ms": round(max(gaps), 3) if gaps else None,
    }


def _nodes(measured: Measured, finalized: int) -> list[dict[str, Any]]:
    window = memory_window(measured.sent.started_s, measured.sent.ended_s)
    return [
        {
            "name": node.name,
            "url": node.url,
            **record.summary(finalized),
            "rss_mib_per_minute": _rss_slope(record, window),
            **describe(taken, finalized),
        }
        for node, record, taken in zip(
            measured.target.nodes, measured.records, measured.readings, strict=True
        )
    ]


def _rss_slope(record: NodeRecord, window: tuple[float, float]) -> float | None:
    per_s = slope(
        [
            (sample.at_s, sample.rss_bytes / MIB)
            for sample in record.samples
            if window[0] <= sample.at_s <= window[1]
        ]
    )
    return None if per_s is None else round(per_s * MINUTE_S, 3)
