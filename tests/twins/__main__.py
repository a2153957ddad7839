"""Run twins scenarios: `python -m tests.twins --scenarios 0..100000 --jobs 2`.

`--scenario N` plays one, and heals it. `--mutants` runs broken engines until each is found. The
exit code is 1 if an invariant is broken, or a mutant is not found.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.twins.campaign import Player, Summary, pieces, play_range
from tests.twins.mutants import MUTANTS, scenarios_to_find
from tests.twins.scenarios import Enumeration

PROGRESS_SECONDS = 10.0
"""Time between two lines of progress."""


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.twins", description=__doc__)
    parser.add_argument("--scenarios", default="0..20000", help="range a..b, without b")
    parser.add_argument("--scenario", type=int, help="play this scenario only")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--mutants", action="store_true", help="find the known mutants")
    arguments = parser.parse_args(argv)
    if arguments.scenario is not None:
        return _play_one(arguments.scenario)
    if arguments.mutants:
        return _find_mutants()
    first, _, last = arguments.scenarios.partition("..")
    return _run(range(int(first), int(last)), arguments.jobs)


def _run(numbers: range, jobs: int) -> int:
    started = reported = time.monotonic()
    summary = Summary()
    for part in _summaries(numbers, jobs):
        summary.add(part)
        for violation in part.violations:
            print(violation, file=sys.stderr, flush=True)
        if time.monotonic() - reported > PROGRESS_SECONDS:
            reported = time.monotonic()
            done, rate = summary.scenarios, summary.scenarios / (reported - started)
            print(
                f"{done}/{len(numbers)} scenarios up to {numbers.start + done}, {rate:.0f}/s, "
                f"{len(summary.violations)} violations",
                file=sys.stderr,
                flush=True,
            )
    elapsed_s = time.monotonic() - started
    print(json.dumps(summary.figures(elapsed_s, Enumeration().total), indent=2))
    return 1 if summary.violations else 0


def _summaries(numbers: range, jobs: int) -> Iterator[Summary]:
    if jobs == 1:
        yield from map(play_range, pieces(numbers))
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(play_range, pieces(numbers))


def _play_one(number: int) -> int:
    enumeration, summary = Enumeration(), Summary()
    print(f"# scenario {number}: {enumeration.scenario(number)}")
    Player(enumeration, heal_every=1).play(number, summary)
    print("\n".join(summary.violations) or f"no violation, finalised height {max(summary.heights)}")
    return 1 if summary.violations else 0


def _find_mutants() -> int:
    missed = 0
    for mutant in MUTANTS:
        number, report = scenarios_to_find(mutant)
        print(f"{mutant.name}: {report or 'NOT FOUND'} ({number} scenarios)", flush=True)
        missed += report is None
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
