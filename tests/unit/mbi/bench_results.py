"""A result of a benchmark, made by the real code from invented measurements."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

from ledger.crypto import SigningKey
from ledger.types import Digest
from mbi.bench.finality import FinalityWatch
from mbi.bench.integrity import Integrity
from mbi.bench.internals import Readings
from mbi.bench.load import ACCEPTED, REJECTED, Refusal, Sent
from mbi.bench.plan import Phase, Plan
from mbi.bench.resources import NodeRecord, Usage
from mbi.bench.result import Generator, Measured, make_result
from mbi.bench.statistics import ObservedBlock
from mbi.bench.target import LocalProcess, Target, TargetNode
from mbi.localnet.layout import NodeEntry

COUNT = 100
STARTED_S = 1000.0
LATENCY_S = 0.0625
"""A power of two, so that sums stay exact."""


def run_result() -> dict[str, Any]:
    """Return the result of a run of ten seconds at ten transactions per second.

    One transaction was refused, the others became final after 62.5 ms.
    """
    due = [STARTED_S + number / 10 for number in range(COUNT)]
    sent = Sent(array("d", due), array("b", [ACCEPTED] * COUNT))
    sent.outcome[99] = REJECTED
    sent.refusals[99] = Refusal("mempool_full", 1)
    sent.started_s, sent.ended_s = STARTED_S, STARTED_S + 10.0
    watch = FinalityWatch("http://127.0.0.1:1", 7)
    watch.expect([Digest(number.to_bytes(32)) for number in range(COUNT)])
    for number in range(COUNT - 1):
        watch.final_s[number] = due[number] + LATENCY_S
        watch.heights[number] = 7 + number
        time_ms = round(due[number] * 1000)
        watch.blocks.append(ObservedBlock(7 + number, time_ms, due[number] + LATENCY_S, 1, 1))
    integrity = Integrity(checked={"heights_compared": 99, "state_root": "ab" * 32})
    integrity.body_bytes = {7 + number: 183 for number in range(COUNT)}
    measured = Measured(
        target=_target(),
        plan=Plan.open_loop([Phase(10.0, 10.0)], 100, 5),
        sent=sent,
        watch=watch,
        integrity=integrity,
        records=[_record(), NodeRecord()],
        readings=[
            {
                "before": _readings(0),
                "steady_from": _readings(20),
                "steady_to": _readings(60),
                "after": _readings(99),
            },
            {},
        ],
        signature_us=(55.0, 57.0),
        setup_s=1.5,
        signing_s=0.25,
        generator=Generator(0.5, 12.5, 50 * 2**20),
        faults=[{"s": 3.0, "event": "com-1 killed"}],
    )
    return {**make_result(measured), "command": "mbi bench run --rate 10 <&>"}


def _target() -> Target:
    home = str(Path("nowhere"))
    entry = NodeEntry("gov-1", "validator", "government", "http://127.0.0.1:1", "h:1", home)
    nodes = (
        TargetNode("gov-1", entry.http, LocalProcess(entry)),
        TargetNode("far", "http://192.0.2.1:26101", None),
    )
    funder = SigningKey.from_seed(bytes(32))
    return Target(nodes, Digest(b"\x11" * 32), funder, "issuer", "issuer/MYR", "9.9")


def _record() -> NodeRecord:
    record = NodeRecord()
    for second in range(11):
        record.add(STARTED_S + second, Usage(5, second / 8, 64 * 2**20 + second, 1000 * second))
    return record


def _readings(count: float) -> Readings:
    return Readings(
        {
            "mbi_node_stage_cpu_seconds_total{decode}": count * 5e-6,
            "mbi_node_stage_cpu_seconds_total{signature}": count * 60e-6,
            "mbi_process_cpu_seconds_total": count * 100e-6,
            "mbi_chain_transactions_total{ok}": count,
            "mbi_chain_transactions_total{failed}": 0.0,
            "mbi_node_signatures_verified_total": count,
            "mbi_node_loop_lag_seconds_sum": count / 1000,
            "mbi_node_loop_lag_seconds_count": count,
        },
        {0.001: count / 2, 0.01: count, float("inf"): count},
    )
