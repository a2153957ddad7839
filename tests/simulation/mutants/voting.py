"""Mutants of single votes, quorums and what is believed of others."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

from consensus import certificates, deciding, judge, proposing, validity
from consensus.core import Core, CountVote
from consensus.effects import Persist
from consensus.engine import Engine
from consensus.guard import Guard
from consensus.outbox import Outbox
from consensus.tally import Tally
from consensus.types import Certificate
from ledger.validators import ValidatorSet
from ledger.votes import VoteKind
from tests.simulation.mutants.mutant import Mutant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from consensus.config import Restored
    from consensus.effects import Effect
    from ledger.types import View
    from ledger.votes import Value
    from tests.simulation.options import Options


# --- voting ---------------------------------------------------------------------------------------


def guard_without_nullified() -> AbstractContextManager[object]:
    """The guard forgets that it gave a view up (CONSENSUS 5 #9)."""

    def permits(self: Guard, kind: VoteKind, view: View, value: Value) -> bool:
        if not self.may_vote(view):
            return False
        mine = [vote for vote in self.votes(view) if vote.kind is not VoteKind.NULLIFY]
        return kind is VoteKind.NULLIFY or all(vote.value == value for vote in mine)

    return patch.object(Guard, "permits", permits)


def _votes_not_persisted() -> AbstractContextManager[object]:
    """Own votes leave before they are on disk (CONSENSUS 5 #23)."""
    take = Outbox.take

    def take_without_votes(self: Outbox) -> list[Effect]:
        return [
            Persist((), e.blocks, e.certificates, e.proposal, e.sign_floor)
            if isinstance(e, Persist)
            else e
            for e in take(self)
        ]

    return patch.object(Outbox, "take", take_without_votes)


def _own_votes_not_tallied_after_restart() -> AbstractContextManager[object]:
    """After a restart own votes are sent again, but not counted here (CONSENSUS 5 #1)."""
    restore = Engine._restore

    def restore_without_count(self: Engine, restored: Restored) -> None:
        restore(self, restored)
        queue = self._core.queue
        kept = [event for event in queue if not isinstance(event, CountVote)]
        queue.clear()
        queue.extend(kept)

    return patch.object(Engine, "_restore", restore_without_count)


def _no_quarantine() -> AbstractContextManager[object]:
    """A node that lost its disk votes at once (C3, CONSENSUS 5 #24)."""
    restore = Engine._restore

    def restore_without_quarantine(self: Engine, restored: Restored) -> None:
        restore(self, replace(restored, quarantined=False))

    return patch.object(Engine, "_restore", restore_without_quarantine)


# --- quorums --------------------------------------------------------------------------------------


def quorum_of_at_least_two_thirds() -> AbstractContextManager[object]:
    """``>=`` instead of ``>``: differs where three divides the number of validators (5 #7)."""

    def has_quorum(self: ValidatorSet, mask: int) -> bool:
        return 3 * mask.bit_count() >= 2 * self.size and all(
            2 * (mask & chamber).bit_count() >= chamber.bit_count() for chamber in self._chambers
        )

    return patch.object(ValidatorSet, "has_quorum", has_quorum)


@contextmanager
def _chambers_only_for_finalize() -> Iterator[None]:
    """The chamber rule holds for FINALIZE only (CONSENSUS 4.2)."""
    kinds: list[VoteKind] = []
    has_quorum, certify, check_shape = (
        ValidatorSet.has_quorum,
        Tally._certify,
        certificates.check_shape,
    )

    def has_quorum_of_kind(self: ValidatorSet, mask: int) -> bool:
        if kinds and kinds[-1] is not VoteKind.FINALIZE:
            return 3 * mask.bit_count() > 2 * self.size
        return has_quorum(self, mask)

    def certify_kind(self: Tally, votes: Any, kind: VoteKind, *rest: Any) -> Certificate | None:
        kinds.append(kind)
        try:
            return certify(self, votes, kind, *rest)
        finally:
            kinds.pop()

    def check_shape_of_kind(certificate: Certificate, *rest: Any) -> None:
        kinds.append(certificate.kind)
        try:
            check_shape(certificate, *rest)
        finally:
            kinds.pop()

    with (
        patch.object(ValidatorSet, "has_quorum", has_quorum_of_kind),
        patch.object(Tally, "_certify", certify_kind),
        patch.object(certificates, "check_shape", check_shape_of_kind),
    ):
        yield


# --- checks of what others send -------------------------------------------------------------------


def _signatures_unchecked() -> AbstractContextManager[object]:
    """Votes count whatever their signature (CONSENSUS 5 #13)."""
    return patch.object(Core, "verify_vote", lambda *arguments: True)


def _certificates_unchecked() -> AbstractContextManager[object]:
    """Certificates are believed without looking at them (CONSENSUS 5 #26)."""
    return patch.object(judge, "verify_certificate", lambda *arguments: None)


def _headers_unchecked() -> AbstractContextManager[object]:
    """V1 to V5 are not applied (C8)."""
    return patch.object(judge, "check_header", lambda *arguments: None)


def _skips_unchecked() -> AbstractContextManager[object]:
    """A3 is not applied: skipped views need no nullification."""
    missing = validity.missing_ancestry

    def only_parent(*arguments: Any) -> list[View]:
        return [view for view in missing(*arguments) if view == arguments[1]]

    return patch.object(proposing, "missing_ancestry", only_parent)


@contextmanager
def _views_ahead_unlimited() -> Iterator[None]:
    """Votes and proposals of any far view are kept (C16, CONSENSUS 5 #41)."""
    with (
        patch.object(deciding, "VIEWS_AHEAD_MAX", 2**63),
        patch.object(proposing, "VIEWS_AHEAD_MAX", 2**63),
    ):
        yield


def _flooded(options: Options) -> bool:
    return "flooder" in str(options.byzantine) and options.safety_ms >= 6_000


MUTANTS: Final = (
    Mutant("guard without nullified", guard_without_nullified, frozenset({"I3", "I2", "I1"}), 200),
    Mutant("votes not persisted", _votes_not_persisted, frozenset({"I4"})),
    Mutant(
        "own votes not tallied after restart",
        _own_votes_not_tallied_after_restart,
        frozenset({"LIVE"}),
        400,
        lambda options: options.crash_all and options.crash_every_ms > 0,
    ),
    Mutant(
        "no quarantine after loss of the disk",
        _no_quarantine,
        frozenset({"I3", "H"}),
        100,
        lambda options: options.disk_loss != "",
    ),
    Mutant(
        "quorum of at least two thirds",
        quorum_of_at_least_two_thirds,
        frozenset({"I2"}),
        40,
        lambda options: (options.government + options.commercial) % 3 == 0,
    ),
    Mutant(
        "chambers only for finalize",
        _chambers_only_for_finalize,
        frozenset({"I2"}),
        80,
        lambda options: options.commercial > 2,
    ),
    Mutant(
        "signatures unchecked",
        _signatures_unchecked,
        frozenset({"I2", "I9", "I3", "H"}),
        40,
        lambda options: "liar" in str(options.byzantine),
    ),
    Mutant(
        "certificates unchecked",
        _certificates_unchecked,
        frozenset({"I2", "H", "CRASH"}),
        40,
        lambda options: "liar" in str(options.byzantine),
    ),
    Mutant(
        "headers unchecked",
        _headers_unchecked,
        frozenset({"V", "I7", "I8", "CRASH"}),
        40,
        lambda options: "forger" in str(options.byzantine),
    ),
    Mutant(
        "skips unchecked",
        _skips_unchecked,
        frozenset({"I6", "I1", "H"}),
        80,
        lambda options: "forger" in str(options.byzantine),
    ),
    Mutant("views ahead unlimited", _views_ahead_unlimited, frozenset({"I10"}), 10, _flooded),
)
