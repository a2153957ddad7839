"""Accepts connections and carries each through its TLS handshake, under a bound.

Handshakes are cheap to start and can be left hanging, so their number is bounded and the *oldest*
one makes room: an honest handshake is over in milliseconds and is never the oldest of many. What
fails is counted by reason and by address; nothing of the node runs before TLS has accepted the
certificate.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import Counter
from typing import TYPE_CHECKING, Final

from p2p.transport import tune

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from p2p.config import Limits
    from p2p.transport import Channel

BACKLOG: Final = 128
ADDRESSES_MAX: Final = 256
"""Addresses that are counted one by one; the rest is counted together, so that the table cannot
grow."""
OTHER_ADDRESSES: Final = "other"
ACCEPT_PAUSE_S: Final = 0.1
"""After the process has run out of file descriptors or memory for sockets."""
_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener:
    """A listening socket and the handshakes in progress on it."""

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        limits: Limits,
        make_channel: Callable[[str], Channel],
    ) -> None:
        self.failures: Counter[str] = Counter()
        """Connections that ended before TLS was up, by reason."""
        self.failures_by_address: Counter[str] = Counter()
        self._socket = sock
        self._context = context
        self._limits = limits
        self._make_channel = make_channel
        self._handshakes: dict[asyncio.Task[None], None] = {}
        """In order of arrival."""

    async def run(self) -> None:
        """Accept until cancelled."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    sock, address = await loop.sock_accept(self._socket)
                except OSError as error:
                    # A client that was gone before we looked is nothing; want of resources needs a
                    # pause.
                    if error.errno in _EXHAUSTED:
                        self.failures["out_of_resources"] += 1
                        await asyncio.sleep(ACCEPT_PAUSE_S)
                    continue
                if len(self._handshakes) >= self._limits.handshakes_max:
                    next(iter(self._handshakes)).cancel()
                task = group.create_task(self._shake_hands(sock, _text(address)))
                self._handshakes[task] = None
                task.add_done_callback(self._handshakes.pop)

    async def _shake_hands(self, sock: socket.socket, address: str) -> None:
        try:
            tune(sock)
        except OSError:  # reset before we looked
            sock.close()
            self._count("tls_handshake_failed", address)
            return
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._make_channel(address),
                sock,
                ssl=self._context,
                ssl_handshake_timeout=self._limits.tls_handshake_s,
                ssl_shutdown_timeout=self._limits.tls_close_s,
            )
        except TimeoutError:
            self._count("tls_handshake_timeout", address)
        except OSError as error:
            # ssl.SSLError is one; asyncio reports a handshake that ran out of time as
            # ConnectionAbortedError.
            timed_out = isinstance(error, ConnectionAbortedError)
            self._count("tls_handshake_timeout" if timed_out else "tls_handshake_failed", address)
        except asyncio.CancelledError:
            self._count("tls_handshake_evicted", address)
            raise

    def _count(self, reason: str, address: str) -> None:
        self.failures[reason] += 1
        host = address.rpartition(":")[0]
        if host not in self.failures_by_address and len(self.failures_by_address) >= ADDRESSES_MAX:
            host = OTHER_ADDRESSES
        self.failures_by_address[host] += 1


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one.

    Raises:
        OSError: the address is in use or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.create_server((host, port), family=family, backlog=BACKLOG)
    sock.setblocking(False)
    return sock


def _text(address: tuple[object, ...]) -> str:
    return f"{address[0]}:{address[1]}"
