"""The conversation on one connection, without a socket: bytes and times in, events out.

                 hello that fits            goodbye, fault, silence
    AWAITING_HELLO ───────────────► OPEN ─────────────────────────► CLOSED
          │                                                            ▲
          └── anything else, a hello that does not fit, deadline ──────┘

TLS has proven which key the other end holds before this object exists; a hello must claim that same
key. A peer counts as up only when its hello has been accepted: in TLS 1.3 a dialler learns late
that its certificate was refused. :data:`TRANSITIONS` is the whole machine; every step emits events
and calls nothing. Frames that cannot be delimited end the connection; a message that does not
decode is refused alone. The rate limit stops taking frames out of the buffer: whoever owns the
socket stops reading until :meth:`Connection.pause_s` is over. Normative text: ``docs/network.md``,
Connections.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, get_args

from consensus.inputs import PeerId
from p2p.errors import (
    ChannelError,
    HelloExpected,
    HelloRepeated,
    HelloTimeout,
    IdentityMismatch,
    MessageError,
    PeerLeft,
    PeerSilent,
    VersionUnsupported,
    WrongGenesis,
)
from p2p.frames import FRAME_BYTES_MAX, HELLO_BYTES_MAX, FrameParser, encode_frame
from p2p.messages import (
    REQUEST_ID_MAX,
    Goodbye,
    Hello,
    Message,
    Ping,
    Pong,
    Request,
    decode_message,
    encode_message,
    goodbye,
)
from p2p.rates import TokenBucket

if TYPE_CHECKING:
    from p2p.config import Limits


class State(Enum):
    """Where a connection stands."""

    AWAITING_HELLO = "awaiting_hello"
    OPEN = "open"
    CLOSED = "closed"


class Kind(Enum):
    """What a message means to the conversation."""

    HELLO = "hello"
    GOODBYE = "goodbye"
    PING = "ping"
    PONG = "pong"
    APPLICATION = "application"
    """Everything that is passed on."""


class Step(Enum):
    """What the machine does."""

    ADMIT = "admit"
    LEAVE = "leave"
    ANSWER = "answer"
    MEASURE = "measure"
    DELIVER = "deliver"
    REFUSE_EARLY = "refuse_early"
    REFUSE_REPEATED = "refuse_repeated"


TRANSITIONS: Final[dict[tuple[State, Kind], tuple[Step, State]]] = {
    (State.AWAITING_HELLO, Kind.HELLO): (Step.ADMIT, State.OPEN),
    (State.AWAITING_HELLO, Kind.GOODBYE): (Step.LEAVE, State.CLOSED),
    (State.AWAITING_HELLO, Kind.PING): (Step.REFUSE_EARLY, State.CLOSED),
    (State.AWAITING_HELLO, Kind.PONG): (Step.REFUSE_EARLY, State.CLOSED),
    (State.AWAITING_HELLO, Kind.APPLICATION): (Step.REFUSE_EARLY, State.CLOSED),
    (State.OPEN, Kind.HELLO): (Step.REFUSE_REPEATED, State.CLOSED),
    (State.OPEN, Kind.GOODBYE): (Step.LEAVE, State.CLOSED),
    (State.OPEN, Kind.PING): (Step.ANSWER, State.OPEN),
    (State.OPEN, Kind.PONG): (Step.MEASURE, State.OPEN),
    (State.OPEN, Kind.APPLICATION): (Step.DELIVER, State.OPEN),
}
"""(state, kind of message) -> (step, next state). A closed connection takes no input."""

KIND_OF: Final[dict[type[Message], Kind]] = {
    Hello: Kind.HELLO,
    Goodbye: Kind.GOODBYE,
    Ping: Kind.PING,
    Pong: Kind.PONG,
}
_REQUESTS: Final = get_args(Request)


@dataclass(frozen=True, slots=True)
class SendFrame:
    """Put these bytes on the wire, before anything less urgent than consensus."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class PeerReady:
    """The peer's hello was accepted: it is up."""

    hello: Hello
    version: int
    """Highest protocol version both sides speak."""


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A decoded message for the node."""

    message: Message


@dataclass(frozen=True, slots=True)
class MessageRefused:
    """One frame was not a valid message; the conversation goes on."""

    error: MessageError


@dataclass(frozen=True, slots=True)
class Closed:
    """The conversation is over: send what was asked to be sent, then close."""

    error: ChannelError


Event = SendFrame | PeerReady | MessageReceived | MessageRefused | Closed


class Connection:
    """One side of one connection. No event follows :class:`Closed`."""

    def __init__(self, own: Hello, peer_id: PeerId, limits: Limits) -> None:
        self.state = State.AWAITING_HELLO
        self.round_trip_s: float | None = None
        """Of the last answered heartbeat."""
        self.peer_height: int | None = None
        """Last height the peer claimed."""
        self.messages_in = 0
        self._own = own
        self._peer_id = peer_id
        self._limits = limits
        self._parser = FrameParser(HELLO_BYTES_MAX)
        self._messages = TokenBucket(limits.messages_per_s, limits.messages_burst)
        self._bytes = TokenBucket(limits.bytes_per_s, limits.bytes_burst)
        self._quiet_heartbeats = 0
        self._ping_number = 0
        self._ping_sent_s: float | None = None

    def start(self) -> list[Event]:
        """Introduce ourselves; both sides do so at once."""
        return [_frame(self._own)]

    def receive(self, data: bytes, now_s: float) -> list[Event]:
        """Take bytes from the peer, or none to go on after a pause."""
        events: list[Event] = []
        if self.state is State.CLOSED:
            return events
        if data:
            self._quiet_heartbeats = 0
            self._parser.feed(data)
        try:
            while self.pause_s(now_s) == 0:
                payload = self._parser.next_payload()
                if payload is None:
                    break
                self._on_payload(payload, now_s, events)
        except ChannelError as error:
            events += self.close(error)
        return events

    def pause_s(self, now_s: float) -> float:
        """Return for how many seconds nothing is to be read from the peer."""
        return max(self._messages.wait_s(now_s), self._bytes.wait_s(now_s))

    def heartbeat(self, now_s: float, height: int) -> list[Event]:
        """Notice silence and send a Ping; to be called every ``heartbeat_s``."""
        if self.state is not State.OPEN:
            return []
        if self.pause_s(now_s) > 0:
            self._quiet_heartbeats = 0  # the silence is our own doing
        if self._quiet_heartbeats >= self._limits.silent_heartbeats:
            return self.close(
                PeerSilent(f"nothing received for {self._quiet_heartbeats} heartbeats")
            )
        self._quiet_heartbeats += 1
        self._ping_number = (self._ping_number + 1) % REQUEST_ID_MAX
        self._ping_sent_s = now_s
        return [_frame(Ping(self._ping_number, height))]

    def hello_deadline(self) -> list[Event]:
        """Give up on a peer that has not introduced itself in time; harmless afterwards."""
        if self.state is not State.AWAITING_HELLO:
            return []
        limit = self._limits.hello_s
        return self.close(HelloTimeout(f"expected a complete hello within {limit:g} s"))

    def close(self, error: ChannelError) -> list[Event]:
        """End the conversation, telling the peer why unless it is the one who left."""
        if self.state is State.CLOSED:
            return []
        self.state = State.CLOSED
        if isinstance(error, PeerLeft):
            return [Closed(error)]
        return [_frame(goodbye(error.code, str(error))), Closed(error)]

    def _on_payload(self, payload: bytes, now_s: float, events: list[Event]) -> None:
        self.messages_in += 1
        self._bytes.take(len(payload), now_s)
        try:
            message = decode_message(payload)
        except MessageError as error:
            self._messages.take(1, now_s)
            if self.state is State.AWAITING_HELLO:
                raise HelloExpected(f"expected a hello: {error}") from error
            events.append(MessageRefused(error))
            return
        cost = self._limits.request_cost if isinstance(message, _REQUESTS) else 1.0
        self._messages.take(cost, now_s)
        step, following = TRANSITIONS[self.state, KIND_OF.get(type(message), Kind.APPLICATION)]
        self._take_step(step, message, now_s, events)
        self.state = following

    def _take_step(self, step: Step, message: Message, now_s: float, events: list[Event]) -> None:
        match step, message:
            case Step.DELIVER, _:
                events.append(MessageReceived(message))
            case Step.ANSWER, Ping(number=number, height=height):
                self.peer_height = height
                events.append(_frame(Pong(number)))
            case Step.MEASURE, Pong(number=number):
                if number == self._ping_number and self._ping_sent_s is not None:
                    self.round_trip_s = now_s - self._ping_sent_s
                    self._ping_sent_s = None
            case Step.ADMIT, Hello():
                events.append(PeerReady(message, self._accept(message)))
                self.peer_height = message.height
                self._parser.payload_bytes_max = FRAME_BYTES_MAX
            case Step.LEAVE, Goodbye(reason=reason, detail=detail):
                raise PeerLeft(reason, detail)
            case Step.REFUSE_EARLY, _:
                raise HelloExpected(f"expected a hello, received {type(message).__name__}")
            case _:
                raise HelloRepeated("expected one hello per connection, received a second")

    def _accept(self, hello: Hello) -> int:
        """Return the version to speak with the peer that said this hello."""
        own = self._own
        if hello.genesis_hash != own.genesis_hash:
            raise WrongGenesis(
                f"expected genesis {own.genesis_hash.hex()}, received {hello.genesis_hash.hex()}"
            )
        if PeerId(hello.node_id) != self._peer_id:
            raise IdentityMismatch(
                f"expected node id {self._peer_id.hex()} as certified,"
                f" received {hello.node_id.hex()}"
            )
        version = min(own.version_max, hello.version_max)
        if version < max(own.version_min, hello.version_min):
            raise VersionUnsupported(
                f"expected a version from {own.version_min} to {own.version_max},"
                f" received {hello.version_min} to {hello.version_max}"
            )
        return version


def _frame(message: Message) -> SendFrame:
    return SendFrame(encode_frame(encode_message(message)))
