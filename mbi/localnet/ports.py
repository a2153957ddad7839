"""Makes sure, before anything is written or started, that the ports of a network are free."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Final

from mbi.errors import UsageError
from mbi.localnet.topology import PORT_STEP, Topology

if TYPE_CHECKING:
    from collections.abc import Iterable

LOOPBACK: Final = "127.0.0.1"
"""Local networks listen here only."""


class PortTaken(UsageError):
    """Another program listens on a port that a node needs."""

    code = "port_taken"


def is_free(port: int) -> bool:
    """Tell whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections of a stopped server that linger do not count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def demand_free(topology: Topology) -> None:
    """Raise :class:`PortTaken` naming the taken ports and what to do about it."""
    taken = _taken(port for node in topology.nodes for port in (node.p2p_port, node.http_port))
    if not taken:
        return
    names = ", ".join(map(str, taken))
    base = topology.nodes[0].p2p_port
    suggestion = base + PORT_STEP * 100
    raise PortTaken(
        f"port {names} on {LOOPBACK} is in use by another program (a network that still runs?); "
        f"stop it, or choose other ports: --port {suggestion}"
    )


def _taken(ports: Iterable[int]) -> list[int]:
    return [port for port in ports if not is_free(port)]
