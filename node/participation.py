"""What each validator did since this node started, as far as it saw: for operators only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consensus.certificates import signers
from consensus.leader import leader, leader_order
from consensus.types import Certificate
from ledger.block import Header
from ledger.types import Digest, PublicKey, View
from ledger.validators import members_of
from node.api.ports import Participation
from node.epochs import PresentEpoch


@dataclass(slots=True)
class _Counts:
    proposed: int = 0
    signed: int = 0
    missed: int = 0


class ParticipationLog:
    """Counts per validator: blocks led, certificates signed, own views that were skipped."""

    def __init__(self, chain_id: Digest, epoch: PresentEpoch) -> None:
        """Begin in the present epoch."""
        self._chain_id = chain_id
        self._counts: dict[PublicKey, _Counts] = {}
        self.enter(epoch)
        self._last_view: int | None = None

    def enter(self, epoch: PresentEpoch) -> None:
        """Count for another set, whose views begin at 1; who stays keeps what it has."""
        before = self._counts
        self.epoch = epoch.number
        """Which is counted for."""
        self._order = leader_order(self._chain_id, epoch.era, epoch.number, epoch.validators)
        self._counts = {
            member.consensus_key: before.get(member.consensus_key, _Counts())
            for member in epoch.validators
        }
        self._members = list(self._counts.values())
        self._last_view = 0

    def add(self, header: Header, certificate: Certificate | None) -> None:
        """Count one final block; blocks come in order of height."""
        self._members[header.proposer].proposed += 1
        if certificate is not None:
            for index in members_of(signers(certificate)):
                self._members[index].signed += 1
        if self._last_view is not None:
            for view in range(self._last_view + 1, header.view):
                self._members[leader(self._order, View(view))].missed += 1
        self._last_view = header.view

    def records(self) -> Sequence[Participation]:
        """Return one record per validator of the present set, in its order."""
        return [Participation(each.proposed, each.signed, each.missed) for each in self._members]
