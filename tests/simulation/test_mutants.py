"""The simulator notices an engine with one defence removed, within few seeds."""

from __future__ import annotations

from itertools import count, islice

import pytest

from consensus.catchup import CatchUp
from tests.simulation import test_scenarios
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.options import expand
from tests.simulation.simulation import run


@pytest.mark.simulation
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_is_noticed(mutant: Mutant) -> None:
    """F4: a seeded bug is found, by an invariant that it breaks."""
    fitting = (options for options in map(expand, count()) if mutant.fits(options))
    found: set[str] = set()
    with mutant.patched():
        for options in islice(fitting, mutant.seeds_max):
            result = run(options)
            if result.invariant is not None:
                found.add(result.invariant)
                if result.invariant in mutant.breaks:
                    return
    pytest.fail(f"{mutant.seeds_max} seeds showed {found or 'nothing'}, not {set(mutant.breaks)}")


@pytest.mark.simulation
@pytest.mark.parametrize("name", ["request_certificates", "page"])
def test_story_notices_that_certificates_are_not_asked_for_or_not_served(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F4: four other ways lead to certificates, so random seeds hardly miss this one."""
    monkeypatch.setattr(CatchUp, name, lambda *arguments: None)
    with pytest.raises(AssertionError, match="not final in time"):
        test_scenarios.test_node_that_missed_more_nullifications_than_a_proposal_carries_asks_for_them()
