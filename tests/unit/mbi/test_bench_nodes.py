"""What a benchmark notes about nodes: resources, their own counters, and a node that is killed."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
from array import array
from pathlib import Path

import pytest

from ledger.crypto import SigningKey
from ledger.types import Digest
from mbi.bench import faults
from mbi.bench.faults import Fault, plan_fault
from mbi.bench.internals import Readings, describe, lag_summary, parse_readings
from mbi.bench.machine import machine, versions
from mbi.bench.resources import Meter, NodeRecord, Usage, read_usage
from mbi.bench.statistics import ObservedBlock
from mbi.bench.target import LocalProcess, Target, TargetNode
from mbi.bench.timeline import latency_classes, seconds
from mbi.errors import ProcessFailed, UsageError
from mbi.localnet.layout import NodeEntry
from mbi.localnet.processes import state_of, write_pid
from mbi.localnet.topology import Role

PAGE = """# HELP mbi_node_loop_lag_seconds Delay
# TYPE mbi_node_loop_lag_seconds histogram
mbi_node_loop_lag_seconds_bucket{le="0.001"} 90.0
mbi_node_loop_lag_seconds_bucket{le="0.01"} 99.0
mbi_node_loop_lag_seconds_bucket{le="+Inf"} 100.0
mbi_node_loop_lag_seconds_count 100.0
mbi_node_loop_lag_seconds_sum 0.5
# TYPE mbi_node_signatures_verified counter
mbi_node_signatures_verified_total 500.0
# TYPE mbi_node_stage_cpu_seconds counter
mbi_node_stage_cpu_seconds_total{stage="signature"} 0.03
mbi_node_stage_cpu_seconds_total{stage="decode"} 0.002
# TYPE mbi_process_cpu_seconds counter
mbi_process_cpu_seconds_total 0.05
# TYPE mbi_chain_transactions counter
mbi_chain_transactions_total{status="ok"} 400.0
mbi_chain_transactions_total{status="failed"} 100.0
# TYPE mbi_chain_height gauge
mbi_chain_height 9.0
"""


def entry(tmp_path: Path, name: str = "com-1", role: Role = "validator") -> NodeEntry:
    home = tmp_path / name
    (home / "data").mkdir(parents=True)
    return NodeEntry(name, role, "commercial", "http://127.0.0.1:1", "127.0.0.1:2", str(home))


def spawn(node: NodeEntry) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    write_pid(node, process.pid)
    return process


def target(*nodes: TargetNode) -> Target:
    funder = SigningKey.from_seed(bytes(32))
    return Target(nodes, Digest(bytes(32)), funder, "issuer", "issuer/MYR", "1")


def test_restarted_node_keeps_one_account() -> None:
    record = NodeRecord()
    record.add(0.0, Usage(7, 10.0, 100, 1000))
    record.add(1.0, Usage(7, 10.5, 300, 1500))
    record.down_s.append(2.0)
    record.add(3.0, Usage(8, 0.25, 150, 1550))
    record.add(3.01, Usage(8, 0.25, 200, 1600))
    found = record.summary(1000)
    assert (found["cpu_s"], found["cpu_us_per_transaction"], found["restarts"]) == (0.75, 750.0, 1)
    assert (found["rss_bytes"], found["rss_bytes_max"]) == (200, 300)
    assert (found["disk_growth_bytes"], found["disk_bytes_per_transaction"]) == (600, 0.6)
    assert [(row["s"], row["cpu"]) for row in record.series(0.0)] == [
        (1.0, 0.5),
        (2.0, None),
        (3.0, 0.125),
    ]


def test_nothing_is_invented_for_a_node_that_was_not_seen() -> None:
    assert set(NodeRecord().summary(10).values()) == {None}
    assert NodeRecord().series(0.0) == []


def test_own_process_is_metered(tmp_path: Path) -> None:
    node = entry(tmp_path)
    (Path(node.home) / "data" / "file").write_bytes(b"x" * 1234)
    write_pid(node, os.getpid())
    meter = Meter([TargetNode("a", node.http, LocalProcess(node)), TargetNode("b", "", None)])
    meter.sample()
    node.pid_path.unlink()
    meter.sample()
    sample = meter.records[0].samples[0]
    assert sample.disk_bytes == 1234
    assert sample.rss_bytes > 2**20
    assert len(meter.records[0].down_s) == 1
    assert meter.records[1] == NodeRecord()
    assert read_usage(LocalProcess(node)) is None


def test_counters_of_a_node_are_understood() -> None:
    found = describe({"before": Readings(), "after": parse_readings(PAGE)}, 1000)
    assert found["signatures_verified"] == 500
    assert found["stages_us_per_transaction"] == {"signature": 30.0, "decode": 2.0, "rest": 18.0}
    assert found["steady"] is None
    assert found["loop_lag_ms"] == {
        "count": 100,
        "mean": 5.0,
        "p50_at_most": 1.0,
        "p99_at_most": 10.0,
        "max_at_most": None,
    }


def test_only_what_grew_between_two_readings_counts() -> None:
    before, after = parse_readings(PAGE), parse_readings(PAGE)
    after.values["mbi_node_signatures_verified_total"] += 7
    found = describe({"before": before, "after": after}, 1000)
    assert found["signatures_verified"] == 7
    assert found["loop_lag_ms"]["count"] == 0
    assert found["loop_lag_ms"]["mean"] is None


def test_counters_that_fell_began_again_at_zero() -> None:
    before = parse_readings(PAGE)
    for bound in before.lag_buckets:
        before.lag_buckets[bound] *= 10
    for key in before.values:
        before.values[key] *= 10
    found = describe({"before": before, "after": parse_readings(PAGE)}, 1000)
    assert found["signatures_verified"] == 500


def test_unknown_counters_stay_unknown() -> None:
    assert set(describe({"after": parse_readings(PAGE)}, 10).values()) == {None}
    assert lag_summary({}, 0.0, 0.0)["p99_at_most"] is None
    with pytest.raises(ValueError, match="float"):
        parse_readings("a page of something else")


def test_seconds_put_latency_where_it_was_due_and_blocks_where_they_were_seen() -> None:
    intended = array("d", [10.0, 10.5, 11.0, math.nan])
    final = array("d", [10.25, 12.5, math.nan, math.nan])
    blocks = [
        ObservedBlock(1, 10_200, 10.25, 1, 1),
        ObservedBlock(2, 12_400, 12.5, 3, 1),
        ObservedBlock(3, 20_000, 20.0, 0, 0),
    ]
    rows = seconds(intended, final, blocks, 10.0)
    assert [row["s"] for row in rows] == [0, 1, 2]
    assert [row["offered"] for row in rows] == [2, 1, 0]
    assert [row["finalized"] for row in rows] == [1, 0, 1]
    assert [row["latency_p99_ms"] for row in rows] == [2000.0, None, None]
    assert rows[2]["block_interval_ms_mean"] == 2200.0
    assert rows[1]["block_transactions_mean"] is None


def test_latency_classes_hold_every_measured_transaction_of_the_window() -> None:
    intended = array("d", [0.0, 1.0, 1.0, 1.0, 1.0])
    final = array("d", [0.5, 1.0078125, 1.015625, 99.0, math.nan])
    found = latency_classes(intended, final, (0.5, 2.0))
    full = {item["ms_at_most"]: item["transactions"] for item in found if item["transactions"]}
    assert full == {10: 1, 20: 1, None: 1}


async def test_fault_kills_and_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = entry(tmp_path)
    processes = [spawn(node)]
    asked: list[list[str]] = []

    async def start(victim: NodeEntry) -> None:
        processes.append(spawn(victim))

    async def ready(nodes: list[NodeEntry], _: float) -> None:
        asked.append([item.name for item in nodes])

    monkeypatch.setattr(faults, "DOWN_S", 0.01)
    monkeypatch.setattr(faults, "wait_ready", ready)
    fault = Fault(node, 0.0, start)
    try:
        async with asyncio.timeout(20):
            await fault.run()
        assert processes[0].wait(10) == -signal.SIGKILL
        assert state_of(node).pid == processes[1].pid
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [event["event"] for event in fault.to_json(0.0)] == [
        "com-1 killed",
        "com-1 started again",
        "com-1 ready again",
    ]
    assert asked == [["com-1"]]


async def test_node_that_does_not_come_back_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def start(_: NodeEntry) -> None:
        return

    async def never(*_: object) -> None:
        raise ProcessFailed("it is gone")

    monkeypatch.setattr(faults, "DOWN_S", 0.0)
    monkeypatch.setattr(faults, "wait_ready", never)
    fault = Fault(entry(tmp_path), 0.0, start)
    await fault.run()
    events = [event["event"] for event in fault.to_json(0.0)]
    assert events[0] == "com-1 was not up"
    assert events[-1] == "com-1 did not come back: it is gone"


def test_victim_is_a_validator_and_not_the_observed_node(tmp_path: Path) -> None:
    async def start(_: NodeEntry) -> None:
        return

    roles: dict[str, Role] = {
        "gov-1": "validator",
        "com-1": "validator",
        "gov-2": "validator",
        "obs-1": "observer",
    }
    nodes = [
        TargetNode(name, "", LocalProcess(entry(tmp_path, name, role)))
        for name, role in roles.items()
    ]
    assert plan_fault(target(*nodes), 1.0, start).node.name == "gov-2"
    with pytest.raises(UsageError, match="second validator"):
        plan_fault(target(nodes[0], nodes[3]), 1.0, start)
    with pytest.raises(UsageError, match="--kill-at"):
        plan_fault(target(*nodes), 1.0, None)
    with pytest.raises(UsageError, match="--kill-at"):
        plan_fault(target(TargetNode("a", "", None), TargetNode("b", "", None)), 1.0, start)


def test_machine_and_versions_are_stated() -> None:
    found = machine()
    assert found["cores"] >= found["cores_usable"] >= 1
    assert found["memory_bytes"] > 2**28
    assert found["python"].startswith("3.")
    stated = versions("9.9")
    assert stated["nodes"] == "9.9"
    assert stated["libraries"]["msgspec"]
    assert stated["commit"] is None or len(stated["commit"]) == 40
