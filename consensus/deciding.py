"""Part of the engine: from votes to certificates, from certificates to final blocks.

See :mod:`consensus.engine` for the procedure that the marks refer to (CE1-CE3, EV1, NU1, AN1, HA1).
"""

from __future__ import annotations

from typing import Final

from consensus.blocks import KnownBlock
from consensus.certificates import signers, vote_in
from consensus.core import (
    VIEWS_AHEAD_MAX,
    Core,
    CountVote,
    Enforce,
    PursueCertified,
    TakeCertificate,
)
from consensus.effects import Finalize, ReportEvidence
from consensus.errors import InvalidCertificate
from consensus.inputs import BlockReceived, PeerId, Timer, TimerKind, Verdict, Verified
from consensus.tally import Count
from consensus.types import Certificate, CertificateMessage
from ledger.block import block_hash
from ledger.evidence import are_conflicting
from ledger.types import View
from ledger.validators import members_of
from ledger.votes import Round, Vote, VoteKind, check_vote


class Deciding:
    """Counts votes, keeps certificates, votes to finalise and finalises."""

    def __init__(self, core: Core) -> None:
        self._core: Final = core
        self._segment: Certificate | None = None
        """Latest finalization whose path is known here without gaps."""
        self.formed: Final[dict[View, list[Certificate]]] = {}
        """RE1: certificates formed here that are still to be relayed."""

    # --- votes ------------------------------------------------------------------------------------

    def on_vote(self, peer: PeerId, vote: Vote) -> None:
        """CE1: refuse what is not well-formed or not near in constant time, count the rest."""
        core = self._core
        if not core.is_here(vote.era, vote.epoch):
            return
        problem = check_vote(vote, core.validators.size)
        if problem is not None:
            core.penalise(peer, "malformed_vote")
            return
        is_own_word = core.peers.index(peer) == vote.voter
        if is_own_word:
            core.peers.note_vote(peer, vote.kind, vote.view)
        is_closed = core.tree.is_closed
        if is_closed or vote.view <= core.horizon:
            is_late = vote.view < core.horizon or vote.kind is VoteKind.FINALIZE
            if is_closed or is_late:  # EP4, AN1
                core.answer(peer, "vote", vote.view, core.catchup.finalization())
        elif core.halted is not None:
            return
        elif vote.view > core.view + VIEWS_AHEAD_MAX:
            # The peer will answer with what is missing here.
            core.answer(peer, "behind", core.view, core.status(b""))
        elif vote.voter == core.config.me:
            self._on_own_vote(vote)
        elif not is_own_word and not core.verify_vote(vote):
            core.penalise(peer, "forged_vote")
        else:
            self._accept(peer, vote, verified=not is_own_word)

    def _accept(self, peer: PeerId, vote: Vote, *, verified: bool) -> None:
        core = self._core
        if vote.kind is VoteKind.NULLIFY and vote.view < core.view:  # AN1
            core.answer(peer, "vote", vote.view, core.catchup.page(vote.view, vote.view))
        core.post(CountVote(vote, verified))
        if vote.view != core.view:
            return
        core.is_stirred = True
        if vote.kind is VoteKind.NULLIFY and vote.voter == core.leader(vote.view):  # NU1
            core.nullify()
        if vote.kind is VoteKind.NOTARIZE and vote.view not in core.proposals:
            core.pull_proposal(peer)

    def _on_own_vote(self, vote: Vote) -> None:
        """HA1: an own vote that this node did not make comes from a second process with the key."""
        core = self._core
        if core.guard.made(vote.view, vote.kind) == vote or core.quarantine is not None:
            return
        is_above = Round(vote.era, vote.epoch, vote.view) > core.guard.floor
        if is_above and core.verify_vote(vote):
            core.halt("another process signs with the key of this validator", ())

    def on_count(self, event: CountVote) -> None:
        """CE1, EV1: count a well-formed vote; a quorum is a certificate, a conflict is evidence."""
        core, vote = self._core, event.vote
        for certificate in core.certificates.at(vote.view):
            other = vote_in(certificate, vote.voter)
            if other is not None and are_conflicting(other, vote):
                self._settle(core.tally.count(other, verified=True, certify=False))
        held = core.certificates.get(vote.view, vote.kind)
        is_wanted = held is None or held.value != vote.value
        self._settle(core.tally.count(vote, verified=event.verified, certify=is_wanted))

    def _settle(self, outcome: Count) -> None:
        core = self._core
        if outcome.evidence is not None:
            core.outbox.emit(ReportEvidence(*outcome.evidence))
        for voter in outcome.forgers:
            node = PeerId(core.validators[voter].node_key)
            core.penalise(node, "forged_own_vote")
        if outcome.certificate is not None:
            core.post(TakeCertificate(outcome.certificate, None))

    # --- certificates -----------------------------------------------------------------------------

    def _is_forgotten(self, certificate: Certificate) -> bool:
        """HA1: tell whether a certificate has an own signature that this node knows nothing of."""
        core, c = self._core, certificate
        me = core.config.me
        if me is None or core.quarantine is not None or not signers(c) >> me & 1:
            return False
        made = core.guard.made(c.view, c.kind)
        is_above = Round(c.era, c.epoch, c.view) > core.guard.floor
        return is_above and (made is None or made.value != c.value)

    def on_certificates(self, peer: PeerId, message: CertificateMessage) -> None:
        """Take over relayed certificates."""
        for certificate in message.certificates:
            self._core.post(TakeCertificate(certificate, peer))

    def on_certificate(self, event: TakeCertificate) -> None:
        """Take over a certificate: verify, compare, keep, enforce and go to the view after it."""
        core, c, source = self._core, event.certificate, event.source
        if core.halted is not None or not core.is_here(c.era, c.epoch):
            return
        held = core.certificates.get(c.view, c.kind)
        if held is not None and held.value == c.value:
            if source is not None:
                core.peers.note_certificate(source, held)
            if c.kind is VoteKind.FINALIZE:  # ends a chain segment whose blocks have come
                core.post(Enforce(held))
            return
        is_contradiction = core.tree.contradicts_final(c)
        is_settled = c.view <= core.tree.final_view and not core.tree.is_final(c)
        if (is_settled or core.tree.is_closed) and not is_contradiction:
            return
        if source is not None:
            try:
                core.judge.verify(c)
            except InvalidCertificate as error:
                core.penalise(source, error.code)
                return
            core.peers.note_certificate(source, c)
        if self._is_forgotten(c):
            core.halt(
                "a certificate carries a vote that this node did not make: another process signs "
                "with its key, or its votes were restored from an old copy",
                (c,),
            )
            return
        clashing = core.certificates.clashes(c)
        if clashing or is_contradiction:
            core.halt("contradicting certificates", (*clashing, c))
            return
        core.certificates.add(c)
        core.outbox.store(c)
        if source is not None:
            self._confront(c)
        core.post(Enforce(c))
        core.enter(View(c.view + 1))
        core.is_stirred = True
        if source is None:
            self._relay_later(c)

    def _confront(self, certificate: Certificate) -> None:
        """EV1: a checked certificate is as good as the votes in it, if others are held."""
        for voter in members_of(signers(certificate)):
            vote = vote_in(certificate, voter)
            if vote is not None and self._core.tally.contradicts(vote):
                self._core.post(CountVote(vote, True))

    def _relay_later(self, certificate: Certificate) -> None:
        """RE1: give the others time to form the certificate themselves."""
        core = self._core
        self.formed.setdefault(certificate.view, []).append(certificate)
        relay = Timer(TimerKind.RELAY, certificate.view)
        if relay not in core.outbox.timers:
            core.outbox.set_timer(relay, core.now_ms + core.timing.relay_ms)

    def on_enforce(self, event: Enforce) -> None:
        """Do what a certificate above the finalised block asks for."""
        core, c = self._core, event.certificate
        is_over = core.halted is not None or core.tree.is_closed
        if is_over or c.view <= core.tree.final_view:
            return
        if c.kind is VoteKind.FINALIZE:
            self._try_commit(c)
        elif c.kind is VoteKind.NOTARIZE:
            if core.activity.unfinalized_ms is None:
                core.activity.unfinalized_ms = core.now_ms
            self._try_finalize(c)
        else:
            proposal = core.proposals.get(c.view)
            if proposal is not None and proposal.header.transaction_count:
                core.activity.abandoned = max(core.activity.abandoned, c.view)

    def _try_finalize(self, notarization: Certificate) -> None:
        """CE2: vote to finalise a notarized block whose path is VALID."""
        core, value = self._core, notarization.value
        if notarization.view <= core.horizon:
            return
        verdict = core.judge.pursue(value.block_hash, notarization)
        block = core.tree.get(value.block_hash)
        if verdict is Verdict.VALID:
            if block is not None and core.judge.matches(block, notarization.view, value):
                core.cast(VoteKind.FINALIZE, value, notarization)
                return
            verdict = Verdict.INVALID
        if verdict is Verdict.INVALID:
            core.halt("a quorum notarized a block that is invalid here", (notarization,))

    def _try_commit(self, finalization: Certificate) -> None:
        """CE3: finalise a block, or what is VALID on the path to it.

        What is below a final block is final, and its execution may be what the rest of the path has
        to be judged by (V3).
        """
        core, target = self._core, finalization.value.block_hash
        if core.judge.pursue(target, finalization) is Verdict.INVALID:
            core.halt("a quorum finalised a block that is invalid here", (finalization,))
            return
        end = core.tree.sound_ancestor(target)
        if end is None:
            return
        if self._segment is None or self._segment.view < finalization.view:
            self._segment = finalization
        path = core.tree.path(end)
        if not path:
            return
        view = finalization.view if end == target else None
        headers = core.tree.finalize(path, view)
        core.outbox.emit(Finalize(tuple(path), finalization))
        for _ in headers:
            core.backoff.decay()
        core.activity.finalized(headers)
        later = core.certificates.notarizations_above(core.tree.final_view)
        core.activity.unfinalized_ms = core.now_ms if later else None
        core.guard.forget(core.tree.final_view)
        core.catchup.finalized()
        core.prune()
        core.post(PursueCertified())
        core.is_stirred = True
        if core.tree.is_closed:
            self._close()

    def _close(self) -> None:
        """EP4: end the epoch; HA1 if a later block was finalised too, on whatever path."""
        core = self._core
        core.close()
        held = core.certificates.finalization
        if held is not None and core.tree.contradicts_final(held):
            core.halt("contradicting certificates", (held,))

    # --- blocks -----------------------------------------------------------------------------------

    def on_pursue(self, event: PursueCertified) -> None:
        """Go on with every certificate that still waits for its block."""
        core = self._core
        certified = core.certificates.notarizations_above(core.horizon)
        # The next segment of the chain is asked for when this one is final.
        for finalization in (self._segment, core.certificates.finalization):
            if finalization is not None and finalization.view > core.tree.final_view:
                certified.insert(0, finalization)
                break
        if event.again:
            core.catchup.forget_requests()
            for certificate in certified:
                core.judge.fetch_whole(certificate)
            core.tree.forget_not_yet()
        for certificate in certified:
            core.post(Enforce(certificate))

    def on_verified(self, event: Verified) -> None:
        """Go on with a block that the application has judged."""
        core, block = self._core, self._core.tree.get(event.block_hash)
        if block is None or block.verdict in (Verdict.VALID, Verdict.INVALID):
            return
        block.is_asked = False
        block.verdict = event.verdict
        if event.verdict is Verdict.VALID:
            block.payload = None  # the driver has the whole block from now on
        core.is_stirred = True
        if event.verdict is Verdict.NOT_YET:
            return
        for certificate in core.certificates.of_block(event.block_hash):
            core.post(Enforce(certificate))
        core.post(PursueCertified())

    def on_block(self, event: BlockReceived) -> None:
        """Take over a whole block that was asked for."""
        core = self._core
        block_id = block_hash(core.config.chain_id, event.header)
        known = core.tree.get(block_id)
        is_wanted = core.catchup.accept(block_id)
        if known is not None:
            if known.payload is not None and known.verdict is not Verdict.VALID:
                known.payload = None
                known.parent_certificate = event.parent_certificate
                known.is_asked = False
                known.verdict = None
        elif core.tree.accepts(event.header, is_wanted=is_wanted):
            core.tree.add(
                block_id,
                KnownBlock(event.header, event.parent_certificate, None, None, core.now_ms),
            )
        else:
            return
        core.post(PursueCertified())
        core.is_stirred = True
