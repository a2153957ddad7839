"""Many runs: their seeds, their figures, and what a person must know about a failed one."""

from __future__ import annotations

import gc
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.simulation.mutants import MUTANTS, Finding, find
from tests.simulation.options import expand
from tests.simulation.simulation import Result, run

if TYPE_CHECKING:
    from collections.abc import Iterator

GC_THRESHOLDS: Final = (200_000, 10, 10)
"""Objects made between two looks for garbage; the default costs a tenth of the time of a run."""

CHUNK_SEEDS: Final = 8
"""Seeds given to a process at a time."""

RULE_OF_THREE: Final = 3.0
"""No failure in n independent runs: the failure rate is below 3/n with 95 % confidence."""


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
    """Look for garbage less often, and not in code: a run's objects live as long as itself."""
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def find_mutants(jobs: int) -> Iterator[Finding]:
    """Look for every mutant, each in a process of its own choice of seeds."""
    with ProcessPoolExecutor(jobs, initializer=collect_rarely) as pool:
        yield from pool.map(_find_mutant, range(len(MUTANTS)))


def _find_mutant(number: int) -> Finding:
    return find(MUTANTS[number])


@dataclass(slots=True)
class Tally:
    """The figures of a campaign, as they grow."""

    seeds: range
    runs: int = 0
    failed: list[int] = field(default_factory=list)
    totals: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    coverage: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    """Seeds by number of validators, by feature and by actor."""
    healed: list[tuple[int, int]] = field(default_factory=list)
    """Milliseconds to finality after healing, and the seed."""

    def add(self, result: Result) -> None:
        """Take in one run."""
        self.runs += 1
        if result.invariant is not None:
            self.failed.append(result.seed)
        for name in ("virtual_ms", "events", "height", "epochs", "views", "transactions"):
            self.totals[name] += getattr(result, name)
        self.totals["evidence"] += result.evidence
        self.totals["convicted"] += result.convicted
        self.faults += result.faults
        self.coverage += result.coverage
        if result.healed_ms is not None:
            self.healed.append((result.healed_ms, result.seed))
        options = expand(result.seed)
        self.kinds[f"{options.government}+{options.commercial} validators"] += 1
        self.kinds["whole chamber Byzantine"] += options.whole_chamber
        self.kinds["real signatures"] += options.real_signatures
        self.kinds["changing sets"] += options.change_every_ms > 0
        for behaviour in {behaviour for _, behaviour in options.byzantine}:
            self.kinds[f"with {behaviour}"] += 1

    def progress(self, elapsed_s: float) -> str:
        """Return one line about where the campaign stands."""
        rate = self.runs / max(elapsed_s, 0.001)
        left_s = (len(self.seeds) - self.runs) / max(rate, 0.001)
        return (
            f"{self.runs}/{len(self.seeds)} seeds, {len(self.failed)} failed, "
            f"{rate:.1f} seeds/s, {left_s / 60:.0f} min left"
        )

    def summary(self, elapsed_s: float) -> dict[str, object]:
        """Return all figures."""
        virtual_ms = self.totals["virtual_ms"]
        healed = sorted(self.healed)
        return {
            "seeds": self.runs,
            "first_seed": self.seeds.start,
            "failed": self.failed,
            "failure_rate_below": None if self.failed else RULE_OF_THREE / max(self.runs, 1),
            "elapsed_s": round(elapsed_s, 1),
            "seeds_per_second": round(self.runs / max(elapsed_s, 0.001), 2),
            "virtual_hours": round(virtual_ms / 3_600_000, 2),
            "times_real_time": round(virtual_ms / 1000 / max(elapsed_s, 0.001)),
            "events": self.totals["events"],
            "blocks": self.totals["height"],
            "epochs": self.totals["epochs"],
            "views": self.totals["views"],
            "transactions": self.totals["transactions"],
            "evidence": self.totals["evidence"],
            "convicted": self.totals["convicted"],
            "healing_ms": {
                "runs": len(healed),
                "p50": healed[len(healed) // 2][0] if healed else None,
                "p99": healed[len(healed) * 99 // 100][0] if healed else None,
                "worst": healed[-1][0] if healed else None,
                "worst_seed": healed[-1][1] if healed else None,
            },
            "faults_injected": sum(self.faults.values()),
            "faults": dict(sorted(self.faults.items(), key=lambda item: -item[1])),
            "kinds_of_seeds": dict(sorted(self.kinds.items(), key=lambda item: -item[1])),
            "coverage": dict(sorted(self.coverage.items())),
        }
