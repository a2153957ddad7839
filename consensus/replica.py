"""One node's consensus over all epochs: an engine per epoch, and the way from one to the next.

An :class:`~consensus.engine.Engine` knows one validator set and nothing after it. A replica holds
the engine of the present epoch, gives it what concerns it, and replaces it when the driver says
that the boundary block is executed and durable. Rounds are compared by (era, epoch).

* EP5  On ``EpochOpened``: cancel the timers of the old engine, start one over the new set, tell it
       the connected peers, whether work waits and what was held back for it (EP7).
* EP6  A peer of an earlier epoch is a straggler: answer it with the finalization that closed that
       epoch, which its own set can check. Certificates are not answered: they may be such answers.
* EP7  A message of a later epoch proves nothing here, for its set is not known. If it is of the
       next epoch, hold it back, a bounded number per peer; tell the engine that the peer is ahead.
* EP8  A quarantine (RS2) does not end with its epoch: the engine of the next one starts in it.

A halted engine (HA1) is never replaced. Normative text: ``docs/protocol-consensus.md``, Epochs.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from consensus.config import EngineConfig, Restored
from consensus.effects import CancelTimer, Effect, Send
from consensus.engine import Engine
from consensus.inputs import (
    EpochInput,
    EpochOpened,
    Input,
    PeerAhead,
    PeerConnected,
    PeerDisconnected,
    PeerId,
    Received,
    WorkChanged,
)
from consensus.status import EngineStatus
from consensus.types import (
    Certificate,
    CertificateMessage,
    ConsensusMessage,
    GetCertificates,
    GetProposal,
    Proposal,
    Status,
)
from ledger.block import block_hash
from ledger.errors import InvariantViolation
from ledger.types import Digest, Epoch, Era, Height, View
from ledger.votes import Vote, VoteKind

CLOSINGS_KEPT: Final = 64
"""Closing finalizations kept for stragglers; who is further behind follows the chain by heights."""

HELD_BACK_MAX: Final = 32
"""Messages of the next epoch kept per peer, the newest: some views of votes, and statuses."""

HELD_BACK_CERTIFICATES_MAX: Final = 8
"""Certificates in a message that is kept: more than a relay or a helpful answer has. A page of them
answers a request, and nobody asks for those of the next epoch; 32 pages would be 17 MB per peer."""


class Place(NamedTuple):
    """An epoch; later ones compare greater."""

    era: Era
    epoch: Epoch


@dataclass(slots=True)
class _Channel:
    """A connected peer, as far as it concerns more than one epoch."""

    claim: Place
    """Latest epoch of which it has sent anything."""
    answered_ms: int | None = None
    """Monotonic time of the last answer to it as a straggler."""
    proposal: Proposal | None = None
    """Of the next epoch, the newest only: proposals are large."""
    others: deque[ConsensusMessage] = field(default_factory=lambda: deque(maxlen=HELD_BACK_MAX))
    """Of the next epoch, in the order in which they came."""

    def hold_back(self, message: ConsensusMessage) -> None:
        """Keep a message of the next epoch, forgetting the oldest if there are too many."""
        if isinstance(message, Proposal):
            self.proposal = message
        elif not _is_page(message):
            self.others.append(message)

    def release(self) -> list[ConsensusMessage]:
        """Hand out what was held back."""
        proposals = [] if self.proposal is None else [self.proposal]
        messages = [*proposals, *self.others]
        self.proposal = None
        self.others.clear()
        return messages


def _is_page(message: ConsensusMessage) -> bool:
    """Tell whether a message carries more certificates than anyone sends unasked."""
    return (
        isinstance(message, CertificateMessage)
        and len(message.certificates) > HELD_BACK_CERTIFICATES_MAX
    )


class Replica:
    """State machine of one node; a driver holds exactly one."""

    def __init__(self, config: EngineConfig, restored: Restored) -> None:
        """Begin in the epoch of ``config``: of the epoch that the executed head is in or opens."""
        self._config = config
        self._here = Place(config.era, config.epoch)
        self._engine = Engine(config, restored)
        self._nonce = restored.nonce
        self._is_in_doubt = restored.quarantined
        """Own votes may have been forgotten when the present engine began."""
        self._channels: Final[dict[PeerId, _Channel]] = {}
        self._work: WorkChanged | None = None
        self._closings: Final[dict[Place, Certificate]] = {}
        for closing in restored.closings:
            self._keep_closing(closing)

    def start(self, now_ms: int) -> list[Effect]:
        """Return the effects of a start or restart; call once, before the first :meth:`step`."""
        return self._engine.start(now_ms)

    def step(self, now_ms: int, event: Input) -> list[Effect]:
        """Handle one input at monotonic time ``now_ms`` and return the effects, in order.

        Raises:
            InvariantViolation: ``EpochOpened`` opens no later epoch or names another closing.
        """
        if isinstance(event, Received):
            return self._receive(now_ms, event)
        if isinstance(event, WorkChanged):
            self._work = event
        elif isinstance(event, PeerConnected):
            self._channels[event.peer] = _Channel(self._here)
        elif isinstance(event, PeerDisconnected):
            self._channels.pop(event.peer, None)
        elif isinstance(event, EpochOpened):
            return self._open(now_ms, event)
        return self._engine.step(now_ms, event)

    @property
    def config(self) -> EngineConfig:
        """The present epoch: its set, the own index in it, its base."""
        return self._config

    @property
    def era(self) -> Era:
        """Present era."""
        return self._config.era

    @property
    def epoch(self) -> Epoch:
        """Present epoch."""
        return self._config.epoch

    @property
    def view(self) -> View:
        """Present view of the present epoch."""
        return self._engine.view

    @property
    def tip(self) -> Digest:
        """Highest notarized block, or the finalised one: what the next block likely extends."""
        return self._engine.tip

    def needs(self, block_hash: Digest, height: Height) -> bool:
        """Tell whether the driver must keep a block: known here, or final and not executed."""
        return self._engine.needs(block_hash, height)

    def status(self) -> EngineStatus:
        """Return a snapshot for operators."""
        return self._engine.status()

    # --- messages ---------------------------------------------------------------------------------

    def _place(self, message: ConsensusMessage) -> Place:
        """Return the epoch that a message is of; what names none is of the present one."""
        if isinstance(message, (Vote, Proposal, Status)):
            return Place(message.era, message.epoch)
        if isinstance(message, CertificateMessage):
            return Place(message.certificates[0].era, message.certificates[0].epoch)
        if isinstance(message, (GetCertificates, GetProposal)):
            return Place(self._here.era, message.epoch)
        return self._here

    def _receive(self, now_ms: int, event: Received) -> list[Effect]:
        place, here = self._place(event.message), self._here
        if place == here:
            return self._engine.step(now_ms, event)
        if place < here:
            return self._answer_straggler(now_ms, event, place)
        return self._look_ahead(now_ms, event, place)

    def _answer_straggler(self, now_ms: int, event: Received, place: Place) -> list[Effect]:
        """EP6: let a peer of an earlier epoch see how that epoch ended, not too often."""
        channel, closing = self._channels.get(event.peer), self._closings.get(place)
        if channel is None or closing is None or isinstance(event.message, CertificateMessage):
            return []
        window_ms = self._config.timing.retry_ms // 4
        if channel.answered_ms is not None and now_ms - channel.answered_ms < window_ms:
            return []
        channel.answered_ms = now_ms
        return [Send(event.peer, CertificateMessage((closing,)))]

    def _look_ahead(self, now_ms: int, event: Received, place: Place) -> list[Effect]:
        """EP7: keep what the next engine may need, and take the rest for a hint only."""
        channel = self._channels.get(event.peer)
        if channel is None:
            return []
        channel.claim = max(channel.claim, place)
        if place == (self.era, self.epoch + 1):
            channel.hold_back(event.message)
        return self._engine.step(now_ms, PeerAhead(event.peer))

    # --- epochs -----------------------------------------------------------------------------------

    def _open(self, now_ms: int, event: EpochOpened) -> list[Effect]:
        """EP5, EP8: replace the engine."""
        config, before = event.config, self._engine.status()
        self._check_opening(event)
        if before.halted is not None:
            return []
        effects: list[Effect] = [CancelTimer(timer) for timer in before.timers]
        # An observer is not quarantined; if it has become a member, its doubt is as old as it is.
        is_still_in_doubt = before.quarantined or (self._config.me is None and self._is_in_doubt)
        self._is_in_doubt = event.restored.quarantined or is_still_in_doubt
        self._config = config
        self._here = Place(config.era, config.epoch)
        restored = replace(event.restored, quarantined=self._is_in_doubt, nonce=self._nonce)
        self._engine = Engine(config, restored)
        self._keep_closing(event.closing)
        effects += self._engine.start(now_ms)
        inputs: list[EpochInput] = [PeerConnected(peer) for peer in self._channels]
        if self._work is not None:
            inputs.append(self._work)
        for each in inputs:
            effects += self._engine.step(now_ms, each)
        for peer, channel in self._channels.items():
            for message in channel.release():
                effects += self._receive(now_ms, Received(peer, message))
            if channel.claim > self._here:
                effects += self._engine.step(now_ms, PeerAhead(peer))
        return effects

    def _check_opening(self, event: EpochOpened) -> None:
        config, closing = event.config, event.closing
        opened = Place(config.era, config.epoch)
        if opened <= self._here:
            raise InvariantViolation(
                "later_epoch", f"expected an epoch after {self._here}, received {opened}"
            )
        base = block_hash(config.chain_id, config.base)
        if closing.kind is not VoteKind.FINALIZE or closing.value.block_hash != base:
            raise InvariantViolation(
                "closing_of_base",
                f"expected a finalization of {base.hex()}, received {closing.kind.name} of "
                f"{closing.value.block_hash.hex()}",
            )

    def _keep_closing(self, closing: Certificate) -> None:
        self._closings[Place(closing.era, closing.epoch)] = closing
        if len(self._closings) > CLOSINGS_KEPT:
            del self._closings[min(self._closings)]
