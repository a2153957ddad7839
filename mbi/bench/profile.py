"""What a node's processor time goes into, function by function, while it works under load.

py-spy reads the stacks of the running process from outside: the node has no code for it, and no
hook on every call makes small functions look dear. It does not stop the process for a reading:
stopping wakes all its threads, and those that wait for work would look busy. A stack that changed
while it was read is dropped, or is wrong at its end, which is rare enough not to matter for shares.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from mbi.bench.target import LocalProcess, Target
from mbi.errors import ProcessFailed, UsageError

SAMPLES_PER_S: Final = 200
"""In 15 s the share of a function with a tenth of the time is known to half a per cent."""
ROWS: Final = 80
"""Functions in each table of the file; what comes after has a tenth of a per cent."""
ROWS_SHOWN: Final = 15
"""Functions in each table on the terminal."""
COMMON_SHARE: Final = 0.98
"""What so many of a thread's stacks have in common does not tell them apart; not all, because a
stack that changed while it was read may lack its beginning."""

K = TypeVar("K")
Stack = tuple[str, ...]
"""Thread, then functions from the outermost to the one that ran."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Readings of one process; threads that waited are not in them."""

    stacks: Counter[Stack]

    @property
    def total(self) -> int:
        """Readings of all threads."""
        return self.stacks.total()

    def threads(self) -> Counter[str]:
        """Return the readings of each thread."""
        return _sum((stack[0], count) for stack, count in self.stacks.items())

    def own(self) -> Counter[str]:
        """Return for each function how often it ran itself, or C code that it called."""
        return _sum((stack[-1], count) for stack, count in self.stacks.items())

    def cumulative(self) -> Counter[str]:
        """Return for each function how often it, or anything that it called, ran.

        Those under nearly everything in their thread are left out: they have only started it.
        """
        pairs = _sum(
            ((stack[0], name), count)
            for stack, count in self.stacks.items()
            for name in set(stack[1:])
        )
        most = {thread: COMMON_SHARE * count for thread, count in self.threads().items()}
        return _sum(
            (name, count) for (thread, name), count in pairs.items() if count < most[thread]
        )


def _sum(pairs: Iterable[tuple[K, int]]) -> Counter[K]:
    counter: Counter[K] = Counter()
    for key, count in pairs:
        counter[key] += count
    return counter


def parse_stacks(text: str) -> Profile:
    """Return what py-spy wrote: a stack with semicolons, a space and a count in each line.

    Raises ``ValueError`` for a line that is something else.
    """
    stacks: Counter[Stack] = Counter()
    for line in text.splitlines():
        words, _, count = line.rpartition(" ")
        thread, *functions = words.split(";")
        # The number of a thread says nothing, its name does.
        stacks[(thread.rpartition(": ")[2], *functions)] += int(count)
    return Profile(stacks)


def tables(profile: Profile, rows: int = ROWS) -> str:
    """Return shares of the readings as text: by thread, by function itself, with what it calls."""
    parts = (
        ("threads", profile.threads()),
        ("functions, own time (with C code that they call)", profile.own()),
        ("functions, with everything that they call", profile.cumulative()),
    )
    lines = [f"{profile.total} readings of running threads"]
    for title, counts in parts:
        lines += ["", title, "-" * len(title)]
        lines += [
            f"{count / profile.total:7.1%}  {name}" for name, count in counts.most_common(rows)
        ]
    return "\n".join(lines) + "\n"


def choose_node(target: Target) -> tuple[str, LocalProcess]:
    """Return name and process of the validator to watch: not the observed one if there are more.

    Raises:
        UsageError: no node of the network runs on this machine.
    """
    found = [
        (node.name, node.process)
        for node in target.nodes
        if node.process is not None and node.process.entry.role == "validator"
    ]
    if not found:
        raise UsageError("only a validator on this machine can be profiled")
    return found[min(1, len(found) - 1)]


def profiler() -> str:
    """Return the path of py-spy; raises :class:`UsageError` if it is not installed."""
    beside = Path(sys.executable).parent
    found = shutil.which("py-spy", path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise UsageError("py-spy is not installed; it comes with the extra dev (make setup)")
    return found


@contextlib.asynccontextmanager
async def sampled(
    process: LocalProcess, delay_s: float, duration_s: float, file: Path
) -> AsyncIterator[None]:
    """Read the stacks of a process beside the body; leaving waits until the file is written.

    Raises:
        ProcessFailed: the process cannot be read.
    """
    recording = asyncio.create_task(_record(process, delay_s, duration_s, file))
    try:
        yield
        await recording
    finally:
        recording.cancel()
        await asyncio.gather(recording, return_exceptions=True)


async def _record(process: LocalProcess, delay_s: float, duration_s: float, file: Path) -> None:
    await asyncio.sleep(delay_s)
    pid = process.pid
    if pid is None:
        raise ProcessFailed(f"{process.entry.name} does not run any more")
    with _profiler_process(pid, duration_s, file) as child:
        try:
            _, said = await asyncio.to_thread(child.communicate)
        finally:
            child.kill()
    if child.returncode != 0:
        first = (said.decode(errors="replace").strip().splitlines() or ["no reason given"])[0]
        raise ProcessFailed(
            f"py-spy could not read the node: {first}; where a process may not read another of the "
            "same user (kernel.yama.ptrace_scope), run the command as root"
        )


def _profiler_process(pid: int, duration_s: float, file: Path) -> subprocess.Popen[bytes]:
    """Start py-spy; not with asyncio, where a start that is cancelled may leave a process."""
    options = {
        "--pid": pid,
        "--duration": round(duration_s),
        "--rate": SAMPLES_PER_S,
        "--format": "raw",
        "--output": file,
    }
    words = [str(word) for pair in options.items() for word in pair]
    return subprocess.Popen(
        [profiler(), "record", "--nonblocking", "--threads", "--function", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
