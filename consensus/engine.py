"""The consensus engine: Simplex with a two-chamber quorum, as a function of inputs and time.

The engine of one validator or observer for one epoch. It does no I/O and reads no clock; a driver
feeds it inputs (:mod:`consensus.inputs`) and carries out its effects (:mod:`consensus.effects`) in
order. What has to be on disk comes first among the effects of a step, and must be synced before
anything of the step is sent.

The procedure. *v* is the present view; views begin at 1; *fin* is the highest finalised block.

* EN1  On any certificate of a view w >= v: enter view w + 1. Views change in no other way.
* EN2  When something has to happen in v (transactions or a change of the set wait, or a reason of
       :mod:`consensus.activity`, or a proposal or a NOTARIZE of v has come, or NULLIFY of v from a
       third of the validators), v is *active*: set LEAD and VIEW. When nothing has to happen any
       more, cancel them. An inactive view has no timers but the beacon.
* PR1  The leader of an active view builds on the highest notarized block below v with
       nullifications for every view between, not earlier than the minimum interval after the
       parent was proposed. What it lacks for that it asks for. It builds nothing in a view in which
       it has voted.
* PR2  It casts NOTARIZE for its block, which signs the proposal, and broadcasts header, payload and
       the evidence: certificate of the parent, nullifications between, its highest finalization.
* NO1  On a proposal signed by the leader of its view: take over its certificates, keep the first.
* NO2  If the ancestry rules A1-A3 and the header rules V1-V5 hold (:mod:`consensus.validity`) and
       the application finds the block VALID: cast NOTARIZE. If a rule is broken or the block is
       INVALID: cast NULLIFY at once.
* NU1  If LEAD fires without a proposal, or VIEW fires, or the leader casts NULLIFY: cast NULLIFY.
* CE1  On a quorum of matching valid votes: form the certificate and treat it as received.
* CE2  On a notarization, even of an old view: get the block; once its whole path is VALID, cast
       FINALIZE.
* CE3  On a finalization: get the path to it; finalise what of it is VALID, from fin upwards.
* RE1  RELAY, shortly after a certificate was formed here: send it to peers that have not shown that
       they know it.
* RE2  RETRY, while anything is outstanding: repeat requests and, if nothing became final since the
       last time, status, own votes that are not decided, and the own proposal.
* AN1  Answer votes and status of peers that are behind with the certificates that they lack.
* RS1  After a restart: the view is the highest of own voted views, certified views + 1 and fin + 1;
       own votes count again and are sent again, byte for byte; stored certificates are enforced as
       if they had come now. A new channel starts with status and undecided own votes.
* RS2  A node that may have forgotten own votes casts none until its quarantine has ended.
* EP1  A block that names another validator set is a boundary block: the last of its epoch (V5).
* EP2  A leader whose parent by PR1 is the boundary block proposes that block again, unchanged and
       without payload: the value names the view of its certificate, which comes with the proposal.
* EP3  On such a proposal, A1-A3 hold for the block itself as the parent; then NO2 as always.
* EP4  When the boundary block is final the engine is closed: it votes and waits for nothing, and
       answers who is still in the epoch with the finalization. What follows is the business of
       :mod:`consensus.replica` (EP5-EP8).
* EV1  Two conflicting votes of one validator, alone or in certificates: report them, once a view.
* HA1  Contradicting certificates, a certificate for a block that is INVALID here, or an own vote
       that this node did not make: stop voting for good, go on serving.

Deviations from the paper (Chan & Pass 2023): proposals carry their ancestry evidence; one value per
view over NOTARIZE and FINALIZE; quorums need half of each chamber; a view is entered on a bare
certificate; certificates are relayed lazily; an idle chain stands still. The reasons are in
``docs/protocol-consensus.md``, Deviations.

Invariants: only :class:`consensus.guard.Guard` signs; nothing is sent that rests on an own vote
which no ``Persist`` in front of it contains; handlers post events and never call each other; memory
is bounded by named constants; effects depend on inputs and their times only.

The parts: :mod:`consensus.proposing` (PR, NO), :mod:`consensus.deciding` (CE, EV, NU),
:mod:`consensus.pacing` (EN2, NU, RE), :mod:`consensus.answering` (AN, RS2), over the state that
they share in :mod:`consensus.core`. Here they are wired together, started and stepped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from consensus.answering import Answering
from consensus.blocks import KnownBlock
from consensus.config import EngineConfig, Restored
from consensus.core import (
    AcceptProposal,
    Core,
    CountVote,
    Enforce,
    Event,
    PursueCertified,
    TakeCertificate,
    WeighStatus,
)
from consensus.deciding import Deciding
from consensus.effects import Effect
from consensus.inputs import (
    BlockReceived,
    Built,
    EpochInput,
    Executed,
    PeerAhead,
    PeerConnected,
    PeerDisconnected,
    PeerId,
    Received,
    TimerFired,
    Verified,
    WorkChanged,
)
from consensus.pacing import FINALIZE_REPEATS_MAX, Pacing
from consensus.proposing import Proposing
from consensus.status import EngineStatus
from consensus.types import (
    CertificateMessage,
    GetCertificates,
    GetProposal,
    Proposal,
    Status,
    StatusRequest,
)
from ledger.block import block_hash
from ledger.errors import InvariantViolation
from ledger.types import Digest, Height, View
from ledger.validators import members_of
from ledger.votes import Vote, VoteKind

__all__ = ["Engine", "EngineConfig", "EngineStatus", "Restored"]


class Engine:
    """State machine of one validator or observer for one epoch."""

    def __init__(self, config: EngineConfig, restored: Restored) -> None:
        self._restored: Restored | None = restored
        core = Core(config, restored)
        self._core: Final = core
        self._proposing: Final = Proposing(core)
        self._deciding: Final = Deciding(core)
        self._pacing: Final = Pacing(core, self._deciding.formed)
        self._answering: Final = Answering(core)
        # Any: each handler takes the type that it stands beside.
        self._on_event: Final[dict[type[Event], Callable[[Any], None]]] = {
            Received: self._on_received,
            TimerFired: lambda event: self._pacing.on_timer(event.timer),
            Built: self._proposing.on_built,
            Verified: self._deciding.on_verified,
            BlockReceived: self._deciding.on_block,
            Executed: self._on_executed,
            WorkChanged: self._pacing.on_work,
            PeerConnected: self._on_connected,
            PeerDisconnected: self._on_disconnected,
            PeerAhead: self._answering.on_ahead,
            CountVote: self._deciding.on_count,
            TakeCertificate: self._deciding.on_certificate,
            AcceptProposal: self._proposing.on_accept,
            WeighStatus: self._answering.on_weigh,
            Enforce: self._deciding.on_enforce,
            PursueCertified: self._deciding.on_pursue,
        }
        self._on_message: Final[dict[type[Any], Callable[[PeerId, Any], None]]] = {
            Vote: self._deciding.on_vote,
            Proposal: self._proposing.on_proposal,
            CertificateMessage: self._deciding.on_certificates,
            Status: self._answering.on_status,
            StatusRequest: self._answering.on_status_request,
            GetCertificates: self._answering.on_get_certificates,
            GetProposal: self._answering.on_get_proposal,
        }

    def start(self, now_ms: int) -> list[Effect]:
        """Return the effects of a start or restart; call once, before the first :meth:`step`."""
        restored, self._restored = self._restored, None
        if restored is None:
            raise InvariantViolation("one_start", "the engine was started a second time")
        self._core.now_ms = now_ms
        self._restore(restored)
        return self._finish_step()

    def step(self, now_ms: int, event: EpochInput) -> list[Effect]:
        """Handle one input at monotonic time ``now_ms`` and return the effects, in order."""
        self._core.now_ms = now_ms
        self._on_event[type(event)](event)
        return self._finish_step()

    @property
    def view(self) -> View:
        """Present view."""
        return self._core.view

    @property
    def tip(self) -> Digest:
        """Highest notarized block, or the finalised one: what the next block likely extends."""
        core = self._core
        highest = core.certificates.notarization
        if highest is None or highest.view <= core.tree.final_view:
            return core.tree.final_hash
        return highest.value.block_hash

    def needs(self, block_hash: Digest, height: Height) -> bool:
        """Tell whether the driver must keep a block: known here, or final and not executed."""
        core = self._core
        return core.tree.get(block_hash) is not None or height <= core.tree.final.height

    def status(self) -> EngineStatus:
        """Return a snapshot for operators."""
        core, config = self._core, self._core.config
        connected = core.peers.connected
        everyone = (1 << core.validators.size) - 1
        return EngineStatus(
            era=config.era,
            epoch=config.epoch,
            view=core.view,
            leader=core.leader(core.view),
            active=core.is_active,
            me=config.me,
            votes={kind: tuple(members_of(core.tally.mask(core.view, kind))) for kind in VoteKind},
            connected=tuple(members_of(connected)),
            missing=tuple(members_of(everyone & ~connected)),
            shortfall=core.validators.missing_for_quorum(connected),
            last_heard_ms=core.peers.heard_ms,
            timers=dict(core.outbox.timers),
            backoff=core.backoff.factor,
            finalized_height=core.tree.final.height,
            finalized_view=core.tree.final_view,
            finalized_hash=core.tree.final_hash,
            executed_height=core.executed,
            certified_view=core.horizon,
            work_pending=core.activity.pending,
            quarantined=core.quarantine is not None,
            halted=core.halted,
            closed=core.tree.is_closed,
        )

    def _finish_step(self) -> list[Effect]:
        """Handle what was posted until nothing is left, then see what the view needs."""
        core, queue, on_event = self._core, self._core.queue, self._on_event
        final_hash = core.tree.final_hash
        while queue or core.is_stirred:
            if queue:
                event = queue.popleft()
                on_event[type(event)](event)
                continue
            core.is_stirred = False
            if core.halted is None and not core.tree.is_closed:
                self._proposing.consider()
                self._pacing.kick()
                if core.is_active and core.leader(core.view) == core.config.me:
                    self._proposing.propose(empty_allowed=self._pacing.needs_block())
        if core.tree.final_hash != final_hash:
            self._pacing.await_seal()
        self._pacing.keep_retrying()
        return core.outbox.take()

    def _on_received(self, event: Received) -> None:
        self._core.peers.hear(event.peer, self._core.now_ms)
        self._on_message[type(event.message)](event.peer, event.message)

    def _on_executed(self, event: Executed) -> None:
        self._pacing.on_executed(event)
        self._pacing.await_seal()

    def _on_connected(self, event: PeerConnected) -> None:
        """RS1: a new channel starts with where this node stands and with its undecided votes."""
        core, peer = self._core, event.peer
        core.peers.connect(peer, core.now_ms)
        core.send(peer, core.status(b""))
        if core.quarantine is not None:
            core.send(peer, StatusRequest(core.quarantine.nonce))
        for message in core.own_messages(FINALIZE_REPEATS_MAX):
            core.send(peer, message)
        core.is_stirred = True

    def _on_disconnected(self, event: PeerDisconnected) -> None:
        self._core.peers.disconnect(event.peer)
        self._core.catchup.lose(event.peer)
        self._pacing.on_gone()

    def _restore(self, restored: Restored) -> None:
        """RS1, RS2: go on where this node stopped; the network is read only after this."""
        core, config = self._core, self._core.config
        for certificate in (*restored.certificates, restored.finalization):
            if certificate is not None and core.is_here(certificate.era, certificate.epoch):
                core.certificates.add(certificate)
        for header in restored.blocks:
            is_here = core.is_here(header.era, header.epoch)
            if is_here and header.height > core.tree.final.height:
                block = KnownBlock(header, None, None, None, core.now_ms)
                block.is_linked = block.is_durable = True
                core.tree.add(block_hash(config.chain_id, header), block)
        core.guard.forget(core.tree.final_view)
        for proposal in restored.proposals:
            is_open = proposal.view > core.tree.final_view
            if is_open and core.is_here(proposal.era, proposal.epoch):
                core.proposals[proposal.view] = proposal
        if restored.quarantined and config.me is not None:
            self._answering.quarantine(restored.nonce)
        voted = core.guard.views
        certified = core.certificates.highest_view
        core.enter(View(max(1, certified + 1, core.tree.final_view + 1, *voted[-1:])))
        for view in voted:
            for vote in core.guard.votes(view):
                core.post(CountVote(vote, True))
        for message in core.own_messages(FINALIZE_REPEATS_MAX):
            core.broadcast(message)
        self._pacing.must_repeat = bool(voted)
        self._pacing.await_seal()
        core.post(PursueCertified())
