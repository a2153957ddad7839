"""Runs the project's programs as a user does, with the code under test, and sees processes end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from mbi.localnet.processes import child_environment
from tests.cluster.waiting import PATIENCE

MBI: Final = (sys.executable, "-m", "mbi")
NODE: Final = (sys.executable, "-m", "node")
COMMAND_S: Final = 30.0
"""More than any command takes that does no work for a stated time."""


def run(
    *command: str,
    directory: Path | None = None,
    settings: dict[str, str] | None = None,
    limit_s: float = COMMAND_S,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; return its exit code and what it printed.

    ``settings`` are added to its environment, from which those of the user's own nodes are gone.
    """
    return subprocess.run(
        command,
        cwd=directory,
        env=child_environment(exit_with_parent=True) | (settings or {}),
        capture_output=True,
        text=True,
        timeout=limit_s * PATIENCE,
        check=False,
    )


def has_ended(pid: int) -> bool:
    """Tell whether a process that is no child of ours is gone, or a mere entry nobody collects."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return text[text.rindex(")") + 2] in "ZX"
