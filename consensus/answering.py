"""Part of the engine: telling peers what they lack, and voting again after a loss (AN1, RS2).

See :mod:`consensus.engine` for the procedure that the marks refer to.
"""

from __future__ import annotations

from typing import Final

import msgspec

from consensus.core import Core, TakeCertificate, WeighStatus
from consensus.errors import InvalidCertificate
from consensus.inputs import PeerAhead, PeerId
from consensus.quarantine import Quarantine
from consensus.types import GetCertificates, GetProposal, Status, StatusRequest
from consensus.validity import is_boundary
from ledger.votes import Round, VoteKind


class Answering:
    """Answers requests and weighs the status of peers."""

    def __init__(self, core: Core) -> None:
        self._core: Final = core

    def quarantine(self, nonce: bytes) -> None:
        """RS2: sign nothing until others have shown from where on it is safe."""
        self._core.quarantine = Quarantine(self._core.validators, nonce)
        self._core.guard.silent = True

    def on_status(self, peer: PeerId, status: Status) -> None:
        """Take over the certificates of a status first, then weigh it."""
        core = self._core
        if not core.is_here(status.era, status.epoch):
            return
        for certificate in (status.finalization, status.notarization, status.previous_view):
            if certificate is not None:
                core.post(TakeCertificate(certificate, peer))
        core.post(WeighStatus(peer, status))

    def on_weigh(self, event: WeighStatus) -> None:
        """AN1, RS2: help a peer that is behind; count an answer towards the end of a quarantine."""
        core, peer, status = self._core, event.peer, event.status
        core.answer(peer, "status", status.view, core.catchup.help_for(status, core.view))
        quarantine, index = core.quarantine, core.peers.index(peer)
        if quarantine is None or index is None or index == core.config.me:
            return
        if status.nonce != quarantine.nonce or not self._is_view_proven(status):
            return
        unsafe = quarantine.report(index, status.view)
        if unsafe is None or self._may_be_closing():
            return
        core.quarantine = None
        core.guard.silent = core.halted is not None
        core.guard.raise_floor(Round(core.config.era, core.config.epoch, unsafe))
        core.outbox.persist(floor=core.guard.floor)
        core.is_stirred = True

    def _may_be_closing(self) -> bool:
        """EP8: tell whether the forgotten votes may be of the next epoch.

        Who voted there knew the boundary block final; so a quorum had it notarized, and among those
        that answered is one of them.
        """
        core = self._core
        held = (core.certificates.notarization, core.certificates.finalization)
        above = [c for c in held if c is not None and c.view > core.tree.final_view]
        if not above:
            return core.tree.is_closed
        highest = max(above, key=lambda certificate: certificate.view)
        block = core.tree.get(highest.value.block_hash)
        return block is None or is_boundary(block.header)

    def _is_view_proven(self, status: Status) -> bool:
        before = status.previous_view
        if before is None:
            return status.view == 1
        if before.view != status.view - 1:
            return False
        try:
            self._core.judge.verify(before)
        except InvalidCertificate:
            return False
        return True

    def on_status_request(self, peer: PeerId, request: StatusRequest) -> None:
        """Tell where this node stands, unless it may have forgotten how far it was (RS2).

        A quarantine rests on answers that never report too low a view; a node in quarantine itself
        cannot promise that.
        """
        core = self._core
        if core.quarantine is not None:
            return
        core.answer(peer, "nonce", core.view, core.status(request.nonce))

    def on_ahead(self, event: PeerAhead) -> None:
        """EP7: ask a peer of a later epoch how this one ended; RETRY asks for the chain itself."""
        core, peer = self._core, event.peer
        if core.halted is not None or core.tree.is_closed:
            return
        core.answer(peer, "behind", core.view, core.status(b""))
        core.catchup.follow(peer)

    def on_get_certificates(self, peer: PeerId, request: GetCertificates) -> None:
        """Send one page of certificates."""
        core = self._core
        if request.epoch == core.config.epoch and 0 <= request.first <= request.last:
            message = core.catchup.page(request.first, request.last)
            core.answer(peer, "page", request.first, message)

    def on_get_proposal(self, peer: PeerId, request: GetProposal) -> None:
        """Repeat a proposal this node voted for, with certificates that it has checked itself."""
        core = self._core
        proposal = core.proposals.get(request.view)
        vote = core.guard.made(request.view, VoteKind.NOTARIZE)
        if request.epoch != core.config.epoch or proposal is None or vote is None:
            return
        checked = msgspec.structs.replace(
            proposal,
            skips=core.skips(proposal.value.parent_view, proposal.view),
            finalization=core.certificates.finalization,
        )
        core.answer(peer, "proposal", request.view, checked)
