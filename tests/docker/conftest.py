"""One network for all tests of a run; without an engine they fail and say what is missing."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import Any, Final

import pytest

from tests.cluster.waiting import wait_until
from tests.docker.compose import ComposeNetwork, missing_tools

READY_S: Final = 30.0
"""From `up` with the image there until the published port says ready."""


@pytest.fixture(scope="session")
def image() -> None:
    """Build the image of the nodes."""
    if lacking := missing_tools():
        pytest.fail(lacking, pytrace=False)
    ComposeNetwork("mbi-build").build()


@pytest.fixture(scope="session")
def shared_network(image: None) -> Iterator[ComposeNetwork]:
    """Four validators and an observer in containers."""
    network = ComposeNetwork(f"mbi-test-{os.getpid()}")
    try:
        network.up()
        wait_until("ready", READY_S, lambda: network.get("/readyz").status == 200)
        yield network
    finally:
        network.down()


@pytest.fixture
def network(shared_network: ComposeNetwork) -> ComposeNetwork:
    """Return the network with every node running and in reach of the others."""
    try:
        complete = shared_network.is_complete()
    except OSError:
        complete = False
    if not complete:
        shared_network.up()
        wait_until("complete", READY_S, shared_network.is_complete)
    return shared_network


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the Swarm last: the end of a Swarm disturbs every other network."""
    items.sort(key=lambda item: "test_swarm.py" in item.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Add what the nodes said to the report of a failed test."""
    report = yield
    used = getattr(item, "funcargs", {}).get("network")
    if report.failed and isinstance(used, ComposeNetwork):
        report.sections.append(("nodes", used.compose("logs", "--no-color", "--tail", "20")))
    return report
