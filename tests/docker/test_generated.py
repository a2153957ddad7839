"""A network of seven validators, four of them government, from `mbi localnet init --compose`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

import pytest

from tests.cluster.waiting import wait_until
from tests.docker.compose import ROOT, ComposeNetwork, free_port
from tests.docker.conftest import READY_S
from tests.docker.drilling import drill, helpers
from tests.docker.transactions import finalise, wait_final

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(1200)]

NODES: Final = ("gov-1", "com-1", "gov-2", "com-2", "gov-3", "com-3", "gov-4", "obs-1")


@pytest.fixture(scope="module")
def seven(image: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeNetwork]:
    """Make the network with the command, and start it with Compose."""
    directory = tmp_path_factory.mktemp("generated") / "net"
    port = free_port()
    options = ("--validators", "7", "--government", "4", "--compose", "--port", str(int(port) - 1))
    subprocess.run(
        [sys.executable, "-m", "mbi", "localnet", "init", str(directory), *options],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=120,
    )
    network = ComposeNetwork(
        f"mbi-seven-{os.getpid()}", directory=directory, nodes=NODES, port=port
    )
    try:
        network.up()
        wait_until("ready", READY_S, lambda: network.get("/readyz").status == 200)
        yield network
    finally:
        network.down()


def test_seven_finalise_and_can_lose_two(seven: ComposeNetwork) -> None:
    """Five of seven, of both chambers, go on: the split is the one that was asked for."""
    document = json.loads((seven.directory / "network.json").read_text())
    wait_final(seven, finalise(seven, document), *NODES)
    chambers = [one["chamber"] for one in seven.get("/v1/validators").document["items"]]
    assert sorted(chambers) == ["commercial"] * 3 + ["government"] * 4

    seven.compose("stop", "com-1", "gov-4")
    identifier = finalise(seven, document)
    wait_final(seven, identifier, "com-3")
    seven.compose("start", "com-1", "gov-4")
    wait_final(seven, identifier, "com-1", "gov-4", deadline_s=READY_S)


@pytest.mark.parametrize("service", NODES)
def test_its_containers_are_hardened(seven: ComposeNetwork, service: str) -> None:
    """O1: as those of the project's own file, and never root, though the test may be."""
    found = seven.inspect(service)
    host = found["HostConfig"]
    assert not found["Config"]["User"].startswith("0")
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert any("no-new-privileges" in option for option in host["SecurityOpt"])
    assert (mount := found["Mounts"][0])["Destination"] == "/var/lib/mbi"
    assert mount["Source"] == str(seven.directory / "nodes" / service)
    assert len(found["Mounts"]) == 1
    uid = seven.python(service, "import os; print(os.getuid(), os.stat('.').st_uid)").split()
    assert uid[0] == uid[1] != "0"


@pytest.mark.parametrize("name", ["partition-2-2", "full-disk"])
def test_it_can_be_drilled(seven: ComposeNetwork, name: str) -> None:
    """Both chambers are halved, whatever their sizes; a home on this machine moves and returns."""
    result = drill(seven, name)
    assert sorted(result["counts"]["nodes"]) == sorted(NODES)
    assert helpers(seven) == []
