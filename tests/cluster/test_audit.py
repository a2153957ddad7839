"""``mbi audit`` and a home with damaged files, as a user meets them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster, Node
from tests.cluster.programs import MBI, NODE, run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]


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
    return run(*MBI, "--json", "audit", "verify", str(home))


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

    started = run(*NODE, "--home", str(home))
    assert started.returncode not in (0, None)
    last = started.stderr.splitlines()[-1]
    assert "store_corrupt" in last
    assert "--rejoin" in last
    assert "Traceback" not in started.stderr
    result = audit(home)
    assert result.returncode != 0
    assert '"intact": true' not in result.stdout
    assert "Traceback" not in result.stderr
