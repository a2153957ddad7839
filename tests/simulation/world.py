"""Everything of one run, put together: validators, nodes, network, checker, one random source.

The world knows who is who and what is connected. It starts, crashes and restarts nodes; *when* that
happens is decided by :mod:`tests.simulation.faults`, and *how a run goes* by
:mod:`tests.simulation.simulation`.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from struct import Struct
from typing import TYPE_CHECKING, Final

from consensus import inputs
from consensus.inputs import PeerId
from consensus.leader import leader_order
from ledger.types import Digest, Epoch, Era, Signature, View
from ledger.votes import Value, VoteKind
from tests.simulation.byzantine import create_actor
from tests.simulation.conspiracy import Conspiracy
from tests.simulation.disk import Disk
from tests.simulation.invariants import Checker, Violation
from tests.simulation.network import Link
from tests.simulation.network import Network as Net
from tests.simulation.node import Node
from tests.simulation.process import Process
from tests.simulation.signatures import Ed25519Scheme, Scheme, StubScheme
from tests.simulation.timeline import Timeline
from tests.simulation.trace import Trace
from tests.simulation.universe import GENESIS_TIME_MS, Universe

if TYPE_CHECKING:
    from collections.abc import Callable

    from consensus.config import EngineConfig
    from consensus.types import Certificate
    from ledger.block import Block
    from ledger.validators import ValidatorSet
    from tests.simulation.byzantine import Actor
    from tests.simulation.governance import Governance
    from tests.simulation.options import Options

CLOCK_START_MS: Final = 60_000
"""Wall clocks start this long after the genesis block, more than any clock error."""

Place = tuple[int, int]
"""(era, epoch)."""

_SIGNED: Final = Struct(">48xIQQBQ32s")
"""What a vote signs, behind tag and chain: era, epoch, view, kind, parent's view, block hash."""


class World:
    """One simulated network."""

    def __init__(
        self,
        options: Options,
        sink: Callable[[str], None] | None = None,
        *,
        traced: bool = False,
    ) -> None:
        self.options = options
        self.random = Random(options.seed)
        self.timeline = Timeline()
        self.trace = Trace(self.timeline, sink, is_on=traced)
        self.timing = options.timing
        self.faults: Counter[str] = Counter()
        self.coverage: Counter[str] = Counter()
        """Rare paths of the code that were taken."""
        self.scheme: Scheme = Ed25519Scheme() if options.real_signatures else StubScheme()
        self.universe = Universe(options, self.scheme)
        first = self.universe.validators
        joiners = [self.universe.everybody[name] for name in options.joiners]
        people = [*first, *joiners]
        self.names: Final = {member.name: index for index, member in enumerate(people)}
        self.byzantine: Final = {self.names[name]: what for name, what in options.byzantine}
        self._keys = [self.scheme.key_pair(f"consensus {member.name}") for member in people]
        self.checker = Checker(
            self.universe, frozenset(self._keys[index].public_key for index in self.byzantine)
        )
        self.net = Net(self.timeline, self.random, self.trace)
        self.node_indexes: Final = tuple(range(len(people) + options.observers))
        observers = (
            self.scheme.key_pair(f"node of observer {i}") for i in range(options.observers)
        )
        self._peer_ids = [PeerId(bytes(member.node_key)) for member in people]
        self._peer_ids += [PeerId(bytes(key.public_key)) for key in observers]
        self._peer_indexes = {peer: index for index, peer in enumerate(self._peer_ids)}
        self._orders: dict[Place, tuple[int, ...]] = {}
        self._disconnected: set[tuple[int, int]] = set()
        self.conspiracy = Conspiracy(self)
        self.governance: Governance | None = None
        """Takes evidence to the chain, if the run has that."""
        self.nodes: dict[int, Node] = {}
        """Honest nodes by index."""
        self.actors: dict[int, Actor] = {}
        """Byzantine validators by index."""
        for index in self.node_indexes:
            self._add(index)

    # --- who is who -------------------------------------------------------------------------------

    def peer_id(self, index: int) -> PeerId:
        """Return the network identity of a node."""
        return self._peer_ids[index]

    def index_of_peer(self, peer: PeerId) -> int:
        """Return whose network identity this is."""
        return self._peer_indexes[peer]

    def key_of(self, index: int) -> bytes | None:
        """Return the consensus key of a node; None for an observer."""
        return bytes(self._keys[index].public_key) if index < len(self._keys) else None

    def members(self, place: Place) -> ValidatorSet:
        """Return the validators of an epoch that has been opened."""
        return self.checker.knowledge.sets[place]

    def leader(self, place: Place, view: View) -> int:
        """Return the index of the node that leads a view."""
        members = self.members(place)
        order = self._orders.get(place)
        if order is None:
            era, epoch = Era(place[0]), Epoch(place[1])
            order = leader_order(self.universe.chain_id, era, epoch, members)
            self._orders[place] = order
        return self.index_of_peer(PeerId(bytes(members[order[view % len(order)]].node_key)))

    def find_block(self, digest: Digest) -> Block | None:
        """Return a whole block that some honest node has."""
        for node in self.nodes.values():
            if node.process is not None and node.is_up:
                ledger = node.process.ledger
                pooled = ledger.pool.get(digest)
                found = ledger.chain.block(digest) if pooled is None else pooled.to_block()
                if found is not None:
                    return found
        return None

    def signer(self, index: int) -> Callable[[bytes], Signature]:
        """Return a validator's signing function; what a Byzantine one signs is registered."""
        key = self._keys[index]
        if index not in self.byzantine:
            return key.sign

        def sign_registered(message: bytes) -> Signature:
            place, statement = parse_signed(message)
            members = self.checker.knowledge.sets.get(place[:2])
            member = None if members is None else members.index_of_key(key.public_key)
            if member is not None:
                self.checker.knowledge.registry.add(place, member, statement)
            return key.sign(message)

        return sign_registered

    # --- time and counting ------------------------------------------------------------------------

    def wall_ms(self) -> int:
        """Return the true wall time."""
        return GENESIS_TIME_MS + CLOCK_START_MS + self.timeline.now_ms

    def count(self, fault: str) -> None:
        """Count an injected fault."""
        self.faults[fault] += 1

    def on_epoch(self, config: EngineConfig, closing: Certificate) -> None:
        """A node has opened an epoch; the first one that does shows who votes in it."""
        place = (int(config.era), int(config.epoch))
        base = Digest(closing.value.block_hash)
        self.checker.on_epoch(place, config.validators, base)
        if place > self.conspiracy.place:
            self.conspiracy.open_epoch(place, config.base, base)
            self.trace.record(f"epoch {place} opens with {[m.name for m in config.validators]}")

    # --- life of nodes ----------------------------------------------------------------------------

    def create_node(self, index: int) -> Node:
        """Return a node of this index with an empty disk. Twins have two of one index."""
        key = self._keys[index] if index < len(self._keys) else None
        return Node(index, key, Disk(self.timeline, self.random, self.faults))

    def start(self) -> None:
        """Boot everything but joiners, which come later."""
        for index in self.node_indexes:
            if index in self.actors:
                self.actors[index].start()
            elif not self.is_joiner(index):
                self.boot(self.nodes[index])

    def is_joiner(self, index: int) -> bool:
        """Say whether a node belongs to somebody who is no validator at first."""
        return self.universe.validators.size <= index < len(self._keys)

    def boot(self, node: Node) -> None:
        """Start a node's process from its disk."""
        node.boots += 1
        self.trace.record(f"{node.index} boots for the {node.boots}. time")
        node.process = Process(self, node)
        node.process.boot()
        if node.is_up and node.index in self.nodes:
            self._tell_peers(node.index, is_up=True)

    def crash(self, node: Node, why: str) -> None:
        """Kill a node's process; its un-synced writes may be lost."""
        if node.process is None or not node.process.is_alive:
            return
        if self.byzantine:
            self.checker.memory.check(node)
        node.process.die()
        lost = node.disk.crash()
        self.trace.record(f"{node.index} crashes {why}, {lost} writes lost")
        self.count(f"crash {why}")
        if lost:
            self.count("crash that lost writes")
        if node.index in self.nodes:
            self._tell_peers(node.index, is_up=False)

    def restart(self, node: Node) -> None:
        """Boot a node if it is down."""
        if not node.is_up:
            self.boot(node)

    # --- connections ------------------------------------------------------------------------------

    def is_connected(self, one: int, other: int) -> bool:
        """Say whether two nodes have a channel: both are up, and it was not cut."""
        pair = (one, other) if one < other else (other, one)
        return pair not in self._disconnected and self._is_up(one) and self._is_up(other)

    def set_connected(self, one: int, other: int, *, connected: bool) -> None:
        """Open or close the channel between two nodes, and tell both."""
        pair = (min(one, other), max(one, other))
        if connected == (pair not in self._disconnected):
            return
        if connected:
            self._disconnected.discard(pair)
        else:
            self._disconnected.add(pair)
        if self._is_up(one) and self._is_up(other):
            self._tell(one, other, is_up=connected)
            self._tell(other, one, is_up=connected)

    def reconnect_all(self) -> None:
        """Open every channel that was cut."""
        for one, other in sorted(self._disconnected):
            self.set_connected(one, other, connected=True)

    def _is_up(self, index: int) -> bool:
        return index in self.actors or self.nodes[index].is_up

    def _tell_peers(self, index: int, *, is_up: bool) -> None:
        for peer in self.node_indexes:
            pair = (min(index, peer), max(index, peer))
            if peer != index and pair not in self._disconnected and self._is_up(peer):
                self._tell(peer, index, is_up=is_up)

    def _tell(self, listener: int, about: int, *, is_up: bool) -> None:
        node = self.nodes.get(listener)
        if node is not None and node.process is not None:
            event = inputs.PeerConnected if is_up else inputs.PeerDisconnected
            node.process.feed(event(self.peer_id(about)))

    # --- creation ---------------------------------------------------------------------------------

    def _add(self, index: int) -> None:
        if index in self.byzantine:
            actor = create_actor(self.byzantine[index], self, index)
            self.actors[index] = actor
            receiver = actor.on_packet
        else:
            node = self.create_node(index)
            self.nodes[index] = node

            def receiver(source: int, packet: bytes) -> None:
                if node.process is not None:
                    node.process.on_packet(source, packet)

        options = self.options
        link = Link(
            self.random.randint(1, options.delay_ms),
            self.random.randint(1, options.spread_ms),
            options.loss_percent,
            options.duplicate_percent,
        )
        self.net.attach(index, receiver, link)


def parse_signed(message: bytes) -> tuple[tuple[int, int, int], tuple[VoteKind, Value]]:
    """Read the 109 signed bytes of a vote back: (era, epoch, view), (kind, value)."""
    if len(message) != _SIGNED.size or not message.startswith(b"MBI-VOTE-v1"):
        raise Violation("I3", "a consensus key signed something else than a vote")
    era, epoch, view, kind, parent_view, digest = _SIGNED.unpack(message)
    return (era, epoch, view), (VoteKind(kind), Value(View(parent_view), Digest(digest)))
