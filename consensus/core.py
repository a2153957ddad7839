"""What the parts of the engine share: where this node stands, and the acts that all need.

The parts never call each other. They post the internal events below to one queue, which the engine
empties before a step returns; so no handler runs inside another.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from msgspec import Struct

from consensus.activity import Activity
from consensus.blocks import BlockTree
from consensus.catchup import CatchUp
from consensus.certificates import CertificateStore
from consensus.config import EngineConfig, Restored
from consensus.effects import Broadcast, Halt, Penalise, Send
from consensus.guard import Guard
from consensus.inputs import EpochInput, PeerId, Timer, TimerKind
from consensus.judge import Judge
from consensus.leader import leader, leader_order
from consensus.outbox import Outbox
from consensus.peers import PeerBook
from consensus.quarantine import Quarantine
from consensus.tally import Tally
from consensus.timing import Backoff
from consensus.types import SKIPS_MAX, Certificate, ConsensusMessage, GetProposal, Proposal, Status
from consensus.validity import EpochRules
from ledger.block import block_hash
from ledger.types import Digest, View
from ledger.votes import NULL_VALUE, Value, Vote, VoteKind, verify_vote

VIEWS_AHEAD_MAX: Final = 16
"""Votes and proposals are kept this far above the present view (W), proposals also below."""

VOTE_VIEWS_KEPT: Final = 256
"""Votes are kept this far below the present view while nothing is finalised: bounds a halt."""

BLOCKS_MAX: Final = 1024
"""Unfinalised blocks remembered; a longer stretch of the chain is fetched again in segments."""

CHAIN: Final = View(0)
"""Stands for the view in the names of timers that are not of one view."""

RETRY: Final = Timer(TimerKind.RETRY, CHAIN)
SEAL: Final = Timer(TimerKind.SEAL, CHAIN)
BEAT: Final = Timer(TimerKind.BEAT, CHAIN)

VIEW_TIMERS: Final = (TimerKind.LEAD, TimerKind.VIEW, TimerKind.PROPOSE)
"""Timers that end with their view."""


class CountVote(Struct, frozen=True):
    """A well-formed vote is to be counted."""

    vote: Vote
    verified: bool


class TakeCertificate(Struct, frozen=True):
    """A certificate has come from a peer, or was formed here (no source)."""

    certificate: Certificate
    source: PeerId | None


class AcceptProposal(Struct, frozen=True):
    """A proposal whose certificates have been taken over is to be looked at."""

    proposal: Proposal
    peer: PeerId


class WeighStatus(Struct, frozen=True):
    """A status whose certificates have been taken over is to be answered."""

    peer: PeerId
    status: Status


class Enforce(Struct, frozen=True):
    """What a certificate asks for is to be done as far as it can be."""

    certificate: Certificate


class PursueCertified(Struct, frozen=True):
    """Certified blocks that are not judged yet may have become judgeable."""

    again: bool = False
    """Also repeat the requests that were made for them."""


Internal = CountVote | TakeCertificate | AcceptProposal | WeighStatus | Enforce | PursueCertified
Event = EpochInput | Internal


class Core:
    """State of one engine, shared by its parts."""

    def __init__(self, config: EngineConfig, restored: Restored) -> None:
        base_hash = block_hash(config.chain_id, config.base)
        head_hash = block_hash(config.chain_id, restored.finalized)
        head_view = CHAIN if head_hash == base_hash else restored.finalized.view
        here = (config.chain_id, config.era, config.epoch)
        order = leader_order(*here, config.validators)
        self.config: Final = config
        self.timing: Final = config.timing
        self.validators: Final = config.validators
        self.rules: Final = EpochRules(
            config.era, config.epoch, config.validators, order, base_hash
        )
        self.outbox: Final = Outbox()
        self.tree: Final = BlockTree(restored.finalized, head_hash, head_view, base_hash)
        self.certificates: Final = CertificateStore()
        self.peers: Final = PeerBook(config.validators, config.me)
        self.tally: Final = Tally(config.validators, self.verify_vote)
        self.guard: Final = Guard(
            *here, config.me, config.sign, restored.sign_floor, restored.votes
        )
        self.catchup: Final = CatchUp(
            config.era, config.epoch, self.certificates, self.tree, self.peers, self.outbox
        )
        self.judge: Final = Judge(
            config,
            self.rules,
            self.tree,
            self.certificates,
            self.tally,
            self.catchup,
            self.outbox,
        )
        self.activity: Final = Activity(restored.finalized)
        self.backoff: Final = Backoff()
        self.queue: Final[deque[Event]] = deque()
        """Events to be handled before the step returns."""
        self.is_stirred = False
        """Something changed that may let this node vote, propose or rest."""
        self.now_ms = 0
        """Monotonic time of the running step."""
        self.view = CHAIN
        """Present view."""
        self.is_active = False
        """Something has to happen in it (EN2)."""
        self.executed = restored.finalized.height
        """Highest height executed and stored."""
        self.proposals: Final[dict[View, Proposal]] = {}
        """First proposal of each view around the present one."""
        self.sources: Final[dict[View, PeerId]] = {}
        """Who sent it; nobody for own ones."""
        self.declined_view = CHAIN
        """View for which the application had no block, until something changes."""
        self.halted: str | None = None
        """Why this node stopped voting for good."""
        self.quarantine: Quarantine | None = None
        """RS2: this node may have forgotten own votes and does not vote."""
        self._pulled_view = CHAIN

    # --- facts ------------------------------------------------------------------------------------

    @property
    def horizon(self) -> View:
        """Highest view known to be decided: finalised, or certified while blocks are missing."""
        final, certified = self.tree.final_view, self.certificates.finalized_view
        return certified if certified > final else final

    def is_here(self, era: int, epoch: int) -> bool:
        """Tell whether a message is of the epoch of this engine."""
        return era == self.config.era and epoch == self.config.epoch

    def leader(self, view: View) -> int:
        """Return the validator that may propose in a view."""
        return leader(self.rules.order, view)

    def is_inactive(self, index: int) -> bool:
        """Tell whether this validator cannot be heard although a quorum can."""
        return self.peers.is_inactive(index, self.now_ms, self.timing.inactive_ms)

    def verify_vote(self, vote: Vote) -> bool:
        """Tell whether a well-formed vote of this epoch carries its voter's signature."""
        config = self.config
        return verify_vote(vote, config.chain_id, config.validators, config.verify)

    def status(self, nonce: bytes) -> Status:
        """Return where this node stands, with proofs, as a message."""
        return self.catchup.status(nonce, self.view, self.executed)

    def skips(self, parent_view: View, view: View) -> tuple[Certificate, ...]:
        """Return the newest nullifications between a parent and a view, as many as are inline."""
        views = range(max(parent_view + 1, view - SKIPS_MAX), view)
        skips = (self.certificates.get(View(v), VoteKind.NULLIFY) for v in views)
        return tuple(skip for skip in skips if skip is not None)

    def own_messages(self, finalize_votes_max: int) -> list[Proposal | Vote]:
        """Return own votes that are not decided yet, the own proposal in place of its vote."""
        later = (view for view in self.guard.views if view > self.horizon)
        made = (self.guard.made(view, VoteKind.FINALIZE) for view in later)
        finalize = [vote for vote in made if vote is not None]
        messages: list[Proposal | Vote] = [*finalize[-finalize_votes_max:]]
        present = [v for v in self.guard.votes(self.view) if v.kind is not VoteKind.FINALIZE]
        own = self.proposals.get(self.view)
        if own is not None and own.leader_vote in present:
            present.remove(own.leader_vote)
            messages.append(own)
        return [*messages, *present]

    # --- acts -------------------------------------------------------------------------------------

    def post(self, event: Internal) -> None:
        """Have an event handled before the step returns."""
        self.queue.append(event)

    def send(self, peer: PeerId, message: ConsensusMessage) -> None:
        """Send to one peer."""
        self.outbox.emit(Send(peer, message))

    def broadcast(self, message: ConsensusMessage) -> None:
        """Send to every peer."""
        self.outbox.emit(Broadcast(message))

    def penalise(self, peer: PeerId, reason: str) -> None:
        """Report that a peer sent what no correct node sends."""
        self.outbox.emit(Penalise(peer, reason))

    def answer(self, peer: PeerId, what: str, view: View, message: ConsensusMessage | None) -> None:
        """AN1: send an answer, if there is one and the peer has not had it lately."""
        window_ms = self.timing.retry_ms // 4
        if message is not None and self.peers.may_answer(peer, what, view, self.now_ms, window_ms):
            self.send(peer, message)

    def pull_proposal(self, peer: PeerId) -> None:
        """Ask a voter for a proposal that did not come, once per view and retry."""
        if self._pulled_view < self.view:
            self._pulled_view = self.view
            self.send(peer, GetProposal(self.config.epoch, self.view))

    def allow_repeats(self) -> None:
        """Let what was asked for once be asked for again."""
        self._pulled_view = CHAIN
        self.declined_view = CHAIN

    def cast(self, kind: VoteKind, value: Value, certificate: Certificate | None = None) -> None:
        """Vote once, in the present view or that of ``certificate``: sign, persist, send, count."""
        view = self.view if certificate is None else certificate.view
        if self.guard.made(view, kind) is not None:
            return
        vote = self.guard.cast(kind, view, value)
        if vote is None:
            return
        blocks = [] if kind is VoteKind.NULLIFY else self.not_durable(value.block_hash)
        self.outbox.persist(vote=vote, blocks=blocks, certificate=certificate)
        self.broadcast(vote)
        self.post(CountVote(vote, True))

    def nullify(self) -> None:
        """Give the present view up, unless this node has voted to finalise it."""
        self.cast(VoteKind.NULLIFY, NULL_VALUE)

    def enter(self, view: View) -> None:
        """EN1: move to a later view."""
        if view <= self.view:
            return
        for kind in VIEW_TIMERS:
            self.outbox.cancel_timer(Timer(kind, self.view))
        self.view = view
        self.is_active = False
        self.prune()
        if self.timing.idle_ms is not None and self.config.me is not None:
            self.outbox.set_timer(BEAT, self.now_ms + self.timing.idle_ms)
        self.is_stirred = True

    def prune(self) -> None:
        """Forget what can no longer matter: bounds the memory of votes, proposals and blocks."""
        final_view = self.tree.final_view
        self.tally.forget(View(max(final_view, self.view - VOTE_VIEWS_KEPT)))
        lowest = max(final_view, self.view - VIEWS_AHEAD_MAX)
        for view in [v for v in self.proposals if v <= lowest]:
            block_id = self.proposals.pop(view).value.block_hash
            self.sources.pop(view, None)
            if not self.tree.is_sound(block_id) and not self.certificates.of_block(block_id):
                self.tree.drop(block_id)
        self.tree.shrink(BLOCKS_MAX)
        self.certificates.prune()

    def close(self) -> None:
        """EP4: the boundary block is final: vote no more in this epoch, go on serving."""
        self.guard.silent = True
        self.is_active = False
        self.activity.unfinalized_ms = None
        for timer in list(self.outbox.timers):
            if timer.kind is not TimerKind.RELAY:
                self.outbox.cancel_timer(timer)

    def halt(self, reason: str, certificates: tuple[Certificate, ...]) -> None:
        """HA1: stop voting for good, keep serving."""
        if self.halted is not None:
            return
        self.halted = reason
        self.guard.silent = True
        for timer in list(self.outbox.timers):
            self.outbox.cancel_timer(timer)
        self.outbox.emit(Halt(reason, certificates))

    def not_durable(self, block_hash: Digest) -> list[Digest]:
        """Return the blocks up to this VALID one whose bodies are not on disk; they will be now."""
        found = []
        for each in self.tree.path(block_hash):
            block = self.tree.get(each)
            if block is not None and not block.is_durable:
                block.is_durable = True
                found.append(each)
        return found
