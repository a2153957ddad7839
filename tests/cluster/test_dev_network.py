"""``mbi dev`` with real nodes: what a newcomer types first works, and nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from mbi.localnet.processes import child_environment
from mbi.sync_client import Client
from tests.cluster.api import Api, NoAnswer
from tests.cluster.cluster import READY_S, free_port
from tests.cluster.figures import Figures
from tests.cluster.programs import MBI, has_ended, run
from tests.cluster.waiting import PATIENCE, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

NODES: Final = 5
SOON_S: Final = 10.0
"""From the command to the ready file, keys and databases included; 5 s is the aim."""
STOP_S: Final = 10.0
NOTICED_S: Final = 20.0


class Dev:
    """A running ``mbi dev``."""

    def __init__(self, folder: Path, *options: str) -> None:
        ready, port = folder / "ready.json", str(free_port(NODES))
        self.errors = (folder / "err").open("w+")
        began = time.monotonic()
        self.process = subprocess.Popen(
            [*MBI, "dev", "--port", port, "--ready-file", str(ready), *options],
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=child_environment(exit_with_parent=False) | {"NO_COLOR": "1"},
        )
        try:
            wait_until("ready", READY_S, lambda: ready.exists() or self.process.poll() is not None)
            assert ready.exists(), self.said()
        except BaseException:
            self.process.kill()
            self.process.communicate()
            self.errors.close()
            raise
        self.ready_s = time.monotonic() - began
        self.document: dict[str, Any] = json.loads(ready.read_text())
        self.pids = [node["pid"] for node in self.document["nodes"]]
        self.home = Path(self.document["nodes"][0]["home"])

    def stop(self, number: signal.Signals) -> tuple[int, str]:
        """Signal the command; return its exit code and what it printed."""
        self.process.send_signal(number)
        printed, _ = self.process.communicate(timeout=STOP_S * PATIENCE)
        return self.process.returncode, printed

    def said(self) -> str:
        """Return what it has written on its standard error so far."""
        return Path(self.errors.name).read_text()

    def close(self) -> None:
        if self.process.poll() is None:
            self.stop(signal.SIGTERM)
        self.errors.close()
        # A killed command cannot clean up after itself.
        shutil.rmtree(self.home.parent.parent, ignore_errors=True)


@pytest.fixture
def dev(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Dev]:
    """The command, ready; it prints JSON unless a test asks for other options."""
    running = Dev(tmp_path, *getattr(request, "param", ["--json"]))
    try:
        yield running
    finally:
        running.close()


def run_mbi(dev: Dev, *words: str) -> subprocess.CompletedProcess[str]:
    accounts = dev.home.parent.parent / "accounts"
    node = dev.document["nodes"][0]["http"]
    return run(*MBI, *words, settings={"MBI_KEYS": str(accounts), "MBI_NODE": node})


@pytest.mark.parametrize("dev", [[]], ids=["for people"], indirect=True)
def test_dev_network_is_ready_soon_and_ctrl_c_leaves_nothing(dev: Dev, figures: Figures) -> None:
    """A newcomer's first minute: a network whose URLs answer, and nothing left after Ctrl-C."""
    figures["mbi dev ready (s)"] = round(dev.ready_s, 1)
    assert dev.ready_s < SOON_S * PATIENCE
    nodes = dev.document["nodes"]
    assert [node["role"] for node in nodes] == 4 * ["validator"] + ["observer"]
    assert sorted(str(node["chamber"]) for node in nodes) == [
        "None",
        *2 * ["commercial"],
        *2 * ["government"],
    ]
    for node in nodes:
        api = Api(node["http"])
        assert api.get("/readyz")["ready"]
        assert api.status()["chain_id"] == dev.document["chain_id"]
        api.close()
        assert not has_ended(node["pid"])

    code, printed = dev.stop(signal.SIGINT)
    assert code == 0, dev.said()
    assert all(node["http"] in printed for node in nodes)
    assert dev.document["chain_id"] in printed
    assert "all nodes stopped" in printed + dev.said()
    assert all(map(has_ended, dev.pids))
    assert not any(Path(node["home"]).exists() for node in nodes)
    for node in nodes:
        with pytest.raises(NoAnswer):
            Api(node["http"]).status()


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
    assert all(map(has_ended, dev.pids))
    assert not dev.home.exists()


def test_killed_node_is_reported_and_the_others_go_on(dev: Dev) -> None:
    """R3: a dead node is named with its last words, and can be started again by hand."""
    victim = dev.document["nodes"][1]
    os.kill(victim["pid"], signal.SIGKILL)
    words = "node com-1 ended with signal SIGKILL"
    wait_until("the death is reported", NOTICED_S, lambda: words in dev.said())
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
    assert has_ended(restarted)


def test_killed_supervisor_leaves_no_orphans(dev: Dev) -> None:
    """R4: nodes end by themselves when the command that started them is gone."""
    dev.stop(signal.SIGKILL)
    wait_until("no orphans", NOTICED_S, lambda: all(map(has_ended, dev.pids)))
