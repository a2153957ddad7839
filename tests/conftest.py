"""What holds for every test: its event loops, its files, and how hard Hypothesis searches.

A coroutine test runs on asyncio's own loop and again on uvloop, because a node may run on either.
Tests of real processes and slow tests run once, on uvloop: the processes choose their own loop.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import uvloop
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

LOOP_FACTORIES: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
REAL_NODES = "tests/cluster/"
"""Where the tests of real processes are."""
MARKERS_OF_ONE_RUN = ("cluster", "simulation", "slow")
MEMORY = Path("/dev/shm")
"""Where Linux keeps files in memory."""
MEMORY_FREE_BYTES = 1 << 30
"""So much room, or tests use the disk: far more than they write."""

# A busy machine is not a defect of the code, so no profile has a deadline or a speed check.
settings.register_profile(
    "dev", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
# The same examples on every run: a failure belongs to the change that shows it.
settings.register_profile(
    "ci", parent=settings.get_profile("dev"), max_examples=200, derandomize=True, database=None
)
settings.register_profile(
    "release",
    parent=settings.get_profile("dev"),
    max_examples=20_000,
    print_blob=True,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

pytest_plugins = ("tests.cluster.figures",)


def scope_of(nodeid: str) -> str:
    """Return what a test has to share a worker with: its module, or all tests of real processes.

    Those share ports, and mostly wait; a worker of their own leaves the other core to the rest.
    """
    module = nodeid.partition("::")[0]
    return REAL_NODES if module.startswith(REAL_NODES) else module


class RealNodesTogether(LoadScopeScheduling):
    """Deals out scopes as ``scope_of`` tells them."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(
    config: pytest.Config, log: Callable[..., None]
) -> LoadScopeScheduling:
    """Choose how `pytest -n` deals tests out to its workers."""
    return RealNodesTogether(config, log)


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Where a test has its files: in memory, unless it runs real processes.

    Elsewhere tests make crashes and damage themselves, so waiting for a disk at every sync shows
    nothing.
    """
    is_real = any(request.node.get_closest_marker(name) for name in ("cluster", "docker"))
    if is_real or not MEMORY.exists() or shutil.disk_usage(MEMORY).free < MEMORY_FREE_BYTES:
        yield tmp_path
        return
    with TemporaryDirectory(dir=MEMORY) as path:
        yield Path(path)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--event-loop`, to run coroutine tests on one loop only."""
    parser.addoption("--event-loop", choices=sorted(LOOP_FACTORIES), help="default: both")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return the loops on which one coroutine test runs."""
    chosen = config.getoption("--event-loop")
    if chosen is None and any(item.get_closest_marker(name) for name in MARKERS_OF_ONE_RUN):
        chosen = "uvloop"
    return LOOP_FACTORIES if chosen is None else {chosen: LOOP_FACTORIES[chosen]}
