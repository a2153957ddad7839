"""A node as a process: how it stops, sleeps, fails and ends with the one that started it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from typing import Final

import pytest

from mbi.localnet.processes import child_environment, node_command
from tests.cluster.cluster import STOP_S, Cluster, Node
from tests.cluster.figures import Figures
from tests.cluster.load import RATE, Load
from tests.cluster.programs import has_ended
from tests.cluster.waiting import PATIENCE, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

PAUSE_S: Final = 10.0
FILE_BYTES_MAX: Final = 128 * 1024
"""Far below what the database writes in seconds under load, far above the log of a quiet node."""
PARENT_GONE_S: Final = 10.0


def test_sigterm_stops_within_five_seconds(cluster: Cluster, figures: Figures) -> None:
    """R4: under load, a signal ends a node in time, with exit code 0 and its last word."""
    node = cluster.validators[0]
    with Load(cluster).running() as load:
        code, seconds = node.terminate()
        assert code == 0
        assert seconds < STOP_S * PATIENCE
        figures["stop after SIGTERM under load (s)"] = round(seconds, 2)
        assert '"stopped"' in node.log().splitlines()[-1]
        node.start()
        cluster.wait_at_head(node)
    cluster.assert_on_every_node(load.finalized)


def test_paused_node_catches_up(cluster: Cluster) -> None:
    """R4: SIGSTOP for ten seconds under load costs the others nothing; SIGCONT, and it is back."""
    node = cluster.validators[2]
    with Load(cluster).running() as load:
        load.paused.add(node.name)
        node.signal(signal.SIGSTOP)
        paused = time.monotonic()
        wait_until(
            f"{PAUSE_S:g} s of pause over", 2 * PAUSE_S, lambda: time.monotonic() - paused > PAUSE_S
        )
        assert load.growth[-1][0] > paused + PAUSE_S / 2, "the others stood still"
        node.signal(signal.SIGCONT)
        load.paused.discard(node.name)
        cluster.wait_at_head(node)
        load.wait_more(RATE)
    cluster.assert_equal_chains()
    cluster.assert_on_every_node(load.finalized)


def test_failed_write_ends_the_process(cluster: Cluster) -> None:
    """S4, S5, R3: a write that fails ends the node, which says so; others go on; it comes back."""
    node = cluster.validators[1]
    with Load(cluster).running() as load:
        # Every file of the process is limited from now on: the next append to the log of the
        # database fails as it does on a full disk.
        resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, FILE_BYTES_MAX))
        code = node.wait_exit(30.0)
        assert code not in (0, -signal.SIGXFSZ), f"exit code {code}"
        last = node.log().splitlines()[-1]
        assert last.startswith("node stopped: ")
        assert "no room to write" in last
        assert "Free space" in last
        load.wait_more(RATE)
        node.start()
        cluster.wait_at_head(node)
    cluster.assert_equal_chains()
    cluster.assert_on_every_node(load.finalized)


def test_second_process_on_a_home_is_refused(cluster: Cluster) -> None:
    """S7, C4: the database is locked; one line says so, and the first process goes on."""
    node = cluster.validators[0]
    second = node.run("start")
    assert second.returncode == 2
    assert second.stderr.splitlines()[-1].startswith("store_locked:")
    assert "Traceback" not in second.stderr
    cluster.finalize_one(node)


def test_node_ends_with_the_process_that_started_it(cluster: Cluster) -> None:
    """R4: a killed supervisor leaves no orphan that holds ports and database."""
    node = cluster.nodes[-1]
    assert not node.is_validator
    node.terminate()
    program = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL,"
        " stderr=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, *node_command(node.entry)],
        env=child_environment(exit_with_parent=True),
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        wait_until("the node answers", 30.0, lambda: node.api.height() > 0)
        parent.kill()
    try:
        wait_until("no orphan", PARENT_GONE_S, lambda: has_ended(child))
    except AssertionError:
        os.kill(child, signal.SIGKILL)
        raise
    node.api.close()
    assert_restarts(cluster, node)


def assert_restarts(cluster: Cluster, node: Node) -> None:
    """Demand that ports and database are free again."""
    node.start()
    node.wait_ready()
    cluster.wait_converged()
