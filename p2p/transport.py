"""One TLS connection on the event loop: the only place where bytes meet a socket.

A :class:`Channel` carries bytes from its transport to a :class:`p2p.protocol.Connection` and acts
on the events, and carries frames from a :class:`p2p.queues.SendQueue` to the transport: everything
queued in one turn of the loop leaves in one write, and nothing is written while the transport is
full, so that the queue, which knows priorities, is the only place where much can wait. What a
channel means is decided by its owner.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol, cast

from p2p.errors import ChannelError, ConnectionLost, HandshakeError, MessageError, SlowPeer
from p2p.frames import encode_frame
from p2p.identity import node_id_of
from p2p.messages import Priority, encode_message, goodbye
from p2p.protocol import (
    Closed,
    Connection,
    Event,
    MessageReceived,
    MessageRefused,
    PeerReady,
    SendFrame,
)
from p2p.queues import SendQueue

if TYPE_CHECKING:
    import ssl

    from consensus.inputs import PeerId
    from p2p.config import Limits
    from p2p.messages import Hello, Message

WRITE_BYTES: Final = 128 * 1024
"""Size of one coalesced write: eight full TLS records, below a millisecond of encryption."""

TRANSPORT_BUFFER_BYTES: Final = 128 * 1024
"""The transport reports itself full beyond this. What it holds can no longer be overtaken by a
vote."""

UNSENT_BYTES_MAX: Final = 128 * 1024
"""The same for the kernel (TCP_NOTSENT_LOWAT); what is in flight is not counted, so far links stay
fast."""


@dataclass(slots=True)
class PeerStatistics:
    """Counters of one peer since the start of the process, over all its connections."""

    connections: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    messages_in: int = 0
    messages_out: int = 0
    drops: Counter[str] = field(default_factory=Counter)
    """Frames to the peer that were not sent, by reason."""
    refusals: Counter[str] = field(default_factory=Counter)
    """Messages and connections from the peer that were refused, by code."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What the owner gives to a channel whose TLS identity it accepts."""

    connection: Connection
    statistics: PeerStatistics


Measure = Callable[[], AbstractContextManager[None]]
"""Makes a context whose work is charged to the network."""


class ChannelOwner(Protocol):
    """Decides about channels; called on the loop, must not block."""

    def on_identified(self, channel: Channel, node_id: PeerId) -> Admission:
        """TLS is up. Raises HandshakeError to refuse this node."""

    def on_ready(self, channel: Channel, hello: Hello) -> None:
        """Hello is accepted. Raises HandshakeError to refuse this connection."""

    def on_channel_message(self, channel: Channel, message: Message) -> None:
        """Take a message. Raises MessageError to refuse it."""

    def on_refused(self, channel: Channel, error: MessageError) -> None:
        """Take note that a message was refused."""

    def on_closed(self, channel: Channel, error: ChannelError) -> None:
        """Take note that this channel is no more; called once, and last."""

    def on_gone(self, channel: Channel) -> None:
        """Take note that the socket of an identified channel is closed."""

    def on_failure(self, error: Exception) -> None:
        """Hear of a defect of this program: the node must stop."""


class Channel(asyncio.Protocol):
    """One connection. ``peer_id`` is set as soon as TLS is up."""

    def __init__(
        self,
        owner: ChannelOwner,
        limits: Limits,
        address: str,
        dialled: PeerId | None,
        measure: Measure = nullcontext,
    ) -> None:
        self.address = address
        self.dialled = dialled
        """The node we meant to reach; None if the other side dialled."""
        self.peer_id: PeerId | None = None
        self.is_closed = False
        self.connection: Connection | None = None
        self.decided = asyncio.Event()
        """Set by the owner once the connection is up or over."""
        self._gone = asyncio.Event()
        self._owner = owner
        self._measure = measure
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._statistics = PeerStatistics()
        self._queue = SendQueue(limits.queue_bounds, self._statistics.drops)
        self._transport: asyncio.Transport | None = None
        self._is_flush_scheduled = False
        self._full_since_s: float | None = None
        self._hello_timer: asyncio.TimerHandle | None = None
        self._pause_timer: asyncio.TimerHandle | None = None

    @property
    def queued_bytes(self) -> int:
        """What waits to be sent and can still be overtaken or dropped."""
        return self._queue.bytes_waiting

    # --- from the transport -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS is up: learn who it is and introduce ourselves."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=TRANSPORT_BUFFER_BYTES)
        self._guarded(self._identify)

    def data_received(self, data: bytes) -> None:
        """Pass bytes to the conversation."""
        self._statistics.bytes_in += len(data)
        self._guarded(lambda: self._converse(data))

    def eof_received(self) -> None:
        """End of stream: let the transport close; ``connection_lost`` follows."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that the socket is gone."""
        reason = "closed by the other side" if exc is None else type(exc).__name__
        self._guarded(lambda: self._end(ConnectionLost(reason)))
        self._gone.set()
        self._owner.on_gone(self)

    def pause_writing(self) -> None:
        """Hold frames back in the queue, where they still have priorities."""
        self._full_since_s = monotonic()

    def resume_writing(self) -> None:
        """Go on sending."""
        self._full_since_s = None
        self._guarded(self._flush)

    # --- from the owner ---------------------------------------------------------------------------

    def send(self, frame: bytes, priority: Priority) -> bool:
        """Queue a frame; return False if it was refused.

        Ends the channel if consensus messages pile up, because then the peer does not read.
        """
        if self.is_closed:
            return False
        try:
            accepted = self._queue.put(frame, priority)
        except SlowPeer as error:
            self.abort(error)
            return False
        if not self._is_flush_scheduled and self._full_since_s is None:
            self._is_flush_scheduled = True
            self._loop.call_soon(self._guarded, self._flush)
        return accepted

    def heartbeat(self, height: int) -> None:
        """Send a Ping; end the channel if the peer is silent or does not read."""
        if self.connection is None or self.is_closed:
            return
        now_s = monotonic()
        if (
            self._full_since_s is not None
            and now_s - self._full_since_s > self._limits.write_stall_s
        ):
            self.abort(SlowPeer(f"nothing read for {self._limits.write_stall_s:g} s"))
            return
        self._act(self.connection.heartbeat(now_s, height))

    def close(self, error: ChannelError) -> None:
        """Say Goodbye and close."""
        if self.is_closed:
            return
        if self.connection is not None:
            self._act(self.connection.close(error))
        else:
            self._write(encode_frame(encode_message(goodbye(error.code, str(error)))))
            self._end(error)

    def abort(self, error: ChannelError) -> None:
        """Close without waiting for anything: the peer would not read a Goodbye."""
        if self._transport is not None:
            self._transport.abort()
        self._end(error)

    async def wait_gone(self, timeout_s: float) -> None:
        """Wait until the socket is closed; drop it if the peer lets us wait too long."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._gone.wait()
        except TimeoutError:
            self._get_transport().abort()
            await self._gone.wait()

    # --- inside -----------------------------------------------------------------------------------

    def _identify(self) -> None:
        tls = cast("ssl.SSLObject", self._get_transport().get_extra_info("ssl_object"))
        try:
            self.peer_id = node_id_of(tls.getpeercert(binary_form=True) or b"")
            admission = self._owner.on_identified(self, self.peer_id)
        except HandshakeError as error:
            self.close(error)
            return
        self.connection = admission.connection
        self._statistics = admission.statistics
        self._queue = SendQueue(self._limits.queue_bounds, admission.statistics.drops)
        self._hello_timer = self._loop.call_later(
            self._limits.hello_s, self._guarded, self._check_hello
        )
        self._act(self.connection.start())

    def _check_hello(self) -> None:
        if self.connection is not None:
            self._act(self.connection.hello_deadline())

    def _converse(self, data: bytes) -> None:
        connection = self.connection
        if connection is None or self.is_closed:
            return
        before = connection.messages_in
        now_s = monotonic()
        self._act(connection.receive(data, now_s))
        self._statistics.messages_in += connection.messages_in - before
        pause_s = connection.pause_s(now_s)
        if pause_s > 0 and not self.is_closed:
            self._get_transport().pause_reading()
            self._pause_timer = self._loop.call_later(pause_s, self._guarded, self._resume_reading)

    def _resume_reading(self) -> None:
        if not self.is_closed:
            self._get_transport().resume_reading()
            self._converse(b"")

    def _act(self, events: list[Event]) -> None:
        for event in events:
            if self.is_closed:
                return
            match event:
                case MessageReceived(message=message):
                    try:
                        self._owner.on_channel_message(self, message)
                    except MessageError as error:
                        self._owner.on_refused(self, error)
                case SendFrame(frame=frame):
                    self.send(frame, Priority.CONSENSUS)
                case PeerReady(hello=hello):
                    try:
                        self._owner.on_ready(self, hello)
                    except HandshakeError as error:
                        self.close(error)
                case MessageRefused(error=refusal):
                    self._owner.on_refused(self, refusal)
                case Closed(error=reason):
                    self._flush()
                    self._end(reason)

    def _flush(self) -> None:
        self._is_flush_scheduled = False
        while self._full_since_s is None and self._queue and not self.is_closed:
            data, frames = self._queue.take(WRITE_BYTES)
            self._statistics.messages_out += frames
            self._write(data)

    def _write(self, data: bytes) -> None:
        self._statistics.bytes_out += len(data)
        self._get_transport().write(data)

    def _end(self, error: ChannelError) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        for timer in (self._hello_timer, self._pause_timer):
            if timer is not None:
                timer.cancel()
        if self._transport is not None:
            self._transport.close()
        self._owner.on_closed(self, error)

    def _get_transport(self) -> asyncio.Transport:
        if self._transport is None:
            raise RuntimeError("the channel has no transport before connection_made")
        return self._transport

    def _guarded(self, callback: Callable[[], None]) -> None:
        """Run a callback of the loop: the root of its own stack, so defects are reported here."""
        try:
            with self._measure():
                callback()
        except Exception as error:
            self._owner.on_failure(error)
            if self._transport is not None:
                self._transport.abort()


def tune(sock: socket.socket) -> None:
    """Set what every connection wants from the kernel: no delay, and little unsent data."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES_MAX)
