"""``mbi dev`` with real nodes: what a newcomer types first works, and nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mbi.sync_client import Client
from tests.cluster.cluster import free_port

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

NODES = 5
READY_S = 60.0
STOP_S = 20.0
MBI = [sys.executable, "-m", "mbi"]


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return status not in "ZX"


class Dev:
    """A running ``mbi dev``."""

    def __init__(self, folder: Path) -> None:
        ready = folder / "ready.json"
        self.errors = (folder / "err").open("w+")
        self.process = subprocess.Popen(
            [*MBI, "dev", "--port", str(free_port(NODES)), "--ready-file", str(ready), "--json"],
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        try:
            wait_until(lambda: ready.exists() or self.process.poll() is not None, READY_S, "ready")
            if not ready.exists():
                raise AssertionError((folder / "err").read_text())
        except BaseException:
            self.process.kill()
            self.process.communicate()
            self.errors.close()
            raise
        self.document: dict[str, Any] = json.loads(ready.read_text())
        self.pids = [node["pid"] for node in self.document["nodes"]]
        self.home = Path(self.document["nodes"][0]["home"])

    def stop(self, number: signal.Signals) -> tuple[int, str]:
        """Signal the command; return its exit code and what it printed."""
        self.process.send_signal(number)
        printed, _ = self.process.communicate(timeout=STOP_S)
        return self.process.returncode, printed

    def close(self) -> None:
        if self.process.poll() is None:
            self.stop(signal.SIGTERM)
        self.errors.close()
        # A killed command cannot clean up after itself.
        shutil.rmtree(self.home.parent.parent, ignore_errors=True)


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    running = Dev(tmp_path)
    try:
        yield running
    finally:
        running.close()


def run_mbi(dev: Dev, *words: str) -> subprocess.CompletedProcess[str]:
    accounts = dev.home.parent.parent / "accounts"
    environment = {
        **os.environ,
        "MBI_KEYS": str(accounts),
        "MBI_NODE": dev.document["nodes"][0]["http"],
    }
    return subprocess.run(
        [*MBI, *words], capture_output=True, text=True, env=environment, check=False
    )


def test_first_transfer_is_final_on_every_node_and_all_ends_with_ctrl_c(dev: Dev) -> None:
    """R4: one command makes a network, one sends money, Ctrl-C leaves no process and no files."""
    sent = run_mbi(
        *(dev, "tx", "send", "--from", "alice", "--to", "bob", "--asset", "issuer/MYR"),
        *("--amount", "100", "--wait", "--json"),
    )
    assert sent.returncode == 0, sent.stderr
    transaction_id = json.loads(sent.stdout)["id"]
    for node in dev.document["nodes"]:
        found = Client(node["http"]).wait_final(transaction_id, 20)
        assert found.status == "finalized"
    verified = run_mbi(dev, "audit", "verify", dev.document["nodes"][4]["http"], "--json")
    assert verified.returncode == 0, verified.stderr
    code, printed = dev.stop(signal.SIGINT)
    assert code == 0
    assert json.loads(printed) == dev.document
    assert not any(map(is_alive, dev.pids))
    assert not dev.home.exists()


def test_killed_node_is_reported_and_the_others_go_on(dev: Dev) -> None:
    """R3: a dead node is named with its last words, and can be started again by hand."""
    victim = dev.document["nodes"][1]
    os.kill(victim["pid"], signal.SIGKILL)
    words = "node com-1 ended with signal SIGKILL"
    wait_until(lambda: words in Path(dev.errors.name).read_text(), 20, "death was not reported")
    sent = run_mbi(
        *(dev, "tx", "send", "--from", "alice", "--to", "bob", "--asset", "issuer/MYR"),
        *("--amount", "1", "--wait"),
    )
    assert sent.returncode == 0, sent.stderr
    directory = str(dev.home.parent.parent)
    again = run_mbi(dev, "localnet", "node", "start", "com-1", "--dir", directory, "--json")
    assert again.returncode == 0, again.stderr
    restarted = json.loads(again.stdout)["pid"]
    ready = run_mbi(dev, "wait", "--ready", "--node", victim["http"], "--timeout", "30")
    assert ready.returncode == 0, ready.stderr
    assert dev.stop(signal.SIGTERM)[0] == 0
    assert not is_alive(restarted)


def test_killed_supervisor_leaves_no_orphans(dev: Dev) -> None:
    """R4: nodes end by themselves when the command that started them is gone."""
    dev.stop(signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, dev.pids)), 20, "orphans are left")
