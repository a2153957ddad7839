"""``mbi dev`` and ``mbi audit`` as a user meets them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from mbi.localnet.processes import child_environment
from tests.cluster.api import Api, NoAnswer
from tests.cluster.cluster import COMMAND_S, Cluster, Node, free_port
from tests.cluster.figures import Figures
from tests.cluster.waiting import PATIENCE, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

MBI: Final = [sys.executable, "-c", "from mbi.cli import main; main()"]
READY_S: Final = 10.0
"""From the command to the ready file, keys and databases included; 5 s is the aim."""
STOPPED_S: Final = 10.0


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A running ``mbi dev`` on free ports; its ready file is ``ready.json``."""
    port = free_port(5)
    with subprocess.Popen(
        [*MBI, "dev", "--port", str(port), "--ready-file", str(tmp_path / "ready.json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=child_environment(exit_with_parent=False) | {"NO_COLOR": "1"},
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(3 * STOPPED_S)


def is_alive(pid: int) -> bool:
    """Tell whether there is a process with this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_dev_network_is_ready_soon_and_ctrl_c_leaves_nothing(
    dev: subprocess.Popen[str], tmp_path: Path, figures: Figures
) -> None:
    """A newcomer's first minute: a network whose URLs answer, and nothing left after Ctrl-C."""
    began = time.monotonic()
    ready = tmp_path / "ready.json"
    wait_until("ready file", READY_S, ready.exists)
    figures["mbi dev ready (s)"] = round(time.monotonic() - began, 1)
    document: dict[str, Any] = json.loads(ready.read_bytes())
    assert [node["role"] for node in document["nodes"]] == 4 * ["validator"] + ["observer"]
    assert sorted(str(node["chamber"]) for node in document["nodes"]) == [
        "None",
        *2 * ["commercial"],
        *2 * ["government"],
    ]
    for node in document["nodes"]:
        api = Api(node["http"])
        assert api.get("/readyz")["ready"]
        assert api.status()["chain_id"] == document["chain_id"]
        api.close()
        assert is_alive(node["pid"])

    dev.send_signal(signal.SIGINT)
    output, _ = dev.communicate(timeout=STOPPED_S * PATIENCE)
    assert dev.returncode == 0, output
    assert all(node["http"] in output for node in document["nodes"])
    assert document["chain_id"] in output
    assert "all nodes stopped" in output
    assert not any(is_alive(node["pid"]) for node in document["nodes"])
    assert not any(Path(node["home"]).exists() for node in document["nodes"])
    for node in document["nodes"]:
        with pytest.raises(NoAnswer):
            Api(node["http"]).status()


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """Return a stopped node with some blocks."""
    cluster = Cluster.build(tmp_path_factory.mktemp("audited") / "net", validators=1, observers=0)
    node = cluster.nodes[0]
    try:
        cluster.start()
        for _ in range(5):
            cluster.finalize_one(node)
    finally:
        cluster.stop()
    return node


def audit(home: Path) -> subprocess.CompletedProcess[str]:
    """Run ``mbi audit verify`` on a home."""
    return subprocess.run(
        [*MBI, "--json", "audit", "verify", str(home)],
        env=child_environment(exit_with_parent=True),
        capture_output=True,
        text=True,
        timeout=COMMAND_S * PATIENCE,
        check=False,
    )


def test_audit_of_an_intact_home(stopped: Node, tmp_path: Path) -> None:
    """S2: every block is replayed and every signature and certificate verified."""
    result = audit(Path(shutil.copytree(stopped.home, tmp_path / "home")))
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["intact"]
    assert report["height"] >= 5
    assert report["transactions"] == 5


@pytest.mark.parametrize("suffix", [".log", ".ldb", "MANIFEST"])
def test_flipped_bit_is_noticed(stopped: Node, tmp_path: Path, suffix: str) -> None:
    """S2: one bit in any file of the database: no start, no clean audit, and what to do is said."""
    home = Path(shutil.copytree(stopped.home, tmp_path / "home"))
    if suffix == ".ldb":
        # A start moves what is in the log into a table.
        audit(home)
    files = [path for path in (home / "data").iterdir() if suffix in path.name]
    path = max(files, key=lambda file: file.stat().st_size)
    data = bytearray(path.read_bytes())
    assert data
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    started = subprocess.run(
        [sys.executable, "-m", "node", "--home", str(home)],
        env=child_environment(exit_with_parent=True),
        capture_output=True,
        text=True,
        timeout=COMMAND_S * PATIENCE,
        check=False,
    )
    assert started.returncode not in (0, None)
    last = started.stderr.splitlines()[-1]
    assert "store_corrupt" in last
    assert "--rejoin" in last
    assert "Traceback" not in started.stderr
    result = audit(home)
    assert result.returncode != 0
    assert '"intact": true' not in result.stdout
    assert "Traceback" not in result.stderr
