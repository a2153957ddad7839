"""The engine against networks, disks, clocks and validators at their worst, over many seeds."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from itertools import count, islice

import pytest

from tests.simulation.campaign import explain, run_seed
from tests.simulation.options import expand
from tests.simulation.simulation import Result, run

SEEDS = 200
"""Seeds of every test run; `make simulate SEEDS=0..2000` runs more."""

CHUNKS = 8

DETERMINISM_SEEDS = (1, 2, 3, 4, 5)


@cache
def result(seed: int) -> Result:
    """Run a seed, unless another test of this run has."""
    return run_seed(seed)


@pytest.mark.simulation
@pytest.mark.timeout(300)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_safe_under_every_fault_and_live_after_healing(chunk: int) -> None:
    """C1, C2, C3, C5, C6, C8, C14, C19, R1, S5, S6: all invariants hold, every core goes on."""
    failures = [
        explain(each)
        for each in map(result, range(chunk, SEEDS, CHUNKS))
        if each.invariant is not None
    ]
    assert not failures, "\n" + "\n".join(failures)


@pytest.mark.simulation
@pytest.mark.parametrize("seed", DETERMINISM_SEEDS)
def test_two_runs_of_a_seed_have_the_same_trace_hash(seed: int) -> None:
    first, second = (run(expand(seed), traced=True) for _ in range(2))
    assert first == second
    assert first.digest != run(expand(seed + 1_000), traced=True).digest


@pytest.mark.simulation
@pytest.mark.timeout(120)
def test_trace_hash_does_not_depend_on_the_hash_seed() -> None:
    """C10: no set or dict order of bytes and strings reaches a decision."""
    program = (
        "from tests.simulation.options import expand\n"
        "from tests.simulation.simulation import run\n"
        f"print([run(expand(seed), traced=True).digest for seed in {DETERMINISM_SEEDS}])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for hash_seed in ("0", "1", "4242")
    }
    assert len(outputs) == 1


@pytest.mark.simulation
def test_printing_the_trace_changes_nothing() -> None:
    """A replay shows the run that failed, not another one."""
    lines: list[str] = []
    shown = run(expand(7), lines.append)
    assert shown == run(expand(7), traced=True)
    assert replace(shown, digest="") == result(7)
    assert len(lines) > 100


@pytest.mark.simulation
@pytest.mark.timeout(300)
def test_random_runs_change_sets_and_convict_traitors() -> None:
    """C17, C18: a workload in which nothing of this happens would check nothing of it."""
    changing = (each for each in map(expand, count()) if each.change_every_ms)
    results = [result(options.seed) for options in islice(changing, 30)]
    assert sum(each.epochs for each in results) >= 5
    assert sum(each.coverage["set changed as planned"] for each in results) >= 2
    accusing = (
        each for each in map(expand, count()) if each.evidence and "equivocator" in str(each)
    )
    assert any(result(options.seed).convicted for options in islice(accusing, 12))
