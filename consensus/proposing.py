"""Part of the engine: making proposals and voting for those of others (PR1, PR2, NO1, NO2).

See :mod:`consensus.engine` for the procedure that the marks refer to.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from consensus.blocks import KnownBlock
from consensus.certificates import certificate_hash
from consensus.core import VIEWS_AHEAD_MAX, AcceptProposal, Core, CountVote, TakeCertificate
from consensus.effects import RequestProposal
from consensus.errors import InvalidHeader
from consensus.inputs import Built, PeerId, Timer, TimerKind, Verdict
from consensus.types import Certificate, Proposal
from consensus.validity import (
    check_header,
    check_parent_certificate,
    is_boundary,
    is_statement_about,
    missing_ancestry,
)
from ledger.block import Header, block_hash
from ledger.errors import InvariantViolation
from ledger.types import View
from ledger.votes import Value, VoteKind, check_vote


class _Building(NamedTuple):
    """A block that the application is building."""

    view: View
    parent_view: View
    parent: Header
    certificate: Certificate | None


class Proposing:
    """Makes the proposals of this node and judges those of others."""

    def __init__(self, core: Core) -> None:
        self._core: Final = core
        self._building: _Building | None = None

    # --- own proposals ----------------------------------------------------------------------------

    def propose(self, *, empty_allowed: bool) -> None:
        """PR1: choose the parent and ask the application for a block on it."""
        core, view = self._core, self._core.view
        is_busy = self._building is not None and self._building.view == view
        if is_busy or core.declined_view == view or view in core.proposals:
            return
        if core.guard.votes(view) or not core.guard.may_vote(view):
            return
        parent_view, certificate, missing = self._best_parent(view)
        if missing:
            core.catchup.request_certificates(missing, None)
            return
        core.catchup.settled()
        parent_hash = core.tree.final_hash
        if certificate is not None and parent_view != core.tree.final_view:
            parent_hash = certificate.value.block_hash
        if core.judge.pursue(parent_hash, certificate) is not Verdict.VALID:
            return
        seen_ms = core.tree.seen_ms(parent_hash)
        earliest = 0 if seen_ms is None else seen_ms + core.timing.min_block_interval_ms
        if core.now_ms < earliest:
            timer = Timer(TimerKind.PROPOSE, view)
            if timer not in core.outbox.timers:
                core.outbox.set_timer(timer, earliest)
            return
        parent = core.tree.header(parent_hash)
        assert parent is not None  # it was found VALID
        if certificate is not None and is_boundary(parent):
            self._repeat(parent, Value(parent_view, parent_hash), certificate)
            return
        self._building = _Building(view, parent_view, parent, certificate)
        leader = core.leader(view)
        core.outbox.emit(RequestProposal(view, parent, certificate, leader, empty_allowed))

    def _best_parent(self, view: View) -> tuple[View, Certificate | None, list[View]]:
        """Return view and certificate of the block to build on, and views that leave it open."""
        core = self._core
        missing: list[View] = []
        lowest = core.tree.final_view
        for below in range(view - 1, lowest, -1):
            certificate = core.certificates.block_at(View(below))
            if certificate is not None:
                return View(below), certificate, missing[::-1]
            if core.certificates.get(View(below), VoteKind.NULLIFY) is None:
                missing.append(View(below))
        certificate = core.certificates.block_at(lowest)
        if certificate is None and core.tree.final_hash != core.rules.base_hash:
            missing.append(lowest)
        return lowest, certificate, missing[::-1]

    def on_built(self, event: Built) -> None:
        """PR2: vote for the own block and send it."""
        core, building, header = self._core, self._building, event.header
        if building is None or building.view != event.view:
            return
        if header is not None and not core.is_here(header.era, header.epoch):
            return  # answers the engine of the epoch before
        self._building = None
        if event.view != core.view or core.halted is not None:
            return
        core.is_stirred = True
        if header is None:
            core.declined_view = event.view
            return
        try:
            check_header(header, building.parent, header.parent_hash, core.rules)
            check_parent_certificate(header, building.certificate, core.rules)
        except InvalidHeader as error:
            raise InvariantViolation("own_block", f"view {event.view}: {error}") from error
        value = Value(building.parent_view, block_hash(core.config.chain_id, header))
        block = KnownBlock(header, building.certificate, None, None, core.now_ms)
        block.parent_view = building.parent_view
        block.is_linked = True
        block.verdict = Verdict.VALID  # built and judged by the same functions
        core.tree.add(value.block_hash, block)
        self._offer(header, value, event.payload, building.certificate)

    def _repeat(self, header: Header, value: Value, certificate: Certificate) -> None:
        """EP2: propose a notarized boundary block again, unchanged; all have it or can fetch it."""
        self._offer(header, value, b"", certificate)

    def _offer(
        self, header: Header, value: Value, payload: bytes, certificate: Certificate | None
    ) -> None:
        """PR2: vote, persist (P4) and broadcast; ``certificate`` is of ``value.parent_view``."""
        core = self._core
        vote = core.guard.cast(VoteKind.NOTARIZE, core.view, value)
        if vote is None:
            return
        proposal = Proposal(
            vote.era,
            vote.epoch,
            vote.view,
            value,
            header,
            payload,
            certificate,
            core.skips(value.parent_view, core.view),
            core.certificates.finalization,
            vote,
        )
        core.proposals[core.view] = proposal
        blocks = core.not_durable(value.block_hash)
        core.outbox.persist(vote=vote, blocks=blocks, proposal=proposal)
        core.broadcast(proposal)
        core.post(CountVote(vote, True))

    # --- proposals of others ----------------------------------------------------------------------

    def on_proposal(self, peer: PeerId, proposal: Proposal) -> None:
        """NO1: certificates first; they may move this node to the view of the proposal."""
        core, vote = self._core, proposal.leader_vote
        if core.halted is not None or not core.is_here(proposal.era, proposal.epoch):
            return
        if core.tree.is_closed:  # EP4
            core.answer(peer, "vote", proposal.view, core.catchup.finalization())
            return
        signed = (vote.kind, vote.era, vote.epoch, vote.view, vote.value)
        offered = (proposal.era, proposal.epoch, proposal.view, proposal.value)
        if (
            signed != (VoteKind.NOTARIZE, *offered)
            or check_vote(vote, core.validators.size) is not None
            or vote.voter != core.leader(proposal.view)
        ):
            core.penalise(peer, "malformed_proposal")
            return
        for certificate in (proposal.finalization, proposal.parent_certificate, *proposal.skips):
            if certificate is not None:
                core.post(TakeCertificate(certificate, peer))
        core.post(AcceptProposal(proposal, peer))

    def on_accept(self, event: AcceptProposal) -> None:
        """NO1: keep the first proposal of a view that its leader signed."""
        core, proposal, peer = self._core, event.proposal, event.peer
        view, vote, header = proposal.view, proposal.leader_vote, proposal.header
        if core.halted is not None or not core.horizon < view <= core.view + VIEWS_AHEAD_MAX:
            return
        held = core.proposals.get(view)
        if held is not None and held.leader_vote == vote:
            return
        if block_hash(core.config.chain_id, header) != proposal.value.block_hash:
            core.penalise(peer, "header_mismatch")
        elif not _names_its_certificate(proposal):
            core.penalise(peer, "parent_certificate_mismatch")
        elif _is_repeated(proposal) and proposal.payload:
            core.penalise(peer, "payload_mismatch")
        elif not core.verify_vote(vote):
            core.penalise(peer, "forged_proposal")
        else:
            self._keep(proposal, peer, is_first=held is None)

    def _keep(self, proposal: Proposal, peer: PeerId, *, is_first: bool) -> None:
        core, view, vote = self._core, proposal.view, proposal.leader_vote
        if core.peers.index(peer) == vote.voter:
            core.peers.note_vote(peer, vote.kind, view)
        core.is_stirred = True
        if vote.voter == core.config.me:
            return  # an own proposal is kept when it is made or restored
        core.post(CountVote(vote, True))
        if not is_first:
            return
        core.proposals[view] = proposal
        core.sources[view] = peer
        if _is_repeated(proposal):
            return
        block = KnownBlock(
            proposal.header, proposal.parent_certificate, proposal.payload, peer, core.now_ms
        )
        core.tree.add(proposal.value.block_hash, block)

    def consider(self) -> None:
        """NO2: vote for the proposal of the view, or give the view up, as soon as that is clear."""
        core, view = self._core, self._core.view
        proposal = core.proposals.get(view)
        if proposal is None or core.guard.made(view, VoteKind.NOTARIZE) is not None:
            return
        if core.guard.made(view, VoteKind.NULLIFY) is not None:
            return
        value, source = proposal.value, core.sources.get(view)
        if not is_statement_about(proposal.header, None, view, value):
            core.nullify()
            return
        is_repeated = _is_repeated(proposal)
        try:
            missing = missing_ancestry(
                view,
                value.parent_view,
                value.block_hash if is_repeated else proposal.header.parent_hash,
                core.tree.final_view,
                core.tree.final_hash,
                core.certificates,
            )
        except InvalidHeader:
            core.nullify()
            return
        if missing:
            core.catchup.request_certificates(missing, source)
            return
        core.catchup.settled()
        certificate = core.certificates.block_at(value.parent_view) if is_repeated else None
        verdict = core.judge.pursue(value.block_hash, certificate, source)
        block = core.tree.get(value.block_hash)
        if verdict is Verdict.INVALID:
            core.nullify()
        elif verdict is Verdict.VALID and block is not None:
            if core.judge.matches(block, view, value):
                core.cast(VoteKind.NOTARIZE, value)
            else:
                core.nullify()


def _is_repeated(proposal: Proposal) -> bool:
    """Tell whether a proposal claims to repeat a block of an earlier view (EP2)."""
    return proposal.header.view < proposal.view


def _names_its_certificate(proposal: Proposal) -> bool:
    """Tell whether the certificate is the one the header names, or of the block that is repeated.

    Neither is signed by the leader as such: who passes a proposal on could change it.
    """
    certificate = proposal.parent_certificate
    if not _is_repeated(proposal):
        return certificate_hash(certificate) == proposal.header.parent_certificate_hash
    return (
        certificate is not None
        and certificate.kind is not VoteKind.NULLIFY
        and certificate.view == proposal.value.parent_view
        and certificate.value.block_hash == proposal.value.block_hash
    )
