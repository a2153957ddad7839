"""The rules with one left out: the model must find what each of them is for."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.model.rules import RULES, Committee, Kind, Rules

ONE_TRAITOR = Committee(2, 2, 1, 0)
WHOLE_CHAMBER = Committee(3, 1, 3, 0)
"""The government is dishonest as a whole; the one commercial member is in every quorum."""


@dataclass(frozen=True)
class Mutant:
    """One left-out rule."""

    name: str
    rules: Rules
    breaks: str = "agreement"
    """Property for which a counterexample is expected; "liveness" is not one of safety."""
    committees: tuple[Committee, ...] = (ONE_TRAITOR,)


MUTANTS = (
    Mutant(
        "chambers bind FINALIZE only",
        replace(RULES, chambers_bind=frozenset({Kind.FINALIZE})),
        committees=(WHOLE_CHAMBER,),
    ),
    Mutant(
        "chambers bind NOTARIZE and FINALIZE only",
        replace(RULES, chambers_bind=frozenset({Kind.NOTARIZE, Kind.FINALIZE})),
        committees=(WHOLE_CHAMBER,),
    ),
    Mutant("no chambers", replace(RULES, chambers_bind=frozenset()), committees=(WHOLE_CHAMBER,)),
    Mutant(
        "two thirds instead of more",
        replace(RULES, is_strictly_above_two_thirds=False),
        committees=(Committee(2, 1, 0, 1),),
    ),
    Mutant("FINALIZE after NULLIFY", replace(RULES, nullified_bars_finalize=False)),
    Mutant("NULLIFY after FINALIZE", replace(RULES, finalized_bars_nullify=False)),
    Mutant(
        "several NOTARIZE in a view",
        replace(RULES, one_notarize_per_view=False, notarize_and_finalize_agree=False),
        breaks="L1",
    ),
    Mutant(
        "FINALIZE of another value than NOTARIZE",
        replace(RULES, notarize_and_finalize_agree=False),
        breaks="I3",
    ),
    Mutant(
        "FINALIZE without a notarization",
        replace(RULES, finalize_needs_notarization=False),
        breaks="I5",
    ),
    Mutant(
        "no NULLIFY after NOTARIZE",
        replace(RULES, notarize_permits_nullify=False),
        breaks="liveness",
    ),
    Mutant("A2 left out", replace(RULES, a2_parent_is_certified=False)),
    Mutant("A3 left out", replace(RULES, a3_every_view_between_is_nullified=False)),
    Mutant(
        "a boundary block is extended, not proposed again",
        replace(RULES, boundary_is_proposed_again=False),
        committees=(ONE_TRAITOR, Committee(3, 2, 0, 1)),
    ),
    Mutant(
        "an epoch opens at the notarization of its boundary block",
        replace(RULES, epoch_opens_at_finalize=False),
        committees=(ONE_TRAITOR, Committee(3, 2, 0, 1)),
    ),
)
