"""One benchmark from beginning to end: prepare, load, wait for finality, check, report."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Final, Protocol

from mbi.bench.finality import FinalityWatch
from mbi.bench.integrity import Integrity, check_integrity
from mbi.bench.load import ACCEPTED, UNANSWERED, LoadGenerator, Sent
from mbi.bench.report import count_outcomes
from mbi.bench.resources import Usage, compare_usage, machine, read_usage
from mbi.bench.statistics import block_summary, latency_summary, steady_window, throughput
from mbi.bench.target import Target
from mbi.bench.workload import Prepared, make_accounts, sign_transfers
from mbi.client import AsyncClient

DRAIN_S: Final = 30.0
"""How long transactions may still become final after the load; then they count as unknown."""
DRAIN_POLL_S: Final = 0.05
CLOSED_LOOP_RATE_MAX: Final = 8_000
"""Transactions signed per second of a closed loop: more than two cores can finalize."""
RESULT_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure."""

    rate: float | None
    """Offered transactions per second; None for a closed loop."""
    in_flight: int | None
    """Transactions in flight; None for an open loop."""
    duration_s: float
    batch: int
    pairs: int
    """Senders; there are as many receivers."""
    workload: str = "transfer"

    @property
    def transactions(self) -> int:
        """How many to sign beforehand."""
        return round((self.rate or CLOSED_LOOP_RATE_MAX) * self.duration_s)


class Display(Protocol):
    """Shows what the benchmark is doing."""

    def stage(self, text: str, total: int | None = None) -> None:
        """Begin a stage of ``total`` steps."""

    def advance(self, steps: int) -> None:
        """Go on by some steps."""


@dataclass(slots=True)
class Run:
    """Everything that was measured."""

    result: dict[str, Any]
    prepared: Prepared
    sent: Sent
    watch: FinalityWatch
    integrity: Integrity


async def run_benchmark(target: Target, plan: Plan, display: Display) -> Run:
    """Measure; raises an ``MbiError`` only if the measurement could not be made."""
    async with AsyncClient(target.nodes[0].url) as client:
        display.stage(f"registering and funding {2 * plan.pairs} accounts")
        per_sender = -(-plan.transactions // plan.pairs)
        accounts = await make_accounts(client, target, plan.pairs, per_sender)
        display.stage("signing transactions", plan.transactions)
        prepared = await sign_transfers(
            target.chain_id, accounts, plan.transactions, plan.batch, display.advance
        )
        first_height = int((await client.status())["height"]) + 1
    watch = FinalityWatch(target.nodes[0].url, first_height)
    watch.expect(prepared.ids)
    before = [_usage(target, index) for index in range(len(target.nodes))]
    display.stage(f"load for {plan.duration_s:g} s", plan.transactions if plan.rate else None)
    sent = await _load(target, plan, prepared, watch, display)
    after = [_usage(target, index) for index in range(len(target.nodes))]
    display.stage("comparing all nodes")
    integrity = await check_integrity(target, accounts, prepared, sent, watch.heights, first_height)
    result = _result(target, plan, sent, watch, integrity)
    finalized = result["transactions"]["finalized"]
    result["nodes"] = [
        {"name": node.name, "url": node.url, **compare_usage(node, b, a, finalized)}
        for node, b, a in zip(target.nodes, before, after, strict=True)
    ]
    return Run(result, prepared, sent, watch, integrity)


async def _load(
    target: Target, plan: Plan, prepared: Prepared, watch: FinalityWatch, display: Display
) -> Sent:
    generator = LoadGenerator([node.url for node in target.nodes], prepared)

    def on_final(count: int) -> None:
        display.advance(count)
        generator.finished(count)

    watch.on_final = on_final
    watching = asyncio.create_task(watch.run())
    try:
        if plan.rate is not None:
            await generator.run_open(plan.rate, plan.duration_s)
        else:
            await generator.run_closed(plan.in_flight or plan.batch, plan.duration_s)
        await _drain(generator.sent, watch, watching)
    finally:
        generator.close()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return generator.sent


async def _drain(sent: Sent, watch: FinalityWatch, watching: asyncio.Task[None]) -> None:
    """Wait until everything accepted is final, or the time for it is over."""
    deadline = time.monotonic() + DRAIN_S
    while time.monotonic() < deadline and not watching.done():
        open_numbers = (
            number
            for number, outcome in enumerate(sent.outcome)
            if outcome in (ACCEPTED, UNANSWERED) and watch.heights[number] < 0
        )
        if next(open_numbers, None) is None:
            return
        await asyncio.sleep(DRAIN_POLL_S)
    if watching.done():
        watching.result()


def _usage(target: Target, index: int) -> Usage | None:
    process = target.nodes[index].process
    return None if process is None else read_usage(process)


def _result(
    target: Target, plan: Plan, sent: Sent, watch: FinalityWatch, integrity: Integrity
) -> dict[str, Any]:
    window = steady_window(sent.started_s, sent.ended_s)
    rates = throughput(watch.blocks, window)
    return {
        "version": RESULT_VERSION,
        "finished": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "software": {"mbi": metadata.version("mbi-node"), "nodes": target.software},
        "machine": machine(),
        "network": {"chain_id": target.chain_id.hex(), "nodes": len(target.nodes)},
        "parameters": {
            **asdict(plan),
            "loop": "open" if plan.rate is not None else "closed",
            "observer": target.nodes[0].url,
        },
        "offered_per_s": plan.rate,
        "throughput": rates,
        "latency_ms": latency_summary(sent.intended_s, watch.final_s, window),
        "transactions": count_outcomes(sent, watch.heights, integrity.failed_by_code.total()),
        "failed_by_code": dict(sorted(integrity.failed_by_code.items())),
        "blocks": block_summary(watch.blocks, window),
        "generator": {
            "lateness_ms_max": round(sent.lateness_s_max * 1000, 3),
            "missed_polls": watch.missed_polls,
        },
        "integrity": integrity.to_json(),
    }
