"""Strangers, liars and noise on the ports of nodes, and what must never be seen from outside.

Two nodes never run: a rogue takes their place, with genuine identities, and is this process.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import secrets
import select
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgpack
import pytest

from tests.cluster.api import NoAnswer
from tests.cluster.cluster import Cluster, Node
from tests.cluster.conftest import SEED
from tests.cluster.rogue import Rogue, frame
from tests.cluster.waiting import PATIENCE, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

LIAR, BOASTER = ROGUES = ("obs-2", "obs-3")
GOODBYE_TAG: Final = 33
NOISE_CONNECTIONS: Final = 50
"""Per port."""
SILENT_CONNECTIONS: Final = 30
SILENCE_ENDS_S: Final = 8.0
"""A handshake has 5 s, and the close its own time."""
SPARE_DESCRIPTORS: Final = 12
"""Files of the database and connections of clients come and go; a leak would be of hundreds."""
LOG_BYTES_MAX: Final = 1024 * 1024
TCP_LISTEN: Final = "0A"
LOOPBACK_HEX: Final = "0100007F"
"""127.0.0.1 as the kernel writes it on little-endian machines."""


@pytest.fixture(scope="module")
def besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Four validators and an observer run; two more observers never do, a rogue has their keys."""
    cluster = Cluster.build(tmp_path_factory.mktemp("besieged") / "net", observers=3, seed=SEED)
    try:
        cluster.start(node for node in cluster.nodes if node.name not in ROGUES)
        yield cluster
    finally:
        cluster.stop()
    cluster.check_logs()


def sockets_of(pid: int) -> set[str]:
    """Return the inodes of the sockets that a process has open."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        # A descriptor may be closed between the listing and the look at it.
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(link)
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    return inodes


def listeners_of(pid: int) -> list[tuple[str, int]]:
    """Return (address in hex, port) of every TCP socket on which a process listens."""
    own, found = sockets_of(pid), []
    for table in ("tcp", "tcp6"):
        path = Path(f"/proc/{pid}/net/{table}")
        for line in path.read_text(encoding="ascii").splitlines()[1:] if path.exists() else []:
            fields = line.split()
            if fields[3] == TCP_LISTEN and fields[9] in own:
                address, _, port = fields[1].partition(":")
                found.append((address, int(port, 16)))
    return found


def descriptors_of(pid: int) -> int:
    """Return how many files and sockets a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_nodes_listen_on_loopback_only(besieged: Cluster) -> None:
    """O2: two ports per node, both on 127.0.0.1."""
    for node in besieged.running:
        expected = sorted((LOOPBACK_HEX, port) for port in node.entry.ports)
        assert sorted(listeners_of(node.pid)) == expected


def make_noise(port: int, generator: random.Random) -> None:
    """Connect, send random bytes in random pieces, and go without a word."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 2.0) as noise:
        for _ in range(generator.randrange(1, 4)):
            noise.sendall(generator.randbytes(generator.randrange(1, 4096)))


def send_bad_requests(node: Node) -> None:
    """Send what no HTTP client sends; every answer must be a client error, or the end."""
    port = node.entry.ports[1]
    for head in (
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /v1/transactions HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Length: 99999999999999\r\n\r\n",
        b"POST /v1/transactions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5_000 + b"\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port), 5.0) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(head)
            connection.shutdown(socket.SHUT_WR)
            response = http.client.HTTPResponse(connection)
            try:
                response.begin()
            except (OSError, http.client.HTTPException):
                continue
            assert 400 <= response.status < 500, f"{response.status} for {head[:60]!r}"


def test_noise_on_every_port_changes_nothing(besieged: Cluster) -> None:
    """P4, P5, P8, P13, A3: nodes finalise meanwhile, leak no descriptors and flood no log."""
    generator = random.Random(SEED)
    before = {node: descriptors_of(node.pid) for node in besieged.running}
    logged = {node: node.entry.log_path.stat().st_size for node in besieged.running}
    for round_number in range(NOISE_CONNECTIONS):
        for node in besieged.running:
            for port in node.entry.ports:
                make_noise(port, generator)
        if round_number % 10 == 0:
            besieged.finalize_one(besieged.running[round_number // 10 % len(besieged.running)])
    for node in besieged.running:
        send_bad_requests(node)
    besieged.finalize_one(besieged.nodes[0])
    besieged.assert_equal_chains()
    for node in besieged.running:
        wait_until(
            f"{node.name} has closed what strangers opened",
            15.0,
            lambda node=node: descriptors_of(node.pid) <= before[node] + SPARE_DESCRIPTORS,  # type: ignore[misc]
        )
        assert node.entry.log_path.stat().st_size - logged[node] < LOG_BYTES_MAX


def test_silent_connections_are_closed(besieged: Cluster) -> None:
    """P4: a stranger that connects to the peers' port and says nothing is cut, peers are not."""
    node = besieged.validators[0]
    address = ("127.0.0.1", node.entry.ports[0])
    silent = [socket.create_connection(address, 5.0) for _ in range(SILENT_CONNECTIONS)]
    try:
        open_ones = set(silent)

        def are_closed() -> bool:
            readable, _, _ = select.select(list(open_ones), [], [], 0)
            for connection in readable:
                with contextlib.suppress(ConnectionError):
                    assert connection.recv(1) == b""
                open_ones.discard(connection)
            return not open_ones

        wait_until("silent connections closed", SILENCE_ENDS_S, are_closed)
    finally:
        for connection in silent:
            connection.close()
    besieged.finalize_one(node)
    assert sum(peer["connected"] for peer in node.api.get("/v1/peers")["items"]) == 4


def test_strangers_do_not_get_past_tls(besieged: Cluster, tmp_path: Path) -> None:
    """P1: no certificate, or one of another authority: closed before any message."""
    node = besieged.validators[0]
    stranger = Cluster.build(tmp_path / "other", validators=1, observers=0).nodes[0]
    anonymous = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anonymous.check_hostname = False
    anonymous.load_verify_locations(node.home / "keys" / "ca.crt")
    foreign = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    foreign.check_hostname = False
    foreign.load_verify_locations(node.home / "keys" / "ca.crt")
    keys = stranger.home / "keys"
    foreign.load_cert_chain(keys / "node.crt", keys / "node.pem")
    for context in (anonymous, foreign):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            read_over_tls(context, node.entry.ports[0])
    besieged.finalize_one(node)


def read_over_tls(context: ssl.SSLContext, port: int) -> None:
    """Speak to a node as a stranger; in TLS 1.3 the refusal is seen with the first read."""
    with (
        socket.create_connection(("127.0.0.1", port), 5.0) as raw,
        context.wrap_socket(raw) as channel,
    ):
        channel.sendall(frame(b"\x90"))
        if channel.recv(1) == b"":
            raise ConnectionResetError


def rogue_on(cluster: Cluster, node: Node, name: str) -> Rogue:
    """Connect to a node as one of the observers that do not run."""
    return Rogue(node.entry.p2p, cluster.node(name).home / "keys", cluster.chain_id)


def lies(chain_id: bytes) -> list[bytes]:
    """Return messages that decode, or nearly, and are false or absurd."""
    digest, signature = secrets.token_bytes(32), secrets.token_bytes(64)
    vote: list[Any] = [1, 1, 0, 0, 1, [0, digest], 0, signature]
    messages: list[Any] = [
        [99, "unknown"],
        [1],
        vote,
        [*vote[:4], 2**63 - 1, *vote[5:]],
        [*vote[:6], 2**31, signature],
        [36, [secrets.token_bytes(300)]],
        [36, [chain_id * 3]],
        [5, secrets.token_bytes(16)],
        {1: 2},
        "text",
        [[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]],
    ]
    return [*(msgpack.packb(message) for message in messages), b"\xdd\xff\xff\xff\xff", b"\xc1"]


def test_lying_member_is_cut_and_nobody_else_suffers(besieged: Cluster) -> None:
    """P5, P7, C5, T12: absurd messages of an authenticated peer cost it its connection only."""
    for node in besieged.running:
        with rogue_on(besieged, node, LIAR) as rogue:
            assert rogue.read_message()[0] == 32
            with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
                for _ in range(20):
                    for lie in lies(besieged.chain_id):
                        rogue.send(frame(lie))
            farewell = rogue.read_to_end()
            assert not farewell or farewell[-1][0] in range(1, 50)
        besieged.finalize_one(node)
        peer = next(peer for peer in node.api.get("/v1/peers")["items"] if peer["name"] == LIAR)
        assert not peer["connected"]
        assert peer["banned_seconds"] > 0
    besieged.assert_equal_chains()
    for node in besieged.running:
        others = [p for p in node.api.get("/v1/peers")["items"] if p["name"] not in ROGUES]
        assert all(peer["connected"] and not peer["banned_seconds"] for peer in others)


def test_frame_that_is_too_long_is_refused_before_it_comes(besieged: Cluster) -> None:
    """P5: a length of 2^32-1 ends the connection at once; nothing is reserved for it."""
    node = besieged.validators[1]
    memory = resident_bytes(node.pid)
    began = time.monotonic()
    with rogue_on(besieged, node, BOASTER) as rogue:
        rogue.send(b"\xff\xff\xff\xff" + b"x" * 1000)
        messages = rogue.read_to_end()
    assert messages[-1][:2] == [GOODBYE_TAG, "frame_too_large"]
    assert time.monotonic() - began < 5.0 * PATIENCE
    assert resident_bytes(node.pid) - memory < 64 * 1024 * 1024
    besieged.finalize_one(node)


def resident_bytes(pid: int) -> int:
    """Return the memory that a process occupies."""
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def test_no_private_key_is_seen_from_outside(besieged: Cluster) -> None:
    """K1: not in any answer, metric, log, argument or variable, after all the errors above."""
    identifier = besieged.finalize_one(besieged.nodes[0])
    places = {
        "{id}": identifier,
        "{block}": "latest",
        "{height}": "1",
        "{address}": besieged.address("alice"),
    }
    for node in besieged.running:
        paths = [
            path
            for path, methods in node.api.get("/openapi.json")["paths"].items()
            if "get" in methods and not path.endswith(("/events", "/ws"))
        ]
        assert "/metrics" in paths
        for path in paths:
            for name, value in places.items():
                path = path.replace(name, value)
            # Every answer passes the search, see `Api`; errors are answers too.
            with contextlib.suppress(NoAnswer):
                assert node.api.request("GET", path).status < 500, path
        for name in ("cmdline", "environ"):
            data = Path(f"/proc/{node.pid}/{name}").read_bytes()
            besieged.secrets.check(data, f"{name} of {node.name}")
        besieged.secrets.check(node.entry.log_path.read_bytes(), f"log of {node.name}")


def test_the_search_for_keys_finds_them(besieged: Cluster) -> None:
    """K1: a canary that never sings shows nothing: the search sees each key in its own file."""
    for path in sorted(besieged.network.directory.rglob("*.pem")):
        with pytest.raises(AssertionError, match="K1"):
            besieged.secrets.check(path.read_bytes(), "its own file")
    with pytest.raises(AssertionError, match="K1"):
        besieged.secrets.check(besieged.network.accounts[0].private_key.encode(), "hex")
