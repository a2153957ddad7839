"""The fast configuration of the model: every exploration shows what is expected of it."""

from __future__ import annotations

import pytest

from ledger.validators import Chamber, ValidatorSet
from tests.model.campaign import jobs
from tests.model.mutants import MUTANTS
from tests.model.properties import check
from tests.model.rules import RULES, Committee, Kind
from tests.unit.consensus.kit import validators

FINDINGS = 10 + 2 + 6 + 6 + len(MUTANTS) + 3
"""Explorations of the fast configuration; a generator that stops early would pass unnoticed."""


def test_every_exploration_shows_what_is_expected() -> None:
    """C1, C2: agreement, L1 to L3, liveness, culprits; each left-out rule has a counterexample."""
    found = list(jobs(full=False))
    wrong = [f"{finding.name}: {finding.problem}\n{finding.trace}" for finding in found]
    wrong = [text for text, finding in zip(wrong, found, strict=True) if finding.problem]
    assert wrong == []
    assert len(found) == FINDINGS


def test_an_expected_counterexample_is_a_readable_trace() -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.name == "A3 left out")
    trace = check(mutant.rules, mutant.committees, 3, ("agreement",)).broken["agreement"]
    assert trace.startswith("epoch 0: (2,2) with 1+0 traitors, base genesis\n  view 1\n")
    assert "certificates: NOTARIZE b0.1a, FINALIZE b0.1a" in trace


def test_an_even_chamber_does_not_hold_a_dishonest_one() -> None:
    """CONSENSUS, Result 3: beside an even honest chamber a whole dishonest one can fork."""
    broken = check(RULES, (Committee(2, 2, 2, 0),), 1).broken
    assert "FINALIZE b0.1a, FINALIZE b0.1b" in broken["agreement"]


@pytest.mark.parametrize(("government", "commercial"), [(2, 2), (3, 1), (3, 2), (4, 3), (2, 1)])
def test_the_model_counts_quorums_as_the_node_does(government: int, commercial: int) -> None:
    """The model restates the rule of the specification; here it meets that of production."""
    members: ValidatorSet = validators(government, commercial)
    committee = Committee(government, commercial)
    for mask in range(1 << members.size):
        chosen = [members[i].chamber for i in range(members.size) if mask >> i & 1]
        counts = chosen.count(Chamber.GOVERNMENT)
        for kind in Kind:
            expected = committee.is_quorum(RULES, kind, counts, len(chosen) - counts)
            assert members.has_quorum(mask) == expected
