"""Invariants of the finalised chain: I1, I7, I8, ACK, and no invalid block (V)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.types import ZERO_DIGEST
from ledger.validators import ValidatorSet
from ledger.votes import VoteKind
from tests.simulation.invariants.knowledge import Roots
from tests.simulation.invariants.registry import Violation

if TYPE_CHECKING:
    from consensus import effects as out
    from consensus.config import Restored
    from ledger.block import Header
    from ledger.transition import BlockOutcome
    from ledger.types import Digest
    from node.block_pool import PoolBlock
    from tests.simulation.invariants.knowledge import Knowledge
    from tests.simulation.invariants.registry import EpochKey
    from tests.simulation.node import Node
    from tests.simulation.process import Process


class I1OneChain:
    """One block hash per height over all nodes and epochs."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    def on_finalized(self, node: Node, effect: out.Finalize) -> None:
        """Compare the blocks that an engine declares final with those of all others."""
        knowledge = self._knowledge
        if effect.certificate.kind is not VoteKind.FINALIZE:
            raise Violation("I1", f"node {node.index} finalises without a finalization")
        self._check_leads_to(effect.certificate.value.block_hash, effect.blocks[-1], node)
        for digest in effect.blocks:
            height = knowledge.headers[digest].height
            if height == len(knowledge.chain):
                self._extend(node, digest)
            elif height > len(knowledge.chain) or knowledge.chain[height] != digest:
                raise Violation("I1", f"two final blocks at height {height}, node {node.index}")

    def on_executed(self, node: Node, block: PoolBlock) -> None:
        """Compare an executed block with the chain."""
        height = block.header.height
        if self._knowledge.chain[height] != block.block_hash:
            raise Violation("I1", f"node {node.index} executed another block at {height}")

    def on_epoch(self, epoch: EpochKey, members: ValidatorSet, base: Digest) -> None:
        """All nodes open an epoch on the same block with the same members."""
        knowledge = self._knowledge
        knowledge.open_epoch(epoch, tuple(members), base)
        if knowledge.sets[epoch].hash != members.hash or knowledge.bases[epoch] != base:
            raise Violation("I1", f"two beginnings of epoch {epoch}")
        if knowledge.headers[base].next_validator_set_hash != members.hash:
            raise Violation("I1", f"epoch {epoch} begins with a set that its base does not name")

    def _extend(self, node: Node, digest: Digest) -> None:
        knowledge = self._knowledge
        if knowledge.headers[digest].parent_hash != knowledge.chain[-1]:
            raise Violation("I1", f"node {node.index} finalises a block off the chain")
        if digest in knowledge.corrupted:
            raise Violation("V", f"a block with {knowledge.corrupted[digest]} is final")
        knowledge.chain.append(digest)

    def _check_leads_to(self, certified: Digest, last: Digest, node: Node) -> None:
        """The finalization is of the last block or of a descendant."""
        headers = self._knowledge.headers
        height = headers[last].height
        while certified != last:
            header = headers[certified]
            if header.height <= height:
                raise Violation("I1", f"node {node.index} finalises a block off the certified path")
            certified = header.parent_hash


class I7EqualResults:
    """Equal state, history and receipts on all nodes; headers certify the true roots."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    def on_executed(self, node: Node, block: PoolBlock, outcome: BlockOutcome) -> None:
        """Compare what an execution gave with what it gave on other nodes."""
        roots = Roots(outcome.state_root, outcome.history_root, outcome.receipts_root)
        known, height = self._knowledge.roots, block.header.height
        if height == len(known):
            known.append(roots)
            self._check_header(block.header)
        if known[height] != roots:
            raise Violation("I7", f"node {node.index} has another result at {height}")

    def _check_header(self, header: Header) -> None:
        executed = self._knowledge.roots[header.executed_height]
        if (executed.state, executed.history) != (header.state_root, header.history_root):
            raise Violation(
                "I7", f"header {header.height} certifies a false root of {header.executed_height}"
            )


class V5BoundaryRule:
    """A header names the next set exactly where the schedule demands it.

    That is the latest set scheduled above the height that the epoch's base certifies, and not above
    the height that the header certifies; computed here from the outcomes of execution alone.
    """

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge
        self._scheduled: list[tuple[int, Digest]] = []
        self._checked = 0

    def on_executed(self, node: Node, block: PoolBlock, outcome: BlockOutcome) -> None:
        """Check each height once, when the first node has executed it."""
        header = block.header
        if header.height <= self._checked:
            return
        self._checked = header.height
        base = self._knowledge.headers[self._knowledge.bases[header.era, header.epoch]]
        expected = ZERO_DIGEST
        for height, digest in self._scheduled:
            if base.executed_height < height <= header.executed_height:
                expected = digest
        if header.next_validator_set_hash != expected:
            raise Violation("V5", f"block {header.height} names another next set than is due")
        if outcome.schedule is not None:
            height, members = outcome.schedule
            self._scheduled.append((height, ValidatorSet(members).hash))


class I8NoWayBack:
    """The finalised height never falls, also over restarts."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    def on_boot(self, node: Node, restored: Restored) -> None:
        """Compare what a node starts from with what it had synced."""
        height = restored.finalized.height
        if height < node.durable_height:
            raise Violation("I8", f"node {node.index} restarts at {height}, below a synced head")
        node.finalized_height = height
        node.durable_height = height

    def on_finalized(self, node: Node, effect: out.Finalize) -> None:
        """Heights follow each other."""
        for digest in effect.blocks:
            height = self._knowledge.headers[digest].height
            if height != node.finalized_height + 1:
                raise Violation(
                    "I8", f"node {node.index}: {height} follows {node.finalized_height}"
                )
            node.finalized_height = height

    def on_durable(self, node: Node, block: PoolBlock) -> None:
        """Take note of a synced head."""
        node.durable_height = block.header.height


class AckNothingLost:
    """A transaction reported final is in the chain of every node."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    def on_durable(self, block: PoolBlock) -> None:
        """Clients hear of a block once one node has it on disk."""
        for transaction in block.transactions:
            self._knowledge.acknowledged.setdefault(transaction.id, block.header.height)

    def check(self, index: int, process: Process) -> None:
        """Look for every acknowledged transaction up to a node's head."""
        for transaction, height in self._knowledge.acknowledged.items():
            if height <= process.ledger.durable_height and not process.ledger.has_executed(
                transaction
            ):
                raise Violation("ACK", f"node {index} lost a transaction final at {height}")
