"""Small networks on loopback for tests: real sockets, real TLS, short deadlines."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from ledger.types import Digest
from p2p.config import Limits, NetworkConfig, PeerConfig
from p2p.frames import FRAME_BYTES_MAX, FrameParser, encode_frame
from p2p.messages import Hello, Message, Ping, decode_message, encode_message
from p2p.network import Network
from p2p.transport import Measure
from tests.unit.p2p.certificates import Authority, Files

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from consensus.inputs import PeerId
    from p2p.messages import Priority
    from p2p.peers import PeerInfo
    from p2p.queues import QueueBound

GENESIS = Digest(b"\x11" * 32)
OTHER_GENESIS = Digest(b"\x22" * 32)
DEADLINE_S = 15.0
FAST = Limits(
    tls_handshake_s=0.5,
    hello_s=0.5,
    tls_close_s=0.5,
    heartbeat_s=0.1,
    backoff_first_s=0.02,
    backoff_max_s=0.1,
    backoff_refused_s=0.2,
    silent_heartbeats=10,
)


async def wait_until(condition: Callable[[], bool], what: str = "the condition") -> None:
    """Poll a condition until it holds; fail after the deadline."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():  # noqa: ASYNC110 - the condition is any state, not an event
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"{what} did not come true in {DEADLINE_S} s") from None


class Recorder:
    """A handler that writes down what happened."""

    def __init__(self) -> None:
        self.connected: list[PeerId] = []
        self.disconnected: list[PeerId] = []
        self.messages: list[tuple[PeerId, Message]] = []
        self.answer: Callable[[PeerId, Message], None] = lambda _peer, _message: None

    def on_connected(self, peer: PeerId, info: PeerInfo) -> None:
        assert info.is_connected
        self.connected.append(peer)

    def on_disconnected(self, peer: PeerId) -> None:
        self.disconnected.append(peer)

    def on_message(self, peer: PeerId, message: Message) -> None:
        self.messages.append((peer, message))
        self.answer(peer, message)


@dataclass
class Node:
    """A running network with what it has seen."""

    files: Files
    network: Network
    seen: Recorder
    task: asyncio.Task[None]

    @property
    def id(self) -> PeerId:
        return self.files.node_id

    @property
    def port(self) -> int:
        return self.network.address[1]

    async def stop(self) -> None:
        self.network.stop()
        await self.task

    def info(self, peer: PeerId) -> PeerInfo:
        return next(info for info in self.network.peers() if info.peer_id == peer)


class Lab:
    """A CA, its nodes and the connections between them."""

    def __init__(self, directory: Path, limits: Limits = FAST) -> None:
        self.directory = directory
        self.limits = limits
        self.authority = Authority()
        self.ca_path = self.authority.write(directory)
        self.nodes: list[Node] = []

    def issue(self, name: str) -> Files:
        return self.authority.issue(self.directory, name)

    def start(
        self,
        files: Files,
        peers: list[PeerConfig],
        *,
        port: int = 0,
        limits: Limits | None = None,
        genesis: Digest = GENESIS,
        versions: tuple[int, int] = (1, 1),
        measure: Measure = nullcontext,
    ) -> Node:
        config = NetworkConfig(
            host="127.0.0.1",
            port=port,
            node_key_path=files.key_path,
            certificate_path=files.certificate_path,
            ca_path=self.ca_path,
            peers=tuple(peers),
            genesis_hash=genesis,
            versions=versions,
            limits=limits or self.limits,
        )
        seen = Recorder()
        network = Network(config, seen, measure)
        network.bind()
        node = Node(files, network, seen, asyncio.create_task(network.run()))
        self.nodes.append(node)
        return node

    def client_context(self, files: Files | None) -> ssl.SSLContext:
        """Return a TLS client's context, with the certificate if one is given."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if files is not None:
            context.load_cert_chain(files.certificate_path, files.key_path)
        return context

    async def stop(self) -> None:
        for node in self.nodes:
            if not node.task.done():
                await node.stop()


@asynccontextmanager
async def lab(directory: Path, limits: Limits = FAST) -> AsyncIterator[Lab]:
    """Run a lab and stop every node in the end."""
    made = Lab(directory, limits)
    try:
        yield made
    finally:
        await made.stop()


def listed(files: Files, name: str = "peer") -> PeerConfig:
    """Return the entry of a node that dials us."""
    return PeerConfig(name, files.node_id, "127.0.0.1", None)


def at(node: Node, name: str = "peer") -> PeerConfig:
    """Return the entry of a node that we dial."""
    return PeerConfig(name, node.id, "127.0.0.1", node.port)


@asynccontextmanager
async def pair(directory: Path, limits: Limits = FAST) -> AsyncIterator[tuple[Node, Node]]:
    """Run two connected nodes; the second dials the first."""
    async with lab(directory, limits) as place:
        one, two = place.issue("one"), place.issue("two")
        first = place.start(one, [listed(two)])
        second = place.start(two, [at(first)])
        await wait_until(lambda: bool(first.seen.connected and second.seen.connected), "a link")
        yield first, second


def hello_of(
    files: Files, *, genesis: Digest = GENESIS, versions: tuple[int, int] = (1, 1)
) -> Hello:
    """Return a hello that fits the lab."""
    return Hello(versions[0], versions[1], genesis, files.node_id, 0, "test")  # type: ignore[arg-type]


class RawPeer:
    """The other side by hand: TLS, then any bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._parser = FrameParser(FRAME_BYTES_MAX)

    def send(self, *messages: Message) -> None:
        self.writer.write(b"".join(encode_frame(encode_message(m)) for m in messages))

    async def receive(self) -> Message | None:
        """Return the next message, None at the end of the stream."""
        async with asyncio.timeout(DEADLINE_S):
            while (payload := self._parser.next_payload()) is None:
                try:
                    data = await self.reader.read(65536)
                except (ConnectionError, ssl.SSLError):
                    return None
                if not data:
                    return None
                self._parser.feed(data)
        return decode_message(payload)

    async def receive_next(self) -> Message:
        """Return the next message; the end of the stream is a failure."""
        message = await self.receive()
        assert message is not None, "the stream ended"
        return message

    async def receive_all(self) -> list[Message]:
        """Return every message until the end of the stream, without heartbeats."""
        messages: list[Message] = []
        async with asyncio.timeout(DEADLINE_S):
            while (message := await self.receive()) is not None:
                if not isinstance(message, Ping):
                    messages.append(message)
        return messages

    def stop_reading(self) -> None:
        """Leave what arrives in the socket."""
        cast("asyncio.Transport", self.writer.transport).pause_reading()

    def go_on_reading(self) -> None:
        cast("asyncio.Transport", self.writer.transport).resume_reading()

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError, ssl.SSLError, TimeoutError):
            await self.writer.wait_closed()


@asynccontextmanager
async def raw_peer(
    place: Lab, node: Node, files: Files | None, context: ssl.SSLContext | None = None
) -> AsyncIterator[RawPeer]:
    """Connect to a node with these files and no further behaviour."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1",
        node.port,
        ssl=context or place.client_context(files),
        ssl_shutdown_timeout=0.5,
    )
    peer = RawPeer(reader, writer)
    try:
        yield peer
    finally:
        await peer.close()


def with_limits(**changes: float | dict[Priority, QueueBound]) -> Limits:
    """Return the fast limits with some changed."""
    return replace(FAST, **changes)  # type: ignore[arg-type]
