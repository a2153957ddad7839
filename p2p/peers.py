"""The listed peers: who they are, whether they are up, and which of their connections counts.

The table is as large as the list that the node gives and never grows, whatever connects. Two nodes
that dial each other at the same moment make two connections; both ends keep the same one, see
:func:`is_preferred`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2p.errors import (
    DuplicateConnection,
    IdentityMismatch,
    PeerBanned,
    TooManyInbound,
    UnknownPeer,
)
from p2p.requests import OutstandingRequests
from p2p.scores import Score
from p2p.transport import PeerStatistics

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from consensus.inputs import PeerId
    from p2p.config import Limits, PeerConfig
    from p2p.messages import Hello
    from p2p.transport import Channel


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """What this node knows about one listed peer, for display and metrics."""

    peer_id: PeerId
    name: str
    is_connected: bool
    address: str
    """Of the connection, or the configured one."""
    is_inbound: bool
    agent: str
    """Empty if the peer was never up, like the fields below."""
    height: int | None
    """Last claimed; nothing depends on it."""
    round_trip_s: float | None
    connected_s: float | None
    """For how long it has been up."""
    points: int
    banned_for_s: float
    last_error: str
    """Code of what ended or refused the last connection."""
    statistics: PeerStatistics


class Peer:
    """One listed node."""

    def __init__(self, config: PeerConfig, limits: Limits) -> None:
        self.config = config
        self.is_listed = True
        """False for the moment between leaving the list and the end of its connection."""
        self.channel: Channel | None = None
        """The connection that counts; None while the peer is down."""
        self.hello: Hello | None = None
        self.up_since_s = 0.0
        self.last_error = ""
        self.is_refused_for_good = False
        """The last connection ended for a reason that repeating does not cure."""
        self.statistics = PeerStatistics()
        self.score = Score()
        self.requests = OutstandingRequests(limits.requests_max)
        self.down = asyncio.Event()
        """Set while there is no connection: the dialler waits for it."""
        self.down.set()

    @property
    def peer_id(self) -> PeerId:
        """Its node key."""
        return self.config.node_id

    def info(self, now_s: float) -> PeerInfo:
        """Return a snapshot."""
        channel = self.channel
        connection = channel.connection if channel else None
        configured = f"{self.config.host}:{self.config.port}" if self.config.port else ""
        return PeerInfo(
            peer_id=self.peer_id,
            name=self.config.name,
            is_connected=channel is not None,
            address=channel.address if channel else configured,
            is_inbound=channel is not None and channel.dialled is None,
            agent=self.hello.agent if self.hello else "",
            height=connection.peer_height if connection else None,
            round_trip_s=connection.round_trip_s if connection else None,
            connected_s=now_s - self.up_since_s if channel else None,
            points=self.score.points(now_s),
            banned_for_s=self.score.banned_for_s(now_s),
            last_error=self.last_error,
            statistics=self.statistics,
        )


class PeerTable:
    """All listed peers by node id."""

    def __init__(self, own_id: PeerId, configs: tuple[PeerConfig, ...], limits: Limits) -> None:
        self._own_id = own_id
        self._limits = limits
        self._peers = {c.node_id: Peer(c, limits) for c in configs if c.node_id != own_id}

    def update(self, configs: Iterable[PeerConfig]) -> tuple[list[Peer], list[Peer]]:
        """Take a new list; return the peers that were added or moved, and those that left it.

        What is known about a peer that stays is kept. One that left is refused from now on and is
        forgotten with its connection (:meth:`forget`).
        """
        wanted = {c.node_id: c for c in configs if c.node_id != self._own_id}
        changed = []
        for node_id, config in wanted.items():
            peer = self._peers.get(node_id)
            if peer is None:
                peer = self._peers[node_id] = Peer(config, self._limits)
            elif peer.is_listed and peer.config == config:
                continue
            peer.config = config
            peer.is_listed = True
            changed.append(peer)
        left = [p for p in self._peers.values() if p.is_listed and p.peer_id not in wanted]
        for peer in left:
            peer.is_listed = False
            self.forget(peer)
        return changed, left

    def forget(self, peer: Peer) -> None:
        """Drop a peer that left the list, unless its connection is still to end."""
        if not peer.is_listed and peer.channel is None:
            self._peers.pop(peer.peer_id, None)

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._peers.values())

    def get(self, peer_id: PeerId) -> Peer | None:
        """Return a configured peer."""
        return self._peers.get(peer_id)

    def connected(self) -> list[Peer]:
        """Return the peers that are up, in configured order."""
        return [peer for peer in self._peers.values() if peer.channel is not None]

    def identify(self, channel: Channel, node_id: PeerId, now_s: float) -> Peer:
        """Return the peer whose key TLS has proven.

        Raises:
            UnknownPeer, IdentityMismatch, PeerBanned, TooManyInbound: it is not welcome.
        """
        peer = self._peers.get(node_id)
        if peer is None or not peer.is_listed:
            raise UnknownPeer(f"expected a listed node id, received {node_id.hex()}")
        if channel.dialled is not None and channel.dialled != node_id:
            raise IdentityMismatch(
                f"expected {channel.dialled.hex()} at this address, found {node_id.hex()}"
            )
        if peer.score.banned_for_s(now_s) > 0:
            raise PeerBanned(f"refused for another {peer.score.banned_for_s(now_s):.0f} s")
        if channel.dialled is None:
            inbound = sum(p.channel is not None and p.channel.dialled is None for p in self)
            if inbound >= self._limits.inbound_max:
                raise TooManyInbound(f"expected at most {self._limits.inbound_max} connections")
        return peer

    def check_duplicate(self, peer: Peer, channel: Channel) -> None:
        """Decide between a new connection and the one that is up.

        Raises:
            DuplicateConnection: the one that is up stays.
        """
        current = peer.channel
        if current is None:
            return
        if (current.dialled is None) == (channel.dialled is None):
            raise DuplicateConnection("this node is connected already")
        if not is_preferred(
            self._own_id, peer.peer_id, is_dialled_here=channel.dialled is not None
        ):
            raise DuplicateConnection("the connection dialled by the smaller node id is kept")


def is_preferred(own_id: PeerId, peer_id: PeerId, *, is_dialled_here: bool) -> bool:
    """Tell whether this is the direction both ends keep: the one dialled by the smaller node id.

    Of two connections in the same direction the older one stays. A second process with a copied key
    thus cannot push out the first, and a connection whose other end died ends by silence within
    seconds.
    """
    return (own_id < peer_id) == is_dialled_here
