"""Killed and wiped nodes under continuous load: nothing final is lost and nobody waits for them."""

from __future__ import annotations

import time
from typing import Final

import pytest

from tests.cluster.cluster import Cluster, Node
from tests.cluster.load import RATE, Load
from tests.cluster.waiting import PATIENCE

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

GAP_S: Final = 6.0
"""Longest time without a block when one validator dies: some views time out before its peers
pass over it, and the machine may be busy."""


def leader(cluster: Cluster) -> Node:
    """Return the validator that leads the present view."""
    return cluster.node(cluster.nodes[-1].api.get("/v1/consensus")["leader"])


@pytest.mark.parametrize("victim", ["leader", "other"])
def test_killed_validator_costs_nobody_and_comes_back(cluster: Cluster, victim: str) -> None:
    """C19, R4, F5: kill -9 one validator; the others go on, and restarted it is at the head."""
    with Load(cluster).running() as load:
        first = leader(cluster)
        node = (
            first if victim == "leader" else next(v for v in cluster.validators if v is not first)
        )
        killed = time.monotonic()
        node.kill()
        load.wait_more(3 * RATE)
        assert load.longest_gap_s(killed) < GAP_S * PATIENCE
        node.start()
        cluster.wait_at_head(node)
        load.wait_more(RATE)
    assert cluster.assert_equal_chains() > 0
    cluster.assert_on_every_node(load.finalized)


def test_nothing_final_is_lost_when_all_nodes_are_killed(cluster: Cluster) -> None:
    """C19, S6: kill -9 of all nodes at once; what any node called final is on all of them."""
    with Load(cluster).running() as load:
        load.wait_more(2 * RATE)
        for node in cluster.nodes:
            node.kill()
    height_before = max(load.finalized.values())
    cluster.start()
    cluster.finalize_one(cluster.nodes[0])
    assert cluster.assert_equal_chains() > height_before
    cluster.assert_on_every_node(load.finalized)
