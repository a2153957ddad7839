"""Validators that break the rules, as named actors.

Those here run the real engine and lie about what it says: :class:`Twins`, :class:`Withholder`,
:class:`Liar`, :class:`FalseServer`, :class:`Slow`, :class:`Flapper`; :class:`Silent` says nothing.
Those in :mod:`tests.simulation.puppets` keep no promise at all. All Byzantine validators of a run
work together: they share what they hear in one
:class:`~tests.simulation.conspiracy.Conspiracy`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from consensus.types import CertificateMessage, Proposal
from ledger.votes import Vote
from p2p.messages import (
    BlockAnswer,
    ChainAnswer,
    Message,
    TransactionBatch,
    Transactions,
    encode_message,
)
from tests.simulation.distortion import distort
from tests.simulation.puppets import Equivocator, Flooder, Forger

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.simulation.node import Filter, Node
    from tests.simulation.world import World


class Actor(Protocol):
    """A Byzantine validator."""

    def start(self) -> None:
        """Begin."""
        ...

    def on_packet(self, source: int, packet: bytes) -> None:
        """Take a message from the network."""
        ...


class EngineActor:
    """Runs the real engine and changes what it says."""

    def __init__(self, world: World, index: int) -> None:
        self.world = world
        self.random: Random = world.random
        self.node: Node = world.create_node(index)
        self.node.filter = self.filter

    def start(self) -> None:
        self.world.boot(self.node)

    def on_packet(self, source: int, packet: bytes) -> None:
        if self.node.process is not None:
            self.node.process.on_packet(source, packet)

    def filter(self, target: int, message: Message) -> Message | None:
        """Return what is sent instead, or None for nothing."""
        return message


class Withholder(EngineActor):
    """Sends proposals, votes and answers to some nodes only, others in each view."""

    def filter(self, target: int, message: Message) -> Message | None:
        if isinstance(message, BlockAnswer | TransactionBatch | CertificateMessage):
            return self._some(message, 0.3)
        if isinstance(message, Proposal | Vote):
            return self._some(message, 0.5)
        return message

    def _some(self, message: Message, share: float) -> Message | None:
        if self.random.random() < share:
            return message
        self.world.count("withheld message")
        return None


class Liar(EngineActor):
    """Distorts a part of what it sends: status, certificates, blocks served, votes, bytes."""

    def filter(self, target: int, message: Message) -> Message | None:
        if self.random.random() < 0.6:
            return message
        self.world.count("distorted message")
        if self.random.random() < 0.3:
            data = bytearray(encode_message(message))
            for _ in range(self.random.randint(1, 3)):
                data[self.random.randrange(len(data))] = self.random.randrange(256)
            self.world.net.send_packet(self.node.index, target, bytes(data))
            return None
        return distort(message, self.random)


class FalseServer(EngineActor):
    """Votes by the rules, but serves blocks, chains and transactions falsely or not at all."""

    def filter(self, target: int, message: Message) -> Message | None:
        if not isinstance(message, BlockAnswer | ChainAnswer | Transactions):
            return message
        self.world.count("false answer")
        return distort(message, self.random) if self.random.random() < 0.8 else None


class Slow(EngineActor):
    """Says everything seconds late."""

    def filter(self, target: int, message: Message) -> Message | None:
        self.world.count("late message")
        delay_ms = self.random.randint(500, 5_000)
        self.world.timeline.after(delay_ms, self.world.net.send, self.node.index, target, message)
        return None


class Flapper(EngineActor):
    """Deaf and mute every other moment."""

    def start(self) -> None:
        self._is_mute = False
        super().start()
        self._flap()

    def on_packet(self, source: int, packet: bytes) -> None:
        if not self._is_mute:
            super().on_packet(source, packet)

    def filter(self, target: int, message: Message) -> Message | None:
        return None if self._is_mute else message

    def _flap(self) -> None:
        self._is_mute = not self._is_mute
        self.world.count("flapping")
        self.world.timeline.after(self.random.randint(100, 6_000), self._flap)


class Silent:
    """Says nothing; its channel is open."""

    def __init__(self, world: World, index: int) -> None:
        world.trace.record(f"{index} stays silent")

    def start(self) -> None:
        """Do nothing."""

    def on_packet(self, source: int, packet: bytes) -> None:
        """Do nothing."""


class Twins:
    """Two honest engines with one key and separate disks; a peer sees one, both or none per view.

    The scenario of the Twins paper (Bano et al., OPODIS 2021): everything a Byzantine validator can
    do by pretending different things to different peers, without writing an attack.
    """

    def __init__(self, world: World, index: int) -> None:
        self.world = world
        self._masks: dict[tuple[int, int, int], int] = {}
        self._nodes = [world.create_node(index), world.create_node(index)]
        for bit, node in enumerate(self._nodes):
            node.filter = self._filter_of(1 << bit)

    def start(self) -> None:
        for node in self._nodes:
            self.world.boot(node)

    def on_packet(self, source: int, packet: bytes) -> None:
        message = self.world.net.unpack(packet)
        if message is None:
            return
        mask = self._mask(source, message)
        for bit, node in enumerate(self._nodes):
            if mask >> bit & 1 and node.process is not None:
                node.process.on_packet(source, packet)

    def _filter_of(self, bit: int) -> Filter:
        def keep(target: int, message: Message) -> Message | None:
            return message if self._mask(target, message) & bit else None

        return keep

    def _mask(self, peer: int, message: Message) -> int:
        view: int | None = getattr(message, "view", None)
        if view is None:
            view = self.world.timeline.now_ms // 1_000
        key = (peer, getattr(message, "epoch", 0), view)
        if key not in self._masks:
            self._masks[key] = self.world.random.choice((1, 1, 2, 2, 3, 0))
            self.world.count("twin mask")
        return self._masks[key]


ACTORS: Final[dict[str, Callable[[World, int], Actor]]] = {
    "equivocator": Equivocator,
    "twins": Twins,
    "withholder": Withholder,
    "liar": Liar,
    "false server": FalseServer,
    "slow": Slow,
    "forger": Forger,
    "flooder": Flooder,
    "flapper": Flapper,
    "silent": Silent,
}


def create_actor(behaviour: str, world: World, index: int) -> Actor:
    """Return the actor of a behaviour's name."""
    return ACTORS[behaviour](world, index)
