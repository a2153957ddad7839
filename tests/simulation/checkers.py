"""What must hold in every run, checked from outside the engine.

The checker sees what honest nodes send, store, finalise and execute, and everything Byzantine keys
sign. It shares no logic with the engine: it counts quorums and compares votes by its own
arithmetic.

    I1   one block hash per height over all nodes
    I2   every certificate is a true quorum; L1: one value per view; L2: no NULLIFY with FINALIZE
    I3   no honest validator signs a conflicting pair, over all its restarts
    I4   nothing is sent that depends on un-synced own votes, blocks or certificates
    I5   a FINALIZE vote has a notarization of its value
    I6   skipped views between parent and child have a nullification, the parent a notarization
    I7   equal state and history roots on all nodes; headers certify the true ones
    I8   the finalised height never falls, also over restarts
    I9   no evidence and no penalty against an honest node; evidence proves what it claims
    I10  memory, fetches and events stay bounded
    I11  an idle chain is silent
    V    an honest validator notarizes no block that breaks a rule
    ACK  a transaction reported final is in the chain of every node
    H    no node halts while the safety condition S holds
    LIVE after healing, every node of the core finalises a new transaction in bounded time
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from consensus.types import Certificate, CertificateMessage, Proposal, Status
from ledger.votes import Value, Vote, VoteKind
from tests.simulation.application import transaction_hash

if TYPE_CHECKING:
    from consensus import effects as out
    from consensus.config import Restored
    from consensus.inputs import Timer
    from ledger.block import Header
    from ledger.types import Digest
    from tests.simulation.application import Application, Roots
    from tests.simulation.messages import Message
    from tests.simulation.node import Node

ENGINE_ITEMS_MAX: Final = 5_000
"""Items in all containers of one engine. Runs of 130 views reach 800; an engine that keeps what a
flooding validator sends goes beyond the limit in half a minute."""

Statement = tuple[VoteKind, Value]
ViewKey = tuple[int, int, int]
"""(era, epoch, view)."""


class Violation(Exception):
    """An invariant does not hold."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant
        self.detail = detail


class Registry:
    """Every statement that could be in a certificate, with the mask of those that signed it."""

    def __init__(self, government: int, commercial: int, byzantine: int) -> None:
        """Take the members of each chamber and the Byzantine ones as masks."""
        self.chambers: Final = tuple(mask for mask in (government, commercial) if mask)
        self.everybody: Final = government | commercial
        self.byzantine: Final = byzantine
        self.statements: defaultdict[ViewKey, dict[Statement, int]] = defaultdict(dict)
        self.certified: defaultdict[ViewKey, set[Statement]] = defaultdict(set)
        self.by_voter: defaultdict[tuple[ViewKey, int], set[Statement]] = defaultdict(set)

    def is_quorum(self, mask: int) -> bool:
        """Count: more than two thirds of all, at least half of each chamber."""
        if mask & ~self.everybody or mask.bit_count() * 3 <= self.everybody.bit_count() * 2:
            return False
        return all((mask & c).bit_count() * 2 >= c.bit_count() for c in self.chambers)

    def add(self, key: ViewKey, voter: int, statement: Statement) -> None:
        """Record that a validator's signature over a statement exists outside its node (I2, I3)."""
        known = self.statements[key]
        mask = known.get(statement, 0)
        if mask >> voter & 1:
            return
        known[statement] = mask | 1 << voter
        own = self.by_voter[key, voter]
        if not self.byzantine >> voter & 1:
            for other in own:
                if are_conflicting(statement, other):
                    raise Violation(
                        "I3", f"validator {voter} signed {statement} and {other} in {key}"
                    )
        own.add(statement)
        if self.is_quorum(known[statement]) and statement not in self.certified[key]:
            self._certify(key, statement)

    def has(self, key: ViewKey, kind: VoteKind, value: Value) -> bool:
        """Say whether a quorum has made the statement."""
        return (kind, value) in self.certified[key]

    def is_nullified(self, key: ViewKey) -> bool:
        return any(kind is VoteKind.NULLIFY for kind, _ in self.certified[key])

    def _certify(self, key: ViewKey, statement: Statement) -> None:
        self.certified[key].add(statement)
        values = {value for kind, value in self.certified[key] if kind is not VoteKind.NULLIFY}
        kinds = {kind for kind, _ in self.certified[key]}
        if len(values) > 1:
            raise Violation("I2", f"L1: two values can be certified in view {key}: {values}")
        if VoteKind.NULLIFY in kinds and VoteKind.FINALIZE in kinds:
            raise Violation("I2", f"L2: view {key} can be both nullified and finalised")


def are_conflicting(first: Statement, second: Statement) -> bool:
    """Say whether no honest validator signs both about one view."""
    kinds = {first[0], second[0]}
    if VoteKind.NULLIFY in kinds:
        return VoteKind.FINALIZE in kinds
    return first[1] != second[1]


class Checker:
    """All invariants of one run; raises :class:`Violation` at the event that breaks one."""

    def __init__(self, registry: Registry, genesis: Header, genesis_hash: Digest) -> None:
        self.registry = registry
        self.steps = 0
        """Inputs given to engines."""
        self.chain: list[Digest] = [genesis_hash]
        """The finalised chain."""
        self.roots: list[Roots] = [(genesis.state_root, genesis.history_root)]
        self.headers: dict[Digest, Header] = {genesis_hash: genesis}
        """Every block anybody made."""
        self.corrupted: dict[Digest, str] = {}
        """Blocks that break a rule, and which."""
        self.acknowledged: dict[Digest, int] = {}
        """Transactions that some client was told are final, and their height."""
        self.evidence_reported = 0
        self.highest_view = 0
        self.awake = 0
        """Timers fired and consensus messages sent by honest nodes: must not grow while idle."""
        self._checked: set[tuple[ViewKey, Statement, bytes]] = set()
        self._evidence: set[tuple[int, int, int, int]] = set()

    # --- what nodes do ----------------------------------------------------------------------------

    def on_block(self, digest: Digest, header: Header, corruption: str | None = None) -> None:
        """Remember a block that somebody made."""
        self.headers[digest] = header
        if corruption is not None:
            self.corrupted[digest] = corruption

    def on_boot(self, node: Node, restored: Restored) -> None:
        """Check what a node starts from (I8); its stored votes may have been sent."""
        height = restored.finalized.height
        if height < node.durable_height:
            raise Violation("I8", f"node {node.index} restarts at {height}, below a synced head")
        node.finalized_height = height
        for vote in restored.votes:
            self._register(vote)

    def on_persisted(self, node: Node, effect: out.Persist) -> None:
        """Take note of own votes that are synced, and may be sent and counted from now on."""
        for vote in effect.votes:
            self._register(vote)
        for certificate in effect.certificates:
            self.on_certificate(node, certificate)

    def on_sent(self, node: Node, message: Message) -> None:
        """Check a message that leaves a node running the real engine."""
        if isinstance(message, Vote):
            if vote_is_foreign(node, message):
                raise Violation("I4", f"node {node.index} sends a vote of {message.voter}")
            self._check_durable(node, message)
            self._register(message)
            if not self._is_byzantine(node):
                self._check_vote(node, message)
        elif isinstance(message, Proposal):
            if message.leader_vote.voter == node.member:
                self._check_durable(node, message.leader_vote)
                stored = node.disk.durable.get(
                    ("proposal", message.era, message.epoch, message.view)
                )
                if not isinstance(stored, Proposal) or stored.value != message.value:
                    raise Violation("I4", f"node {node.index} sends an unsynced proposal")
                self._register(message.leader_vote)
        elif isinstance(message, CertificateMessage):
            for certificate in message.certificates:
                self.on_certificate(node, certificate)
        elif isinstance(message, Status):
            for item in (message.previous_view, message.notarization, message.finalization):
                if item is not None:
                    self.on_certificate(node, item)
        self.awake += not self._is_byzantine(node)

    def on_timer(self, node: Node, timer: Timer) -> None:
        """Count a timer that fired."""
        self.awake += not self._is_byzantine(node)
        self.highest_view = max(self.highest_view, timer.view)

    def on_certificate(self, node: Node, certificate: Certificate) -> None:
        """Check a certificate that a node accepted, made, stored or relayed (I2)."""
        key = (certificate.era, certificate.epoch, certificate.view)
        statement = (certificate.kind, certificate.value)
        if (key, statement, certificate.bitmap) in self._checked:
            return
        mask = int.from_bytes(certificate.bitmap, "little")
        signed = self.registry.statements[key].get(statement, 0)
        if mask & ~signed or not self.registry.is_quorum(mask):
            raise Violation(
                "I2", f"node {node.index} holds a false certificate: {statement} in {key}, {mask:b}"
            )
        self._checked.add((key, statement, certificate.bitmap))

    def on_finalized(self, node: Node, effect: out.Finalize) -> None:
        """Check the blocks that an engine declares final (I1, I8)."""
        certificate = effect.certificate
        self.on_certificate(node, certificate)
        if certificate.kind is not VoteKind.FINALIZE:
            raise Violation("I1", f"node {node.index} finalises without a finalization")
        self._check_leads_to(certificate.value.block_hash, effect.blocks[-1], node)
        height = node.finalized_height
        for digest in effect.blocks:
            height += 1
            header = self.headers[digest]
            if header.height != height:
                raise Violation("I8", f"node {node.index}: {header.height} follows {height - 1}")
            self._check_chain(node, height, digest, header)
        node.finalized_height = height

    def on_executed(self, node: Node, application: Application, height: int) -> None:
        """Check the result of an execution whose batch is synced (I1, I7); clients hear of it."""
        if application.chain[height] != self.chain[height]:
            raise Violation("I1", f"node {node.index} executed another block at {height}")
        roots = application.roots[height]
        if height == len(self.roots):
            self.roots.append(roots)
        if roots != self.roots[height]:
            raise Violation("I7", f"node {node.index} has another root at {height}")
        node.durable_height = height
        for wire in application.blocks[application.chain[height]].transactions:
            self.acknowledged.setdefault(transaction_hash(wire), height)

    def on_evidence(self, node: Node, effect: out.ReportEvidence) -> None:
        """Check that reported evidence accuses a Byzantine validator, once (I9, C2)."""
        first, second = effect.first, effect.second
        voter = first.voter
        key = (first.era, first.epoch, first.view)
        if voter != second.voter or key != (second.era, second.epoch, second.view):
            raise Violation("I9", f"evidence of node {node.index} pairs unrelated votes")
        if not are_conflicting((first.kind, first.value), (second.kind, second.value)):
            raise Violation("I9", f"evidence of node {node.index} proves nothing")
        if not self.registry.byzantine >> voter & 1:
            raise Violation("I9", f"node {node.index} accuses honest validator {voter}")
        reported = (node.index, node.boots, voter, first.view)
        if reported in self._evidence and not self._is_byzantine(node):
            raise Violation("I9", f"node {node.index} reports {voter} twice in view {first.view}")
        self._evidence.add(reported)
        self.evidence_reported += 1

    def on_penalised(self, node: Node, target: int, effect: out.Penalise) -> None:
        """Check that only Byzantine nodes are penalised (I9)."""
        if not self._is_byzantine(node) and not self.registry.byzantine >> target & 1:
            raise Violation("I9", f"node {node.index} penalises honest {target}: {effect.reason}")

    def on_halt(self, node: Node, effect: out.Halt) -> None:
        """No node halts: in every run the safety condition S holds."""
        if not self._is_byzantine(node):
            raise Violation("H", f"node {node.index} halts: {effect.reason}")

    def check_memory(self, node: Node) -> None:
        """Check that an engine does not hoard (I10)."""
        if node.process is not None and not self._is_byzantine(node):
            items = container_items(node.process.engine)
            if items > ENGINE_ITEMS_MAX:
                raise Violation("I10", f"engine of node {node.index} holds {items} items")

    # --- rules of single votes --------------------------------------------------------------------

    def register_signature(self, voter: int, key: ViewKey, statement: Statement) -> None:
        """Record what a Byzantine key signed."""
        self.registry.add(key, voter, statement)

    def _register(self, vote: Vote) -> None:
        key = (vote.era, vote.epoch, vote.view)
        self.registry.add(key, vote.voter, (vote.kind, vote.value))

    def _is_byzantine(self, node: Node) -> bool:
        return node.member is not None and bool(self.registry.byzantine >> node.member & 1)

    def _check_durable(self, node: Node, vote: Vote) -> None:
        durable = node.disk.durable
        if durable.get(("vote", vote.era, vote.epoch, vote.view, int(vote.kind))) != vote:
            raise Violation("I4", f"node {node.index} sends an unsynced {vote.kind.name} vote")
        if vote.kind is VoteKind.NULLIFY:
            return
        if ("block", vote.value.block_hash) not in durable:
            raise Violation("I4", f"node {node.index} votes {vote.kind.name} without a synced body")
        if vote.kind is VoteKind.FINALIZE:
            place = ("certificate", vote.era, vote.epoch, vote.view, int(VoteKind.NOTARIZE))
            if place not in durable:
                raise Violation("I4", f"node {node.index} votes FINALIZE, notarization not synced")

    def _check_vote(self, node: Node, vote: Vote) -> None:
        key = (vote.era, vote.epoch, vote.view)
        if vote.kind is VoteKind.FINALIZE and not self.registry.has(
            key, VoteKind.NOTARIZE, vote.value
        ):
            raise Violation("I5", f"node {node.index} votes FINALIZE in {key}: no notarization")
        if vote.kind is VoteKind.NOTARIZE:
            corruption = self.corrupted.get(vote.value.block_hash)
            if corruption is not None:
                raise Violation("V", f"node {node.index} notarizes a block with {corruption}")
            self._check_ancestry(node, vote)

    def _check_ancestry(self, node: Node, vote: Vote) -> None:
        header = self.headers[vote.value.block_hash]
        parent_view = vote.value.parent_view
        for view in range(parent_view + 1, vote.view):
            if not self.registry.is_nullified((vote.era, vote.epoch, view)):
                raise Violation("I6", f"node {node.index} skips view {view} before {vote.view}")
        if parent_view == 0:
            if header.parent_hash != self.chain[0]:
                raise Violation("I6", f"node {node.index}: parent of {vote.view} is not genesis")
            return
        certified = self.registry.certified[vote.era, vote.epoch, parent_view]
        if not any(value.block_hash == header.parent_hash for _, value in certified):
            raise Violation("I6", f"node {node.index}: parent of {vote.view} is not certified")

    def _check_leads_to(self, certified: Digest, last: Digest, node: Node) -> None:
        """The finalization is of the last block or of a descendant."""
        height = self.headers[last].height
        while certified != last:
            header = self.headers[certified]
            if header.height <= height:
                raise Violation("I1", f"node {node.index} finalises a block off the certified path")
            certified = header.parent_hash

    def _check_chain(self, node: Node, height: int, digest: Digest, header: Header) -> None:
        if height == len(self.chain):
            if header.parent_hash != self.chain[-1]:
                raise Violation("I1", f"node {node.index} finalises a block off the chain")
            if digest in self.corrupted:
                raise Violation("V", f"a block with {self.corrupted[digest]} is final")
            self.chain.append(digest)
        if self.chain[height] != digest:
            raise Violation("I1", f"two final blocks at height {height}")
        executed = header.executed_height
        if executed < len(self.roots) and self.roots[executed] != (
            header.state_root,
            header.history_root,
        ):
            raise Violation("I7", f"header {height} certifies a false root of {executed}")


def vote_is_foreign(node: Node, vote: Vote) -> bool:
    """Say whether a node sends another's vote: votes travel on the voter's own channel."""
    return vote.voter != node.member


def container_items(root: object) -> int:
    """Count the items of all containers reachable from an object's attributes."""
    seen: set[int] = set()
    stack: list[object] = [root]
    items = 0
    while stack:
        thing = stack.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, dict):
            items += len(thing)
            stack.extend(thing.values())
        elif isinstance(thing, list | tuple | set | frozenset) or hasattr(thing, "popleft"):
            members = list(thing)  # type: ignore[call-overload]
            items += len(members)
            stack.extend(members)
        elif type(thing).__module__.startswith("consensus.") and not callable(thing):
            names = [*getattr(thing, "__slots__", ()), *getattr(thing, "__dict__", ())]
            stack.extend(getattr(thing, name, None) for name in names)
    return items
