"""What this node tells its peers and what it does about what they tell it.

Owns the network: who may connect, what a peer hears when it comes, how transactions and evidence
are passed on, and who here takes which message. Everything it is told has been decoded and comes
from an authenticated peer; nothing of it has been checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from consensus.inputs import Input, PeerConnected, PeerDisconnected, PeerId, Received
from consensus.recovery import plan_hash
from consensus.types import ConsensusMessage, Proposal
from ledger.types import TimeMs
from ledger.validators import ValidatorSet
from ledger.votes import Vote
from node.application import carries_its_payload
from node.config import PeerEntry
from node.costs import Costs
from node.epochs import Epochs
from node.errors import FatalError
from node.home import OpenHome, peer_configs
from node.mempool import Mempool
from node.metrics import ConsensusMetrics
from p2p.config import PeerConfig
from p2p.messages import (
    Answer,
    EraMessage,
    EvidenceMessage,
    Message,
    Priority,
    Request,
    TransactionBatch,
)
from p2p.network import Network
from p2p.peers import PeerInfo

REGOSSIP_MS: Final = 1_000
"""Transactions that wait longer are sent again: the first time a connection may have been down."""
REGOSSIP_TRANSACTIONS: Final = 20
"""Enough that the next leader has work; its block brings the others to it."""
PENALTY_POINTS: Final = 10
"""Cost of one breach that only this layer can see, in the network's scores."""
RECONNECT_TRANSACTIONS: Final = 1_000
"""Pending transactions told to a peer that has just connected."""
ERAS_TOLD_MAX: Final = 8
"""Claims of peers about later eras that are shown; they are not proven, and one is enough."""

log = structlog.get_logger("node")


@dataclass(frozen=True, slots=True)
class Inbox:
    """Who takes what peers send."""

    consensus: Callable[[Input], None]
    transactions: Callable[[PeerId, Sequence[bytes]], None]
    evidence: Callable[[PeerId, EvidenceMessage], None]
    answer: Callable[[Request], Answer]
    unreported: Callable[[], Sequence[EvidenceMessage]]
    """Evidence that is not on chain yet: a peer that comes may not know of it."""
    validators: Callable[[], ValidatorSet]
    """Those whose votes count now."""


class Peering:
    """The node as its peers see it; the network's handler."""

    def __init__(
        self,
        home: OpenHome,
        epochs: Epochs,
        mempool: Mempool,
        inbox: Inbox,
        *,
        metrics: ConsensusMetrics,
        costs: Costs,
    ) -> None:
        """Let configured peers and members connect, from :meth:`bind` on."""
        self._home = home
        self._epochs = epochs
        self._mempool = mempool
        self._inbox = inbox
        self._metrics = metrics
        self._costs = costs
        self._eras_told: set[EraMessage] = set()
        config = home.network_config()
        self._configured = config.peers
        self.network = Network(config, self, lambda: costs.measure("gossip"))
        self.list_members()

    def bind(self) -> None:
        """Take the address for other nodes; raises :class:`FatalError` if it cannot be used."""
        try:
            self.network.bind()
        except OSError as error:
            p2p = self._home.config.p2p
            raise FatalError(
                f"cannot listen on {p2p.host}:{p2p.port} for other nodes: {error.strerror}",
                cause="address_unusable",
            ) from error

    # ------------------------------------------------------------------ who may connect

    def configure(self, entries: Sequence[PeerEntry]) -> None:
        """Take over another list of peers; who is on no list any more is disconnected."""
        self._configured = peer_configs(entries)
        self.list_members()

    def list_members(self) -> None:
        """Let members of the present set and of scheduled ones connect, whoever is configured."""
        listed = {peer.node_id for peer in self._configured}
        members = (
            PeerConfig(name, PeerId(node_key), "", None)
            for node_key, name in self._epochs.members_ahead().items()
            if node_key not in listed
        )
        self.network.update_peers((*self._configured, *members))

    def penalise(self, peer: PeerId, reason: str) -> None:
        """Count a breach against a peer."""
        self.network.penalise(peer, reason, PENALTY_POINTS)

    # ------------------------------------------------------------------ what peers are told

    def publish(self, wires: Sequence[bytes], source: PeerId | None) -> None:
        """Pass transactions on once per link: validators hear of each from whoever got it first."""
        with self._costs.measure("gossip"):
            if source is None:
                self.network.gossip(wires)
            elif self._inbox.validators().index_of_node(source) is None:
                self.network.gossip(wires, exclude=(source,))

    def publish_evidence(self, message: EvidenceMessage, source: PeerId | None) -> None:
        """Pass evidence on to everyone but whoever told us."""
        exclude = () if source is None else (source,)
        self.network.broadcast(message, priority=Priority.CONSENSUS, exclude=exclude)

    def remind(self, time_ms: TimeMs) -> None:
        """Tell everyone again what has been waiting longest."""
        stale = [
            entry.transaction.wire
            for entry in self._mempool.oldest(REGOSSIP_TRANSACTIONS)
            if entry.received_ms <= time_ms - REGOSSIP_MS
        ]
        if stale:
            self.network.gossip(stale)

    # ---------------------------------------------------------------- port of the network (Handler)

    def on_connected(self, peer: PeerId, info: PeerInfo) -> None:
        """Tell consensus, and tell the peer what is pending here."""
        self._inbox.consensus(PeerConnected(peer))
        era = self._epochs.present.era
        for plan in self._home.plans:
            if plan.era == era:
                told = EraMessage(era, plan_hash(self._home.chain_id, plan))
                self.network.send(peer, told, priority=Priority.CONSENSUS)
        pending = [entry.transaction.wire for entry in self._mempool.oldest(RECONNECT_TRANSACTIONS)]
        if pending:
            others = [other for other in self.network.connected() if other != peer]
            self.network.gossip(pending, exclude=others)
        for evidence in self._inbox.unreported():
            self.network.send(peer, evidence, priority=Priority.CONSENSUS)

    def on_disconnected(self, peer: PeerId) -> None:
        """Tell consensus."""
        self._inbox.consensus(PeerDisconnected(peer))

    def on_message(self, peer: PeerId, message: Message) -> None:
        """Sort a decoded message: gossip, a question, or consensus."""
        if isinstance(message, TransactionBatch):
            self._inbox.transactions(peer, message.wires)
        elif isinstance(message, Request):
            self.network.send(peer, self._inbox.answer(message), priority=Priority.FETCH)
        elif isinstance(message, ConsensusMessage):
            if isinstance(message, Vote):
                self._metrics.votes.labels(message.kind.name.lower()).inc()
            elif isinstance(message, Proposal) and not carries_its_payload(message):
                self.penalise(peer, "payload_mismatch")
                return
            self._inbox.consensus(Received(peer, message))
        elif isinstance(message, EvidenceMessage):
            self._inbox.evidence(peer, message)
        elif isinstance(message, EraMessage):
            self._heed_era(message)

    def _heed_era(self, message: EraMessage) -> None:
        """Tell the operator which plan peers follow and this node lacks; nobody else can act."""
        present = self._epochs.present.era
        is_ours = any(plan.era >= message.era for plan in self._home.plans)
        if message.era <= present or is_ours or message in self._eras_told:
            return
        if len(self._eras_told) < ERAS_TOLD_MAX:
            self._eras_told.add(message)
            log.warning(
                "plan_missing",
                era=message.era,
                plan=message.plan_hash.hex(),
                advice=f"peers are in era {message.era}, this node is in era {present}, where it "
                "can decide nothing: get this plan, check it and accept it (mbi recovery accept)",
            )
