"""The stack file on a Swarm of one machine: deployed, finalises, survives an update, confined.

Leaving a Swarm takes the containers of all projects on the engine off their networks (Docker
20.10). So these tests come last, and nothing else may run on the engine meanwhile.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.cluster.waiting import wait_until
from tests.docker.compose import ASK, IMAGE, NODES, ROOT, Answer, free_port, run
from tests.docker.test_hardening import PROCESSES, UID

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(1200)]

READY_S: Final = 90.0
"""Swarm starts tasks at its leisure, five seconds apart if one had to wait for another."""
GONE_S: Final = 60.0
UPDATED_S: Final = 90.0
STACK_FILE: Final = ROOT / "deploy" / "swarm" / "stack.yml"


class Stack:
    """One deployed stack."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = free_port()

    def prepare(self) -> None:
        """Make the homes in the volumes: what each organisation does on its own machine."""
        mounts = [
            word for node in NODES for word in ("-v", f"{self.name}_{node}:/network/nodes/{node}")
        ]
        network = ("-v", f"{self.name}_network:/network")
        init = ("localnet", "init", "/network", "--containers")
        run("docker", "run", "--rm", "--network", "none", *network, *mounts, IMAGE, *init)

    def deploy(self) -> None:
        """Deploy the stack file as it stands."""
        words = ("stack", "deploy", "--resolve-image", "never", "-c", str(STACK_FILE), self.name)
        run("docker", *words, MBI_IMAGE=IMAGE, MBI_HTTP_PORT=self.port)

    def remove(self) -> None:
        """Remove services, networks and volumes."""
        label = f"label=com.docker.stack.namespace={self.name}"

        def is_gone() -> bool:
            # A network cannot be removed while a task of it is on its way out: ask again.
            run("docker", "stack", "rm", self.name)
            listings = (("ps", "-aq"), ("network", "ls", "-q"))
            return not any(run("docker", *words, "--filter", label) for words in listings)

        wait_until("no container and network left", GONE_S, is_gone)
        volumes = run("docker", "volume", "ls", "-q", "--filter", f"name={self.name}_").split()
        run("docker", "volume", "rm", *volumes)

    def container(self, node: str) -> str:
        """Return the id of the running container of a node."""
        label = f"label=com.docker.swarm.service.name={self.name}_{node}"
        found = run("docker", "ps", "-q", "--filter", label).split()
        assert len(found) == 1, f"{node} has {len(found)} containers"
        return found[0]

    def inspect(self, node: str) -> Any:
        """Return what the engine says about the container of a node."""
        return json.loads(run("docker", "inspect", self.container(node)))[0]

    def ask(self, node: str, path: str) -> Answer:
        """Get a path of a node's HTTP API from inside its container."""
        words = ("docker", "exec", self.container(node), "python", "-c", ASK, path)
        status, _, body = run(*words).partition(" ")
        return Answer(int(status), json.loads(body))

    def is_ready(self) -> bool:
        """Tell whether every node says that it is ready."""
        for node in NODES:
            answer = self.ask(node, "/readyz")
            assert answer.status == 200, (node, answer.document)
        return True


@pytest.fixture(scope="module")
def swarm(image: None) -> Iterator[None]:
    """Make this engine a Swarm of its own, unless it is in one, and label the machine."""
    state = run("docker", "info", "--format", "{{.Swarm.LocalNodeState}}").strip()
    if state != "active":
        run("docker", "swarm", "init", "--advertise-addr", "127.0.0.1")
    machine = run("docker", "info", "--format", "{{.Swarm.NodeID}}").strip()
    labels = [f"mbi.{node}" for node in NODES]
    given = [word for label in labels for word in ("--label-add", f"{label}=yes")]
    taken = [word for label in labels for word in ("--label-rm", label)]
    run("docker", "node", "update", *given, machine)
    try:
        yield
    finally:
        if state == "active":
            run("docker", "node", "update", *taken, machine)
        else:
            run("docker", "swarm", "leave", "--force")


@pytest.fixture(scope="module")
def stack(swarm: None) -> Iterator[Stack]:
    """The stack with every node ready."""
    stack = Stack(f"mbi-swarm-{os.getpid()}")
    try:
        stack.prepare()
        stack.deploy()
        wait_until("ready", READY_S, stack.is_ready)
        yield stack
    finally:
        stack.remove()


def test_every_node_is_on_one_chain_that_grows(stack: Stack) -> None:
    """An idle network makes its blocks, too: height 1 is on every node, and is the same."""

    def hashes() -> set[str]:
        return {stack.ask(node, "/v1/blocks/1").document["hash"] for node in NODES}

    def grows() -> bool:
        assert stack.ask("obs-1", "/v1/status").document["height"] >= 1
        return True

    wait_until("a block", READY_S, grows)
    assert len(hashes()) == 1


@pytest.mark.parametrize("node", NODES)
def test_container_is_confined(stack: Stack, node: str) -> None:
    """O1: what the stack file asks for is what Swarm gives."""
    found = stack.inspect(node)
    host = found["HostConfig"]
    assert found["Config"]["User"] == f"{UID}:{UID}"
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["Init"] is True
    assert host["PidsLimit"] == 64
    assert host["Memory"] == 1024**3
    words = ("docker", "exec", stack.container(node), "python", "-c", PROCESSES)
    for process in json.loads(run(*words)):
        assert set(process["Uid"]) == {str(UID)}, process
        for name in ("CapEff", "CapPrm", "CapBnd"):
            assert int(process[name][0], 16) == 0, process


def test_only_the_observer_is_published(stack: Stack) -> None:
    """O2: validators publish nothing."""
    for node in NODES:
        published = stack.inspect(node)["NetworkSettings"]["Ports"]
        assert any(published.values()) == (node == "obs-1"), node


def test_update_stops_a_node_before_it_starts_its_successor(stack: Stack) -> None:
    """One key, one process: and the node comes back on its own data."""
    before = stack.container("com-1")
    run("docker", "service", "update", "--force", "--detach", f"{stack.name}_com-1")

    def is_replaced() -> bool:
        assert stack.container("com-1") != before
        return stack.is_ready()

    wait_until("replaced", UPDATED_S, is_replaced)
    assert stack.ask("com-1", "/v1/status").document["height"] >= 1
