"""One benchmark from beginning to end: prepare, load, wait for finality, check, report."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol

from mbi.bench.faults import Fault, Start, plan_fault
from mbi.bench.finality import FinalityWatch
from mbi.bench.integrity import Integrity, check_integrity
from mbi.bench.internals import Counters
from mbi.bench.load import ACCEPTED, UNANSWERED, LoadGenerator, Sent
from mbi.bench.plan import Plan
from mbi.bench.resources import Meter
from mbi.bench.result import Measured, make_result
from mbi.bench.statistics import steady_window
from mbi.bench.target import Target
from mbi.bench.workload import (
    Accounts,
    Prepared,
    make_accounts,
    make_receivers,
    sign_transfers,
)
from mbi.client import AsyncClient
from mbi.errors import MbiError

DRAIN_S: Final = 30.0
"""How long transactions may still become final after the load; then they count as unknown."""
DRAIN_POLL_S: Final = 0.05
QUIET_S: Final = 2.0
"""After this long without a block of ours the nodes are asked whether anything is pending."""


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


async def run_benchmark(
    target: Target, plan: Plan, display: Display, start: Start | None = None
) -> Run:
    """Measure; raises an ``MbiError`` only if the measurement could not be made.

    ``start`` starts a node of this machine again; a plan with a fault needs it.
    """
    fault = None if plan.kill_at_s is None else plan_fault(target, plan.kill_at_s, start)
    setup_s = -time.monotonic()
    async with AsyncClient(target.nodes[0].url) as client:
        accounts = await _accounts(client, target, plan, display)
        setup_s += time.monotonic()
        display.stage("signing transactions", plan.transactions)
        prepared = await sign_transfers(
            target.chain_id,
            accounts,
            plan.transactions,
            plan.request_size,
            display.advance,
            plan.kind.operations,
        )
        first_height = int((await client.status())["height"]) + 1
    watch = FinalityWatch(target.nodes[0].url, first_height)
    watch.expect(prepared.ids)
    meter = Meter(target.nodes)
    counters = Counters(target.nodes)
    await counters.read("before")
    display.stage(f"load for {plan.duration_s:g} s", plan.transactions if plan.rate else None)
    cpu_s = -time.process_time()
    async with _beside(meter.run()):
        sent = await _load(target, plan, prepared, watch, display, fault, counters)
    meter.sample()
    cpu_s += time.process_time()
    await counters.read("after")
    display.stage("comparing all nodes")
    integrity = await check_integrity(target, accounts, prepared, sent, watch.heights, first_height)
    happened = fault.to_json(sent.started_s) if fault else []
    measured = Measured(
        target,
        plan,
        sent,
        watch,
        integrity,
        meter.records,
        counters.taken,
        setup_s,
        cpu_s,
        happened,
    )
    return Run(make_result(measured), prepared, sent, watch, integrity)


async def _accounts(client: AsyncClient, target: Target, plan: Plan, display: Display) -> Accounts:
    """Register receivers and senders, and fund the senders for all that they will send."""
    count = plan.receivers_registered
    display.stage(f"registering {count + plan.pairs} accounts", count)
    chosen = 1 if plan.kind.is_hot else plan.pairs
    receivers = await make_receivers(client, target, count, chosen, display.advance)
    funds = -(-plan.transactions // plan.pairs) * plan.kind.operations
    return await make_accounts(client, target, plan.pairs, funds, receivers)


async def _load(
    target: Target,
    plan: Plan,
    prepared: Prepared,
    watch: FinalityWatch,
    display: Display,
    fault: Fault | None,
    counters: Counters,
) -> Sent:
    generator = LoadGenerator([node.url for node in target.nodes], prepared)

    def on_final(count: int) -> None:
        display.advance(count)
        generator.finished(count)

    watch.on_final = on_final
    try:
        async with _beside(watch.run()) as watching:
            breaking = asyncio.create_task(fault.run()) if fault else None
            warm_up_s, _ = steady_window(0.0, plan.duration_s)
            async with _beside(counters.read_in(warm_up_s, "steady_from")):
                if plan.rate is not None:
                    await generator.run_open(plan.rate, plan.duration_s)
                else:
                    await generator.run_closed(plan.in_flight or plan.batch, plan.duration_s)
            await counters.read("steady_to")
            if breaking is not None:
                await breaking
            await _drain(target, generator.sent, watch, watching)
    finally:
        generator.close()
    return generator.sent


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Run something endless beside the body."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _drain(
    target: Target, sent: Sent, watch: FinalityWatch, watching: asyncio.Task[None]
) -> None:
    """Wait until everything sent is final, nothing is pending, or the time for it is over."""
    deadline = time.monotonic() + DRAIN_S
    quiet_until = time.monotonic() + QUIET_S
    number, count = 0, len(sent.outcome)
    while time.monotonic() < deadline and not watching.done():
        # What is settled stays settled, so the search goes on where it stood.
        while number < count and (
            watch.heights[number] >= 0 or sent.outcome[number] not in (ACCEPTED, UNANSWERED)
        ):
            number += 1
        if number == count:
            return
        if watch.blocks and watch.blocks[-1].ours:
            quiet_until = max(quiet_until, watch.blocks[-1].observed_s + QUIET_S)
        if time.monotonic() > quiet_until:
            if not await _is_any_pending(target):
                return
            quiet_until = time.monotonic() + QUIET_S
        await asyncio.sleep(DRAIN_POLL_S)
    if watching.done():
        watching.result()


async def _is_any_pending(target: Target) -> bool:
    """Tell whether some node still holds transactions; one that does not answer may hold some."""
    for node in target.nodes:
        try:
            async with AsyncClient(node.url) as client:
                if (await client.get("/v1/mempool"))["transactions"]:
                    return True
        except MbiError:
            return True
    return False
