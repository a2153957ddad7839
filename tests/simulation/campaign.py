"""Many runs: their seeds, their figures, and what a person must know about a failed one."""

from __future__ import annotations

import gc
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Final

from tests.simulation.options import expand
from tests.simulation.simulation import Result, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


GC_THRESHOLD: Final = 50_000
"""Objects made between two looks for garbage; a tenth of the time of a run with the default."""

CHUNK_SEEDS: Final = 8
"""Seeds given to a process at a time."""


def replay_command(seed: int) -> str:
    """Return the command that shows what happens in a seed."""
    return f"python -m tests.simulation --seed {seed} --trace"


def run_seed(seed: int) -> Result:
    """Run one seed with the options it expands to."""
    return run(expand(seed))


def explain(result: Result) -> str:
    """Return what a person needs to know about a failed seed."""
    return (
        f"seed {result.seed} violates {result.invariant} at {result.at_ms} ms: {result.detail}\n"
        f"  options: {expand(result.seed).describe()}\n"
        f"  replay:  {replay_command(result.seed)}"
    )


def run_many(seeds: range, jobs: int) -> Iterator[Result]:
    """Yield the results of many seeds, in the order of the seeds."""
    if jobs == 1:
        yield from map(run_seed, seeds)
        return
    with ProcessPoolExecutor(jobs, initializer=collect_rarely) as pool:
        yield from pool.map(run_seed, seeds, chunksize=CHUNK_SEEDS)


def collect_rarely() -> None:
    """Look for garbage less often: a run makes many objects that live as long as itself."""
    gc.set_threshold(GC_THRESHOLD, 20, 20)


def summarise(results: Iterable[Result], elapsed_s: float) -> dict[str, object]:
    """Return the figures of a campaign."""
    results = list(results)
    faults: Counter[str] = sum((result.faults for result in results), Counter())
    healed = sorted((r.healed_ms, r.seed) for r in results if r.healed_ms is not None)
    virtual_ms = sum(result.virtual_ms for result in results)
    return {
        "seeds": len(results),
        "failed": [result.seed for result in results if result.invariant is not None],
        "elapsed_s": round(elapsed_s, 1),
        "virtual_hours": round(virtual_ms / 3_600_000, 2),
        "times_real_time": round(virtual_ms / 1000 / max(elapsed_s, 0.001)),
        "events": sum(result.events for result in results),
        "blocks": sum(result.height for result in results),
        "views": sum(result.views for result in results),
        "transactions": sum(result.transactions for result in results),
        "evidence": sum(result.evidence for result in results),
        "healing_ms": {
            "p50": healed[len(healed) // 2][0] if healed else None,
            "p99": healed[len(healed) * 99 // 100][0] if healed else None,
            "worst": healed[-1][0] if healed else None,
            "worst_seed": healed[-1][1] if healed else None,
        },
        "coverage": dict(sorted(sum((r.coverage for r in results), Counter()).items())),
        "faults": dict(sorted(faults.items(), key=lambda item: -item[1])),
    }
