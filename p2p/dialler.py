"""Keeps one configured peer connected: dials while it is down, more and more slowly.

The delay doubles from ``backoff_first_s`` to ``backoff_max_s`` and is drawn from its upper half, so
that nodes that lost each other at the same moment do not return at the same moment.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from time import monotonic
from typing import TYPE_CHECKING, Final

from p2p.errors import DialFailed
from p2p.transport import Channel, tune

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from p2p.config import Limits, PeerConfig
    from p2p.peers import Peer

STABLE_S: Final = 5.0
"""A connection that lasted this long resets the back-off; a shorter one was no success."""

GRACE_S: Final = 0.25
"""Head start of the smaller node id, whose connection would be kept anyway."""


class Backoff:
    """Growing delays between attempts."""

    def __init__(self, first_s: float, max_s: float, draw: Callable[[], float]) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._draw = draw
        self._next_s = first_s

    def next_s(self) -> float:
        """Return the next delay: between half and all of the present step."""
        step_s = self._next_s
        self._next_s = min(self._max_s, step_s * 2)
        return step_s * (1 + self._draw()) / 2

    def reset(self) -> None:
        """Begin again with the first step."""
        self._next_s = self._first_s


class Dialler:
    """Dials one peer."""

    def __init__(
        self,
        peer: Peer,
        context: ssl.SSLContext,
        limits: Limits,
        *,
        has_head_start: bool,
        make_channel: Callable[[str], Channel],
    ) -> None:
        self._peer = peer
        self._context = context
        self._limits = limits
        self._has_head_start = has_head_start
        self._make_channel = make_channel
        draw = secrets.SystemRandom().random
        self._backoff = Backoff(limits.backoff_first_s, limits.backoff_max_s, draw)

    async def run(self) -> None:
        """Dial whenever the peer is down, until cancelled."""
        peer = self._peer
        if not self._has_head_start:
            await asyncio.sleep(GRACE_S)
        while True:
            if not peer.down.is_set():
                up_since_s = monotonic()
                await peer.down.wait()
                if monotonic() - up_since_s >= STABLE_S:
                    self._backoff.reset()
                await asyncio.sleep(self._delay_s())
                continue
            try:
                channel = await self._dial()
                await channel.decided.wait()
            except DialFailed as error:
                peer.last_error = error.code
                peer.is_refused_for_good = False
            if peer.down.is_set():
                await asyncio.sleep(self._delay_s())

    def _delay_s(self) -> float:
        banned_for_s = self._peer.score.banned_for_s(monotonic())
        refused_s = self._limits.backoff_refused_s if self._peer.is_refused_for_good else 0.0
        return max(self._backoff.next_s(), banned_for_s, refused_s)

    async def _dial(self) -> Channel:
        """Return a channel whose TLS handshake is done."""
        config = self._peer.config
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._limits.dial_s):
                sock = await _connect(config)
            _, channel = await loop.create_connection(
                lambda: self._make_channel(f"{config.host}:{config.port}"),
                sock=sock,
                ssl=self._context,
                server_hostname="",
                ssl_handshake_timeout=self._limits.tls_handshake_s,
                ssl_shutdown_timeout=self._limits.tls_close_s,
            )
        except OSError as error:  # TimeoutError and ssl.SSLError are among them
            raise DialFailed(f"{config.host}:{config.port}: {error}") from error
        return channel


async def _connect(config: PeerConfig) -> socket.socket:
    """Return a TCP connection to the first address of the host that answers."""
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)
    failure: OSError | None = None
    for family, kind, protocol, _, address in addresses:
        sock = socket.socket(family, kind, protocol)
        try:
            tune(sock)
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure or OSError(f"{config.host} has no address")
