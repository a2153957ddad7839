"""Collects the effects of one step in the order in which a driver carries them out.

Everything that must be on disk before something leaves the node is joined into one ``Persist`` in
front, so a step costs one synced write at most; moving a write forward is always safe.
"""

from __future__ import annotations

from consensus.effects import CancelTimer, Effect, Persist, SetTimer, Store
from consensus.inputs import Timer
from consensus.types import Certificate, Proposal
from ledger.types import Digest
from ledger.votes import Round, Vote


class Outbox:
    """Effects of the running step, and the timers that are set."""

    __slots__ = (
        "_blocks",
        "_effects",
        "_floor",
        "_persisted",
        "_proposal",
        "_stored",
        "_votes",
        "timers",
    )

    def __init__(self) -> None:
        self.timers: dict[Timer, int] = {}
        """Timers that run, with the time at which they fire."""
        self._clear()

    def _clear(self) -> None:
        self._effects: list[Effect] = []
        self._votes: list[Vote] = []
        self._blocks: list[Digest] = []
        self._persisted: list[Certificate] = []
        self._stored: list[Certificate] = []
        self._proposal: Proposal | None = None
        self._floor: Round | None = None

    def persist(
        self,
        *,
        vote: Vote | None = None,
        blocks: list[Digest] | None = None,
        certificate: Certificate | None = None,
        proposal: Proposal | None = None,
        floor: Round | None = None,
    ) -> None:
        """Add to what must be on disk before this step sends anything."""
        if vote is not None:
            self._votes.append(vote)
        self._blocks.extend(blocks or ())
        if certificate is not None:
            self._persisted.append(certificate)
        self._proposal = proposal or self._proposal
        self._floor = floor or self._floor

    def store(self, certificate: Certificate) -> None:
        """Add to what is written without waiting."""
        self._stored.append(certificate)

    def emit(self, effect: Effect) -> None:
        """Add an effect."""
        self._effects.append(effect)

    def set_timer(self, timer: Timer, at_ms: int) -> None:
        """Set a timer, replacing one of the same name."""
        self.timers[timer] = at_ms
        self._effects.append(SetTimer(timer, at_ms))

    def cancel_timer(self, timer: Timer) -> None:
        """Cancel a timer if it runs."""
        if self.timers.pop(timer, None) is not None:
            self._effects.append(CancelTimer(timer))

    def take(self) -> list[Effect]:
        """Return the effects of the step: what is synced, then stored, then the rest in order."""
        effects: list[Effect] = []
        is_persisting = self._votes or self._persisted or self._floor or self._proposal
        if not (is_persisting or self._stored):  # most steps
            effects, self._effects = self._effects, effects
            return effects
        if is_persisting:
            effects.append(
                Persist(
                    tuple(self._votes),
                    tuple(self._blocks),
                    tuple(self._persisted),
                    self._proposal,
                    self._floor,
                )
            )
        stored = tuple(c for c in self._stored if c not in self._persisted)
        if stored:
            effects.append(Store(stored))
        effects += self._effects
        self._clear()
        return effects
