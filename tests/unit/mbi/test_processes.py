"""Node processes: started, watched and stopped; with small programs in the place of nodes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mbi.errors import ProcessFailed, UsageError
from mbi.localnet import processes
from mbi.localnet.layout import NodeEntry
from mbi.localnet.ports import PortTaken, demand_free, is_free
from mbi.localnet.processes import (
    child_environment,
    forget_pid,
    initialise_databases,
    log_tail,
    send_signal,
    start_detached,
    state_of,
    stop_nodes,
    write_pid,
)
from mbi.localnet.supervisor import Supervisor
from tests.unit.waiting import DEADLINE_S, until, wait_until

PATIENT = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('up', flush=True); time.sleep(60)"
)
DYING = "import sys; print('disk full'); sys.exit(3)"


@pytest.fixture
def node(tmp_path: Path) -> NodeEntry:
    return NodeEntry("gov-1", "validator", "government", "http://h:1", "h:2", str(tmp_path))


def program(text: str) -> list[str]:
    return [sys.executable, "-c", text]


async def wait_for_words(node: NodeEntry, words: str) -> None:
    await until(lambda: words in "".join(log_tail(node.log_path)))


async def test_children_are_stopped_on_leaving(node: NodeEntry) -> None:
    async with Supervisor() as supervisor:
        await supervisor.start(node, program(PATIENT))
        pid = supervisor.pids["gov-1"]
        assert pid is not None
        assert state_of(node).state == "running"
    assert state_of(node).state == "stopped"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_death_of_a_child_is_reported_with_its_last_words(node: NodeEntry) -> None:
    """R3: a node that ends is noticed at once, with exit code and the end of its log."""
    async with Supervisor() as supervisor, asyncio.timeout(DEADLINE_S):
        await supervisor.start(node, program(DYING))
        ended = await supervisor.wait_exit()
    assert "node gov-1 ended with exit code 3" in ended.description
    assert "disk full" in ended.description


async def test_a_killed_child_is_reported_by_its_signal(node: NodeEntry) -> None:
    async with Supervisor() as supervisor, asyncio.timeout(DEADLINE_S):
        await supervisor.start(node, program(PATIENT))
        assert send_signal(node, signal.SIGKILL)
        ended = await supervisor.wait_exit()
    assert "signal SIGKILL" in ended.description


async def test_a_child_that_does_not_stop_is_killed_and_named(node: NodeEntry) -> None:
    """R4: stopping takes the grace time at most."""
    supervisor = Supervisor(grace_s=0.2)
    await supervisor.start(node, program(STUBBORN))
    await wait_for_words(node, "up")
    assert await supervisor.stop_all() == ["gov-1"]
    assert state_of(node).state == "stopped"


async def test_a_paused_child_is_stopped_too(node: NodeEntry) -> None:
    supervisor = Supervisor()
    await supervisor.start(node, program(PATIENT))
    send_signal(node, signal.SIGSTOP)
    await until(lambda: state_of(node).state == "paused")
    assert await supervisor.stop_all() == []


async def test_stopping_on_purpose_is_no_death(node: NodeEntry) -> None:
    supervisor = Supervisor()
    await supervisor.start(node, program(PATIENT))
    await supervisor.stop_all()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await supervisor.wait_exit()


async def test_ctrl_c_does_not_reach_children(node: NodeEntry) -> None:
    """A child has a session of its own, so the terminal's signal goes to the supervisor only."""
    async with Supervisor() as supervisor:
        await supervisor.start(node, program(PATIENT))
        pid = supervisor.pids["gov-1"]
        assert pid is not None
        assert os.getsid(pid) == pid != os.getsid(0)


def test_detached_node_outlives_its_starter_and_is_stopped_by_its_pid_file(
    node: NodeEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "node_command", lambda _: program(PATIENT))
    pid = start_detached(node)
    assert state_of(node).pid == pid
    try:
        assert stop_nodes([node]) == []
    finally:
        os.waitpid(pid, 0)
    assert state_of(node).state == "stopped"


def test_a_reused_process_number_is_not_the_node(node: NodeEntry) -> None:
    """A pid file left from before a reboot may name another program: it is never signalled."""
    node.pid_path.write_text(f"{os.getpid()} 1\n")
    assert state_of(node).state == "crashed"
    assert not send_signal(node, signal.SIGTERM)


def test_a_dead_process_counts_as_crashed_before_it_is_reaped(node: NodeEntry) -> None:
    child = subprocess.Popen(program(PATIENT))
    write_pid(node, child.pid)
    child.send_signal(signal.SIGKILL)
    wait_until(lambda: state_of(node).state == "crashed")
    child.wait()


@pytest.mark.parametrize("content", ["", "abc", "12", "1 2 3"])
def test_a_damaged_pid_file_means_crashed(node: NodeEntry, content: str) -> None:
    node.pid_path.write_text(content)
    assert state_of(node).state == "crashed"
    forget_pid(node)
    assert state_of(node).state == "stopped"


def test_settings_of_one_node_do_not_reach_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """O3: MBI_HTTP__PORT in the shell would give every node the same port."""
    monkeypatch.setenv("MBI_HTTP__PORT", "1")
    monkeypatch.setenv("MBI_NODE", "http://x")
    environment = child_environment(exit_with_parent=True)
    assert "MBI_HTTP__PORT" not in environment
    assert environment["MBI_NODE"] == "http://x"
    assert environment["MBI_EXIT_WITH_PARENT"] == "1"
    assert "MBI_EXIT_WITH_PARENT" not in child_environment(exit_with_parent=False)


def test_a_failed_initialisation_gives_the_nodes_reason(node: NodeEntry) -> None:
    """O3: a home without a genesis is refused with the reason of the node's own command."""
    with pytest.raises(ProcessFailed, match=r"databases were not created: home_invalid: .*genesis"):
        initialise_databases([node])


def test_log_tail_returns_the_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "node.log"
    path.write_text("".join(f"line {number}\n" for number in range(5000)))
    assert log_tail(path, 2) == ["line 4998", "line 4999"]
    assert log_tail(tmp_path / "none") == []


def test_taken_port_is_named_with_a_way_out() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert not is_free(port)
        with pytest.raises(PortTaken, match=rf"port {port} on .* --port {port + 1000}") as caught:
            demand_free([port])
    assert isinstance(caught.value, UsageError)
    assert is_free(port)
