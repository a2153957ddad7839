"""The consensus engine: Simplex with a two-chamber quorum, as a function of inputs and time.

The engine of one validator or observer for one epoch. It does no I/O and reads no clock; a driver
feeds it inputs (:mod:`consensus.inputs`) and carries out its effects (:mod:`consensus.effects`) in
order. What it wants synced to disk comes first among the effects of a step and must be synced
before anything of the step is sent.

The procedure. *v* is the present view; views begin at 1; *fin* is the highest finalised block.

* EN1  On any certificate of a view w >= v: enter view w + 1. Views change in no other way.
* EN2  When something has to happen in v (:mod:`consensus.activity`; or a proposal or a NOTARIZE of v has
       come; or NULLIFY of v from a third of the validators): v is *active*. Set LEAD and VIEW. When
       nothing has to happen any more, cancel them. An inactive view sets no timers but the beacon.
* PR1  The leader of an active view builds on the highest notarized block below v with nullifications for
       every view between, not earlier than the minimum interval after its parent was proposed. What
       it lacks for that it asks for. It builds nothing if it has voted in v before.
* PR2  It casts NOTARIZE for its block, which signs the proposal, and broadcasts block header, payload and
       the evidence: the parent's certificate, the nullifications between, its highest finalization.
* NO1  On a proposal for v signed by v's leader: take over its certificates, keep the first proposal.
* NO2  If the ancestry rules A1-A3 and V1-V5 hold (:mod:`consensus.validity`) and the application finds
       the block VALID: cast NOTARIZE. If a rule is broken or the block INVALID: cast NULLIFY at
       once.
* NU1  If LEAD fires without a proposal, or VIEW fires, or the leader itself casts NULLIFY: cast NULLIFY.
* CE1  On a quorum of matching valid votes: form the certificate, treat it as received.
* CE2  On a notarization, even of an old view: get the block; once its whole path is VALID, cast FINALIZE.
* CE3  On a finalization: get the path; once all of it is VALID, finalise it.
* RE1  RELAY after an own certificate was formed: send it to peers that have not shown that they know it.
* RE2  RETRY while anything is outstanding: repeat own votes, own proposal, status and requests.
* AN1  Answer votes and status of peers that are behind with the certificates that they lack.
* RS1  After a restart: own votes count and are sent again, byte for byte; the view is the highest of own
       votes, certificates + 1 and fin + 1; certificates lead to finalisation as if received now.
* RS2  A node that may have forgotten own votes does not vote until its quarantine ends.
* EV1  Two conflicting votes of one validator: report them, once.
* HA1  Contradicting certificates, a certificate for a block that this node finds INVALID, or an own vote
       that this node did not make: stop voting for good; go on serving.

Deviations from the paper (Chan & Pass 2023), with reasons, are in ``docs/protocol-consensus.md``:
proposals carry their ancestry evidence; one value per view over NOTARIZE and FINALIZE; quorums need
half of each chamber; certificates are relayed lazily; an idle chain stands still.

Invariants: nothing is signed except by :class:`consensus.guard.Guard`; nothing is sent that rests
on an own vote which is not in a ``Persist`` before it; handlers never call handlers but post to a
queue; memory is bounded by named constants; the effects depend on nothing but the inputs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

from consensus.activity import Activity
from consensus.blocks import BlockTree, Gap, KnownBlock
from consensus.catchup import CatchUp
from consensus.certificates import CertificateStore, certificate_hash
from consensus.config import EngineConfig, Restored
from consensus.effects import (
    Broadcast,
    Effect,
    Finalize,
    Halt,
    Penalise,
    ReportEvidence,
    RequestProposal,
    Send,
)
from consensus.errors import InvalidCertificate, InvalidHeader
from consensus.guard import Guard
from consensus.inputs import (
    BlockReceived,
    Built,
    Executed,
    Input,
    PeerConnected,
    PeerDisconnected,
    PeerId,
    Received,
    Timer,
    TimerFired,
    TimerKind,
    Verdict,
    Verified,
    WorkChanged,
)
from consensus.judge import Judge
from consensus.leader import leader_order
from consensus.outbox import Outbox
from consensus.peers import PeerBook
from consensus.quarantine import Quarantine
from consensus.status import EngineStatus
from consensus.tally import Tally
from consensus.timing import Backoff, jittered
from consensus.types import (
    NULL_VALUE,
    SKIPS_MAX,
    Certificate,
    CertificateMessage,
    ConsensusMessage,
    GetCertificates,
    GetProposal,
    Proposal,
    Round,
    Status,
    StatusRequest,
    Value,
    Vote,
    VoteKind,
)
from consensus.validators import members_of
from consensus.validity import (
    EpochRules,
    check_header,
    check_parent_certificate,
    missing_ancestry,
)
from consensus.votes import check_vote, verify_vote
from ledger.block import Header, block_hash
from ledger.errors import InvariantViolation
from ledger.types import Digest, View

__all__ = ["Engine", "EngineConfig", "EngineStatus", "Restored"]

VIEWS_AHEAD_MAX: Final = 16
"""Votes and proposals are kept this far above the present view (W), and proposals this far
below."""

VOTE_VIEWS_KEPT: Final = 256
"""Votes are kept this far below the present view while nothing is finalised: bounds memory in a
halt."""

FINALIZE_REPEATS_MAX: Final = 8
"""Own FINALIZE votes repeated on a retry: finalising any of them finalises all before it."""

CHAIN: Final = View(0)
"""Stands for the view in the names of timers that are not of one view."""

RETRY: Final = Timer(TimerKind.RETRY, CHAIN)
SEAL: Final = Timer(TimerKind.SEAL, CHAIN)
BEAT: Final = Timer(TimerKind.BEAT, CHAIN)


class Engine:
    """State machine of one validator or observer for one epoch."""

    def __init__(self, config: EngineConfig, restored: Restored) -> None:
        self._config: Final = config
        self._timing: Final = config.timing
        self._validators: Final = config.validators
        self._restored: Restored | None = restored
        base_hash = block_hash(config.chain_id, config.base)
        head_hash = block_hash(config.chain_id, restored.finalized)
        head_view = View(0) if head_hash == base_hash else restored.finalized.view
        order = leader_order(config.chain_id, config.era, config.epoch, config.validators)
        self._rules: Final = EpochRules(
            config.era, config.epoch, config.validators, order, base_hash
        )
        self._outbox: Final = Outbox()
        self._tree: Final = BlockTree(restored.finalized, head_hash, head_view)
        self._certificates: Final = CertificateStore()
        self._peers: Final = PeerBook(config.validators, config.me)
        self._tally: Final = Tally(config.validators, self._verify_vote)
        self._guard: Final = Guard(
            config.chain_id,
            config.era,
            config.epoch,
            config.me,
            config.sign,
            restored.sign_floor,
            restored.votes,
        )
        self._catchup: Final = CatchUp(
            config.era, config.epoch, self._certificates, self._tree, self._peers, self._outbox
        )
        self._judge: Final = Judge(
            config,
            self._rules,
            self._tree,
            self._certificates,
            self._tally,
            self._catchup,
            self._outbox,
        )
        self._activity: Final = Activity(restored.finalized)
        self._backoff: Final = Backoff()
        self._quarantine: Quarantine | None = None
        self._now = 0
        self._view = View(0)
        self._active = False
        self._executed = restored.finalized.height
        self._proposals: dict[View, Proposal] = {}
        self._sources: dict[View, PeerId] = {}
        self._segment: Certificate | None = None
        self._building: tuple[View, Header, Certificate | None] | None = None
        self._has_declined = False
        self._pulled = CHAIN
        self._to_relay: dict[View, list[Certificate]] = {}
        self._attempt = 0
        self._final_at_retry = head_view
        self._must_repeat = False
        self._halted: str | None = None
        self._queue: Final[deque[tuple[Callable[..., None], tuple[Any, ...]]]] = deque()
        self._stirred = False
        self._on_input: Final[dict[type[Input], Callable[[Any], None]]] = {
            Received: self._on_received,
            TimerFired: self._on_timer,
            Built: self._on_built,
            Verified: self._on_verified,
            BlockReceived: self._on_block,
            Executed: self._on_executed,
            WorkChanged: self._on_work,
            PeerConnected: self._on_connected,
            PeerDisconnected: self._on_disconnected,
        }
        self._on_message: Final[dict[type[Any], Callable[[PeerId, Any], None]]] = {
            Vote: self._on_vote,
            Proposal: self._on_proposal,
            CertificateMessage: self._on_certificates,
            Status: self._on_status,
            StatusRequest: self._on_status_request,
            GetCertificates: self._on_get_certificates,
            GetProposal: self._on_get_proposal,
        }

    # --- entry points -----------------------------------------------------------------------------

    def start(self, now_ms: int) -> list[Effect]:
        """Return the effects of a start or restart; call once, before the first :meth:`step`."""
        restored, self._restored = self._restored, None
        if restored is None:
            raise InvariantViolation("expected one start of the engine, received a second")
        self._now = now_ms
        self._restore(restored)
        return self._finish_step()

    def step(self, now_ms: int, event: Input) -> list[Effect]:
        """Handle one input at monotonic time ``now_ms`` and return the effects, in order."""
        self._now = now_ms
        self._post(self._on_input[type(event)], event)
        return self._finish_step()

    def status(self) -> EngineStatus:
        """Return a snapshot for operators."""
        connected = self._peers.connected
        everyone = (1 << self._validators.size) - 1
        return EngineStatus(
            era=self._config.era,
            epoch=self._config.epoch,
            view=self._view,
            leader=self._leader(self._view),
            active=self._active,
            me=self._config.me,
            votes={k: tuple(members_of(self._tally.mask(self._view, k))) for k in VoteKind},
            connected=tuple(members_of(connected)),
            missing=tuple(members_of(everyone & ~connected)),
            shortfall=self._validators.missing_for_quorum(connected),
            last_heard_ms=self._peers.heard_ms,
            timers=dict(self._outbox.timers),
            backoff=self._backoff.factor,
            finalized_height=self._tree.final.height,
            finalized_view=self._tree.final_view,
            finalized_hash=self._tree.final_hash,
            executed_height=self._executed,
            certified_view=self._horizon,
            work_pending=self._activity.pending,
            quarantined=self._quarantine is not None,
            halted=self._halted,
        )

    def _post(self, handler: Callable[..., None], *arguments: Any) -> None:
        """Queue a handler: handlers never call each other."""
        self._queue.append((handler, arguments))

    def _finish_step(self) -> list[Effect]:
        """Run what was posted until nothing is left, then see what the view needs."""
        while self._queue or self._stirred:
            if self._queue:
                handler, arguments = self._queue.popleft()
                handler(*arguments)
            else:
                self._stirred = False
                if self._halted is None:
                    self._consider()
                    self._kick()
        self._keep_retrying()
        return self._outbox.take()

    # --- inputs -----------------------------------------------------------------------------------

    def _on_received(self, event: Received) -> None:
        self._peers.hear(event.peer, self._now)
        self._on_message[type(event.message)](event.peer, event.message)

    def _on_timer(self, event: TimerFired) -> None:
        timer = event.timer
        if self._outbox.timers.pop(timer, None) is None:
            return  # cancelled while it was on its way
        self._stirred = True
        kind = timer.kind
        if kind is TimerKind.LEAD:
            if self._view not in self._proposals:
                self._give_up()
        elif kind is TimerKind.VIEW:
            self._give_up()
        elif kind is TimerKind.RETRY:
            self._on_retry()
        elif kind is TimerKind.RELAY:
            self._relay(timer.view)
        elif kind is TimerKind.SEAL:
            self._activity.is_seal_due = self._activity.needs_seal
        elif kind is TimerKind.BEAT:
            self._activity.beat_view = self._view

    def _on_executed(self, event: Executed) -> None:
        self._executed = max(self._executed, event.height)
        self._tree.forget_not_yet()  # V3: a result that was waited for may be there
        self._has_declined = False
        self._await_seal()
        self._post(self._pursue_certified)
        self._stirred = True

    def _on_work(self, event: WorkChanged) -> None:
        self._activity.pending = event.pending
        self._has_declined = self._has_declined and not event.pending
        self._stirred = True

    def _on_connected(self, event: PeerConnected) -> None:
        """RS1: a new channel starts with where this node stands and with its undecided votes."""
        self._peers.connect(event.peer, self._now)
        self._send(event.peer, self._status(b""))
        if self._quarantine is not None:
            self._send(event.peer, StatusRequest(self._quarantine.nonce))
        for message in self._own_messages():
            self._send(event.peer, message)
        self._stirred = True

    def _on_disconnected(self, event: PeerDisconnected) -> None:
        self._peers.disconnect(event.peer)
        lead = Timer(TimerKind.LEAD, self._view)
        if lead in self._outbox.timers and self._is_inactive(self._leader(self._view)):
            self._outbox.set_timer(lead, self._now)

    # --- proposing (PR1, PR2) ---------------------------------------------------------------------

    def _propose(self) -> None:
        """PR1: choose the parent and ask the application for a block on it."""
        view = self._view
        if self._building is not None or self._has_declined or view in self._proposals:
            return
        if self._guard.votes(view) or not self._guard.may_vote(view):
            return
        parent_view, certificate, missing = self._best_parent(view)
        if missing:
            self._catchup.request_certificates(missing, None)
            return
        self._catchup.settled()
        parent_hash = self._tree.final_hash
        if certificate is not None and parent_view != self._tree.final_view:
            parent_hash = certificate.value.block_hash
        if self._judge.pursue(parent_hash, certificate) is not Verdict.VALID:
            return
        seen_ms = self._tree.seen_ms(parent_hash)
        earliest = 0 if seen_ms is None else seen_ms + self._timing.min_block_interval_ms
        if self._now < earliest:
            timer = Timer(TimerKind.PROPOSE, view)
            if timer not in self._outbox.timers:
                self._outbox.set_timer(timer, earliest)
            return
        parent = self._tree.header(parent_hash)
        assert parent is not None  # pursue found it VALID
        self._building = (parent_view, parent, certificate)
        self._outbox.emit(
            RequestProposal(
                view, parent, certificate, self._leader(view), self._needs_even_empty_block()
            )
        )

    def _best_parent(self, view: View) -> tuple[View, Certificate | None, list[View]]:
        """Return view and certificate of the block to build on, or the views that keep it open."""
        missing: list[View] = []
        lowest = self._tree.final_view
        for below in range(view - 1, lowest, -1):
            certificate = self._certificates.block_at(View(below))
            if certificate is not None:
                return View(below), certificate, missing[::-1]
            if self._certificates.get(View(below), VoteKind.NULLIFY) is None:
                missing.append(View(below))
        certificate = self._certificates.block_at(lowest)
        if certificate is None and self._tree.final_hash != self._rules.base_hash:
            missing.append(lowest)
        return lowest, certificate, missing[::-1]

    def _on_built(self, event: Built) -> None:
        """PR2: vote for the own block and send it."""
        building, self._building = self._building, None
        if building is None or event.view != self._view or self._halted is not None:
            return
        if event.header is None:
            self._has_declined = True
            return
        self._stirred = True
        parent_view, parent, certificate = building
        header = event.header
        try:
            check_header(header, parent, header.parent_hash, self._rules)
            check_parent_certificate(header, certificate, self._rules)
        except InvalidHeader as error:
            raise InvariantViolation(f"own block of view {event.view}: {error}") from error
        config = self._config
        value = Value(parent_view, block_hash(config.chain_id, header))
        vote = self._guard.cast(VoteKind.NOTARIZE, self._view, value)
        if vote is None:
            return
        proposal = Proposal(
            config.era,
            config.epoch,
            self._view,
            value,
            header,
            event.payload,
            certificate,
            self._skips(parent_view, self._view),
            self._certificates.finalization,
            vote,
        )
        block = KnownBlock(header, certificate, event.payload, None, self._now, parent_view)
        block.is_linked = block.is_durable = True
        block.verdict = Verdict.VALID
        self._tree.add(value.block_hash, block)
        self._proposals[self._view] = proposal
        self._outbox.persist(vote=vote, blocks=[value.block_hash], proposal=proposal)
        self._outbox.emit(Broadcast(proposal))
        self._post(self._count, vote, True)

    def _skips(self, parent_view: View, view: View) -> tuple[Certificate, ...]:
        """Return the newest nullifications since the parent; a receiver asks for older ones."""
        views = range(max(parent_view + 1, view - SKIPS_MAX), view)
        skips = (self._certificates.get(View(v), VoteKind.NULLIFY) for v in views)
        return tuple(skip for skip in skips if skip is not None)

    # --- voting (NO1, NO2, NU1) -------------------------------------------------------------------

    def _on_proposal(self, peer: PeerId, proposal: Proposal) -> None:
        """NO1: certificates first; they may move this node to the view of the proposal."""
        vote = proposal.leader_vote
        statement = (vote.kind, vote.era, vote.epoch, vote.view, vote.value)
        if (proposal.era, proposal.epoch) != (self._config.era, self._config.epoch):
            return
        if self._halted is not None:
            return
        if (
            statement
            != (VoteKind.NOTARIZE, proposal.era, proposal.epoch, proposal.view, proposal.value)
            or check_vote(vote, self._validators.size) is not None
            or vote.voter != self._leader(proposal.view)
        ):
            self._penalise(peer, "proposal without a vote of the leader of its view")
            return
        for certificate in (proposal.finalization, proposal.parent_certificate, *proposal.skips):
            if certificate is not None:
                self._post(self._on_certificate, certificate, peer)
        self._post(self._accept_proposal, proposal, peer)

    def _accept_proposal(self, proposal: Proposal, peer: PeerId) -> None:
        """NO1: keep the first proposal of a view that its leader signed."""
        view, vote = proposal.view, proposal.leader_vote
        if not self._horizon < view <= self._view + VIEWS_AHEAD_MAX:
            return
        held = self._proposals.get(view)
        if held is not None and held.leader_vote == vote:
            return
        header = proposal.header
        if block_hash(self._config.chain_id, header) != proposal.value.block_hash:
            self._penalise(peer, "proposal with another header than its leader signed")
            return
        if certificate_hash(proposal.parent_certificate) != header.parent_certificate_hash:
            self._penalise(peer, "proposal with another certificate than its header names")
            return
        if not self._verify_vote(vote):
            self._penalise(peer, "proposal with a bad signature")
            return
        if self._peers.index(peer) == vote.voter:
            self._peers.note_vote(peer, vote.kind, view)
        self._post(self._count, vote, True)
        self._stirred = True
        if held is not None or vote.voter == self._config.me:
            return
        self._proposals[view] = proposal
        self._sources[view] = peer
        self._tree.add(
            proposal.value.block_hash,
            KnownBlock(header, proposal.parent_certificate, proposal.payload, peer, self._now),
        )

    def _consider(self) -> None:
        """NO2: vote for the proposal of the view, or give the view up, as soon as that is clear."""
        view, guard = self._view, self._guard
        proposal = self._proposals.get(view)
        if proposal is None or guard.made(view, VoteKind.NOTARIZE):
            return
        if guard.made(view, VoteKind.NULLIFY):
            return
        tree, value = self._tree, proposal.value
        try:
            missing = missing_ancestry(
                view,
                value.parent_view,
                proposal.header.parent_hash,
                tree.final_view,
                tree.final_hash,
                self._certificates,
            )
        except InvalidHeader:
            self._nullify()
            return
        if missing:
            self._catchup.request_certificates(missing, self._sources.get(view))
            return
        self._catchup.settled()
        verdict = self._judge.pursue(value.block_hash, None, self._sources.get(view))
        block = tree.get(value.block_hash)
        if verdict is Verdict.INVALID:
            self._nullify()
        elif verdict is Verdict.VALID and block is not None:
            if self._judge.matches(block, view, value):
                self._cast(VoteKind.NOTARIZE, value)
            else:
                self._nullify()

    def _cast(self, kind: VoteKind, value: Value, certificate: Certificate | None = None) -> None:
        """Vote once: sign, persist with what the vote rests on, send, count."""
        view = self._view if certificate is None else certificate.view
        if self._guard.made(view, kind) is not None:
            return
        vote = self._guard.cast(kind, view, value)
        if vote is None:
            return
        blocks = [] if kind is VoteKind.NULLIFY else self._not_durable(value.block_hash)
        self._outbox.persist(vote=vote, blocks=blocks, certificate=certificate)
        self._outbox.emit(Broadcast(vote))
        self._post(self._count, vote, True)

    def _nullify(self) -> None:
        self._cast(VoteKind.NULLIFY, NULL_VALUE)

    def _give_up(self) -> None:
        """NU1: nullify after waiting in vain; wait longer next time unless nobody was there."""
        if not self._is_inactive(self._leader(self._view)):
            self._backoff.grow()
        self._nullify()

    def _not_durable(self, block_hash: Digest) -> list[Digest]:
        """Return the blocks up to this VALID one whose bodies are not on disk; they will be now."""
        found = []
        for each in self._tree.path(block_hash):
            block = self._tree.get(each)
            if block is not None and not block.is_durable:
                block.is_durable = True
                found.append(each)
        return found

    def _on_vote(self, peer: PeerId, vote: Vote) -> None:
        if (vote.era, vote.epoch) != (self._config.era, self._config.epoch):
            return
        problem = check_vote(vote, self._validators.size)
        if problem is not None:
            self._penalise(peer, problem)
            return
        if self._halted is not None:
            return
        is_own_word = self._peers.index(peer) == vote.voter
        if is_own_word:
            self._peers.note_vote(peer, vote.kind, vote.view)
        if vote.view <= self._horizon:
            if vote.view < self._horizon or vote.kind is VoteKind.FINALIZE:  # AN1
                self._answer(peer, "vote", vote.view, self._catchup.finalization())
            return
        if vote.view > self._view + VIEWS_AHEAD_MAX:  # the peer will send what is missing here
            self._answer(peer, "behind", self._view, self._status(b""))
            return
        if vote.voter == self._config.me:
            self._on_own_vote(vote)
            return
        if not is_own_word and not self._verify_vote(vote):
            self._penalise(peer, "vote with a bad signature")
            return
        if vote.kind is VoteKind.NULLIFY and vote.view < self._view:  # AN1
            self._answer(peer, "vote", vote.view, self._catchup.page(vote.view, vote.view))
        self._count(vote, not is_own_word)
        if vote.view != self._view:
            return
        self._stirred = True
        if vote.kind is VoteKind.NULLIFY and vote.voter == self._leader(vote.view):  # NU1
            self._nullify()
        if vote.kind is VoteKind.NOTARIZE and vote.view not in self._proposals:
            self._pull_proposal(peer)

    def _on_own_vote(self, vote: Vote) -> None:
        """HA1: an own vote that this node did not make comes from a second process with the key."""
        if self._guard.made(vote.view, vote.kind) == vote or self._quarantine is not None:
            return
        above = Round(vote.era, vote.epoch, vote.view) > self._guard.floor
        if above and self._verify_vote(vote):
            self._halt("another process signs with the key of this validator", ())

    def _pull_proposal(self, peer: PeerId) -> None:
        """Ask a voter for a proposal that did not come, once per view and retry."""
        if self._pulled < self._view:
            self._pulled = self._view
            self._send(peer, GetProposal(self._config.epoch, self._view))

    def _count(self, vote: Vote, verified: bool) -> None:
        """CE1, EV1: count a well-formed vote; a quorum becomes a certificate, a conflict
        evidence."""
        held = self._certificates.get(vote.view, vote.kind)
        is_wanted = held is None or held.value != vote.value
        outcome = self._tally.count(vote, verified=verified, certify=is_wanted)
        if outcome.evidence is not None:
            self._outbox.emit(ReportEvidence(*outcome.evidence))
        for voter in outcome.forgers:
            node = PeerId(self._validators[voter].node_key)
            self._penalise(node, "vote with a bad signature on the own channel")
        if outcome.certificate is not None:
            self._post(self._on_certificate, outcome.certificate, None)

    # --- certificates (EN1, CE2, CE3) -------------------------------------------------------------

    def _on_certificates(self, peer: PeerId, message: CertificateMessage) -> None:
        for certificate in message.certificates:
            self._post(self._on_certificate, certificate, peer)

    def _on_certificate(self, certificate: Certificate, source: PeerId | None) -> None:
        """Take over a certificate that a peer sent, or that was formed here (no source)."""
        c = certificate
        if self._halted is not None or (c.era, c.epoch) != (self._config.era, self._config.epoch):
            return
        held = self._certificates.get(c.view, c.kind)
        if held is not None and held.value == c.value:
            if source is not None:
                self._peers.note_certificate(source, held)
            if c.kind is VoteKind.FINALIZE:  # the end of a chain segment whose blocks came before
                self._post(self._try_commit, held)
            return
        is_old = c.view <= self._tree.final_view
        if is_old and not self._tree.is_final(c) and not self._tree.contradicts_final(c):
            return
        if source is not None:
            try:
                self._judge.verify(c)
            except InvalidCertificate as error:
                self._penalise(source, str(error))
                return
            self._peers.note_certificate(source, c)
        clashing = self._certificates.clashes(c)
        if clashing or self._tree.contradicts_final(c):  # HA1
            self._halt("contradicting certificates", (*clashing, c))
            return
        self._certificates.add(c)
        self._outbox.store(c)
        self._enforce(c)
        self._enter(View(c.view + 1))
        self._stirred = True
        if source is None:  # RE1
            self._to_relay.setdefault(c.view, []).append(c)
            relay = Timer(TimerKind.RELAY, c.view)
            if relay not in self._outbox.timers:
                self._outbox.set_timer(relay, self._now + self._timing.relay_ms)

    def _enforce(self, certificate: Certificate) -> None:
        """Do what a certificate above the finalised block asks for."""
        if certificate.view <= self._tree.final_view:
            return
        if certificate.kind is VoteKind.FINALIZE:
            self._post(self._try_commit, certificate)
        elif certificate.kind is VoteKind.NOTARIZE:
            if self._activity.unfinalized_ms is None:
                self._activity.unfinalized_ms = self._now
            self._post(self._try_finalize, certificate)
        else:
            proposal = self._proposals.get(certificate.view)
            if proposal is not None and proposal.header.transaction_count:
                self._activity.abandoned = max(self._activity.abandoned, certificate.view)

    def _try_finalize(self, notarization: Certificate) -> None:
        """CE2: vote to finalise a notarized block whose path is VALID."""
        if notarization.view <= self._horizon or self._halted is not None:
            return
        value = notarization.value
        verdict = self._judge.pursue(value.block_hash, notarization)
        block = self._tree.get(value.block_hash)
        if verdict is Verdict.INVALID or (
            verdict is Verdict.VALID
            and (block is None or not self._judge.matches(block, notarization.view, value))
        ):
            self._halt("a quorum notarized a block that is invalid here", (notarization,))
        elif verdict is Verdict.VALID:
            self._cast(VoteKind.FINALIZE, value, notarization)

    def _try_commit(self, finalization: Certificate) -> None:
        """CE3: finalise a block and its path once all of it is VALID."""
        tree = self._tree
        if finalization.view <= tree.final_view or self._halted is not None:
            return
        target = finalization.value.block_hash
        if self._judge.pursue(target, finalization) is Verdict.INVALID:
            self._halt("a quorum finalised a block that is invalid here", (finalization,))
            return
        # What is VALID below a finalised block is final too, and its execution may be what the
        # rest of the path waits for (V3).
        end = tree.sound_ancestor(target)
        if end is None:
            return
        self._segment = finalization
        path = tree.path(end)
        if not path:
            return
        view = finalization.view if end == target else None
        headers = tree.finalize(path, view)
        self._outbox.emit(Finalize(tuple(path), finalization))
        for _ in headers:
            self._backoff.decay()
        self._activity.finalized(headers)
        self._await_seal()
        later = self._certificates.notarizations_above(tree.final_view)
        self._activity.unfinalized_ms = self._now if later else None
        self._guard.forget(tree.final_view)
        self._catchup.finalized()
        self._prune()
        self._post(self._pursue_certified)
        self._stirred = True

    def _pursue_certified(self) -> None:
        """Go on with every certificate that still waits for its block."""
        if self._halted is not None:
            return
        for certificate in self._certified_above():
            self._enforce(certificate)

    def _certified_above(self) -> list[Certificate]:
        """Return the certificates that lead on from the finalised block."""
        finalizations = (self._segment, self._certificates.finalization)
        return [
            *(c for c in finalizations if c is not None and c.view > self._tree.final_view),
            *self._certificates.notarizations_above(self._horizon),
        ]

    def _on_verified(self, event: Verified) -> None:
        block = self._tree.get(event.block_hash)
        if block is None or block.verdict in (Verdict.VALID, Verdict.INVALID):
            return
        block.is_asked = False
        block.verdict = event.verdict
        self._stirred = True
        if event.verdict is Verdict.NOT_YET:
            return
        for certificate in self._certificates.of_block(event.block_hash):
            self._enforce(certificate)
        self._post(self._pursue_certified)

    def _on_block(self, event: BlockReceived) -> None:
        """Take over a whole block that was asked for."""
        block_id = block_hash(self._config.chain_id, event.header)
        known = self._tree.get(block_id)
        if known is not None:
            if known.payload is not None and known.verdict is not Verdict.VALID:
                known.payload = None
                known.parent_certificate = event.parent_certificate
                known.is_asked = False
                known.verdict = None
        elif block_id in self._catchup.wanted or self._tree.accepts(event.header):
            self._tree.add(
                block_id,
                KnownBlock(event.header, event.parent_certificate, None, None, self._now),
            )
        else:
            return
        self._catchup.wanted.pop(block_id, None)
        self._post(self._pursue_certified)
        self._stirred = True

    def _enter(self, view: View) -> None:
        """EN1: move to a later view."""
        if view <= self._view:
            return
        for kind in (TimerKind.LEAD, TimerKind.VIEW, TimerKind.PROPOSE):
            self._outbox.cancel_timer(Timer(kind, self._view))
        self._view = view
        self._active = False
        self._building = None
        self._has_declined = False
        self._prune()
        if self._timing.idle_ms is not None and self._config.me is not None:
            self._outbox.set_timer(BEAT, self._now + self._timing.idle_ms)
        self._stirred = True

    def _prune(self) -> None:
        """Forget what can no longer matter; every bound of memory is here."""
        final_view = self._tree.final_view
        self._tally.forget(View(max(final_view, self._view - VOTE_VIEWS_KEPT)))
        lowest = max(final_view, self._view - VIEWS_AHEAD_MAX)
        for view in [v for v in self._proposals if v <= lowest]:
            block_id = self._proposals.pop(view).value.block_hash
            self._sources.pop(view, None)
            if not self._certificates.of_block(block_id):
                self._tree.drop(block_id)
        self._certificates.prune()

    # --- idle policy and timers (EN2) -------------------------------------------------------------

    def _kick(self) -> None:
        """EN2: begin or stop to press for progress in this view."""
        view = self._view
        is_needed = self._activity.has_transactions(self._tree.final_view) or (
            self._needs_even_empty_block()
        )
        if is_needed != self._active:
            self._active = is_needed
            if is_needed:
                self._press()
            else:
                for kind in (TimerKind.LEAD, TimerKind.VIEW, TimerKind.PROPOSE):
                    self._outbox.cancel_timer(Timer(kind, view))
        if is_needed and self._leader(view) == self._config.me:
            self._propose()

    def _press(self) -> None:
        """Set the timers of an active view."""
        if not self._guard.may_vote(self._view):
            return
        leader = self._leader(self._view)
        lead_ms = 0 if self._is_inactive(leader) else self._backoff.scaled(self._timing.lead_ms)
        if self._view not in self._proposals:
            self._outbox.set_timer(Timer(TimerKind.LEAD, self._view), self._now + lead_ms)
        view_ms = self._backoff.scaled(self._timing.view_ms)
        self._outbox.set_timer(Timer(TimerKind.VIEW, self._view), self._now + view_ms)

    def _needs_even_empty_block(self) -> bool:
        """Tell whether this view needs a block whether or not transactions wait (b to g)."""
        view = self._view
        return (
            view in self._proposals
            or self._activity.needs_block(
                view, self._tree.final_view, self._now, self._timing.unfinalized_ms
            )
            or self._tally.mask(view, VoteKind.NOTARIZE) != 0
            or self._validators.is_blocking(self._tally.mask(view, VoteKind.NULLIFY))
        )

    def _await_seal(self) -> None:
        """Wait for the block that publishes the last state root, anew after every block."""
        if not self._activity.needs_seal:
            self._outbox.cancel_timer(SEAL)
        elif self._activity.is_sealable(self._executed) and self._config.me is not None:
            self._outbox.set_timer(SEAL, self._now + self._timing.seal_ms)

    def _is_outstanding(self) -> bool:
        """Tell whether this node waits for something that a repetition may bring."""
        return self._halted is None and (
            self._active
            or self._must_repeat
            or self._quarantine is not None
            or self._activity.unfinalized_ms is not None
            or self._horizon > self._tree.final_view
            or self._catchup.is_waiting
        )

    def _keep_retrying(self) -> None:
        """RE2: RETRY runs exactly while something is outstanding."""
        if not self._is_outstanding():
            self._outbox.cancel_timer(RETRY)
        elif RETRY not in self._outbox.timers:
            who = -1 if self._config.me is None else self._config.me
            period_ms = jittered(self._timing.retry_ms, who, self._attempt)
            self._outbox.set_timer(RETRY, self._now + period_ms)

    def _on_retry(self) -> None:
        """RE2: ask again for what is missing and, if nothing became final lately, repeat own
        words."""
        self._attempt += 1
        self._must_repeat = False
        self._has_declined = False
        self._pulled = CHAIN
        self._catchup.forget_requests()
        for certificate in self._certified_above():
            self._judge.fetch_whole(certificate)
        self._tree.forget_not_yet()
        self._post(self._pursue_certified)
        if self._quarantine is not None:
            self._outbox.emit(Broadcast(StatusRequest(self._quarantine.nonce)))
        if self._final_at_retry == self._tree.final_view:
            self._outbox.emit(Broadcast(self._status(b"")))
            for message in self._own_messages():
                self._outbox.emit(Broadcast(message))
            self._pull_from_voters()
        self._final_at_retry = self._tree.final_view

    def _pull_from_voters(self) -> None:
        if self._view not in self._proposals:
            voters = self._tally.mask(self._view, VoteKind.NOTARIZE)
            if voters:
                peers = self._peers.of_members(voters)
                if peers:
                    self._pull_proposal(peers[self._attempt % len(peers)])

    def _own_messages(self) -> list[Proposal | Vote]:
        """Return own votes that are not decided yet, the own proposal in place of its vote."""
        later = [view for view in self._guard.views if view > self._horizon]
        finalize = [
            vote
            for view in later
            if (vote := self._guard.made(view, VoteKind.FINALIZE)) is not None
        ]
        messages: list[Proposal | Vote] = [*finalize[-FINALIZE_REPEATS_MAX:]]
        own = self._proposals.get(self._view)
        if own is not None and own.leader_vote.voter == self._config.me:
            messages.append(own)
        else:
            own = None
        for vote in self._guard.votes(self._view):
            if vote.kind is not VoteKind.FINALIZE and (own is None or vote != own.leader_vote):
                messages.append(vote)
        return messages

    def _relay(self, view: View) -> None:
        """RE1: certificates formed here go to peers that have not shown that they know them.

        While the chain moves, the next proposal brings the finalization to everyone.
        """
        relayed = self._to_relay.pop(view, [])
        for peer in self._peers.all:
            lacking = tuple(
                c
                for c in relayed
                if not (c.kind is VoteKind.FINALIZE and self._active)
                and not self._peers.knows(peer, c)
            )
            if lacking:
                self._send(peer, CertificateMessage(lacking))

    # --- answers (AN1) and quarantine (RS2) -------------------------------------------------------

    def _status(self, nonce: bytes) -> Status:
        return self._catchup.status(nonce, self._view, self._executed)

    def _on_status(self, peer: PeerId, status: Status) -> None:
        if (status.era, status.epoch) != (self._config.era, self._config.epoch):
            return
        for certificate in (status.finalization, status.notarization, status.previous_view):
            if certificate is not None:
                self._post(self._on_certificate, certificate, peer)
        self._post(self._weigh_status, peer, status)

    def _weigh_status(self, peer: PeerId, status: Status) -> None:
        self._answer(peer, "status", status.view, self._catchup.help_for(status, self._view))
        index = self._peers.index(peer)
        if self._quarantine is None or index in (None, self._config.me):
            return
        if status.nonce != self._quarantine.nonce or not self._is_view_proven(status):
            return
        assert index is not None
        floor = self._quarantine.report(index, status.view)
        if floor is None:
            return
        self._quarantine = None
        self._guard.silent = False
        self._guard.raise_floor(Round(self._config.era, self._config.epoch, floor))
        self._outbox.persist(floor=self._guard.floor)
        self._stirred = True

    def _is_view_proven(self, status: Status) -> bool:
        before = status.previous_view
        if before is None or before.view != status.view - 1:
            return status.view == 1
        try:
            self._judge.verify(before)
        except InvalidCertificate:
            return False
        return True

    def _on_status_request(self, peer: PeerId, request: StatusRequest) -> None:
        self._answer(peer, "nonce", self._view, self._status(request.nonce))

    def _on_get_certificates(self, peer: PeerId, request: GetCertificates) -> None:
        if request.epoch == self._config.epoch and 0 <= request.first <= request.last:
            message = self._catchup.page(request.first, request.last)
            self._answer(peer, "page", request.first, message)

    def _on_get_proposal(self, peer: PeerId, request: GetProposal) -> None:
        """AN1: repeat a proposal this node voted for, with certificates that it has checked itself."""
        proposal = self._proposals.get(request.view)
        vote = self._guard.made(request.view, VoteKind.NOTARIZE)
        if request.epoch != self._config.epoch or proposal is None or vote is None:
            return
        checked = msgspec.structs.replace(
            proposal,
            skips=self._skips(proposal.value.parent_view, proposal.view),
            finalization=self._certificates.finalization,
        )
        self._answer(peer, "proposal", request.view, checked)

    def _answer(
        self,
        peer: PeerId,
        what: str,
        view: View,
        message: CertificateMessage | Status | Proposal | None,
    ) -> None:
        """Send an answer if there is one and the peer has not had it lately."""
        window_ms = self._timing.retry_ms // 4
        if message is not None and self._peers.may_answer(peer, what, view, self._now, window_ms):
            self._send(peer, message)

    # --- restart (RS1), halt (HA1), helpers -------------------------------------------------------

    def _restore(self, restored: Restored) -> None:
        """RS1, RS2: go on where this node stopped; the network is read only after this."""
        config, guard = self._config, self._guard
        here = (config.era, config.epoch)
        for certificate in (*restored.certificates, restored.finalization):
            if certificate is not None and (certificate.era, certificate.epoch) == here:
                if not self._certificates.clashes(certificate):
                    self._certificates.add(certificate)
        for header in restored.blocks:
            block = KnownBlock(header, None, None, None, self._now)
            block.is_linked = block.is_durable = True
            if header.height > self._tree.final.height:
                self._tree.add(block_hash(config.chain_id, header), block)
        guard.forget(self._tree.final_view)
        for proposal in restored.proposals:
            if (proposal.era, proposal.epoch) == here and proposal.view > self._tree.final_view:
                self._proposals[proposal.view] = proposal
        if restored.quarantined and config.me is not None:
            self._quarantine = Quarantine(self._validators, restored.nonce)
            guard.silent = True
        voted = guard.views
        certified = self._certificates.highest_view
        self._enter(View(max(1, certified + 1, self._tree.final_view + 1, *voted[-1:])))
        for view in voted:
            for vote in guard.votes(view):
                self._post(self._count, vote, True)
        for message in self._own_messages():
            self._outbox.emit(Broadcast(message))
        self._must_repeat = bool(voted) or self._quarantine is not None
        if self._certificates.notarizations_above(self._horizon):
            self._activity.unfinalized_ms = self._now
        self._await_seal()
        self._post(self._pursue_certified)

    def _halt(self, reason: str, certificates: tuple[Certificate, ...]) -> None:
        """HA1: stop voting for good, keep serving."""
        if self._halted is not None:
            return
        self._halted = reason
        self._guard.silent = True
        for timer in list(self._outbox.timers):
            self._outbox.cancel_timer(timer)
        self._outbox.emit(Halt(reason, certificates))

    @property
    def _horizon(self) -> View:
        """Highest view known to be decided: finalised here, or certified while blocks are
        missing."""
        return max(self._tree.final_view, self._certificates.finalized_view)

    def _leader(self, view: View) -> int:
        return self._rules.order[view % len(self._rules.order)]

    def _is_inactive(self, index: int) -> bool:
        return self._peers.is_inactive(index, self._now, self._timing.inactive_ms)

    def _verify_vote(self, vote: Vote) -> bool:
        config = self._config
        return verify_vote(vote, config.chain_id, config.validators, config.verify)

    def _send(self, peer: PeerId, message: ConsensusMessage) -> None:
        self._outbox.emit(Send(peer, message))

    def _penalise(self, peer: PeerId, reason: str) -> None:
        self._outbox.emit(Penalise(peer, reason))
