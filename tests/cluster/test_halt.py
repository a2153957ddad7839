"""Half of the validators away: no block, a clear answer who is missing, and a quick return."""

from __future__ import annotations

import time
from functools import partial
from typing import Final

import pytest

from tests.cluster.api import NoAnswer
from tests.cluster.cluster import READY_S, Cluster, Node
from tests.cluster.figures import Figures
from tests.cluster.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

FIRST_BLOCK_S: Final = 5.0
"""From the moment the process that completes a quorum is up."""
HALTED_S: Final = 2
"""How long no block may appear: many times what a block takes with a quorum."""


def is_alive(node: Node) -> bool:
    """Tell whether the node answers at all: it has read its database and begins to connect."""
    try:
        return node.api.request("GET", "/healthz").status == 200
    except NoAnswer:
        return False


def test_two_of_four_stopped_halt_the_chain_and_are_named(
    cluster: Cluster, figures: Figures
) -> None:
    """C14: without a quorum nothing becomes final; the missing are named; then it goes on."""
    identifier = cluster.finalize_one(cluster.nodes[0])
    cluster.wait_final(identifier)
    stopped = cluster.validators[:2]
    left = cluster.others(*stopped)
    for node in stopped:
        code, _ = node.terminate()
        assert code == 0
    names = sorted(node.name for node in stopped)

    def sees_halt(node: Node) -> bool:
        consensus = node.api.get("/v1/consensus")
        assert sorted(consensus["missing"]) == names, consensus["missing"]
        return consensus["halted"] is not None and consensus["shortfall"]["members"] == 1

    for node in left:
        wait_until(f"{node.name} names the missing", 10.0, partial(sees_halt, node))
        answer = node.api.request("GET", "/readyz")
        assert answer.status == 503
        quorum = next(item for item in answer.document["checks"] if item["name"] == "quorum")
        assert not quorum["ok"]
        assert all(name in quorum["detail"] for name in names)
        assert node.api.request("GET", "/healthz").status == 200

    heights = [node.api.height() for node in left]
    identifier, wire = cluster.transfer()
    answer = left[0].api.submit(wire, f"?wait=finalized&timeout={HALTED_S}")
    assert (answer.status, answer.document["status"]) == (202, "pending")
    assert [node.api.height() for node in left] == heights

    for node in stopped:
        node.start()
    wait_until("one of them runs", READY_S, lambda: any(is_alive(node) for node in stopped))
    up = time.monotonic()
    cluster.wait_final(identifier, deadline_s=FIRST_BLOCK_S)
    figures["first block after a halt (s)"] = round(time.monotonic() - up, 2)
    assert cluster.assert_equal_chains() > max(heights)
