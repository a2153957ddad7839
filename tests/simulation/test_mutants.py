"""The simulator notices a node with one defence removed, within few seeds or by a story."""

from __future__ import annotations

import pytest

from tests.simulation.mutants import MUTANTS, Mutant, find


@pytest.mark.simulation
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_is_noticed(mutant: Mutant) -> None:
    """F4: a seeded bug is found, by an invariant that it breaks or by a story."""
    finding = find(mutant)
    assert finding.by, f"{finding.seeds} seeds: {finding.detail}"


def test_there_are_enough_mutants_and_none_twice() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 20
