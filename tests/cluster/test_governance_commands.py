"""The commands that ``docs/cli.md`` shows for governance, word for word on a real network."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from mbi.localnet.layout import load_network
from mbi.localnet.processes import child_environment, stop_nodes
from tests.cluster.cluster import free_port
from tests.cluster.figures import Figures
from tests.cluster.governance import EPOCH_S
from tests.cluster.programs import COMMAND_S
from tests.cluster.waiting import PATIENCE, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

GUIDE: Final = Path(__file__).parents[2] / "docs" / "cli.md"
FIRST: Final = ["com-1", "com-2", "gov-1", "gov-2"]


def shown_under(heading: str) -> list[str]:
    """Return the commands of the first block of code under a heading of the guide."""
    found = re.search(rf"^### {heading}\n.*?^```\n(.*?)^```$", GUIDE.read_text(), re.S | re.M)
    assert found is not None, f"{GUIDE} shows no commands under {heading!r}"
    return found[1].splitlines()


class Shell:
    """A user's shell in the directory above the network ``demo``."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        # The command of this environment, whatever else is installed.
        folder = directory / "bin"
        folder.mkdir()
        (folder / "mbi").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mbi "$@"\n')
        (folder / "mbi").chmod(0o700)
        self._environment = child_environment(exit_with_parent=False) | {
            "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(GUIDE.parents[1]),
            "MBI_NODE": f"http://127.0.0.1:{port + 1}",
            "MBI_KEYS": "demo/accounts",
        }

    def run(self, command: str, exit_code: int = 0) -> str:
        """Run one line; return what it printed, on either stream."""
        done = subprocess.run(
            command,
            shell=True,
            cwd=self.directory,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_S * PATIENCE,
            check=False,
        )
        assert done.returncode == exit_code, f"{command}\n{done.stdout}"
        return done.stdout

    def document(self, command: str) -> Any:
        """Return the JSON document of a command."""
        return json.loads(self.run(f"{command} --json"))

    def members(self) -> dict[str, Any]:
        """Return the validators of the present epoch by name."""
        return {item["name"]: item for item in self.document("mbi validators")["items"]}

    def wait_role(self, name: str, role: str) -> None:
        """Wait until a node says that it is this: each node begins an epoch by itself."""

        def has_role() -> bool:
            nodes = self.document("mbi localnet status demo")["nodes"]
            return (name, role) in {(node["name"], node["role"]) for node in nodes}

        wait_until(f"{name} is {role}", EPOCH_S, has_role)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A shell next to a running network of four validators."""
    port = free_port(5)
    shell = Shell(tmp_path, port)
    shell.run(f"mbi localnet init demo --observers 0 --port {port}")
    try:
        shell.run("mbi localnet start demo")
        yield shell
    finally:
        stop_nodes(load_network(tmp_path / "demo").nodes)


def test_a_validator_joins_gets_a_new_key_and_leaves(shell: Shell, figures: Figures) -> None:
    """C17: what the guide shows works as it stands there."""
    began = time.monotonic()
    assert sorted(shell.members()) == FIRST

    for command in shown_under("A validator joins"):
        shell.run(command)
    assert sorted(shell.members()) == sorted([*FIRST, "com-3"])
    shell.wait_role("com-3", "validator")

    before = shell.members()["com-2"]["consensus_key"]
    for command in shown_under("A validator gets a new key"):
        shell.run(command)
    after = shell.members()["com-2"]["consensus_key"]
    assert after != before
    shell.wait_role("com-2", "validator")

    for command in shown_under("A validator leaves"):
        shell.run(command)
    assert sorted(shell.members()) == FIRST
    shell.wait_role("com-2", "validator")

    refused = shell.run("mbi gov propose remove-validator gov-2 --from gov-1-admin", exit_code=1)
    assert "removing gov-2 would leave 3 validators; at least 4 are needed" in refused
    listed = shell.document("mbi gov list")["items"]
    assert [item["status"] for item in listed] == ["effective"] * 3
    figures["documented governance commands (s)"] = round(time.monotonic() - began, 1)
