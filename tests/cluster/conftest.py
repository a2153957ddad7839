"""Fixtures of the cluster tests; a failed test shows the last log lines of its nodes."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, Final

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.figures import FIGURES, Figures

SEED: Final = "cluster tests"
"""A network with the same seed but another topology has the same accounts on another chain."""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Four validators and an observer, shared by the tests of one module."""
    cluster = Cluster.build(tmp_path_factory.mktemp("cluster") / "net", seed=SEED)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
    cluster.check_logs()


@pytest.fixture
def cluster(network: Cluster) -> Cluster:
    """The module's network with every node up and ready."""
    network.repair()
    return network


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Add what the nodes said to the report of a failed test."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Cluster):
                report.sections.append(("nodes", value.describe()))
                break
    return report


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Figures:
    """Return what was measured in this run, by name; shown at its end."""
    return pytestconfig.stash[FIGURES]
