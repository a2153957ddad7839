"""Run the simulator: many seeds, one seed with its trace, or the mutants.

    python -m tests.simulation --seeds 0..2000 --jobs 2     many seeds, summary by kind of fault
    python -m tests.simulation --seed 41 --trace            replay one, printing every event
    python -m tests.simulation --mutants --jobs 2           each removed defence, and what found it

The exit code is 1 if a seed fails, or if a mutant is not found.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import msgspec

from tests.simulation.campaign import Tally, collect_rarely, explain, find_mutants, run_many
from tests.simulation.options import expand
from tests.simulation.simulation import run

PROGRESS_SECONDS = 10.0
"""Time between two lines of progress."""


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", default="0..200", help="range a..b, without b")
    parser.add_argument("--seed", type=int, help="run this seed only")
    parser.add_argument("--trace", action="store_true", help="print every event (with --seed)")
    parser.add_argument("--mutants", action="store_true", help="look for every mutant")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--json", action="store_true", help="print the summary as one line of JSON")
    parser.add_argument("--out", type=Path, help="also write the summary to this file, as it grows")
    arguments = parser.parse_args(argv)
    if arguments.seed is not None:
        return _replay(arguments.seed, trace=arguments.trace)
    if arguments.mutants:
        return _find_mutants(arguments.jobs)
    first, _, last = arguments.seeds.partition("..")
    return _run(range(int(first), int(last)), arguments.jobs, arguments.out, flat=arguments.json)


def _run(seeds: range, jobs: int, out: Path | None, *, flat: bool) -> int:
    collect_rarely()
    tally = Tally(seeds)
    started = reported = time.monotonic()
    for result in run_many(seeds, jobs):
        tally.add(result)
        if result.invariant is not None:
            print(explain(result), file=sys.stderr, flush=True)
        if time.monotonic() - reported > PROGRESS_SECONDS:
            reported = time.monotonic()
            print(tally.progress(reported - started), file=sys.stderr, flush=True)
            if out is not None:
                out.write_text(json.dumps(tally.summary(reported - started), indent=2) + "\n")
    summary = tally.summary(time.monotonic() - started)
    if out is not None:
        out.write_text(json.dumps(summary, indent=2) + "\n")
    print(json.dumps(summary, indent=None if flat else 2))
    return 1 if tally.failed else 0


def _replay(seed: int, *, trace: bool) -> int:
    options = expand(seed)
    print(f"# {options.describe()}")
    result = run(options, print if trace else None)
    print(msgspec.json.encode(result).decode() if result.invariant is None else explain(result))
    return 0 if result.invariant is None else 1


def _find_mutants(jobs: int) -> int:
    """Print a table of all mutants, in the form of ``docs/verification.md``."""
    print("| mutant | found by | seeds | seed |\n|---|---|---|---|", flush=True)
    missed = 0
    for finding in find_mutants(jobs):
        missed += not finding.by
        by = finding.by or f"**not found**: {finding.detail}"
        seeds = str(finding.seeds or "story")
        seed = "" if finding.seed is None else str(finding.seed)
        print(f"| {finding.mutant} | {by} | {seeds} | {seed} |", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
