"""Run simulator seeds: `python -m tests.simulation --seeds 0..2000 --jobs 2`.

`--seed S --trace` replays one seed and prints every event. The exit code is 1 if any seed fails.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import msgspec

from tests.simulation.campaign import explain, run_many, summarise
from tests.simulation.options import expand
from tests.simulation.simulation import run

PROGRESS_SECONDS = 5.0
"""Time between two lines of progress."""


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="0..200", help="range a..b, without b")
    parser.add_argument("--seed", type=int, help="run this seed only")
    parser.add_argument("--trace", action="store_true", help="print every event (with --seed)")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    arguments = parser.parse_args(argv)
    if arguments.seed is not None:
        return _replay(arguments.seed, trace=arguments.trace)
    first, _, last = arguments.seeds.partition("..")
    seeds = range(int(first), int(last))
    started = reported = time.monotonic()
    results = []
    for result in run_many(seeds, arguments.jobs):
        results.append(result)
        if result.invariant is not None:
            print(explain(result), file=sys.stderr, flush=True)
        if time.monotonic() - reported > PROGRESS_SECONDS:
            reported = time.monotonic()
            failed = sum(item.invariant is not None for item in results)
            print(
                f"{len(results)}/{len(seeds)} seeds, {failed} failed", file=sys.stderr, flush=True
            )
    summary = summarise(results, time.monotonic() - started)
    print(json.dumps(summary, indent=None if arguments.json else 2))
    return 1 if summary["failed"] else 0


def _replay(seed: int, *, trace: bool) -> int:
    options = expand(seed)
    print(f"# {options.describe()}")
    result = run(options, print if trace else None)
    print(msgspec.json.encode(result).decode() if result.invariant is None else explain(result))
    return 0 if result.invariant is None else 1


if __name__ == "__main__":
    sys.exit(main())
