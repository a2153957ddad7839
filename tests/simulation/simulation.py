"""One run: a phase with any faults, then healing, and the demand for progress.

1. Safety: nodes, clients, Byzantine actors and faults for ``safety_ms``; asked is safety only.
2. Liveness: a core that satisfies condition H is healed, everything outside stays broken. Each node
   of the core must finalise a transaction submitted now, within :data:`LIVENESS_MS`. Left out if a
   whole chamber is Byzantine: it may halt the chain, which is why nobody may fork it.
3. Silence: if nobody misbehaves and nothing is left to do, the network must fall silent.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.simulation.faults import Faults
from tests.simulation.fetch import TooManyWants
from tests.simulation.governance import Governance
from tests.simulation.invariants import Violation
from tests.simulation.signatures import installed
from tests.simulation.timeline import EventStorm
from tests.simulation.workload import Workload
from tests.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from ledger.types import Digest
    from tests.simulation.options import Options

LIVENESS_MS: Final = 60_000
"""After healing: catch-up, and two failed leaders in a row at the longest view of 16 s. Half of
the runs need less than 2 s."""

SETTLE_MS: Final = 20_000
"""An idle chain may take this long to publish its last state root and fall silent."""

SILENCE_MS: Final = 60_000
"""Then nothing may happen for this long."""


@dataclass(slots=True)
class Result:
    """What a run came to. ``invariant`` is None if all held."""

    seed: int
    digest: str = ""
    virtual_ms: int = 0
    events: int = 0
    height: int = 0
    epochs: int = 0
    """Times the validator set changed."""
    views: int = 0
    transactions: int = 0
    healed_ms: int | None = None
    """Virtual time from healing to finality on all nodes of the core."""
    evidence: int = 0
    """Proofs that nodes reported."""
    convicted: int = 0
    """Proofs recorded on chain, over all nodes."""
    faults: Counter[str] = field(default_factory=Counter)
    coverage: Counter[str] = field(default_factory=Counter)
    """Rare paths that were taken: a path that no seed takes is not tested."""
    invariant: str | None = None
    detail: str = ""
    at_ms: int = 0


def run(
    options: Options, sink: Callable[[str], None] | None = None, *, traced: bool = False
) -> Result:
    """Run the simulation that ``options`` describe; a violation is part of the result.

    ``traced`` computes the hash that identifies the run, ``sink`` receives every event as a line.
    """
    result = Result(options.seed)
    world = World(options, sink, traced=traced)
    try:
        with installed(world.scheme):
            run_phases(world, result)
    except Violation as violation:
        result.invariant, result.detail = violation.invariant, violation.detail
    except (EventStorm, TooManyWants) as storm:
        result.invariant, result.detail = "I10", str(storm)
    except Exception as error:  # any escape from the engine is a finding, not an end of the tests
        if sink is not None:
            raise
        result.invariant, result.detail = "CRASH", f"{type(error).__name__}: {error}"
    checker = world.checker
    result.at_ms = result.virtual_ms = world.timeline.now_ms
    result.events = world.timeline.events_run
    knowledge = checker.knowledge
    result.height = len(knowledge.chain) - 1
    result.epochs = len(knowledge.sets) - 1
    result.views = checker.highest_view
    result.transactions = len(knowledge.acknowledged)
    result.evidence = checker.accusations.reported
    result.convicted = checker.accusations.convicted
    result.faults = world.faults + world.net.faults
    result.coverage = world.coverage
    world.trace.record(f"end {result.invariant} height {result.height}")
    result.digest = world.trace.digest()
    return result


def run_phases(world: World, result: Result) -> None:
    """Take a new world through its phases.

    Raises:
        Violation: an invariant does not hold.
    """
    workload = Workload(world)
    governance = Governance(world, workload)
    faults = Faults(world, governance)
    world.governance = governance
    faults.start()
    workload.start()
    governance.start()
    world.start()
    world.timeline.run_until(world.options.safety_ms)
    workload.is_over = governance.is_over = True
    _check_light(world)
    for node in world.nodes.values():
        world.checker.memory.check(node)
    if world.options.whole_chamber:
        return
    faults.heal()
    healed_at_ms = world.timeline.now_ms
    _demand_progress(world, workload, faults.core)
    result.healed_ms = world.timeline.now_ms - healed_at_ms
    _check_acknowledged(world, faults.core)
    _check_light(world)
    if not world.byzantine and len(faults.core) == len(world.nodes):
        _demand_silence(world)


def _demand_progress(world: World, workload: Workload, core: tuple[int, ...]) -> None:
    """LIVE: a fresh transaction becomes final on all nodes of the core."""
    world.timeline.run_until(world.timeline.now_ms + world.random.randint(0, 1_000))
    fresh = workload.submit(world.random.choice(core))

    def is_final_everywhere() -> bool:
        return fresh in world.checker.knowledge.acknowledged and all(
            _has_executed(world, index, fresh) for index in core
        )

    if not world.timeline.run_until(world.timeline.now_ms + LIVENESS_MS, is_final_everywhere):
        lacking = [index for index in core if not _has_executed(world, index, fresh)]
        stand = "; ".join(_describe(world, index) for index in core)
        raise Violation("LIVE", f"nodes {lacking} of the core lack the new transaction: {stand}")


def _describe(world: World, index: int) -> str:
    """Say where a node stands."""
    process = world.nodes[index].process
    if process is None or not process.is_alive:
        return f"{index} is down"
    status = process.replica.status()
    flags = ["active"] * status.active + ["quarantined"] * status.quarantined
    return (
        f"{index} in view {status.view}, final {status.finalized_height} of view"
        f" {status.finalized_view}, certified {status.certified_view}, executed"
        f" {status.executed_height} {' '.join(flags)}"
    )


def _has_executed(world: World, index: int, transaction: Digest) -> bool:
    process = world.nodes[index].process
    return process is not None and process.is_alive and process.ledger.has_executed(transaction)


def _check_light(world: World) -> None:
    """I12: a light client follows what the most advanced honest node has stored."""
    up = [n.process for n in world.nodes.values() if n.process is not None and n.process.is_booted]
    alive = [process for process in up if process.is_alive]
    if alive:
        best = max(alive, key=lambda process: process.ledger.durable_height)
        best.guarded(world.checker.light.check, best)
    world.coverage["light client accepted"] = world.checker.light.accepted
    world.coverage["light client refused"] = world.checker.light.refused


def _check_acknowledged(world: World, core: tuple[int, ...]) -> None:
    """ACK: every transaction that was reported final is in the chain of every node of the core."""
    for index in core:
        process = world.nodes[index].process
        if process is not None and process.is_alive:
            world.checker.acknowledged.check(index, process)


def _demand_silence(world: World) -> None:
    """I11: without work there are no views, no timers and no consensus messages."""
    everything_executed = world.timeline.now_ms + SETTLE_MS
    world.timeline.run_until(everything_executed)
    before = world.checker.silence.awake
    world.coverage["silence demanded"] += 1
    if world.options.idle_ms is not None:
        return
    world.timeline.run_until(world.timeline.now_ms + SILENCE_MS)
    world.checker.silence.check(before, SILENCE_MS)
