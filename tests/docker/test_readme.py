"""The commands of the README, as they stand there, in a fresh clone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.cluster.waiting import wait_until
from tests.docker.compose import (
    BUILD_TIMEOUT_S,
    IMAGE,
    ROOT,
    ComposeNetwork,
    compose_command,
    run,
)
from tests.docker.transactions import FINAL_S, wait_final

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1200)]

PORT: Final = "26101"
"""In the README; the test moves it as the README says, because it may be in use."""
READY_S: Final = 30.0
RESUMED_S: Final = 10.0
"""Both are promises to users, however busy the machine is; they leave room for several times what
it takes on two idle processors, 6 s and 2 s."""


def blocks() -> list[str]:
    """Return the blocks of commands of the section."""
    text = (ROOT / "README.md").read_text()
    section = text[text.index("## In containers") : text.index("## How fast")]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


class Shell:
    """Runs commands of the README in a clone, in a project of its own."""

    def __init__(self, directory: Path, network: ComposeNetwork) -> None:
        self.directory = directory
        self.network = network

    def __call__(self, command: str, *, may_fail: bool = False) -> str:
        """Run a command and return what it prints."""
        words = " ".join(compose_command())
        text = command.replace("docker-compose", words).replace(f":{PORT}/", f":{self._port}/")
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", text],
            cwd=self.directory,
            env=os.environ
            | {
                "COMPOSE_PROJECT_NAME": self.network.name,
                "MBI_HTTP_PORT": self._port,
                "MBI_IMAGE": IMAGE,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT_S,
            check=False,
        )
        assert may_fail or done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr[-2000:]}"
        return done.stdout

    @property
    def _port(self) -> str:
        return self.network.port


@pytest.fixture
def shell(image: None, tmp_path: Path) -> Iterator[Shell]:
    """Clone what is committed; the build finds its layers in the engine's cache."""
    clone = tmp_path / "clone"
    run("git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone))
    network = ComposeNetwork(f"mbi-readme-{os.getpid()}", directory=clone)
    try:
        yield Shell(clone, network)
    finally:
        network.down()


def identifier_of(text: str) -> str:
    """Return the transaction id in what a command printed."""
    found = re.search(r"\b[0-9a-f]{64}\b", text)
    assert found is not None, text
    return found[0]


def test_commands_of_the_readme_do_what_it_says(shell: Shell) -> None:
    """From a fresh clone: starts, goes on without one, halts without two, resumes, disappears."""
    commands = [line.split(" #")[0].strip() for line in blocks()[0].splitlines()]
    assert len(commands) == 10
    up, ready, send, stop_one, again, stop_two, who, start, resumed, down = commands
    network = shell.network
    shell(up)
    began = time.monotonic()
    assert json.loads(shell(ready))["ready"] is True
    assert time.monotonic() - began < READY_S

    wait_final(network, identifier_of(shell(send)), *network.nodes)

    shell(stop_one)
    wait_final(network, identifier_of(shell(again)), "gov-1", "gov-2", "com-2")

    shell(stop_two)
    wait_until("halted", FINAL_S, lambda: network.get("/readyz").status == 503)
    said = shell(who)
    assert "com-1" in said
    assert "com-2" in said

    shell(start)
    began = time.monotonic()
    assert json.loads(shell(resumed))["ready"] is True
    assert time.monotonic() - began < RESUMED_S

    posted = json.loads(shell(blocks()[1]))
    assert posted["status"] == "finalized"

    shell(down)
    assert network.remains() == []
