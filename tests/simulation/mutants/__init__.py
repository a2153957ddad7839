"""Defences removed on purpose, by where they stand; see :mod:`tests.simulation.mutants.mutant`."""

from tests.simulation.mutants import durability, epochs, liveness, voting
from tests.simulation.mutants.mutant import Finding, Mutant, find

MUTANTS = (*voting.MUTANTS, *durability.MUTANTS, *liveness.MUTANTS, *epochs.MUTANTS)
"""All mutants; each must be found."""

__all__ = ["MUTANTS", "Finding", "Mutant", "find"]
