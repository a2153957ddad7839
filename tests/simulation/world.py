"""Everything of one run, put together: validators, nodes, network, checker, one random source.

The world knows who is who and what is connected. It starts, crashes and restarts nodes; *when* that
happens is decided by :mod:`tests.simulation.faults`, and *how a run goes* by
:mod:`tests.simulation.simulation`.
"""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from random import Random
from typing import TYPE_CHECKING, Final

from consensus import inputs
from consensus.inputs import PeerId
from consensus.leader import leader_order
from ledger.types import Digest, Epoch, Era, PublicKey, Signature, View
from ledger.validators import Chamber, Validator, ValidatorSet
from ledger.votes import Value, VoteKind
from tests.simulation.application import GENESIS_TIME_MS, Network
from tests.simulation.byzantine import create_actor
from tests.simulation.checkers import Checker, Registry, Violation
from tests.simulation.conspiracy import Conspiracy
from tests.simulation.disk import Disk
from tests.simulation.network import Link
from tests.simulation.network import Network as Net
from tests.simulation.node import Node
from tests.simulation.process import Process
from tests.simulation.signatures import Ed25519Scheme, Scheme, StubScheme
from tests.simulation.timeline import Timeline
from tests.simulation.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.byzantine import Actor
    from tests.simulation.options import Options

CLOCK_START_MS: Final = 60_000
"""Wall clocks start this long after the genesis block, more than any clock error."""

MEMORY_CHECK_EVENTS: Final = 5_000
"""Events between looks at the engines' memory."""


class World:
    """One simulated network."""

    def __init__(self, options: Options, sink: Callable[[str], None] | None = None) -> None:
        self.options = options
        self.random = Random(options.seed)
        self.timeline = Timeline()
        self.trace = Trace(self.timeline, sink)
        self.timing = options.timing
        self.faults: Counter[str] = Counter()
        self.coverage: Counter[str] = Counter()
        """Rare paths of the code that were taken."""
        self.scheme: Scheme = (Ed25519Scheme if options.real_signatures else StubScheme)(
            options.seed
        )
        self.chain_id = Digest(sha256(f"chain {options.seed}".encode()).digest())
        self.validators = self._create_validators()
        self.order = leader_order(self.chain_id, Era(0), Epoch(0), self.validators)
        self.network = Network.create(self.chain_id, self.validators.hash)
        self.names: Final = {m.name: i for i, m in enumerate(self.validators)}
        self.byzantine: Final = {self.names[name]: what for name, what in options.byzantine}
        self.checker = Checker(
            self._create_registry(), self.network.genesis, self.network.genesis_hash
        )
        self.net = Net(self.timeline, self.random, self.trace, codec=options.codec)
        self.node_indexes: Final = tuple(range(self.validators.size + options.observers))
        self._peer_ids = [PeerId(bytes(m.node_key)) for m in self.validators] + [
            PeerId(sha256(f"observer {i}".encode()).digest()) for i in range(options.observers)
        ]
        self._peer_indexes = {peer: index for index, peer in enumerate(self._peer_ids)}
        self._disconnected: set[tuple[int, int]] = set()
        self.conspiracy = Conspiracy(self)
        self.nodes: dict[int, Node] = {}
        """Honest nodes by index."""
        self.actors: dict[int, Actor] = {}
        """Byzantine validators by index."""
        for index in self.node_indexes:
            self._add(index)

    # --- who is who -------------------------------------------------------------------------------

    def peer_id(self, index: int) -> PeerId:
        return self._peer_ids[index]

    def index_of_peer(self, peer: PeerId) -> int:
        return self._peer_indexes[peer]

    def leader(self, view: View) -> int:
        """Return the index of the leader of a view."""
        return self.order[view % len(self.order)]

    def is_quorum(self, members: list[int]) -> bool:
        """Count independently of the engine."""
        return self.checker.registry.is_quorum(sum(1 << member for member in members))

    def signer(self, member: int) -> Callable[[bytes], Signature]:
        """Return a validator's signing function; what a Byzantine one signs is registered."""
        sign = self.scheme.signer(PublicKey(self.validators[member].consensus_key))
        if member not in self.byzantine:
            return sign

        def sign_registered(message: bytes) -> Signature:
            key, statement = parse_signed(message)
            self.checker.registry.add(key, member, statement)
            return sign(message)

        return sign_registered

    # --- time and counting ------------------------------------------------------------------------

    def wall_ms(self) -> int:
        """Return the true wall time."""
        return GENESIS_TIME_MS + CLOCK_START_MS + self.timeline.now_ms

    def count(self, fault: str) -> None:
        """Count an injected fault."""
        self.faults[fault] += 1

    # --- life of nodes ----------------------------------------------------------------------------

    def create_node(self, index: int) -> Node:
        """Return a node of this index with an empty disk. Twins have two of one index."""
        member = index if index < self.validators.size else None
        return Node(index, member, Disk(self.timeline, self.random))

    def start(self) -> None:
        """Boot everything."""
        for index in self.node_indexes:
            if index in self.nodes:
                self.boot(self.nodes[index])
            else:
                self.actors[index].start()

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
        self.checker.check_memory(node)
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
        pair = (min(one, other), max(one, other))
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

    def _create_validators(self) -> ValidatorSet:
        sizes = (
            (Chamber.GOVERNMENT, "g", self.options.government),
            (Chamber.COMMERCIAL, "c", self.options.commercial),
        )
        return ValidatorSet(
            Validator(
                consensus_key=self.scheme.public_key(f"{letter}{i}"),
                chamber=chamber,
                node_key=PublicKey(sha256(f"node {letter}{i}".encode()).digest()),
                name=f"{letter}{i}",
                organisation=f"org-{letter}{i}",
            )
            for chamber, letter, size in sizes
            for i in range(size)
        )

    def _create_registry(self) -> Registry:
        masks = {
            chamber: sum(1 << i for i, m in enumerate(self.validators) if m.chamber is chamber)
            for chamber in Chamber
        }
        return Registry(
            masks[Chamber.GOVERNMENT],
            masks[Chamber.COMMERCIAL],
            sum(1 << index for index in self.byzantine),
        )

    def _add(self, index: int) -> None:
        if index in self.byzantine:
            actor = create_actor(self.byzantine[index], self, index)
            self.actors[index] = actor
            receiver = actor.on_packet
        else:
            node = self.create_node(index)
            self.nodes[index] = node

            def receiver(source: int, packet: object) -> None:
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
    if len(message) != 109 or not message.startswith(b"MBI-VOTE-v1"):
        raise Violation("I3", "a consensus key signed something else than a vote")

    def number(first: int, last: int) -> int:
        return int.from_bytes(message[first:last], "big")

    key = (number(48, 52), number(52, 60), number(60, 68))
    value = Value(View(number(69, 77)), Digest(message[77:109]))
    return key, (VoteKind(message[68]), value)
