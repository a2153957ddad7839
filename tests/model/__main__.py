"""Explore the model of the voting rules: `python -m tests.model [--fast] [--traces]`.

The exit code is 1 if any exploration does not show what is expected of it.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.model.campaign import jobs


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--fast", action="store_true", help="what belongs to the test suite")
    parser.add_argument("--traces", action="store_true", help="print expected counterexamples")
    arguments = parser.parse_args(argv)
    failed = states = count = 0
    started = last = time.monotonic()
    for finding in jobs(full=not arguments.fast):
        now = time.monotonic()
        verdict = "ok" if finding.problem is None else f"FAILED: {finding.problem}"
        print(
            f"{now - last:7.1f} s {finding.states:>9} states  {finding.name}: {verdict}", flush=True
        )
        if finding.trace and (arguments.traces or finding.problem is not None):
            print(finding.trace, flush=True)
        last = now
        count += 1
        states += finding.states
        failed += finding.problem is not None
    print(f"{count} explorations, {states} states, {failed} failed, {last - started:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
