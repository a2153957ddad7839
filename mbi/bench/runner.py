"""One benchmark from beginning to end: prepare, load, wait for finality, check, report."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from mbi.bench.balances import read_opening
from mbi.bench.faults import Fault, Start, plan_fault
from mbi.bench.finality import FinalityWatch
from mbi.bench.integrity import Evidence, Integrity, check_integrity, wait_common_height
from mbi.bench.internals import Counters
from mbi.bench.load import ACCEPTED, UNANSWERED, LoadGenerator, Sent
from mbi.bench.plan import Plan
from mbi.bench.resources import Meter
from mbi.bench.result import Generator, Measured, make_result
from mbi.bench.setup import make_accounts
from mbi.bench.signing import sign_all
from mbi.bench.statistics import steady_window
from mbi.bench.target import Target
from mbi.bench.workload import Prepared
from mbi.bench.yardstick import signature_us
from mbi.client import AsyncClient
from mbi.errors import MbiError

KIB: Final = 1024

DRAIN_S: Final = 30.0
"""How long transactions may still become final after the last one did; then nobody waits for the
rest, and the run says so."""
DRAIN_POLL_S: Final = 0.05
QUIET_S: Final = 2.0
"""After this long without a block of ours the nodes are asked whether anything is pending."""
CATCH_UP_S: Final = 60.0
"""How long the observer may take to look at all blocks that there are after the drain."""


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
    target: Target,
    plan: Plan,
    display: Display,
    start: Start | None = None,
    *,
    during: AbstractAsyncContextManager[None] | None = None,
) -> Run:
    """Measure; raises an ``MbiError`` only if the measurement could not be made.

    ``start`` starts a node of this machine again; a plan with a fault needs it. ``during`` is
    entered when the load begins and left after the drain.
    """
    fault = None if plan.kill_at_s is None else plan_fault(target, plan.kill_at_s, start)
    setup_s = -time.monotonic()
    async with AsyncClient(target.nodes[0].url) as client:
        registered = plan.receivers_registered + plan.pairs
        display.stage(f"registering {registered} accounts", registered)
        accounts = await make_accounts(client, target, plan, display.advance)
        setup_s += time.monotonic()
        signing_s = -time.monotonic()
        display.stage(f"signing {plan.transactions} transactions", plan.transactions)
        compose = plan.kind.compose(accounts)
        prepared = await sign_all(target.chain_id, plan, compose, display.advance)
        signing_s += time.monotonic()
        opening = await read_opening(client, accounts)
        first_height = int((await client.status())["height"]) + 1
    watch = FinalityWatch(target.nodes[0].url, first_height)
    watch.expect(prepared.ids)
    meter = Meter(target.nodes)
    counters = Counters(target.nodes)
    signature_before_us = signature_us()
    await counters.read("before")
    display.stage(f"load for {plan.duration_s:g} s", plan.transactions if plan.rate else None)
    elapsed_s, cpu_s = -time.monotonic(), -time.process_time()
    async with _beside(meter.run()), during or contextlib.nullcontext():
        sent, pending = await _load(target, plan, prepared, watch, display, fault, counters)
    meter.sample()
    elapsed_s, cpu_s = elapsed_s + time.monotonic(), cpu_s + time.process_time()
    await counters.read("after")
    signature_after_us = signature_us()
    display.stage("comparing all nodes")
    integrity = await check_integrity(
        target,
        Evidence(
            accounts, opening, prepared, sent, watch.heights, first_height, watch.height, pending
        ),
    )
    measured = Measured(
        target,
        plan,
        sent,
        watch,
        integrity,
        meter.records,
        counters.taken,
        (signature_before_us, signature_after_us),
        setup_s,
        signing_s,
        Generator(cpu_s, elapsed_s, _rss_bytes_max()),
        fault.to_json(sent.started_s) if fault else [],
    )
    return Run(make_result(measured), prepared, sent, watch, integrity)


async def _load(
    target: Target,
    plan: Plan,
    prepared: Prepared,
    watch: FinalityWatch,
    display: Display,
    fault: Fault | None,
    counters: Counters,
) -> tuple[Sent, int]:
    """Offer the load; return what was sent and how much was still pending at the very end."""
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
                if plan.in_flight is None:
                    await generator.run_open(plan.due_s(), plan.duration_s)
                else:
                    await generator.run_closed(plan.in_flight, plan.duration_s)
            await counters.read("steady_to")
            if breaking is not None:
                await breaking
            await _drain(target, generator.sent, watch, watching)
            await _see_all(target, watch, watching)
    finally:
        generator.close()
    is_open = _first_open(generator.sent, watch, 0) < len(prepared.ids)
    return generator.sent, await _pending(target) if is_open else 0


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
    """Wait until everything sent is final, nothing is pending, or nothing more becomes final."""
    progress_s = time.monotonic()
    quiet_until = progress_s + QUIET_S
    number, count = 0, len(sent.outcome)
    while time.monotonic() < progress_s + DRAIN_S and not watching.done():
        # What is settled stays settled, so the search goes on where it stood.
        number = _first_open(sent, watch, number)
        if number == count:
            return
        if watch.ours_last_s is not None:
            progress_s = max(progress_s, watch.ours_last_s)
            quiet_until = max(quiet_until, watch.ours_last_s + QUIET_S)
        if time.monotonic() > quiet_until:
            if not await _pending(target):
                return
            quiet_until = time.monotonic() + QUIET_S
        await asyncio.sleep(DRAIN_POLL_S)
    if watching.done():
        watching.result()


def _first_open(sent: Sent, watch: FinalityWatch, number: int) -> int:
    """Return the first transaction from a number on that may still become final, or their count."""
    count = len(sent.outcome)
    while number < count and (
        watch.heights[number] >= 0 or sent.outcome[number] not in (ACCEPTED, UNANSWERED)
    ):
        number += 1
    return number


async def _see_all(target: Target, watch: FinalityWatch, watching: asyncio.Task[None]) -> None:
    """Wait until the observer has looked at every block that any node has.

    A node that was slow or restarted shows its last blocks later than the others; that its
    transactions were seen late is no fault of theirs. The integrity check says so if one is gone.
    """
    deadline = time.monotonic() + CATCH_UP_S
    try:
        height = await wait_common_height(target.nodes)
    except MbiError:
        return
    # The observer asks every 10 ms anyway: an event would only say it a little earlier.
    while watch.height < height and time.monotonic() < deadline and not watching.done():  # noqa: ASYNC110
        await asyncio.sleep(DRAIN_POLL_S)


async def _pending(target: Target) -> int:
    """Return the most transactions that a node still holds; one that does not answer holds one."""
    most = 0
    for node in target.nodes:
        try:
            async with AsyncClient(node.url) as client:
                most = max(most, int((await client.get("/v1/mempool"))["transactions"]))
        except MbiError:
            most = max(most, 1)
    return most


def _rss_bytes_max() -> int:
    """Return the most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB
