"""A validator whose database is gone: refused as it is, re-synced on request, silent until safe."""

from __future__ import annotations

import time
from typing import Final

import pytest

from tests.cluster.cluster import Cluster, Node
from tests.cluster.figures import Figures
from tests.cluster.load import RATE, Load
from tests.cluster.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

NO_BLOCK_S: Final = 2
"""How long no block may appear where a vote would be unsafe: many times what a block takes."""


def rejoin(node: Node) -> None:
    """Give a wiped node an empty database on request."""
    done = node.run("init", "--rejoin")
    assert done.returncode == 0, done.stderr


def is_voting_allowed(node: Node) -> bool:
    """Tell whether the node has left quarantine."""
    return not node.api.get("/v1/consensus")["quarantined"]


def test_wiped_validator_syncs_from_genesis_and_votes_again(
    cluster: Cluster, figures: Figures
) -> None:
    """S3, C3, P9: under load, refused without --rejoin; with it, verified from genesis to head."""
    node, witness = cluster.validators[1], cluster.validators[0]
    with Load(cluster).running() as load:
        load.wait_more(RATE)
        node.kill()
        node.wipe()

        start = node.run("start")
        assert start.returncode == 2
        last = start.stderr.splitlines()[-1]
        assert last.startswith("store_missing:")
        assert "--rejoin" in last
        plain = node.run("init")
        assert (plain.returncode, plain.stderr.split(":")[0]) == (2, "marker_exists")
        assert not (node.home / "data").exists()

        rejoin(node)
        began = time.monotonic()
        node.start()
        cluster.wait_at_head(node)
        figures["wiped validator at the head (s)"] = round(time.monotonic() - began, 1)
        wait_until("out of quarantine", 10.0, lambda: is_voting_allowed(node))
        signed = witness.api.get(f"/v1/validators/{node.name}")["signed"]
        wait_until(
            "its votes in certificates again",
            10.0,
            lambda: witness.api.get(f"/v1/validators/{node.name}")["signed"] > signed,
        )
    assert cluster.assert_equal_chains() > 0
    cluster.assert_on_every_node(load.finalized)


def test_wiped_validator_does_not_vote_before_a_quorum_has_answered(cluster: Cluster) -> None:
    """C3: with two others up its vote would make a quorum; it stays silent until a third answers.

    It may have voted with the one that is away, which it cannot remember.
    """
    wiped, *others = cluster.validators
    away = others.pop()
    cluster.finalize_one(away)
    for node in (wiped, away):
        node.kill()
    wiped.wipe()
    rejoin(wiped)
    wiped.start()
    wait_until(
        "the wiped validator is connected to the two others",
        15.0,
        lambda: len(wiped.api.get("/v1/consensus")["connected"]) == 3,
    )

    identifier, wire = cluster.transfer()
    answer = others[0].api.submit(wire, f"?wait=finalized&timeout={NO_BLOCK_S}")
    assert (answer.status, answer.document["status"]) == (202, "pending")
    assert not is_voting_allowed(wiped)
    ready = wiped.api.request("GET", "/readyz")
    assert ready.status == 503
    voting = next(check for check in ready.document["checks"] if check["name"] == "voting")
    assert not voting["ok"]

    away.start()
    cluster.wait_final(identifier, deadline_s=15.0)
    wait_until("out of quarantine", 10.0, lambda: is_voting_allowed(wiped))
    cluster.assert_equal_chains()
