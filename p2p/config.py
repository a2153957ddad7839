"""What an operator can set about the network, and the limits with their reasons."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from p2p.messages import PROTOCOL_VERSION, Priority
from p2p.queues import QUEUE_BOUNDS, QueueBound

if TYPE_CHECKING:
    from pathlib import Path

    from consensus.inputs import PeerId
    from ledger.types import Digest


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """One node this node talks to. Nobody else is admitted, and no address is ever learned."""

    name: str
    node_id: PeerId
    """Ed25519 public key of its certificate."""
    host: str
    port: int | None
    """None if it cannot be dialled from here: it dials us."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Deadlines and bounds of connections. Times in seconds."""

    dial_s: float = 3.0
    """TCP connection; longer means the host is away, and back-off repeats."""
    tls_handshake_s: float = 5.0
    hello_s: float = 5.0
    """From the end of the TLS handshake to a complete hello."""
    tls_close_s: float = 1.0
    """How long a close waits for the peer's answer before the socket is dropped."""
    inbound_max: int = 40
    """Connections accepted and up: a consortium of 41 in a full mesh, all dialled from outside."""
    handshakes_max: int = 128
    """TLS handshakes in progress. One more ends the oldest: an honest one takes milliseconds, so
    under a flood it is the stalled ones that go."""
    heartbeat_s: float = 2.0
    silent_heartbeats: int = 4
    """Heartbeats without a byte received before the peer counts as gone. Counted in beats of our
    own clock, so that a node that was suspended does not blame its peers."""
    write_stall_s: float = 10.0
    """How long a peer may leave its socket unread."""
    messages_per_s: float = 1000.0
    """Ten times what 20 blocks/s of 20 messages and full gossip need. More is read later, not
    dropped."""
    messages_burst: float = 2000.0
    bytes_per_s: float = 16.0 * 1024 * 1024
    """Five times the gossip and proposals of 20,000 transactions/s."""
    bytes_burst: float = 32.0 * 1024 * 1024
    request_cost: float = 10.0
    """A request counts as this many messages: answering it costs up to one block."""
    requests_max: int = 32
    """Own requests that may wait for one peer's answers."""
    backoff_first_s: float = 0.1
    backoff_max_s: float = 5.0
    """A restarted peer is found again within this time and a half."""
    backoff_refused_s: float = 30.0
    """After a refusal that repeating does not cure: other network, version or list."""
    queue_bounds: dict[Priority, QueueBound] = field(default_factory=lambda: dict(QUEUE_BOUNDS))


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Everything :class:`p2p.network.Network` needs besides its handler."""

    host: str
    port: int
    """0 takes a free port, see ``Network.address``."""
    node_key_path: Path
    """PKCS#8 PEM, Ed25519, not encrypted, readable by its owner only."""
    certificate_path: Path
    """PEM, issued by the network CA for that key."""
    ca_path: Path
    """PEM of the network CA's certificate."""
    peers: tuple[PeerConfig, ...]
    genesis_hash: Digest
    agent: str = "mbi"
    versions: tuple[int, int] = (PROTOCOL_VERSION, PROTOCOL_VERSION)
    """Lowest and highest protocol version spoken."""
    limits: Limits = field(default_factory=Limits)
