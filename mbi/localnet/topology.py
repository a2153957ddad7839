"""Who takes part in a local network: names, chambers and ports. Pure.

Validators alternate between the government and the commercial chamber, so each number of validators
gives the most even split, unless it is stated how many are government. On one machine node i
listens on ``port + 10 i`` for other nodes and one above for HTTP. In containers each node has a
machine of its own, reached under the node's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from mbi.errors import UsageError

Chamber = Literal["government", "commercial"]
Role = Literal["validator", "observer"]

LOOPBACK: Final = "127.0.0.1"
"""Networks on one machine listen here only."""
ANY_ADDRESS: Final = "0.0.0.0"
"""Nodes in containers listen here: their own network decides who reaches them."""
PORT_DEFAULT: Final = 26100
PORT_MIN: Final = 1024
"""Below it only the superuser may listen."""
PORT_MAX: Final = 65535
PORT_STEP: Final = 10
VALIDATORS_MAX: Final = 100
"""Far more than one machine can run; keeps ports and names in range."""
OBSERVERS_MAX: Final = 50
CONTAINERS_MAX: Final = 16
"""Nodes of one kind in containers; the image has a place for the home of each of them."""

_SHORT: Final[dict[Chamber, str]] = {"government": "gov", "commercial": "com"}


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """One node before it has keys or a home."""

    name: str
    role: Role
    chamber: Chamber | None
    """None for an observer."""
    p2p_port: int
    http_port: int
    host: str = LOOPBACK
    """Where others reach it."""
    listen: str = LOOPBACK
    """Address that it listens on."""

    @property
    def in_container(self) -> bool:
        """Whether the node has a machine of its own."""
        return self.listen == ANY_ADDRESS


@dataclass(frozen=True, slots=True)
class Topology:
    """All nodes of a network, validators first."""

    nodes: tuple[PlannedNode, ...]

    @property
    def validators(self) -> tuple[PlannedNode, ...]:
        """The nodes that vote."""
        return tuple(node for node in self.nodes if node.role == "validator")

    @property
    def ports(self) -> tuple[int, ...]:
        """Every port that the network listens on."""
        return tuple(port for node in self.nodes for port in (node.p2p_port, node.http_port))

    def chamber_size(self, chamber: Chamber) -> int:
        """Return how many validators sit in a chamber."""
        return sum(node.chamber == chamber for node in self.nodes)


def plan(
    validators: int, observers: int, port: int = PORT_DEFAULT, government: int | None = None
) -> Topology:
    """Lay out a network; raises :class:`UsageError` naming the number that is out of range."""
    _demand("--validators", validators, 1, VALIDATORS_MAX)
    _demand("--observers", observers, 0, OBSERVERS_MAX)
    last = PORT_STEP * (validators + observers - 1) + 1
    _demand("--port", port, PORT_MIN, PORT_MAX - last)
    return Topology(
        tuple(
            PlannedNode(name, role, chamber, port + PORT_STEP * index, port + PORT_STEP * index + 1)
            for index, (name, role, chamber) in enumerate(_seats(validators, observers, government))
        )
    )


def plan_containers(validators: int, observers: int, government: int | None = None) -> Topology:
    """Lay out a network whose nodes reach each other by name, all on the default ports.

    Raises :class:`UsageError` naming the number that is out of range.
    """
    _demand("--validators", validators, 1, 2 * CONTAINERS_MAX)
    _demand("--observers", observers, 0, CONTAINERS_MAX)
    if government is not None:
        least = max(0, validators - CONTAINERS_MAX)
        _demand("--government", government, least, min(validators, CONTAINERS_MAX))
    return Topology(
        tuple(
            PlannedNode(name, role, chamber, PORT_DEFAULT, PORT_DEFAULT + 1, name, ANY_ADDRESS)
            for name, role, chamber in _seats(validators, observers, government)
        )
    )


def _seats(
    validators: int, observers: int, government: int | None
) -> list[tuple[str, Role, Chamber | None]]:
    if government is None:
        government = (validators + 1) // 2
    _demand("--government", government, 0, validators)
    sizes: dict[Chamber, int] = {"government": government, "commercial": validators - government}
    taken: dict[Chamber, int] = {"government": 0, "commercial": 0}
    seats: list[tuple[str, Role, Chamber | None]] = []
    for index in range(validators):
        turn: Chamber = "commercial" if index % 2 else "government"
        other: Chamber = "government" if index % 2 else "commercial"
        chamber = turn if taken[turn] < sizes[turn] else other
        taken[chamber] += 1
        seats.append((f"{_SHORT[chamber]}-{taken[chamber]}", "validator", chamber))
    seats += [(f"obs-{number}", "observer", None) for number in range(1, observers + 1)]
    return seats


def quorum_text(governments: int, commercials: int) -> str:
    """Say in one line what a certificate needs, for banners and help."""
    total = governments + commercials
    needed = total * 2 // 3 + 1
    chambers = [
        f"{(size + 1) // 2} of {size} {name}"
        for name, size in (("government", governments), ("commercial", commercials))
        if size
    ]
    return f"{needed} of {total} validators, at least {' and '.join(chambers)}"


def advice(governments: int, commercials: int) -> str | None:
    """Return a hint for production if a chamber has an even size, otherwise None.

    With an odd number in each chamber, half of a chamber (rounded up) is a majority of it, so even
    a chamber that lies as a whole cannot make two conflicting blocks final.
    """
    even = [
        f"{name} has {size}"
        for name, size in (("government", governments), ("commercial", commercials))
        if size and size % 2 == 0
    ]
    if not even:
        return None
    return (
        f"for production give each chamber an odd number of validators ({', '.join(even)}): "
        "then no chamber, even lying as a whole, can finalise two conflicting blocks"
    )


def _demand(option: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise UsageError(f"{option} must be from {low} to {high}, got {value}")
