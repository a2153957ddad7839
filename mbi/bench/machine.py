"""What the numbers were measured on: processor, memory, system, versions and commit."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any, Final

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
GIT_TIMEOUT_S: Final = 5.0
LIBRARIES: Final = ("cryptography", "PyNaCl", "msgspec", "plyvel", "aiohttp", "uvloop")
"""Those whose version decides about speed."""


def machine() -> dict[str, Any]:
    """Return the machine that this process runs on; None where it cannot be known."""
    return {
        "cpu_model": _cpu_model(),
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES,
        "kernel": platform.release(),
        "platform": platform.platform(),
        "python": platform.python_version(),
    }


def versions(node_version: str) -> dict[str, Any]:
    """Return the versions of this program, of the nodes, and of the libraries that matter."""
    return {
        "mbi": metadata.version("mbi-node"),
        "nodes": node_version,
        "libraries": {name: _version(name) for name in LIBRARIES},
        **_commit(Path(__file__).parent),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _commit(directory: Path) -> dict[str, Any]:
    """Return the commit of this program's checkout and whether files differ from it."""
    head = _git(directory, "rev-parse", "HEAD")
    changes = None if head is None else _git(directory, "status", "--porcelain", "-uno")
    return {"commit": head, "commit_modified": None if changes is None else bool(changes)}


def _git(directory: Path, *words: str) -> str | None:
    """Return what git says, or None: an installed package has no checkout, a machine no git."""
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").strip()


def _cpu_model() -> str | None:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return None
