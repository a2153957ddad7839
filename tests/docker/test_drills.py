"""Drills on a real engine: the fault bites, is undone, and an interrupt undoes it, too.

`make drills` runs all of them; these tests are about the command itself.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from mbi.errors import ExitCode
from tests.cluster.waiting import wait_until
from tests.docker.compose import NODES, ComposeNetwork, run
from tests.docker.conftest import READY_S
from tests.docker.drilling import command, drill, helpers

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1200)]

IN_FORCE_S: Final = 120.0
UNDO_S: Final = 60.0


@contextmanager
def begun(network: ComposeNetwork, name: str) -> Iterator[subprocess.Popen[str]]:
    """Start a drill for a test that interrupts it."""
    process = command(network, name)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=UNDO_S)


def missing(network: ComposeNetwork) -> list[str]:
    """Return the validators that the observer misses."""
    found: list[str] = network.get("/v1/consensus").document["missing"]
    return found


def rules(network: ComposeNetwork, service: str) -> str:
    """Return the rules in a node's network namespace, from a helper's eyes."""
    place = ("--network", f"container:{network.container(service)}", "--cap-drop", "ALL")
    tools = ("--cap-add", "NET_ADMIN", "mbi-drill-tools:1", "iptables", "-S")
    return run("docker", "run", "--rm", *place, *tools)


def test_partition_halts_both_halves_and_the_network_resumes(network: ComposeNetwork) -> None:
    """C14: seen from outside: nothing new on any node for ten seconds, then all go on."""
    result = drill(network, "partition-2-2")
    assert result["seconds"]["gap"] >= 8.0
    assert result["counts"]["acknowledged"] >= 50
    assert sorted(result["counts"]["nodes"]) == sorted(NODES)
    assert helpers(network) == []


@pytest.mark.slow
def test_container_that_was_made_again_is_as_the_compose_file_says(
    network: ComposeNetwork,
) -> None:
    """O1: the drill's image, clock and volume are gone, the limits of the container are not."""
    before = network.inspect("gov-2")
    drill(network, "clock-skew")
    after = network.inspect("gov-2")
    assert after["Id"] != before["Id"]
    for part in ("Image", "Mounts"):
        assert after[part] == before[part]
    assert after["Config"]["Env"] == before["Config"]["Env"]
    for name in ("ReadonlyRootfs", "CapDrop", "CapAdd", "SecurityOpt", "PidsLimit", "Memory"):
        assert after["HostConfig"][name] == before["HostConfig"][name]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_partition_is_healed(network: ComposeNetwork, number: signal.Signals) -> None:
    with begun(network, "partition-2-2") as process:
        wait_until("parted", IN_FORCE_S, lambda: len(missing(network)) == 2)
        process.send_signal(number)
        assert process.wait(UNDO_S) == ExitCode.INTERRUPTED
    for service in NODES:
        assert "MBI-DRILL" not in rules(network, service)
    assert helpers(network) == []
    wait_until("whole", READY_S, lambda: missing(network) == [])


def test_interrupted_pause_resumes_the_node(network: ComposeNetwork) -> None:
    def is_paused() -> bool:
        return any(network.inspect(service)["State"]["Paused"] for service in NODES)

    with begun(network, "pause") as process:
        wait_until("paused", IN_FORCE_S, is_paused)
        process.send_signal(signal.SIGINT)
        assert process.wait(UNDO_S) == ExitCode.INTERRUPTED
    assert not is_paused()
    wait_until("whole", READY_S, lambda: missing(network) == [])
