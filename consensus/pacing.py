"""Part of the engine: when to press, to repeat, to relay and to rest (EN2, NU1, RE1, RE2).

See :mod:`consensus.engine` for the procedure that the marks refer to.
"""

from __future__ import annotations

from typing import Final

from consensus.core import RETRY, SEAL, VIEW_TIMERS, Core, PursueCertified
from consensus.inputs import Executed, PeerId, Timer, TimerKind, WorkChanged
from consensus.timing import jittered
from consensus.types import Certificate, CertificateMessage, StatusRequest
from ledger.types import View
from ledger.votes import VoteKind

FINALIZE_REPEATS_MAX: Final = 8
"""Own FINALIZE votes that are repeated: finalising any of them finalises all before it."""


class Pacing:
    """Runs the timers of the engine."""

    def __init__(self, core: Core, formed: dict[View, list[Certificate]]) -> None:
        self._core: Final = core
        self._formed: Final = formed
        self._attempt = 0
        self._final_at_retry = core.tree.final_view
        self.must_repeat = False
        """Own votes of before a restart may be lost: repeat once even if nothing is due."""

    # --- idle policy ------------------------------------------------------------------------------

    def kick(self) -> None:
        """EN2: begin or stop to press for progress in the present view."""
        core = self._core
        is_needed = self.needs_block() or core.activity.has_transactions(core.tree.final_view)
        if is_needed == core.is_active:
            return
        core.is_active = is_needed
        if is_needed:
            self._press()
            return
        for kind in VIEW_TIMERS:
            core.outbox.cancel_timer(Timer(kind, core.view))

    def needs_block(self) -> bool:
        """Tell whether the view needs a block whether or not transactions wait."""
        core, view = self._core, self._core.view
        return (
            view in core.proposals
            or core.activity.needs_block(
                view, core.tree.final_view, core.now_ms, core.timing.unfinalized_ms
            )
            or core.tally.mask(view, VoteKind.NOTARIZE) != 0
            or core.validators.is_blocking(core.tally.mask(view, VoteKind.NULLIFY))
        )

    def _press(self) -> None:
        """Set the timers of an active view; a leader that cannot be heard is not waited for."""
        core, view = self._core, self._core.view
        if not core.guard.may_vote(view):
            return
        if view not in core.proposals:
            is_inactive = core.is_inactive(core.leader(view))
            lead_ms = 0 if is_inactive else core.backoff.scaled(core.timing.lead_ms)
            core.outbox.set_timer(Timer(TimerKind.LEAD, view), core.now_ms + lead_ms)
        view_ms = core.backoff.scaled(core.timing.view_ms)
        core.outbox.set_timer(Timer(TimerKind.VIEW, view), core.now_ms + view_ms)

    def on_executed(self, event: Executed) -> None:
        """V3, seal: an execution result that was waited for may be there."""
        core = self._core
        core.executed = max(core.executed, event.height)
        core.allow_repeats()
        core.tree.forget_not_yet()
        core.post(PursueCertified())
        core.is_stirred = True

    def on_work(self, event: WorkChanged) -> None:
        """Note whether transactions wait."""
        core = self._core
        core.activity.pending = event.pending
        if event.pending:
            core.allow_repeats()
        core.is_stirred = True

    def on_gone(self) -> None:
        """Do not wait for a leader whose channel has closed."""
        core = self._core
        lead = Timer(TimerKind.LEAD, core.view)
        if lead in core.outbox.timers and core.is_inactive(core.leader(core.view)):
            core.outbox.set_timer(lead, core.now_ms)

    # --- timers -----------------------------------------------------------------------------------

    def on_timer(self, timer: Timer) -> None:
        """Act on a timer that has run out."""
        core = self._core
        if core.outbox.timers.pop(timer, None) is None:
            return  # cancelled while it was on its way
        core.is_stirred = True
        kind = timer.kind
        if kind is TimerKind.VIEW or (kind is TimerKind.LEAD and core.view not in core.proposals):
            self._give_up()
        elif kind is TimerKind.RETRY:
            self._retry()
        elif kind is TimerKind.RELAY:
            self._relay(timer.view)
        elif kind is TimerKind.SEAL:
            core.activity.is_seal_due = core.activity.needs_seal
        elif kind is TimerKind.BEAT:
            core.activity.beat_view = core.view

    def _give_up(self) -> None:
        """NU1: nullify after waiting in vain; wait longer next time unless nobody was there."""
        core = self._core
        if not core.is_inactive(core.leader(core.view)):
            core.backoff.grow()
        core.nullify()

    def _retry(self) -> None:
        """RE2: ask again for what is missing; if nothing became final lately, repeat own words."""
        core = self._core
        self._attempt += 1
        self.must_repeat = False
        core.allow_repeats()
        core.post(PursueCertified(again=True))
        core.catchup.chase()
        if core.quarantine is not None:
            core.broadcast(StatusRequest(core.quarantine.nonce))
        if self._final_at_retry == core.tree.final_view:
            core.broadcast(core.status(b""))
            for message in core.own_messages(FINALIZE_REPEATS_MAX):
                core.broadcast(message)
            self._pull_from_voters()
        self._final_at_retry = core.tree.final_view

    def _pull_from_voters(self) -> None:
        """Ask another voter each time for a proposal that others have and this node has not."""
        core = self._core
        voters = core.tally.mask(core.view, VoteKind.NOTARIZE)
        peers = core.peers.of_members(voters) if voters else ()
        if peers and core.view not in core.proposals:
            core.pull_proposal(peers[self._attempt % len(peers)])

    def _relay(self, view: View) -> None:
        """RE1: certificates formed here go to peers that have not shown that they know them."""
        relayed = self._formed.pop(view, [])
        for peer in self._core.peers.all:
            lacking = tuple(c for c in relayed if self._should_relay(peer, c))
            if lacking:
                self._core.send(peer, CertificateMessage(lacking))

    def _should_relay(self, peer: PeerId, certificate: Certificate) -> bool:
        # While the chain moves, the next proposal brings the finalization to everyone.
        if certificate.kind is VoteKind.FINALIZE and self._core.is_active:
            return False
        return not self._core.peers.knows(peer, certificate)

    # --- timers that follow from the state --------------------------------------------------------

    def keep_retrying(self) -> None:
        """Let RETRY run exactly while something is outstanding."""
        core = self._core
        is_running = RETRY in core.outbox.timers
        if self._is_outstanding() == is_running:
            return
        if is_running:
            core.outbox.cancel_timer(RETRY)
        else:
            who = -1 if core.config.me is None else core.config.me
            period_ms = jittered(core.timing.retry_ms, who, self._attempt)
            core.outbox.set_timer(RETRY, core.now_ms + period_ms)

    def await_seal(self) -> None:
        """Wait for the block that publishes the last state root, anew after every block."""
        core = self._core
        if not core.activity.needs_seal or core.tree.is_closed:
            core.outbox.cancel_timer(SEAL)
        elif core.activity.is_sealable(core.executed) and core.config.me is not None:
            core.outbox.set_timer(SEAL, core.now_ms + core.timing.seal_ms)

    def _is_outstanding(self) -> bool:
        """Tell whether this node waits for something that a repetition may bring."""
        core = self._core
        is_over = core.halted is not None or core.tree.is_closed
        return not is_over and (
            core.is_active
            or self.must_repeat
            or core.quarantine is not None
            or core.activity.unfinalized_ms is not None
            or core.horizon > core.tree.final_view
            or core.catchup.is_waiting
        )
