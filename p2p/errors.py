"""Errors of the network: what a peer did wrong, or what this node could not do.

    P2PError
    ├── IdentityError             own key, certificate or CA file unusable: the node does not start
    ├── RequestError              a request of ours got no answer
    │   ├── PeerUnavailable  ├── RequestTimedOut  └── TooManyRequests
    └── ChannelError              why a connection was refused or ended; ``code`` travels in Goodbye
        ├── HandshakeError        refused before the peer counted as up
        │   ├── UnknownPeer  ├── IdentityMismatch  ├── WrongGenesis  ├── VersionUnsupported
        │   ├── HelloTimeout ├── DuplicateConnection  ├── PeerBanned  ├── TooManyInbound
        │   └── DialFailed
        ├── FrameError            the byte stream cannot be followed any further
        │   ├── FrameEmpty  └── FrameTooLarge
        ├── MessageError          one frame is refused, the stream goes on
        │   ├── UnknownMessage  ├── MalformedMessage  ├── NonCanonicalMessage  └── UnsolicitedAnswer
        ├── HelloExpected  ├── HelloRepeated
        ├── PeerSilent  ├── SlowPeer  ├── PeerLeft  ├── ConnectionLost
        └── Misbehaved  └── ShuttingDown

``permanent`` tells whether trying the same again soon makes sense. ``points`` is what the fault
costs the peer's score (:mod:`p2p.scores`); code, permanence and price live together on the class.
"""

from __future__ import annotations

from typing import ClassVar, Final


class P2PError(Exception):
    """Expected failure on the network; ``code`` is stable and documented."""

    code: ClassVar[str] = "p2p_error"
    permanent: ClassVar[bool] = False


class IdentityError(P2PError):
    """Own node key, certificate or CA certificate cannot be used."""

    code = "identity_unusable"
    permanent = True


# --- requests -------------------------------------------------------------------------------------


class RequestError(P2PError):
    """A request of ours has no answer; another peer may have one."""


class PeerUnavailable(RequestError):
    """The peer is not connected, or its connection ended before it answered."""

    code = "peer_unavailable"


class RequestTimedOut(RequestError):
    """The peer did not answer in time."""

    code = "request_timed_out"


class TooManyRequests(RequestError):
    """As many requests as allowed wait for this peer's answers already."""

    code = "too_many_requests"


# --- connections ----------------------------------------------------------------------------------


class ChannelError(P2PError):
    """Why a connection was refused or ended."""

    points: ClassVar[int] = 0
    """Score points this costs the peer; :data:`p2p.scores.BAN_POINTS` ban it for a while."""


class HandshakeError(ChannelError):
    """The connection never came up."""


class UnknownPeer(HandshakeError):
    """The certificate is the CA's, but its key is not on the list of configured peers."""

    code = "unknown_peer"
    permanent = True


class IdentityMismatch(HandshakeError):
    """The certificate's key is not the node that was dialled, or not the one the hello claims."""

    code = "identity_mismatch"
    permanent = True


class WrongGenesis(HandshakeError):
    """The peer belongs to another network."""

    code = "wrong_genesis"
    permanent = True


class VersionUnsupported(HandshakeError):
    """The two ranges of protocol versions do not meet."""

    code = "version_unsupported"
    permanent = True


class HelloTimeout(HandshakeError):
    """No complete hello within the deadline."""

    code = "hello_timeout"


class DuplicateConnection(HandshakeError):
    """Another connection to the same node was kept."""

    code = "duplicate_connection"


class PeerBanned(HandshakeError):
    """The peer's score ran out; it may come back after the ban."""

    code = "peer_banned"


class TooManyInbound(HandshakeError):
    """The limit of inbound connections is reached."""

    code = "too_many_inbound"


class DialFailed(HandshakeError):
    """No TCP connection or no TLS handshake with the address."""

    code = "dial_failed"


class FrameError(ChannelError):
    """The byte stream cannot be followed any further."""

    points = 100
    permanent = True


class FrameEmpty(FrameError):
    """A frame announced a length of zero."""

    code = "frame_empty"


class FrameTooLarge(FrameError):
    """A frame announced, or would need, more than the limit."""

    code = "frame_too_large"

    def __init__(self, length: int, limit: int) -> None:
        super().__init__(f"expected a frame of at most {limit} bytes, received length {length}")


class MessageError(ChannelError):
    """One frame is refused and counted; the connection stays until the score runs out."""

    permanent = True


class UnknownMessage(MessageError):
    """The tag belongs to no message of the agreed version."""

    code = "unknown_message"
    points = 5


class MalformedMessage(MessageError):
    """Known tag, but not the fields that belong to it, or a limit exceeded."""

    code = "malformed_message"
    points = 20


class NonCanonicalMessage(MessageError):
    """Decodes, but is not the one encoding of its value."""

    code = "non_canonical_encoding"
    points = 20


class UnsolicitedAnswer(MessageError):
    """An answer that no waiting request asked for; late answers are cheap, floods are not."""

    code = "unsolicited_answer"
    points = 1


class HelloExpected(ChannelError):
    """The first message was not a hello, or was one that does not decode."""

    code = "hello_expected"
    permanent = True
    points = 100


class HelloRepeated(ChannelError):
    """A second hello on an open connection."""

    code = "hello_repeated"
    permanent = True
    points = 100


class PeerSilent(ChannelError):
    """Not a byte arrived for several heartbeats."""

    code = "peer_silent"


class SlowPeer(ChannelError):
    """The peer does not read what it is sent."""

    code = "slow_peer"


class Misbehaved(ChannelError):
    """The score ran out during the connection."""

    code = "misbehaved"


class ShuttingDown(ChannelError):
    """The node that closes is stopping."""

    code = "shutting_down"


class ConnectionLost(ChannelError):
    """The transport ended without a Goodbye."""

    code = "connection_lost"


class PeerLeft(ChannelError):
    """The peer said Goodbye; :attr:`reason` is its code."""

    code = "peer_left"

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


def _codes(kind: type[ChannelError]) -> set[str]:
    return {kind.code}.union(*map(_codes, kind.__subclasses__()))


CHANNEL_CODES: Final = frozenset(_codes(ChannelError))
"""Every reason for which a connection ends; another one from a peer is not counted by its name."""
