"""One drill from beginning to end: load, fault, recovery, questions to all nodes, verdict."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final

from mbi.drill.bed import Bed
from mbi.drill.evidence import known_accusations, statements
from mbi.drill.judge import (
    Result,
    Seconds,
    late_reasons,
    trespasses,
    unsafe_reasons,
)
from mbi.drill.load import Load
from mbi.drill.plan import Drill
from mbi.drill.watch import Timeline, Watch
from mbi.errors import MbiError, OperationFailed

WARM_TRANSACTIONS: Final = 50
"""Final before the fault: the load really runs."""
WARM_S: Final = 20.0
SETTLE_S: Final = 2.0
"""After a cut, what was under way before it may still become known."""
PATIENCE: Final = 3.0
"""How many times its limit a recovery is waited for: by how much it is late is worth knowing."""
AFTER_S: Final = 3.0
"""How long the load goes on after the recovery."""
DRAIN_S: Final = 15.0
"""How long acknowledged transactions may take to be final on all nodes; then they are sent again,
once, as a client does: a node that is killed loses what waited in its memory."""


async def run_drill(drill: Drill, bed: Bed, rate: int) -> Result:
    """Carry out one drill under ``rate`` transactions per second.

    Raises:
        MbiError: the drill could not be carried out; its fault is undone.
    """
    first_height = await bed.wait_whole() + 1
    accused = await known_accusations(bed.nodes)
    watch = Watch(bed.nodes, first_height)
    load = Load(bed.nodes, bed.payers, rate)
    events: list[dict[str, Any]] = []
    began_s = time.monotonic()

    def mark(event: str) -> float:
        now_s = time.monotonic()
        events.append({"s": round(now_s - began_s, 2), "event": event})
        return now_s

    async with _beside(watch.run()):
        async with _beside(load.run()):
            await watch.until(
                "load before the fault", WARM_S, lambda seen: len(seen.final) >= WARM_TRANSACTIONS
            )
            begin_s = mark("fault begins")
            async with drill.fault(bed) as cut_off:
                in_force_s = mark("fault in force")
                await asyncio.sleep(drill.hold_s)
                undo_s = mark("undoing begins")
                height = watch.timeline.tip
            undone_s = mark("undone")
            seconds = await _recovery(drill, watch, height, begin_s, undone_s)
            mark("recovered" if seconds.all_agree is not None else "not recovered")
            await asyncio.sleep(AFTER_S)
        resent = await _drain(load, watch)
        mark("drained")
    timeline = watch.timeline
    result = Result(drill.name, seconds, drill.limits, timeline.tip, events=events)
    still_from = in_force_s + SETTLE_S
    result.unsafe += trespasses(
        {name: timeline.blocks_between(name, still_from, undo_s) for name in cut_off}
    )
    result.late += late_reasons(drill.limits, seconds, timeline.tip)
    await _question(result, bed, load, timeline, accused)
    result.counts |= _counts(load, timeline, resent)
    return result


def failed(drill: Drill, reason: str) -> Result:
    """Return the result of a drill that could not be carried out."""
    return Result(drill.name, Seconds(0.0, None, None), drill.limits, 0, late=[reason])


async def _recovery(
    drill: Drill, watch: Watch, height: int, begin_s: float, undone_s: float
) -> Seconds:
    """Wait for a block above ``height``, the tip when undoing began, on any node, then on all."""
    timeline = watch.timeline
    limits = drill.limits
    new_block = all_agree = None
    with contextlib.suppress(OperationFailed):
        await watch.until("new block", PATIENCE * limits.block_s, lambda seen: seen.tip > height)
        at, goal = next((at, seen) for at, seen in timeline.growth if seen > height)
        new_block = max(0.0, at - undone_s)
        patience_s = PATIENCE * limits.agree_limit_s(goal)
        await watch.until("agreement", patience_s, lambda seen: seen.lowest >= goal)
        all_agree = max(0.0, timeline.all_have_s(goal) - undone_s)
    return Seconds(timeline.longest_gap_s(begin_s, undone_s), new_block, all_agree)


async def _drain(load: Load, watch: Watch) -> int:
    """Wait until everything acknowledged is final on all nodes; return how many went twice."""
    await load.settled()

    def is_done(seen: Timeline) -> bool:
        return load.sent.acknowledged.keys() <= seen.final.keys() and seen.lowest == seen.tip

    with contextlib.suppress(OperationFailed):
        await watch.until("drain", DRAIN_S, is_done)
        return 0
    missing = sorted(load.sent.acknowledged.keys() - watch.timeline.final.keys())
    await load.send_again(missing)
    with contextlib.suppress(OperationFailed):
        await watch.until("drain", DRAIN_S, is_done)
    return len(missing)


async def _question(
    result: Result, bed: Bed, load: Load, timeline: Timeline, accused: frozenset[str]
) -> None:
    """Ask all nodes for what they have, up to the height that all of them have."""
    result.unsafe += sorted(set(timeline.contradictions))
    try:
        await bed.wait_whole()
        found = await statements(bed.nodes, timeline.first_height, timeline.lowest)
    except MbiError as error:
        result.late.append(f"not all nodes could be asked: {error}")
        return
    within = {key: at for key, at in timeline.final.items() if at <= timeline.lowest}
    # That a node is behind is a matter of recovery; what lies above it proves nothing against it.
    above = timeline.final.keys() - within.keys()
    acknowledged = load.sent.acknowledged.keys() - above
    result.unsafe += unsafe_reasons(found, within, acknowledged, load.sent.refused, accused)
    result.counts["heights_compared"] = len(found[0].blocks)
    result.counts["nodes"] = [one.node for one in found]


def _counts(load: Load, timeline: Timeline, resent: int) -> dict[str, Any]:
    sent = load.sent
    return {
        "acknowledged": len(sent.acknowledged),
        "final": len(timeline.final),
        "sent_again": resent,
        "refused_by_code": dict(sorted(sent.refusals.items())),
        "unanswered": sent.unanswered,
        "skipped": sent.skipped,
    }


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run something endless beside the body; if it fails, so does the body's end."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(outcome, Exception):
            raise outcome
