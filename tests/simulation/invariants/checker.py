"""Shows every event of a run to the invariants that it concerns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consensus.types import CertificateMessage, Proposal, Status
from ledger.votes import Vote
from tests.simulation.invariants.chain import (
    AckNothingLost,
    I1OneChain,
    I7EqualResults,
    I8NoWayBack,
    V5BoundaryRule,
)
from tests.simulation.invariants.conduct import (
    HNobodyHalts,
    I9NoFalseAccusation,
    I10BoundedMemory,
    I11IdleIsSilent,
)
from tests.simulation.invariants.knowledge import Knowledge
from tests.simulation.invariants.light import I12LightClient
from tests.simulation.invariants.votes import (
    I2TrueCertificates,
    I3NoConflictingVotes,
    I4DurableFirst,
    I5FinalizeAfterNotarization,
    I6Ancestry,
    VNoInvalidBlock,
)

if TYPE_CHECKING:
    from consensus import effects as out
    from consensus.config import Restored
    from consensus.inputs import Timer
    from consensus.types import Certificate
    from ledger.block import Header
    from ledger.transition import BlockOutcome
    from ledger.types import Digest
    from ledger.validators import ValidatorSet
    from node.block_pool import PoolBlock
    from p2p.messages import Message
    from tests.simulation.invariants.registry import EpochKey
    from tests.simulation.node import Node
    from tests.simulation.universe import Universe


class Checker:
    """All invariants of one run; each raises Violation at the event that breaks it."""

    def __init__(self, universe: Universe, byzantine: frozenset[bytes]) -> None:
        knowledge = Knowledge(universe, byzantine)
        self.knowledge = knowledge
        self.steps = 0
        """Inputs given to engines."""
        self.highest_view = 0
        self.one_chain = I1OneChain(knowledge)
        self.certificates = I2TrueCertificates(knowledge)
        self.conflicts = I3NoConflictingVotes(knowledge)
        self.durable_first = I4DurableFirst(knowledge)
        self.vote_rules = (
            I5FinalizeAfterNotarization(knowledge),
            VNoInvalidBlock(knowledge),
            I6Ancestry(knowledge),
        )
        self.results = I7EqualResults(knowledge)
        self.boundaries = V5BoundaryRule(knowledge)
        self.no_way_back = I8NoWayBack(knowledge)
        self.accusations = I9NoFalseAccusation(knowledge)
        self.memory = I10BoundedMemory(knowledge)
        self.silence = I11IdleIsSilent(knowledge)
        self.halts = HNobodyHalts(knowledge)
        self.acknowledged = AckNothingLost(knowledge)
        self.light = I12LightClient(knowledge)

    def on_block(self, header: Header) -> None:
        """A node built a block."""
        self.knowledge.add_block(header)

    def on_epoch(self, epoch: EpochKey, members: ValidatorSet, base: Digest) -> None:
        """A node opens an epoch."""
        self.one_chain.on_epoch(epoch, members, base)

    def on_boot(self, node: Node, restored: Restored) -> None:
        """A node starts; its stored votes may have been sent."""
        self.no_way_back.on_boot(node, restored)
        self.conflicts.register(restored.votes)

    def on_persisted(self, node: Node, effect: out.Persist) -> None:
        """Own votes are synced, and may be sent and counted from now on."""
        self.conflicts.register(effect.votes)
        for certificate in effect.certificates:
            self.certificates.on_certificate(node, certificate)

    def on_sent(self, node: Node, message: Message) -> None:
        """A message leaves a node running the real engine."""
        if isinstance(message, Vote):
            self.durable_first.on_vote(node, message)
            self.conflicts.register((message,))
            if not self.knowledge.is_byzantine(node):
                for rule in self.vote_rules:
                    rule.on_vote(node, message)
        elif isinstance(message, Proposal):
            leader_key = self.knowledge.voter(message.leader_vote)
            if node.key is not None and leader_key == node.key.public_key:
                self.durable_first.on_proposal(node, message)
                self.conflicts.register((message.leader_vote,))
        elif isinstance(message, CertificateMessage):
            for certificate in message.certificates:
                self.certificates.on_certificate(node, certificate)
        elif isinstance(message, Status):
            for item in (message.previous_view, message.notarization, message.finalization):
                if item is not None:
                    self.certificates.on_certificate(node, item)
        self.silence.note(node)

    def on_timer(self, node: Node, timer: Timer) -> None:
        """A timer fired."""
        self.silence.note(node)
        self.highest_view = max(self.highest_view, timer.view)

    def on_certificate(self, node: Node, certificate: Certificate) -> None:
        """A node stores a certificate."""
        self.certificates.on_certificate(node, certificate)

    def on_finalized(self, node: Node, effect: out.Finalize) -> None:
        """An engine declares blocks final."""
        self.certificates.on_certificate(node, effect.certificate)
        self.one_chain.on_finalized(node, effect)
        self.no_way_back.on_finalized(node, effect)

    def on_executed(self, node: Node, block: PoolBlock, outcome: BlockOutcome) -> None:
        """A block is executed, not synced yet: a crash may lose it, or leave it on disk unsaid."""
        self.one_chain.on_executed(node, block)
        self.results.on_executed(node, block, outcome)
        self.boundaries.on_executed(node, block, outcome)
        self.accusations.on_executed(outcome)

    def on_durable(self, node: Node, block: PoolBlock) -> None:
        """An executed block is synced; clients hear of it."""
        self.no_way_back.on_durable(node, block)
        self.acknowledged.on_durable(block)

    def on_evidence(self, node: Node, effect: out.ReportEvidence) -> None:
        """A node reports a pair of votes."""
        self.accusations.on_evidence(node, effect)

    def on_penalised(self, node: Node, target: bytes | None, effect: out.Penalise) -> None:
        """A node penalises a peer."""
        self.accusations.on_penalised(node, target, effect)

    def on_halt(self, node: Node, effect: out.Halt) -> None:
        """A node stops voting."""
        self.halts.on_halt(node, effect)
