"""The container engine by its command line, as an operator would use it.

Every command runs in a session of its own: Ctrl-C ends the drill, and must not end the commands
that undo its fault.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, Final

from mbi.errors import OperationFailed, UsageError

COMMAND_TIMEOUT_S: Final = 120.0
BUILD_TIMEOUT_S: Final = 900.0
STDERR_SHOWN: Final = 1500
"""The end of what a failed command said; a build can say very much."""


class CommandFailed(OperationFailed):
    """A command of the container engine failed."""

    code = "command_failed"


async def run(
    *words: str,
    stdin: str | None = None,
    timeout_s: float = COMMAND_TIMEOUT_S,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a command and return what it prints.

    Raises:
        CommandFailed: it could not be run, failed, or took longer than ``timeout_s``.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=directory,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    except OSError as error:
        raise CommandFailed(f"{words[0]} cannot be run: {error}") from error
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate(None if stdin is None else stdin.encode())
    except TimeoutError as error:
        raise CommandFailed(f"{' '.join(words[:4])}: not done after {timeout_s:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        said = err.decode(errors="replace").strip()[-STDERR_SHOWN:]
        raise CommandFailed(f"{' '.join(words[:6])}: exit code {process.returncode}: {said}")
    return out.decode(errors="replace")


async def surely(work: Coroutine[Any, Any, object]) -> None:
    """Carry an undo to its end, also if the drill is interrupted meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


async def docker(*words: str, stdin: str | None = None) -> str:
    """Run a command of the engine and return what it prints."""
    return (await run("docker", *words, stdin=stdin)).strip()


async def inspect(*containers: str) -> list[dict[str, Any]]:
    """Return what the engine knows of containers."""
    if not containers:
        return []
    found: list[dict[str, Any]] = json.loads(await docker("inspect", *containers))
    return found


async def logs(container: str) -> str:
    """Return the last lines that a container said, on both of its streams."""
    return await run("sh", "-c", 'exec docker logs --tail 50 "$0" 2>&1', container)


async def build(tag: str, dockerfile: str) -> None:
    """Build an image that copies nothing; MBI_BUILD_NETWORK is the network of its build."""
    network = os.environ.get("MBI_BUILD_NETWORK", "default")
    words = ("docker", "build", "--quiet", "--network", network, "--tag", tag, "-")
    await run(*words, stdin=dockerfile, timeout_s=BUILD_TIMEOUT_S)


async def compose_words() -> tuple[str, ...]:
    """Return the words that call Compose here, version 2 first."""
    for words in (("docker", "compose"), ("docker-compose",)):
        try:
            await run(*words, "version")
        except CommandFailed:
            continue
        return words
    raise UsageError("neither `docker compose` nor `docker-compose` works: install Compose")


async def require_engine() -> None:
    """Raise a :class:`UsageError` unless an engine answers."""
    try:
        await docker("version", "--format", "{{.Server.Version}}")
    except CommandFailed as error:
        raise UsageError(f"drills need a running container engine: {error}") from error
