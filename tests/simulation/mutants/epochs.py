"""Mutants of boundary blocks and of the way from one epoch to the next."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

import msgspec

from consensus import judge, proposing, validity
from consensus.core import Core
from consensus.replica import Place, Replica
from ledger.types import ZERO_DIGEST
from node.application import is_payload_of
from node.epochs import Epochs
from tests.simulation import process
from tests.simulation import test_scenarios as stories
from tests.simulation.mutants.mutant import Mutant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from consensus.effects import Effect
    from consensus.inputs import EpochOpened
    from consensus.types import Proposal
    from ledger.block import Header
    from ledger.transition import BlockOutcome
    from tests.simulation.options import Options


@contextmanager
def _extension_instead_of_repetition() -> Iterator[None]:
    """A boundary block gets a child in its own epoch (CONSENSUS 6.4, 5 #14)."""
    check_header = validity.check_header

    def check_as_usual(header: Header, parent: Header, *rest: Any) -> None:
        plain = msgspec.structs.replace(parent, next_validator_set_hash=ZERO_DIGEST)
        check_header(header, plain, *rest)

    with ExitStack() as stack:
        stack.enter_context(patch.object(proposing, "is_boundary", lambda header: False))
        stack.enter_context(patch.object(proposing, "check_header", check_as_usual))
        stack.enter_context(patch.object(judge, "check_header", check_as_usual))
        yield


def _votes_counted_by_old_set() -> AbstractContextManager[object]:
    """The engine of a new epoch counts by the set before (CONSENSUS 5 #17)."""
    open_epoch = Replica._open

    def open_with_old_set(self: Replica, now_ms: int, event: EpochOpened) -> list[Effect]:
        config = replace(event.config, validators=self._config.validators)
        return open_epoch(self, now_ms, msgspec.structs.replace(event, config=config))

    return patch.object(Replica, "_open", open_with_old_set)


def _interval_closed_at_both_ends() -> AbstractContextManager[object]:
    """The set that opened an epoch counts as scheduled in it (V5)."""
    executed = Epochs.executed

    def executed_and_kept(
        self: Epochs, header: Header, outcome: BlockOutcome, *, is_boundary: bool
    ) -> bool:
        before = list(self._scheduled)
        changed = executed(self, header, outcome, is_boundary=is_boundary)
        if is_boundary:
            kept = [each for each in before if each[0] == header.executed_height]
            self._scheduled = [*kept, *self._scheduled]
        return changed

    return patch.object(Epochs, "executed", executed_and_kept)


@contextmanager
def _old_votes_in_new_epoch() -> Iterator[None]:
    """Votes of the epoch before count in the new one (CONSENSUS 5 #16)."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(Core, "is_here", lambda self, era, epoch: True))
        stack.enter_context(
            patch.object(
                Replica, "_place", lambda self, message: Place(self._config.era, self._config.epoch)
            )
        )
        yield


def _stragglers_unanswered() -> AbstractContextManager[object]:
    """Who is an epoch behind is not shown how it ended (EP6)."""
    return patch.object(Replica, "_answer_straggler", lambda *arguments: [])


@contextmanager
def _repetition_not_taken() -> Iterator[None]:
    """A boundary block that is proposed again is refused for its empty payload."""

    def is_whole(proposal: Proposal) -> bool:
        return is_payload_of(proposal.payload, proposal.header)

    with patch.object(process, "carries_its_payload", is_whole):
        yield


def _changes(options: Options) -> bool:
    return options.change_every_ms > 0 and options.safety_ms >= 6_000


MUTANTS: Final = (
    Mutant(
        "boundary extended instead of repeated",
        _extension_instead_of_repetition,
        story=stories.test_boundary_block_that_misses_its_view_is_proposed_again,
    ),
    Mutant(
        "votes counted by the old set",
        _votes_counted_by_old_set,
        frozenset({"I1", "I2", "I4", "I9", "LIVE", "CRASH"}),
        40,
        _changes,
    ),
    Mutant(
        "schedule interval closed at both ends",
        _interval_closed_at_both_ends,
        frozenset({"V5"}),
        200,
        _changes,
    ),
    Mutant(
        "votes of the old epoch counted in the new one",
        _old_votes_in_new_epoch,
        frozenset({"I1", "I2", "I3", "I9", "H", "CRASH"}),
        80,
        _changes,
    ),
    Mutant(
        "closing certificate not served",
        _stragglers_unanswered,
        story=stories.test_straggler_learns_at_once_how_its_epoch_ended,
    ),
    Mutant(
        "repeated boundary block not taken",
        _repetition_not_taken,
        story=stories.test_boundary_block_that_misses_its_view_is_proposed_again,
    ),
)
