"""Makes sure, before anything is written or started, that the ports of a network are free."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from typing import Final

from mbi.errors import UsageError
from mbi.localnet.topology import LOOPBACK

OTHER_PORTS_OFFSET: Final = 1000
"""How far away the suggested ports are: beyond a network of 100 nodes."""


class PortTaken(UsageError):
    """Another program listens on a port that a node needs."""

    code = "port_taken"


def is_free(port: int) -> bool:
    """Tell whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: lingering connections of a stopped server do not count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def demand_free(ports: Sequence[int]) -> None:
    """Raise :class:`PortTaken` naming the taken ports and what to do about it."""
    taken = [port for port in ports if not is_free(port)]
    if taken:
        names = ", ".join(map(str, taken))
        raise PortTaken(
            f"port {names} on {LOOPBACK} is in use by another program (a network that still "
            f"runs?); stop it, or choose other ports: --port {min(ports) + OTHER_PORTS_OFFSET}"
        )
