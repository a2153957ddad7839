"""Node processes as the operating system sees them: command, pid files, state, stopping.

A pid file holds the process id and its start time in clock ticks, so that a number which another
program got after a reboot is never taken for the node. The states are ``running``, ``paused``
(stopped by a signal), ``crashed`` (the pid file is left but the process is gone) and ``stopped``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from mbi.errors import ProcessFailed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mbi.localnet.layout import NodeEntry


STOP_GRACE_S: Final = 8.0
"""A node promises to stop within 5 s; after this it is killed, and that is reported."""
POLL_S: Final = 0.05
"""Between two looks at processes that cannot be waited for: they are no children of this one."""
INIT_TIMEOUT_S: Final = 60.0
LOG_TAIL_LINES: Final = 8
LOG_TAIL_BYTES: Final = 16 * 1024

EXIT_WITH_PARENT: Final = "MBI_EXIT_WITH_PARENT"
"""Set to 1, a node ends when the process that started it is gone: no orphans."""

State = Literal["running", "paused", "crashed", "stopped"]


@dataclass(frozen=True, slots=True)
class ProcessState:
    """What is known of a node's process."""

    state: State
    pid: int | None
    """None unless running or paused."""


def node_command(node: NodeEntry) -> list[str]:
    """Return the command that runs a node."""
    return [sys.executable, "-m", "node", "--home", node.home]


def child_environment(*, exit_with_parent: bool) -> dict[str, str]:
    """Return our environment without settings of single nodes and without the system's CAs.

    ``MBI_HTTP__PORT`` in the user's shell is meant for one node; here it would give all nodes one
    port. Nodes trust the network's own authority only, and loading the system's certificates takes
    a fifth of a second of every start.
    """
    kept = {
        key: value
        for key, value in os.environ.items()
        if not (key.startswith("MBI_") and "__" in key)
    }
    kept.pop(EXIT_WITH_PARENT, None)
    kept |= {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
    return {**kept, EXIT_WITH_PARENT: "1"} if exit_with_parent else kept


def initialise_databases(nodes: Iterable[NodeEntry]) -> None:
    """Create the nodes' databases, or raise :class:`ProcessFailed` with the first reason."""
    homes = [word for node in nodes for word in ("--home", node.home)]
    done = subprocess.run(
        [sys.executable, "-m", "node", "init", *homes],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=INIT_TIMEOUT_S,
        check=False,
        env=child_environment(exit_with_parent=False),
    )
    if done.returncode != 0:
        last = done.stdout.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
        raise ProcessFailed(f"the databases were not created: {last[0]}")


def start_detached(node: NodeEntry) -> int:
    """Start a node in the background and return its process id."""
    with node.log_path.open("ab") as log:
        process = subprocess.Popen(
            node_command(node),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=child_environment(exit_with_parent=False),
        )
    # The child outlives this command on purpose, so nobody will wait for it.
    process.returncode = 0
    write_pid(node, process.pid)
    return process.pid


def write_pid(node: NodeEntry, pid: int) -> None:
    """Record a just started process."""
    node.pid_path.write_text(f"{pid} {_start_ticks(pid) or 0}\n", encoding="ascii")


def forget_pid(node: NodeEntry) -> None:
    """Note that the node was stopped on purpose."""
    node.pid_path.unlink(missing_ok=True)


def state_of(node: NodeEntry) -> ProcessState:
    """Look at the pid file and the process."""
    try:
        pid_text, ticks_text = node.pid_path.read_text(encoding="ascii").split()
        pid, ticks = int(pid_text), int(ticks_text)
    except FileNotFoundError:
        return ProcessState("stopped", None)
    except ValueError:
        return ProcessState("crashed", None)
    if _start_ticks(pid) != ticks:
        return ProcessState("crashed", None)
    return ProcessState("paused" if _status_letter(pid) == "T" else "running", pid)


def send_signal(node: NodeEntry, number: signal.Signals) -> bool:
    """Signal the node's process; return False if there is none."""
    pid = state_of(node).pid
    if pid is None:
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def stop_nodes(nodes: Iterable[NodeEntry], grace_s: float = STOP_GRACE_S) -> list[str]:
    """Stop nodes together; return the names of those that had to be killed."""
    asked = [node for node in nodes if send_signal(node, signal.SIGTERM)]
    for node in asked:
        send_signal(node, signal.SIGCONT)
    deadline = time.monotonic() + grace_s
    while time.monotonic() < deadline and any(state_of(node).pid for node in asked):
        time.sleep(POLL_S)
    killed = [node.name for node in asked if send_signal(node, signal.SIGKILL)]
    while any(state_of(node).pid for node in asked):
        time.sleep(POLL_S)
    for node in asked:
        forget_pid(node)
    return killed


def log_tail(path: Path, lines: int = LOG_TAIL_LINES) -> list[str]:
    """Return the last lines of a log, for a report; empty if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - LOG_TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return []


def last_words(node: NodeEntry, how: str = "has ended") -> str:
    """Say that a node ended, with the end of its log."""
    lines = "".join(f"\n    {line}" for line in log_tail(node.log_path))
    return f"node {node.name} {how}; last lines of {node.log_path}:{lines or ' none'}"


def exit_text(returncode: int) -> str:
    """Say how a process ended."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"signal {signal.Signals(-returncode).name}"
    except ValueError:
        return f"signal {-returncode}"


def _start_ticks(pid: int) -> int | None:
    """Return when a live process started, in clock ticks since boot; None if it is gone or dead."""
    fields = _stat_fields(pid)
    return None if not fields or fields[0] in "ZX" else int(fields[19])


def _status_letter(pid: int) -> str:
    return (_stat_fields(pid) or ["X"])[0]


def _stat_fields(pid: int) -> list[str]:
    """Return the fields of ``/proc/PID/stat`` from the state on; empty without such a process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    # The name in parentheses may hold anything, so the fields are counted from behind it.
    return text[text.rindex(")") + 2 :].split()
