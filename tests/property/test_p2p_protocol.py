"""The connection machine under any stream, in any chunks, at any times."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from consensus.inputs import PeerId
from consensus.types import StatusRequest
from ledger.types import Digest, PublicKey
from p2p.config import Limits
from p2p.frames import encode_frame
from p2p.messages import (
    Goodbye,
    Hello,
    Message,
    Ping,
    Pong,
    TransactionBatch,
    encode_message,
)
from p2p.protocol import Closed, Connection, Event, MessageReceived, PeerReady, State

GENESIS = Digest(b"\x11" * 32)
OWN, PEER = PublicKey(b"o" * 32), PublicKey(b"p" * 32)
# Without rate limits the outcome must not depend on time at all.
UNLIMITED = Limits(messages_per_s=1e12, messages_burst=1e12, bytes_per_s=1e12, bytes_burst=1e12)
GOOD_HELLO = Hello(1, 1, GENESIS, PEER, 0, "test")

GOOD_MESSAGES: list[Message] = [
    GOOD_HELLO,
    Hello(1, 1, Digest(bytes(32)), PEER, 0, "test"),
    Goodbye("slow_peer", ""),
    Ping(1, 1),
    Pong(1),
    StatusRequest(bytes(16)),
    TransactionBatch((b"x" * 300,)),
]

pieces = st.one_of(
    st.sampled_from(GOOD_MESSAGES).map(lambda message: encode_frame(encode_message(message))),
    st.binary(min_size=1, max_size=40).map(encode_frame),
    st.binary(max_size=8),
)
streams = st.one_of(
    st.lists(pieces, max_size=10),
    st.lists(pieces, max_size=10).map(
        lambda rest: [encode_frame(encode_message(GOOD_HELLO)), *rest]
    ),
).map(b"".join)


def make_connection() -> Connection:
    return Connection(Hello(1, 1, GENESIS, OWN, 0, "own"), PeerId(PEER), UNLIMITED)


def converse(chunks: list[bytes]) -> list[Event]:
    connection = make_connection()
    return [e for i, chunk in enumerate(chunks) for e in connection.receive(chunk, i * 1.0)]


@given(streams, st.lists(st.integers(0, 10_000), max_size=20))
def test_events_do_not_depend_on_chunks(stream: bytes, cuts: list[int]) -> None:
    """P5."""
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    chunks = [stream[a:b] for a, b in pairwise(edges)]
    # Repr, because errors compare by identity.
    assert repr(converse(chunks)) == repr(converse([stream]))


@given(streams)
def test_order_of_events_is_ready_then_messages_then_closed(stream: bytes) -> None:
    """P1, P12: nothing is delivered before the hello, nothing follows the end."""
    names = [type(event) for event in converse([stream])]
    assert names.count(PeerReady) <= 1
    assert names.count(Closed) <= 1
    if Closed in names:
        assert names[-1] is Closed
    if MessageReceived in names:
        assert PeerReady in names[: names.index(MessageReceived)]


@given(streams, st.integers(0, 100))
def test_a_closed_connection_takes_nothing(stream: bytes, height: int) -> None:
    connection = make_connection()
    connection.receive(stream, 0.0)
    if connection.state is State.CLOSED:
        assert connection.receive(stream, 1.0) == []
        assert connection.heartbeat(2.0, height) == []
