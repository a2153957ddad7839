"""Engines with one rule broken, which the enumeration has to find."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from unittest.mock import patch

from consensus.guard import Guard
from ledger.types import View
from ledger.votes import Value, VoteKind
from tests.simulation.mutants.voting import guard_without_nullified, quorum_of_at_least_two_thirds
from tests.twins.campaign import Player, Summary
from tests.twins.scenarios import TURNS, Enumeration
from tests.twins.world import Config


@dataclass(frozen=True)
class Mutant:
    """One broken rule."""

    name: str
    patched: Callable[[], AbstractContextManager[object]]
    breaks: tuple[str, ...]
    """How the report begins, one of these."""
    turns: tuple[Config, ...] = TURNS
    scenarios_max: int = 20_000
    """Within so many scenarios it must be found."""

    @property
    def enumeration(self) -> Enumeration:
        """Scenarios of the configurations that can show it."""
        return Enumeration(self.turns)


def _several_values_in_a_view() -> AbstractContextManager[object]:
    def permits(self: Guard, kind: VoteKind, view: View, value: Value) -> bool:
        made = {vote.kind for vote in self.votes(view)}
        other = VoteKind.FINALIZE if kind is VoteKind.NULLIFY else VoteKind.NULLIFY
        return self.may_vote(view) and other not in made

    return patch.object(Guard, "permits", permits)


MUTANTS = (
    Mutant("guard without nullified", guard_without_nullified, ("I3", "I9", "I1")),
    Mutant("several values in a view", _several_values_in_a_view, ("I3", "I9", "I1")),
    Mutant(
        "quorum of two thirds instead of more",
        quorum_of_at_least_two_thirds,
        ("I1",),
        turns=(Config(2, 1, 1), Config(2, 1, 2)),
    ),
)


def scenarios_to_find(mutant: Mutant) -> tuple[int, str | None]:
    """Return how many scenarios were played, and the report of the last, None if none fails."""
    with mutant.patched():
        player, summary = Player(mutant.enumeration), Summary()
        for number in range(mutant.scenarios_max):
            player.play(number, summary)
            if summary.violations:
                return number + 1, summary.violations[0]
    return mutant.scenarios_max, None
