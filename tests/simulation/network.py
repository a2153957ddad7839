"""A network between simulated nodes that may do anything to a message except forge it.

Each directed link has its own delay distribution, loss and duplication, and may be cut (messages
are lost) or clogged (messages wait and leave later, in another order). After :meth:`Network.heal`
every link between the given nodes delivers within a bound and loses nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from p2p.errors import P2PError
from p2p.messages import decode_message, encode_message
from tests.simulation.trace import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from random import Random

    from p2p.messages import Message
    from tests.simulation.timeline import Timeline
    from tests.simulation.trace import Trace

DECODED_MAX: Final = 4_096
"""Messages remembered with their bytes; they are decoded once, not by every receiver."""


@dataclass(slots=True)
class Link:
    """One direction between two nodes."""

    delay_min_ms: int = 1
    delay_spread_ms: int = 10
    """Delays are uniform in [min, min + spread]: a spread above the sending interval reorders."""
    loss_percent: int = 0
    duplicate_percent: int = 0
    is_cut: bool = False
    is_clogged: bool = False
    waiting: list[bytes] = field(default_factory=list)


class Network:
    """All links, and the receivers behind them."""

    def __init__(self, timeline: Timeline, random: Random, trace: Trace) -> None:
        self.faults: Counter[str] = Counter()
        self.sent = 0
        self.links: dict[tuple[int, int], Link] = {}
        self._timeline = timeline
        self._random = random
        self._trace = trace
        self._decoded: dict[bytes, Message | None] = {}
        self._receivers: dict[int, Callable[[int, bytes], None]] = {}

    def attach(self, node: int, receiver: Callable[[int, bytes], None], link: Link) -> None:
        """Connect a node to all others by links like ``link``."""
        for other in self._receivers:
            for pair in ((node, other), (other, node)):
                self.links[pair] = Link(
                    link.delay_min_ms,
                    link.delay_spread_ms,
                    link.loss_percent,
                    link.duplicate_percent,
                )
        self._receivers[node] = receiver

    def unpack(self, packet: bytes) -> Message | None:
        """Return the message that bytes stand for; None if they are none."""
        decoded = self._decoded
        if packet in decoded:
            return decoded[packet]
        message: Message | None = None
        try:
            message = decode_message(packet)
        except P2PError:
            self.faults["malformed message refused"] += 1
        if len(decoded) >= DECODED_MAX:
            decoded.clear()
        decoded[packet] = message
        return message

    def send(self, source: int, target: int, message: Message) -> None:
        """Send one message over one link."""
        self.multicast(source, (target,), message)

    def multicast(self, source: int, targets: Collection[int], message: Message) -> None:
        """Send one message to several nodes, encoding it once."""
        if self._trace.is_on:
            self._trace.record(f"{source} sends {describe(message)} to {targets}")
        packet = encode_message(message)
        for target in targets:
            self.send_packet(source, target, packet)

    def send_packet(self, source: int, target: int, packet: bytes) -> None:
        """Send what may be mutated bytes over one link."""
        self.sent += 1
        link = self.links[source, target]
        if link.is_cut:
            self.faults["lost in a cut"] += 1
            return
        if link.is_clogged:
            link.waiting.append(packet)
            return
        if link.loss_percent and self._random.random() * 100 < link.loss_percent:
            self.faults["lost"] += 1
            return
        self._deliver_later(source, target, link, packet)
        if link.duplicate_percent and self._random.random() * 100 < link.duplicate_percent:
            self.faults["duplicated"] += 1
            self._deliver_later(source, target, link, packet)

    def cut(self, pairs: Collection[tuple[int, int]]) -> None:
        """Make exactly these links lose everything; all other cuts end."""
        for pair, link in self.links.items():
            link.is_cut = pair in pairs

    def clog(self, pair: tuple[int, int]) -> None:
        """Make messages of a link wait."""
        self.links[pair].is_clogged = True
        self.faults["clogged link"] += 1

    def unclog(self, pair: tuple[int, int]) -> None:
        """Release the waiting messages of a link in random order."""
        link = self.links[pair]
        link.is_clogged = False
        waiting, link.waiting = link.waiting, []
        self._random.shuffle(waiting)
        for packet in waiting:
            self._deliver_later(*pair, link, packet)

    def heal(self, nodes: Collection[int], delay_max_ms: int) -> None:
        """Let every link between these nodes deliver everything within ``delay_max_ms``."""
        for (source, target), link in self.links.items():
            if source in nodes and target in nodes:
                link.delay_min_ms = 1
                link.delay_spread_ms = delay_max_ms - 1
                link.loss_percent = link.duplicate_percent = 0
                link.is_cut = False
                if link.is_clogged:
                    self.unclog((source, target))

    def isolate(self, node: int) -> None:
        """Cut a node off from everybody."""
        for pair, link in self.links.items():
            if node in pair:
                link.is_cut = True

    def _deliver_later(self, source: int, target: int, link: Link, packet: bytes) -> None:
        delay_ms = link.delay_min_ms + int(self._random.random() * (link.delay_spread_ms + 1))
        self._timeline.after(delay_ms, self._receivers[target], source, packet)
