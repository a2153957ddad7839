"""The network as the node sees it: peers come and go, messages arrive, messages are sent.

:class:`Network` composes the parts and owns their tasks: one accepts, one per configured address
dials, one beats. Nothing here waits for a peer: sending queues, and everything received is handed
to the handler on the loop at once. The handler's callbacks must be quick; a node posts into its own
queues.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import nullcontext
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol, cast, get_args, overload

import structlog

from ledger.types import PublicKey
from p2p.dialler import Dialler
from p2p.errors import (
    CHANNEL_CODES,
    ChannelError,
    ConnectionLost,
    DuplicateConnection,
    FrameTooLarge,
    HandshakeError,
    Misbehaved,
    PeerLeft,
    PeerUnavailable,
    ShuttingDown,
    UnknownPeer,
)
from p2p.frames import encode_frame
from p2p.gossip import Batcher
from p2p.identity import load_identity
from p2p.listener import Listener, listen
from p2p.messages import (
    Answer,
    BlockAnswer,
    ChainAnswer,
    GetBlock,
    GetChain,
    GetTransactions,
    Hello,
    Message,
    Priority,
    Request,
    Transactions,
    encode_message,
)
from p2p.peers import Peer, PeerInfo, PeerTable
from p2p.protocol import Connection
from p2p.transport import Admission, Channel, Measure

if TYPE_CHECKING:
    import socket
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from consensus.inputs import PeerId
    from p2p.config import NetworkConfig, PeerConfig
    from p2p.errors import MessageError

log = structlog.get_logger("p2p")

_ANSWERS: Final = get_args(Answer)

REFUSED_FOR_GOOD: Final = frozenset(
    {"unknown_peer", "identity_mismatch", "wrong_genesis", "version_unsupported"}
)
"""Codes after which dialling again soon is useless, whichever side gave them."""


class Handler(Protocol):
    """What the node does about network events; synchronous and quick, called on the loop."""

    def on_connected(self, peer: PeerId, info: PeerInfo) -> None:
        """Take note that the peer is up: its hello was accepted."""

    def on_disconnected(self, peer: PeerId) -> None:
        """Take note that the peer is down; follows every ``on_connected``."""

    def on_message(self, peer: PeerId, message: Message) -> None:
        """Take a decoded consensus message, transaction batch or request of the peer."""


class Network:
    """Authenticated channels to all configured peers.

    ``bind`` (or ``run``) opens the port; ``run`` returns after ``stop`` and raises what the handler
    raised.
    """

    def __init__(
        self, config: NetworkConfig, handler: Handler, measure: Measure = nullcontext
    ) -> None:
        self.height = 0
        """Own executed height, told to peers for display; kept up to date by the node."""
        self.refusals: Counter[str] = Counter()
        """Connections refused after TLS and before they were up, by code."""
        self._config = config
        self._handler = handler
        self._measure = measure
        self._identity = load_identity(
            config.node_key_path, config.certificate_path, config.ca_path
        )
        self._table = PeerTable(self._identity.node_id, config.peers, config.limits)
        self._batcher = Batcher()
        self._batch_waits = asyncio.Event()
        self._socket: socket.socket | None = None
        self._listener: Listener | None = None
        self._channels: set[Channel] = set()
        self._group: asyncio.TaskGroup | None = None
        """Of the tasks; None unless the network runs."""
        self._diallers: dict[PeerId, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()
        self._failure: Exception | None = None
        self._refusals_logged = 0

    # --- life -------------------------------------------------------------------------------------

    @property
    def node_id(self) -> PeerId:
        """Own node key."""
        return self._identity.node_id

    @property
    def certificate_expires_at(self) -> datetime:
        """End of the validity of the own certificate; no peer accepts it afterwards."""
        return self._identity.expires_at

    @property
    def address(self) -> tuple[str, int]:
        """Where this node listens; known after :meth:`bind`."""
        if self._socket is None:
            raise RuntimeError("the network has no address before bind()")
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    def bind(self) -> None:
        """Open the port, so that a wrong address is known before anything else starts.

        Raises:
            OSError: the address is in use or not ours.
        """
        if self._socket is None:
            self._socket = listen(self._config.host, self._config.port)

    async def run(self) -> None:
        """Serve until :meth:`stop`, then say Goodbye and close everything."""
        self.bind()
        limits = self._config.limits
        self._listener = Listener(
            cast("socket.socket", self._socket),
            self._identity.server_context,
            limits,
            lambda address: self._make_channel(address, None),
        )
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._listener.run(), name="p2p listener"),
                    group.create_task(self._beat(), name="p2p heartbeat"),
                    group.create_task(self._flush_batches(), name="p2p gossip"),
                ]
                self._group = group
                for peer in self._table:
                    self._start_dialling(peer)
                await self._stopping.wait()
                self._group = None
                for task in (*tasks, *self._diallers.values()):
                    task.cancel()
        finally:
            await self._close_all()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Make :meth:`run` close everything and return."""
        self._stopping.set()

    def update_peers(self, configs: Iterable[PeerConfig]) -> None:
        """Take a new list of peers: dial who is new, refuse and disconnect who is not on it."""
        changed, left = self._table.update(configs)
        for peer in (*changed, *left):
            task = self._diallers.pop(peer.peer_id, None)
            if task is not None:
                task.cancel()
        gone = {peer.peer_id for peer in left}
        for channel in [c for c in self._channels if c.peer_id in gone]:
            channel.close(UnknownPeer("this node is not listed any more"))
        for peer in left:
            log.info("peer unlisted", peer=peer.config.name)
        for peer in changed:
            log.info("peer listed", peer=peer.config.name)
            self._start_dialling(peer)

    # --- sending ----------------------------------------------------------------------------------

    def send(self, peer_id: PeerId, message: Message, *, priority: Priority) -> bool:
        """Queue a message for one peer; return False if it is not connected or its queue refuses.

        Raises:
            FrameTooLarge: no peer would accept this message.
        """
        peer = self._table.get(peer_id)
        if peer is None or peer.channel is None:
            return False
        return peer.channel.send(encode_frame(encode_message(message)), priority)

    def broadcast(
        self, message: Message, *, priority: Priority, exclude: Collection[PeerId] = ()
    ) -> None:
        """Queue a message, encoded once, for every connected peer except some."""
        frame = encode_frame(encode_message(message))
        for peer in self._table.connected():
            if peer.peer_id not in exclude and peer.channel is not None:
                peer.channel.send(frame, priority)

    def gossip(self, wires: Sequence[bytes], *, exclude: Collection[PeerId] = ()) -> None:
        """Send transactions to every connected peer except some, batched with others."""
        recipients = tuple(p.peer_id for p in self._table.connected() if p.peer_id not in exclude)
        for to, batch in self._batcher.add(wires, recipients, self._now_s()):
            self._send_batch(to, batch)
        if self._batcher.due_s is not None:
            self._batch_waits.set()

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
        """Send a request under a fresh id and return its answer; the id in ``message`` is ignored.

        Raises:
            PeerUnavailable: not connected, or the connection ended meanwhile.
            RequestTimedOut: no answer in time.
            TooManyRequests: too many wait for this peer already.
        """
        peer = self._table.get(peer_id)
        if peer is None or peer.channel is None:
            raise PeerUnavailable(f"{peer_id.hex()} is not connected")
        # Requests are small and somebody waits, so they do not queue behind answers.
        return await peer.requests.ask(
            message,
            timeout_s,
            lambda numbered: self.send(peer_id, numbered, priority=Priority.CONSENSUS),
        )

    def penalise(self, peer_id: PeerId, reason: str, points: int) -> None:
        """Charge a peer for a fault that only the node can see; at the limit it is banned."""
        peer = self._table.get(peer_id)
        if peer is not None:
            peer.statistics.refusals[reason] += 1
            self._charge(peer, reason, points)

    def peers(self) -> list[PeerInfo]:
        """Return every listed peer, connected or not, in the order of the list."""
        now_s = self._now_s()
        return [peer.info(now_s) for peer in self._table]

    def queued_bytes(self, peer_id: PeerId) -> int:
        """Return how much waits to be sent to a peer; what its transport holds is not counted."""
        peer = self._table.get(peer_id)
        return 0 if peer is None or peer.channel is None else peer.channel.queued_bytes

    def connected(self) -> list[PeerId]:
        """Return the ids of the peers that are up."""
        return [peer.peer_id for peer in self._table.connected()]

    def tls_failures(self) -> dict[str, int]:
        """Return connections that ended before TLS was up, by reason."""
        return dict(self._listener.failures) if self._listener else {}

    def tls_failures_by_address(self) -> dict[str, int]:
        """Return the same by remote host."""
        return dict(self._listener.failures_by_address) if self._listener else {}

    # --- ChannelOwner -----------------------------------------------------------------------------

    def on_identified(self, channel: Channel, node_id: PeerId) -> Admission:
        """Give a conversation to a configured node."""
        self._channels.add(channel)
        peer = self._table.identify(channel, node_id, self._now_s())
        own = Hello(
            version_min=self._config.versions[0],
            version_max=self._config.versions[1],
            genesis_hash=self._config.genesis_hash,
            node_id=PublicKey(self.node_id),
            height=self.height,
            agent=self._config.agent,
        )
        return Admission(Connection(own, node_id, self._config.limits), peer.statistics)

    def on_ready(self, channel: Channel, hello: Hello) -> None:
        """Make this the peer's connection, unless another one is preferred."""
        peer = self._peer_of(channel)
        self._table.check_duplicate(peer, channel)
        if peer.channel is not None:
            peer.channel.close(DuplicateConnection("the other connection is kept"))
        peer.channel = channel
        peer.hello = hello
        peer.up_since_s = self._now_s()
        peer.is_refused_for_good = False
        peer.statistics.connections += 1
        peer.down.clear()
        channel.decided.set()
        info = peer.info(self._now_s())
        log.info(
            "peer connected", peer=peer.config.name, inbound=info.is_inbound, agent=hello.agent
        )
        self._handler.on_connected(peer.peer_id, info)

    def on_channel_message(self, channel: Channel, message: Message) -> None:
        """Answers go to who asked, everything else to the node."""
        peer = self._peer_of(channel)
        if isinstance(message, _ANSWERS):
            peer.requests.resolve(message)
        else:
            self._handler.on_message(peer.peer_id, message)

    def on_refused(self, channel: Channel, error: MessageError) -> None:
        """Count a refused message; a peer that sends many is closed and banned."""
        peer = self._peer_of(channel)
        peer.statistics.refusals[error.code] += 1
        self._charge(peer, error.code, error.points)

    def on_closed(self, channel: Channel, error: ChannelError) -> None:
        """Forget a connection, and tell the node if it was the one that counted."""
        channel.decided.set()
        peer = None if channel.peer_id is None else self._table.get(channel.peer_id)
        if peer is None or peer.channel is not channel:
            self._note_refusal(peer, error)
            return
        peer.channel = None
        peer.last_error = _code_of(error)
        peer.requests.fail_all(f"connection ended: {peer.last_error}")
        peer.down.set()
        log.info(
            "peer disconnected", peer=peer.config.name, reason=peer.last_error, detail=str(error)
        )
        self._handler.on_disconnected(peer.peer_id)
        self._table.forget(peer)
        if error.points:
            peer.statistics.refusals[error.code] += 1
            self._charge(peer, error.code, error.points)

    def on_gone(self, channel: Channel) -> None:
        """Forget the channel."""
        self._channels.discard(channel)

    def on_failure(self, error: Exception) -> None:
        """End the network with the first defect; the node ends with it."""
        if self._failure is None:
            self._failure = error
        self._stopping.set()

    # --- inside -----------------------------------------------------------------------------------

    def _make_channel(self, address: str, dialled: PeerId | None) -> Channel:
        return Channel(self, self._config.limits, address, dialled, self._measure)

    def _start_dialling(self, peer: Peer) -> None:
        if peer.config.port is not None and self._group is not None:
            name = f"p2p dialler {peer.config.name}"
            task = self._group.create_task(self._dialler(peer).run(), name=name)
            self._diallers[peer.peer_id] = task

    def _dialler(self, peer: Peer) -> Dialler:
        return Dialler(
            peer,
            self._identity.client_context,
            self._config.limits,
            has_head_start=self.node_id < peer.peer_id,
            make_channel=lambda address: self._make_channel(address, peer.peer_id),
        )

    def _peer_of(self, channel: Channel) -> Peer:
        peer = None if channel.peer_id is None else self._table.get(channel.peer_id)
        if peer is None:
            raise RuntimeError("an event came from a channel that was never admitted")
        return peer

    def _note_refusal(self, peer: Peer | None, error: ChannelError) -> None:
        """Count a connection that never came up, or one of two that was not kept."""
        code = _code_of(error)
        self.refusals[code] += 1
        if peer is None:
            return
        if peer.channel is None:
            peer.last_error = code
            peer.is_refused_for_good = code in REFUSED_FOR_GOOD
        if not isinstance(error, HandshakeError | ConnectionLost | PeerLeft):
            peer.statistics.refusals[code] += 1
            self._charge(peer, code, error.points)

    def _charge(self, peer: Peer, reason: str, points: int) -> None:
        if peer.score.add(points, self._now_s()):
            log.warning("peer banned", peer=peer.config.name, reason=reason)
            if peer.channel is not None:
                peer.channel.close(Misbehaved(f"score exceeded, last by {reason}"))

    def _send_batch(self, recipients: tuple[PeerId, ...], message: Message) -> None:
        frame = encode_frame(encode_message(message))
        for peer_id in recipients:
            peer = self._table.get(peer_id)
            if peer is not None and peer.channel is not None:
                peer.channel.send(frame, Priority.TRANSACTIONS)

    async def _flush_batches(self) -> None:
        """Send what gossip has collected, when it is due."""
        while True:
            await self._batch_waits.wait()
            self._batch_waits.clear()
            due_s = self._batcher.due_s
            if due_s is not None:
                await asyncio.sleep(due_s - self._now_s())
                with self._measure():
                    for recipients, batch in self._batcher.flush(self._now_s()):
                        self._send_batch(recipients, batch)

    async def _beat(self) -> None:
        """Ping every peer, find the silent ones, and sum up refusals in one line."""
        while True:
            await asyncio.sleep(self._config.limits.heartbeat_s)
            for peer in self._table.connected():
                if peer.channel is not None:
                    peer.channel.heartbeat(self.height)
            refused = self.refusals.total() + sum(self.tls_failures().values())
            if refused != self._refusals_logged:
                self._refusals_logged = refused
                log.warning(
                    "connections refused", tls=self.tls_failures(), hello=dict(self.refusals)
                )

    async def _close_all(self) -> None:
        """Say Goodbye everywhere, give the sockets a moment, then drop what is left."""
        if self._socket is not None:
            self._socket.close()
        channels = list(self._channels)
        for channel in channels:
            channel.close(ShuttingDown("the node is stopping"))
        for channel in channels:
            await channel.wait_gone(self._config.limits.tls_close_s)

    @staticmethod
    def _now_s() -> float:
        # Not the loop's time: uvloop's has steps of a millisecond, ten round trips on a local link.
        return monotonic()


def _code_of(error: ChannelError) -> str:
    """Return why a connection ended, in the words of the side that ended it if they are known."""
    if isinstance(error, PeerLeft) and error.reason in CHANNEL_CODES:
        return error.reason
    return error.code


__all__ = ["FrameTooLarge", "Handler", "Network"]
