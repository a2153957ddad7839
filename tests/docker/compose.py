"""One network of the project's compose file under a project name of its own.

Speaks to the engine by its command line only, as a user does, and to the nodes over HTTP: to the
observer through the published port, to the others from inside their containers.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent.parent
IMAGE: Final = "mbi-node:compose-test"
VALIDATORS: Final = ("gov-1", "com-1", "gov-2", "com-2")
OBSERVER: Final = "obs-1"
NODES: Final = (*VALIDATORS, OBSERVER)
PORTS: Final = (28_000, 31_000)
COMMAND_TIMEOUT_S: Final = 120.0
BUILD_TIMEOUT_S: Final = 900.0

ASK: Final = """
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", 26101, timeout=5)
connection.request("GET", sys.argv[1])
answer = connection.getresponse()
print(answer.status, answer.read().decode())
"""
"""Run inside a container: nothing outside can reach a validator."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and document of one HTTP answer."""

    status: int
    document: Any


def run(
    *words: str,
    timeout_s: float = COMMAND_TIMEOUT_S,
    directory: Path = ROOT,
    stdin: str = "",
    **environment: str,
) -> str:
    """Run a command and return what it prints; fail with its errors."""
    done = subprocess.run(
        words,
        cwd=directory,
        env={**os.environ, **environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(words)}: {done.returncode}\n{done.stderr[-2000:]}"
    return done.stdout


def answers(*words: str) -> bool:
    """Tell whether a command is there and succeeds."""
    try:
        return subprocess.run(words, capture_output=True, timeout=30, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def missing_tools() -> str:
    """Say what these tests lack; empty if they can run."""
    if not answers("docker", "info"):
        return "no Docker engine answers `docker info`: install and start one, then try again"
    if not compose_command():
        return "neither `docker-compose` nor `docker compose` works: install Compose"
    return ""


def compose_command() -> tuple[str, ...]:
    """Return the words that call Compose here, version 2 first; empty if there is none."""
    for words in (("docker", "compose"), ("docker-compose",)):
        if answers(*words, "version"):
            return words
    return ()


def free_port() -> str:
    """Return a port that nothing listens on, below those that systems take for connections."""
    for port in random.sample(range(*PORTS), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return str(port)
    raise AssertionError("no free port")


class ComposeNetwork:
    """The services of a compose file; ``name`` keeps them apart from other networks."""

    def __init__(
        self,
        name: str,
        *,
        directory: Path = ROOT,
        nodes: tuple[str, ...] = NODES,
        port: str | None = None,
        **variables: str,
    ) -> None:
        """Describe a network of the ``docker-compose.yml`` in ``directory``; nothing runs yet.

        ``variables`` are those of the compose file; ``port`` is where the first observer's HTTP
        interface is published.
        """
        self.name = name
        self.nodes = nodes
        self.port = port or free_port()
        self.directory = directory
        self.variables = {"MBI_HTTP_PORT": self.port, "MBI_IMAGE": IMAGE, **variables}
        self._compose = (*compose_command(), "-p", name)

    def compose(self, *words: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run Compose for this network."""
        return run(
            *self._compose,
            *words,
            timeout_s=timeout_s,
            directory=self.directory,
            **self.variables,
        )

    def build(self) -> None:
        """Build the image; MBI_BUILD_NETWORK and BASE count as they do for users."""
        self.compose("build", timeout_s=BUILD_TIMEOUT_S)

    def up(self) -> None:
        """Make what is missing and start what is stopped."""
        self.compose("up", "-d")

    def down(self) -> None:
        """Remove containers, networks and volumes."""
        self.compose("down", "-v")

    def container(self, service: str) -> str:
        """Return the id of a service's container, running or not."""
        label = f"label=com.docker.compose.project={self.name}"
        of_service = f"label=com.docker.compose.service={service}"
        return run("docker", "ps", "-aq", "--filter", label, "--filter", of_service).strip()

    def is_complete(self) -> bool:
        """Tell whether every node runs, and the observer is ready and misses no validator."""
        label = f"label=com.docker.compose.project={self.name}"
        running = run("docker", "ps", "-q", "--filter", label).split()
        return (
            len(running) == len(self.nodes)
            and self.get("/readyz").status == 200
            and not self.get("/v1/consensus").document["missing"]
        )

    def all_ready(self) -> bool:
        """Tell whether every node says that it is ready."""
        return all(self.is_ready(service) for service in self.nodes)

    def inspect(self, service: str) -> Any:
        """Return what the engine says about a service's container."""
        return json.loads(run("docker", "inspect", self.container(service)))[0]

    def python(self, service: str, program: str, *words: str, user: str | None = None) -> str:
        """Run a program in a container; as the container's own user unless another is given."""
        options = () if user is None else ("--user", user)
        container = self.container(service)
        return run("docker", "exec", *options, container, "python", "-c", program, *words)

    def ask(self, service: str, path: str) -> Answer:
        """Get a path of a node's HTTP API from inside its container."""
        status, _, body = self.python(service, ASK, path).partition(" ")
        return Answer(int(status), json.loads(body))

    def is_ready(self, service: str) -> bool:
        """Tell whether a node says that it is ready."""
        return self.ask(service, "/readyz").status == 200

    def get(self, path: str) -> Answer:
        """Get a path of the observer's HTTP API through the published port."""
        connection = http.client.HTTPConnection("127.0.0.1", int(self.port), timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return Answer(response.status, json.loads(response.read()))
        except (http.client.HTTPException, ValueError) as error:
            raise OSError(f"GET {path}: {error!r}") from error
        finally:
            connection.close()

    def network_file(self) -> Any:
        """Return ``network.json``: chain id and funded accounts with their keys."""
        command = ("run", "--rm", "-T", "--entrypoint", "cat", "mbi", "/network/network.json")
        return json.loads(self.compose(*command))

    def remains(self) -> list[str]:
        """Return every container, volume and network of this project that the engine has."""
        label = f"label=com.docker.compose.project={self.name}"
        listings = (("ps", "-aq"), ("volume", "ls", "-q"), ("network", "ls", "-q"))
        found = [run("docker", *words, "--filter", label).split() for words in listings]
        return [one for ids in found for one in ids]
