"""A network without sockets: nodes of one process, for tests of whatever sits on a network.

:class:`MemoryNetwork` has the interface of :class:`p2p.network.Network` and the same habits:
messages are encoded and strictly decoded, arrive on the loop and in order, and requests are matched
and bounded alike. There is no TLS, no limit on rates or queues, and links can be cut by hand.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, cast, get_args, overload

from p2p.config import Limits, PeerConfig
from p2p.errors import MessageError, PeerUnavailable
from p2p.messages import (
    Answer,
    BlockAnswer,
    ChainAnswer,
    GetBlock,
    GetChain,
    GetTransactions,
    Message,
    Priority,
    Request,
    TransactionBatch,
    Transactions,
    decode_message,
    encode_message,
)
from p2p.peers import Peer, PeerInfo

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from consensus.inputs import PeerId
    from p2p.network import Handler


class MemoryHub:
    """Connects every running network of the hub with every other, except where a link is cut."""

    def __init__(self) -> None:
        self._running: dict[PeerId, MemoryNetwork] = {}
        self._cut: set[frozenset[PeerId]] = set()

    def start(self, network: MemoryNetwork) -> None:
        """Connect a network to all that run."""
        others = list(self._running.values())
        self._running[network.node_id] = network
        for other in others:
            self._link(network, other)

    def stop(self, network: MemoryNetwork) -> None:
        """Disconnect a network from everyone."""
        self._running.pop(network.node_id, None)
        for other in list(self._running.values()):
            self._unlink(network, other)

    def cut(self, one: PeerId, other: PeerId) -> None:
        """Take down the link between two nodes until :meth:`heal`."""
        self._cut.add(frozenset((one, other)))
        if one in self._running and other in self._running:
            self._unlink(self._running[one], self._running[other])

    def heal(self, one: PeerId, other: PeerId) -> None:
        """Bring the link back."""
        self._cut.discard(frozenset((one, other)))
        if one in self._running and other in self._running:
            self._link(self._running[one], self._running[other])

    def carry(self, sender: PeerId, recipient: PeerId, payload: bytes) -> None:
        """Deliver a message in the next turn of the loop, unless the link is gone by then."""
        asyncio.get_running_loop().call_soon(self._deliver, sender, recipient, payload)

    def _deliver(self, sender: PeerId, recipient: PeerId, payload: bytes) -> None:
        network = self._running.get(recipient)
        if network is not None:
            network.receive(sender, payload)

    def _link(self, one: MemoryNetwork, other: MemoryNetwork) -> None:
        if frozenset((one.node_id, other.node_id)) not in self._cut:
            one.connect(other.node_id)
            other.connect(one.node_id)

    def _unlink(self, one: MemoryNetwork, other: MemoryNetwork) -> None:
        one.disconnect(other.node_id)
        other.disconnect(one.node_id)


class MemoryNetwork:
    """One node's view of a :class:`MemoryHub`."""

    def __init__(self, hub: MemoryHub, node_id: PeerId, handler: Handler) -> None:
        self.height = 0
        self.node_id = node_id
        self._hub = hub
        self._handler = handler
        self._peers: dict[PeerId, Peer] = {}
        self._stopping = asyncio.Event()
        self._failure: Exception | None = None

    @property
    def address(self) -> tuple[str, int]:
        """No address: there is no socket."""
        return ("memory", 0)

    def bind(self) -> None:
        """Do nothing: there is no port."""

    async def run(self) -> None:
        """Be connected until :meth:`stop`; raise what the handler raised."""
        self._hub.start(self)
        try:
            await self._stopping.wait()
        finally:
            self._hub.stop(self)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Make :meth:`run` return."""
        self._stopping.set()

    def send(self, peer_id: PeerId, message: Message, *, priority: Priority) -> bool:
        """Send to one peer; return False if it is not connected."""
        if peer_id not in self._peers:
            return False
        self._hub.carry(self.node_id, peer_id, encode_message(message))
        return True

    def broadcast(
        self, message: Message, *, priority: Priority, exclude: Collection[PeerId] = ()
    ) -> None:
        """Send to every connected peer except some."""
        for peer_id in self._peers:
            if peer_id not in exclude:
                self.send(peer_id, message, priority=priority)

    def gossip(self, wires: Sequence[bytes], *, exclude: Collection[PeerId] = ()) -> None:
        """Send transactions to every connected peer except some."""
        if wires:
            batch = TransactionBatch(tuple(wires))
            self.broadcast(batch, priority=Priority.TRANSACTIONS, exclude=exclude)

    @overload
    async def request(
        self, peer_id: PeerId, message: GetTransactions, timeout_s: float
    ) -> Transactions: ...
    @overload
    async def request(
        self, peer_id: PeerId, message: GetBlock, timeout_s: float
    ) -> BlockAnswer: ...
    @overload
    async def request(
        self, peer_id: PeerId, message: GetChain, timeout_s: float
    ) -> ChainAnswer: ...
    async def request(self, peer_id: PeerId, message: Request, timeout_s: float) -> Answer:
        """Ask, as :meth:`p2p.network.Network.request` does, with the same errors."""
        peer = self._peers.get(peer_id)
        if peer is None:
            raise PeerUnavailable(f"{peer_id.hex()} is not connected")
        return await peer.requests.ask(
            message,
            timeout_s,
            lambda numbered: self.send(peer_id, numbered, priority=Priority.CONSENSUS),
        )

    def penalise(self, peer_id: PeerId, reason: str, points: int) -> None:
        """Count the fault; nobody is banned in memory."""
        if peer_id in self._peers:
            self._peers[peer_id].statistics.refusals[reason] += 1

    def peers(self) -> list[PeerInfo]:
        """Return the connected peers."""
        return [_info(peer) for peer in self._peers.values()]

    def connected(self) -> list[PeerId]:
        """Return the ids of the peers that are up."""
        return list(self._peers)

    # --- from the hub -----------------------------------------------------------------------------

    def connect(self, peer_id: PeerId) -> None:
        """Bring a peer up."""
        if peer_id not in self._peers:
            config = PeerConfig(peer_id.hex()[:8], peer_id, "memory", None)
            peer = self._peers[peer_id] = Peer(config, Limits())
            self._handler.on_connected(peer_id, _info(peer))

    def disconnect(self, peer_id: PeerId) -> None:
        """Take a peer down."""
        peer = self._peers.pop(peer_id, None)
        if peer is not None:
            peer.requests.fail_all("the link is down")
            self._handler.on_disconnected(peer_id)

    def receive(self, peer_id: PeerId, payload: bytes) -> None:
        """Take a message off the link."""
        peer = self._peers.get(peer_id)
        if peer is None:
            return
        try:
            message = decode_message(payload)
            if isinstance(message, get_args(Answer)):
                peer.requests.resolve(cast("Answer", message))
            else:
                self._handler.on_message(peer_id, message)
        except MessageError as error:
            peer.statistics.refusals[error.code] += 1
        except Exception as error:
            self._failure = error
            self._stopping.set()


def _info(peer: Peer) -> PeerInfo:
    """Return the snapshot of a peer that is up: in memory only such peers are known."""
    return replace(peer.info(0.0), is_connected=True)
