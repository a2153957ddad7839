"""What each validator did since this node started, as far as it saw: for operators only."""

from __future__ import annotations

from collections.abc import Sequence

from consensus.certificates import signers
from consensus.leader import leader
from consensus.types import Certificate
from ledger.block import Header
from ledger.types import View
from ledger.validators import ValidatorSet, members_of
from node.api.ports import Participation


class ParticipationLog:
    """Counts per validator: blocks led, certificates signed, own views that were skipped."""

    def __init__(self, validators: ValidatorSet, order: tuple[int, ...]) -> None:
        """``order``: turns of the validators, see ``consensus.leader``."""
        self._order = order
        self._proposed = [0] * validators.size
        self._signed = [0] * validators.size
        self._missed = [0] * validators.size
        self._last_view: int | None = None

    def add(self, header: Header, certificate: Certificate | None) -> None:
        """Count one final block; blocks come in order of height."""
        self._proposed[header.proposer] += 1
        if certificate is not None:
            for index in members_of(signers(certificate)):
                self._signed[index] += 1
        if self._last_view is not None:
            for view in range(self._last_view + 1, header.view):
                self._missed[leader(self._order, View(view))] += 1
        self._last_view = header.view

    def records(self) -> Sequence[Participation]:
        """Return one record per validator, in the order of the set."""
        counts = zip(self._proposed, self._signed, self._missed, strict=True)
        return [Participation(*count) for count in counts]
