"""Validator sets that change in a running network: join, leave, rotate, and what is refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.figures import Figures
from tests.cluster.governance import Government, epoch, members, wait_members
from tests.cluster.load import Load

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

SEED: Final = "set changes"
GAP_S: Final = 5.0
"""Longest time without a final block while the set changes under load."""
RATE: Final = 100
JOINERS: Final = (("obs-1", "gov-1"), ("obs-2", "com-1"), ("obs-3", "gov-2"))
"""Observers, and the organisation for which each becomes a validator."""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Four validators and three observers; the first test must find the first set."""
    cluster = Cluster.build(tmp_path_factory.mktemp("sets") / "net", observers=3, seed=SEED)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
    cluster.check_logs()


@pytest.fixture
def government(network: Cluster) -> Government:
    """The organisations of the network."""
    return Government(network, SEED)


def test_the_set_grows_to_seven_and_shrinks_back_under_load(
    network: Cluster, government: Government, figures: Figures
) -> None:
    """C17: six epochs, each with another set, without a pause."""
    first = sorted(members(network.nodes[0]))
    with Load(network, RATE).running() as load:
        began = time.monotonic()
        present = list(first)
        for name, organisation in JOINERS:
            government.admit(network.node(name), organisation)
            present.append(name)
            wait_members(network.nodes, present)
        assert len(present) == 7
        voting = network.node("obs-1").api.get("/v1/consensus")["validator"]
        assert voting == "obs-1"
        for name, _ in JOINERS:
            government.dismiss(members(network.nodes[0])[name])
            present.remove(name)
            wait_members(network.nodes, present)
        gap_s = load.longest_gap_s(began)
        figures["longest gap over six set changes (s)"] = round(gap_s, 2)
    assert present == first
    assert {epoch(node) for node in network.nodes} == {6}
    assert gap_s < GAP_S, f"no block for {gap_s:.1f} s"
    network.assert_equal_chains()
    network.assert_on_every_node(load.finalized)
