"""Mutants that repeat, relay, ask or answer less than they should."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

from consensus.catchup import CatchUp
from consensus.deciding import Deciding
from consensus.pacing import Pacing
from consensus.quarantine import Quarantine
from ledger.votes import VoteKind
from tests.simulation import test_scenarios as stories
from tests.simulation.mutants.mutant import Mutant

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from consensus.core import TakeCertificate
    from ledger.types import View


def _no_repetition() -> AbstractContextManager[object]:
    """What was lost once is lost for ever (CONSENSUS 5 #12, C15)."""
    return patch.object(Pacing, "_retry", lambda self: None)


def _no_relay() -> AbstractContextManager[object]:
    """Certificates are not passed on (RE1)."""
    return patch.object(Pacing, "_relay", lambda self, view: None)


def _no_help() -> AbstractContextManager[object]:
    """A status is not answered with what its sender lacks (AN1)."""
    return patch.object(CatchUp, "help_for", lambda self, status, view: None)


def _no_request_of_certificates() -> AbstractContextManager[object]:
    """Missing certificates are not asked for (CONSENSUS 5 #20)."""
    return patch.object(CatchUp, "request_certificates", lambda self, views, source: None)


def _no_page_of_certificates() -> AbstractContextManager[object]:
    """Nobody answers who is asked for certificates."""
    return patch.object(CatchUp, "page", lambda self, first, last: None)


def _nullifier_ignores_notarization() -> AbstractContextManager[object]:
    """Who has given a view up takes no notarization of it (CONSENSUS 5 #2695)."""
    on_certificate = Deciding.on_certificate

    def stubborn(self: Deciding, event: TakeCertificate) -> None:
        c = event.certificate
        has_nullified = self._core.guard.made(c.view, VoteKind.NULLIFY) is not None
        if c.kind is not VoteKind.NOTARIZE or not has_nullified:
            on_certificate(self, event)

    return patch.object(Deciding, "on_certificate", stubborn)


def _quarantine_of_one_answer() -> AbstractContextManager[object]:
    """The first answer ends a quarantine (CONSENSUS 3.13)."""
    report = Quarantine.report

    def report_once(self: Quarantine, index: int, view: View) -> View:
        report(self, index, view)
        return type(view)(self._highest + 1)

    return patch.object(Quarantine, "report", report_once)


def _by_story(name: str, patched: Any, story: Any) -> Mutant:
    return Mutant(name, patched, story=story)


MUTANTS: Final = (
    Mutant("nothing repeated", _no_repetition, frozenset({"LIVE"}), 40),
    _by_story(
        "no relay",
        _no_relay,
        stories.test_certificate_that_one_node_formed_reaches_the_others_before_any_retry,
    ),
    _by_story(
        "no help_for",
        _no_help,
        stories.test_observer_that_missed_the_end_is_helped_by_idle_validators,
    ),
    _by_story(
        "certificates not asked for",
        _no_request_of_certificates,
        stories.test_node_that_missed_more_nullifications_than_a_proposal_carries_asks_for_them,
    ),
    _by_story(
        "certificates not served",
        _no_page_of_certificates,
        stories.test_node_that_missed_more_nullifications_than_a_proposal_carries_asks_for_them,
    ),
    Mutant(
        "nullifier ignores notarization",
        _nullifier_ignores_notarization,
        frozenset({"LIVE"}),
        200,
    ),
    _by_story(
        "quarantine ends after one answer",
        _quarantine_of_one_answer,
        stories.test_quarantine_lasts_until_a_quorum_has_answered,
    ),
)
