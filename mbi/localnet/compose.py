"""Writes the docker-compose file of a network that lies in a directory.

The nodes run in containers on the homes of that directory, so genesis, keys and chain are where
``mbi`` made them, and the file holds no secret. What it promises about the containers is what the
project's own ``docker-compose.yml`` promises, and a test compares the two. Read by Compose v1.29
and v2.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mbi.errors import UsageError
from mbi.localnet.topology import PORT_DEFAULT, PORT_MAX, PORT_MIN, PORT_STEP, PlannedNode, Topology

COMPOSE_FILE: Final = "docker-compose.yml"
"""In the directory of the network."""

IMAGE_USER: Final = 10001
"""User and group of the image. The superuser's networks are handed to it: no node runs as root."""

HTTP_PORT: Final = PORT_DEFAULT + 1
"""Of every node inside the network between the containers."""

_HEAD: Final = """\
# {summary}. Written by `mbi localnet init --compose`.
#
#   docker build -t {image} .      once, in the project's directory
#   docker-compose up -d            start; http://127.0.0.1:{port} is the first observer
#   docker-compose run --rm mbi tx send --from alice --to bob --asset issuer/MYR --amount 100 --wait
#   docker-compose down             stop; the keys and the chain stay in ./nodes
#
# The directory must stay where it is while containers run. MBI_IMAGE names another image.

x-hardened: &hardened
  image: ${{MBI_IMAGE:-{image}}}
  # Built on this machine: a registry must not be asked for a name that anyone could take there.
  pull_policy: never
  # Owner of the homes below.
  user: "{user}"
  read_only: true
  tmpfs: [/tmp]
  cap_drop: [ALL]
  security_opt: ["no-new-privileges:true"]
  pids_limit: 64
  mem_limit: 1g
  init: true
  logging:
    driver: json-file
    options: {{max-size: 10m, max-file: "3"}}

x-node: &node
  <<: *hardened
  restart: unless-stopped
  # A node stops within five seconds; more means that it hangs.
  stop_grace_period: 15s
  networks: [nodes]

services:
"""

_VALIDATOR: Final = """\
  {name}:
    <<: *node
    volumes: ["./nodes/{name}:/var/lib/mbi"]

"""

_OBSERVER: Final = """\
  {name}:
    <<: *node
    networks: [nodes, edge]
    ports: ["127.0.0.1:{port}:{http_port}"]
    volumes: ["./nodes/{name}:/var/lib/mbi"]

"""

_TAIL: Final = """\
  # The command line with the keys of the funded accounts; starts only when it is asked for.
  mbi:
    <<: *hardened
    profiles: [tools]
    environment:
      MBI_NODE: http://{observer}:{http_port}
      MBI_KEYS: /accounts
    healthcheck: {{disable: true}}
    networks: [nodes]
    volumes: ["./accounts:/accounts:ro"]

networks:
  # Has no way out and no way in.
  nodes: {{internal: true}}
  edge: {{}}
"""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a compose file depends on besides the nodes."""

    image: str
    """Name with a tag; never ``latest``."""
    user: str
    """``uid:gid`` of the containers."""
    port: int
    """First of the ports of the network: observer i has its HTTP at ``port + 10 i + 1``."""


def demand_publishable(topology: Topology, port: int) -> None:
    """Raise :class:`UsageError` if the network could not be reached from outside its containers."""
    observers = _observers(topology)
    if not observers:
        raise UsageError("--compose needs at least one observer: validators are not published")
    last = PORT_STEP * (len(observers) - 1) + 1
    if not PORT_MIN <= port <= PORT_MAX - last:
        raise UsageError(f"--port must be from {PORT_MIN} to {PORT_MAX - last}, got {port}")


def compose_text(topology: Topology, settings: Settings) -> str:
    """Return the compose file of a network in the directory that the file is in. Pure."""
    observers = _observers(topology)
    parts = [
        _HEAD.format(
            summary=f"A network of {len(topology.validators)} validators and "
            f"{len(observers)} observers",
            image=settings.image,
            user=settings.user,
            port=settings.port + 1,
        ),
        *(_VALIDATOR.format(name=node.name) for node in topology.validators),
        *(
            _OBSERVER.format(
                name=node.name, port=settings.port + PORT_STEP * index + 1, http_port=HTTP_PORT
            )
            for index, node in enumerate(observers)
        ),
        _TAIL.format(observer=observers[0].name, http_port=HTTP_PORT),
    ]
    return "".join(parts)


def write_compose(directory: Path, topology: Topology, image: str, port: int) -> Path:
    """Write the compose file of the network in ``directory`` and return its path.

    The containers run as the owner of the homes: whoever calls this, or the image's user if that is
    the superuser, who then gives the homes and the accounts away.
    """
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        user = group = IMAGE_USER
        for part in ("nodes", "accounts"):
            _give(directory / part, user, group)
    path = directory / COMPOSE_FILE
    path.write_text(compose_text(topology, Settings(image, f"{user}:{group}", port)))
    return path


def _observers(topology: Topology) -> tuple[PlannedNode, ...]:
    return tuple(node for node in topology.nodes if node.role == "observer")


def _give(directory: Path, user: int, group: int) -> None:
    for path in (directory, *directory.rglob("*")):
        os.chown(path, user, group, follow_symlinks=False)
