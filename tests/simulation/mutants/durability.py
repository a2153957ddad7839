"""Mutants of what is on disk before anything is sent, and of what the application checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

from consensus.effects import Persist
from consensus.inputs import Verdict
from consensus.outbox import Outbox
from ledger.operations import governance
from node import application
from node.application import Application
from tests.simulation.mutants.mutant import Mutant

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from consensus.effects import Effect
    from tests.simulation.options import Options


def _persisting(**left_out: Any) -> AbstractContextManager[object]:
    """Let every ``Persist`` lack a part."""
    take = Outbox.take

    def take_less(self: Outbox) -> list[Effect]:
        return [_without(e, left_out) if isinstance(e, Persist) else e for e in take(self)]

    return patch.object(Outbox, "take", take_less)


def _without(effect: Persist, left_out: dict[str, Any]) -> Persist:
    fields = ("votes", "blocks", "certificates", "proposal", "sign_floor")
    return Persist(**{**{name: getattr(effect, name) for name in fields}, **left_out})


def _bodies_not_persisted() -> AbstractContextManager[object]:
    """A vote is on disk without the block that it rests on (P2)."""
    return _persisting(blocks=())


def _notarizations_not_persisted() -> AbstractContextManager[object]:
    """A FINALIZE vote is on disk without the notarization that it rests on (P3)."""
    return _persisting(certificates=())


def _proposals_not_persisted() -> AbstractContextManager[object]:
    """A leader could build a second block for its view after a restart (P4)."""
    return _persisting(proposal=None)


def _used_nonces_unchecked() -> AbstractContextManager[object]:
    """A transaction of an ancestor may come again (V6)."""
    return patch.object(application, "UsedBefore", lambda *arguments: frozenset())


def _roots_unchecked() -> AbstractContextManager[object]:
    """Headers may certify any result of execution (V3)."""
    return patch.object(Application, "_judge_execution", lambda self, header: Verdict.VALID)


def _clock_unchecked() -> AbstractContextManager[object]:
    """Blocks may come from the future (V2)."""
    return patch.object(application, "TIME_AHEAD_MS_MAX", 2**62)


def _bodies_unchecked() -> AbstractContextManager[object]:
    """Counts, sizes and validity of transactions are not looked at (V6)."""
    return patch.object(application, "check_body", lambda *arguments: None)


def _evidence_unchecked() -> AbstractContextManager[object]:
    """Evidence convicts whatever its signatures are."""
    return patch.object(governance, "verify_evidence", lambda *arguments: None)


def _has_forger(options: Options) -> bool:
    return "forger" in str(options.byzantine)


def _has_evidence(options: Options) -> bool:
    return options.evidence and ("equivocator" in str(options.byzantine) or "twins" in str(options))


MUTANTS: Final = (
    Mutant("block bodies not persisted", _bodies_not_persisted, frozenset({"I4"})),
    Mutant("notarizations not persisted", _notarizations_not_persisted, frozenset({"I4"})),
    Mutant("own proposals not persisted", _proposals_not_persisted, frozenset({"I4"})),
    Mutant("used nonces unchecked", _used_nonces_unchecked, frozenset({"V"}), 200, _has_forger),
    Mutant("roots unchecked", _roots_unchecked, frozenset({"V", "I7"}), 100, _has_forger),
    Mutant("clock unchecked", _clock_unchecked, frozenset({"V"}), 200, _has_forger),
    Mutant("bodies unchecked", _bodies_unchecked, frozenset({"V"}), 100, _has_forger),
    Mutant("evidence unchecked", _evidence_unchecked, frozenset({"I9"}), 300, _has_evidence),
)
