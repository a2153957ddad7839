"""The conversation on one connection, without a socket."""

from __future__ import annotations

from itertools import product

import pytest

from consensus.inputs import PeerId
from consensus.types import StatusRequest
from ledger.types import Digest, PublicKey
from p2p.config import Limits
from p2p.errors import ChannelError, MessageError, ShuttingDown
from p2p.frames import FrameParser, encode_frame
from p2p.messages import (
    Goodbye,
    Hello,
    Message,
    Ping,
    Pong,
    TransactionBatch,
    decode_message,
    encode_message,
)
from p2p.protocol import (
    TRANSITIONS,
    Closed,
    Connection,
    Event,
    Kind,
    MessageReceived,
    MessageRefused,
    PeerReady,
    SendFrame,
    State,
)

GENESIS = Digest(b"\x11" * 32)
OWN, PEER = PublicKey(b"o" * 32), PublicKey(b"p" * 32)
LIMITS = Limits()


def hello(
    genesis: Digest = GENESIS, node_id: PublicKey = PEER, versions: tuple[int, int] = (1, 1)
) -> Hello:
    return Hello(*versions, genesis, node_id, 5, "test")


def make_connection(limits: Limits = LIMITS, versions: tuple[int, int] = (1, 1)) -> Connection:
    return Connection(hello(node_id=OWN, versions=versions), PeerId(PEER), limits)


def make_open(limits: Limits = LIMITS) -> Connection:
    connection = make_connection(limits)
    assert kinds(connection.receive(frames(hello()), 0.0)) == [PeerReady]
    return connection


def frames(*messages: Message) -> bytes:
    return b"".join(encode_frame(encode_message(message)) for message in messages)


def kinds(events: list[Event]) -> list[type]:
    return [type(event) for event in events]


def sent(events: list[Event]) -> list[Message]:
    parser = FrameParser(2**20)
    for event in events:
        if isinstance(event, SendFrame):
            parser.feed(event.frame)
    messages = []
    while (payload := parser.next_payload()) is not None:
        messages.append(decode_message(payload))
    return messages


def end(events: list[Event]) -> ChannelError:
    """Return why the conversation ended; the peer was told the same."""
    last = events[-1]
    assert isinstance(last, Closed)
    farewell = sent(events)[-1]
    assert isinstance(farewell, Goodbye)
    assert farewell.reason == last.error.code
    return last.error


def test_both_sides_say_hello_first() -> None:
    assert sent(make_connection().start()) == [hello(node_id=OWN)]


def test_a_fitting_hello_opens_the_connection() -> None:
    connection = make_connection()
    [ready] = connection.receive(frames(hello()), 0.0)
    assert ready == PeerReady(hello(), 1)
    assert connection.state is State.OPEN
    assert connection.peer_height == 5


@pytest.mark.parametrize(
    ("other", "code"),
    [
        (hello(genesis=Digest(b"\x22" * 32)), "wrong_genesis"),
        (hello(node_id=PublicKey(b"q" * 32)), "identity_mismatch"),
        (hello(node_id=OWN), "identity_mismatch"),
        (hello(versions=(3, 4)), "version_unsupported"),
        (hello(versions=(2, 1)), "version_unsupported"),
    ],
)
def test_a_hello_that_does_not_fit_ends_it(other: Hello, code: str) -> None:
    """P2, P12, O3, T4."""
    connection = make_connection()
    error = end(connection.receive(frames(other), 0.0))
    assert error.code == code
    assert error.permanent
    assert error.points == 0
    assert connection.state is State.CLOSED


@pytest.mark.parametrize(
    ("ours", "theirs", "version"),
    [((1, 3), (2, 5), 3), ((2, 2), (1, 4), 2), ((1, 1), (1, 1), 1), ((4, 6), (1, 4), 4)],
)
def test_the_highest_common_version_is_spoken(
    ours: tuple[int, int], theirs: tuple[int, int], version: int
) -> None:
    """P12: a rolling upgrade."""
    connection = make_connection(versions=ours)
    [ready] = connection.receive(frames(hello(versions=theirs)), 0.0)
    assert isinstance(ready, PeerReady)
    assert ready.version == version


SAMPLES: dict[Kind, Message] = {
    Kind.HELLO: hello(),
    Kind.GOODBYE: Goodbye("slow_peer", ""),
    Kind.PING: Ping(1, 2),
    Kind.PONG: Pong(1),
    Kind.APPLICATION: StatusRequest(bytes(16)),
}


def test_the_table_knows_every_state_and_kind() -> None:
    assert set(TRANSITIONS) == set(product([State.AWAITING_HELLO, State.OPEN], Kind))


@pytest.mark.parametrize(("state", "kind"), TRANSITIONS, ids=lambda x: x.value)
def test_every_transition_of_the_table_happens(state: State, kind: Kind) -> None:
    connection = make_open() if state is State.OPEN else make_connection()
    events = connection.receive(frames(SAMPLES[kind]), 1.0)
    following = TRANSITIONS[state, kind][1]
    assert connection.state is following
    assert (Closed in kinds(events)) == (following is State.CLOSED)


@pytest.mark.parametrize("kind", Kind, ids=lambda k: k.value)
def test_nothing_happens_on_a_closed_connection(kind: Kind) -> None:
    connection = make_open()
    connection.close(ShuttingDown("test"))
    assert connection.receive(frames(SAMPLES[kind]), 1.0) == []
    assert connection.heartbeat(1.0, 0) == []
    assert connection.hello_deadline() == []
    assert connection.close(ShuttingDown("test")) == []


def test_nothing_after_the_end_is_delivered() -> None:
    """A message behind a repeated hello in the same chunk is not looked at."""
    events = make_open().receive(frames(Ping(1, 1), hello(), Ping(2, 1)), 1.0)
    assert [type(m) for m in sent(events)] == [Pong, Goodbye]


def test_a_goodbye_is_not_answered() -> None:
    [closed] = make_open().receive(frames(Goodbye("shutting_down", "later")), 1.0)
    assert isinstance(closed, Closed)
    assert str(closed.error) == "shutting_down: later"


def test_what_is_no_message_is_refused_alone() -> None:
    """P5: framing is intact, so the stream goes on."""
    bad = encode_frame(b"\x92\x63\x01")
    request = StatusRequest(bytes(16))
    events = make_open().receive(bad + frames(request) + bad, 1.0)
    assert kinds(events) == [MessageRefused, MessageReceived, MessageRefused]


def test_what_is_no_message_is_fatal_before_the_hello() -> None:
    error = end(make_connection().receive(encode_frame(b"\x92\x63\x01"), 0.0))
    assert error.code == "hello_expected"


@pytest.mark.parametrize("is_open", [True, False])
def test_the_frame_limit_grows_with_the_hello(*, is_open: bool) -> None:
    """P5: 2 KiB before, 1 MiB + 64 KiB after, also within one chunk."""
    batch = TransactionBatch((bytes(3000),))
    first = frames(hello()) if is_open else b""
    events = make_connection().receive(first + frames(batch), 0.0)
    if is_open:
        assert events[1:] == [MessageReceived(batch)]
    else:
        assert end(events).code == "frame_too_large"


def test_the_hello_deadline_ends_a_silent_start_only() -> None:
    """P4."""
    assert end(make_connection().hello_deadline()).code == "hello_timeout"
    assert make_open().hello_deadline() == []


def test_silence_ends_the_connection_and_any_byte_prevents_it() -> None:
    """P4: counted in our own beats, so a suspended node does not blame its peers."""
    connection = make_open()
    slow_frame = frames(TransactionBatch((bytes(50),)))
    for beat in range(20):
        assert sent(connection.heartbeat(beat * 1000.0, 0)) != []
        connection.receive(slow_frame[beat : beat + 1], beat * 1000.0)
    events: list[Event] = []
    beats = 0
    while Closed not in kinds(events):
        events = connection.heartbeat(20_000.0, 0)
        beats += 1
    assert end(events).code == "peer_silent"
    assert beats == LIMITS.silent_heartbeats + 1


def test_a_round_trip_is_measured_by_the_last_ping_only() -> None:
    connection = make_open()
    [ping] = sent(connection.heartbeat(10.0, 7))
    assert ping == Ping(1, 7)
    connection.receive(frames(Pong(99)), 10.2)
    assert connection.round_trip_s is None
    connection.receive(frames(Pong(1)), 10.5)
    assert connection.round_trip_s == pytest.approx(0.5)
    connection.receive(frames(Pong(1)), 99.0)
    assert connection.round_trip_s == pytest.approx(0.5)


def test_the_rate_limit_leaves_frames_in_the_buffer() -> None:
    """P7: inline, and nothing is lost."""
    limits = Limits(messages_per_s=10, messages_burst=5)
    connection = make_open(limits)
    request = StatusRequest(bytes(16))
    received = connection.receive(frames(*[request] * 20), 0.0)
    assert 4 <= len(received) <= 6
    assert connection.receive(b"", 0.0) == []
    now_s = 0.0
    while len(received) < 20:
        pause_s = connection.pause_s(now_s)
        assert 0 < pause_s <= 0.1 + 1e-9
        now_s += pause_s + 1e-6
        received += connection.receive(b"", now_s)
    assert now_s == pytest.approx(1.5, abs=0.2)


def test_bytes_are_limited_too() -> None:
    limits = Limits(bytes_per_s=1000, bytes_burst=1000)
    connection = make_open(limits)
    batch = TransactionBatch((bytes(10_000),))
    assert len(connection.receive(frames(batch, batch), 0.0)) == 1
    assert connection.pause_s(0.0) == pytest.approx(9.1, abs=0.2)


def test_a_paused_peer_is_not_called_silent() -> None:
    limits = Limits(messages_per_s=0.001, messages_burst=1)
    connection = make_open(limits)
    connection.receive(frames(*[Ping(1, 1)] * 9), 0.0)
    for beat in range(20):
        assert connection.heartbeat(beat * 2.0, 0) != []


def test_errors_know_their_price() -> None:
    """Whatever breaks the stream bans at once; whatever may be an honest mistake does not."""

    def leaves(kind: type[ChannelError]) -> list[type[ChannelError]]:
        below = kind.__subclasses__()
        return [kind] if not below else [leaf for child in below for leaf in leaves(child)]

    found = leaves(ChannelError)
    codes = [kind.code for kind in found]
    assert len(set(codes)) == len(codes)
    assert all(kind.points > 0 for kind in found if issubclass(kind, MessageError))
