"""Validator sets that change in a running network: join, leave, rotate, and what is refused."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import Final

import pytest

from ledger.crypto import SigningKey
from ledger.operations.governance import ProposeChange
from ledger.records import AddValidator, RemoveValidator
from ledger.types import PublicKey
from tests.cluster.cluster import Cluster, Node
from tests.cluster.figures import Figures
from tests.cluster.governance import (
    EPOCH_S,
    Government,
    consensus_key,
    epoch,
    members,
    wait_members,
)
from tests.cluster.load import Load
from tests.cluster.peers import connected, keep_peers
from tests.cluster.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

SEED: Final = "set changes"
GAP_S: Final = 5.0
"""Longest time without a final block while the set changes under load."""
RATE: Final = 100
FIRST: Final = ("com-1", "com-2", "gov-1", "gov-2")
JOINERS: Final = (("obs-1", "gov-1"), ("obs-2", "com-1"), ("obs-3", "gov-2"))
"""Observers, and the organisation for which each becomes a validator."""
DROPPED_S: Final = 5.0
PRESENCE_ROUNDS: Final = 4
"""A member of a set of n that was not seen for 4 n heights counts as absent."""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Four validators and three observers."""
    cluster = Cluster.build(tmp_path_factory.mktemp("sets") / "net", observers=3, seed=SEED)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
    cluster.check_logs()


@pytest.fixture
def government(network: Cluster) -> Iterator[Government]:
    """The organisations of the network, with every node up; afterwards the first set is back."""
    network.repair()
    yield Government(network, SEED)
    network.repair()
    Government(network, SEED).shrink_to(FIRST)


def test_the_set_grows_to_seven_and_shrinks_back_under_load(
    network: Cluster, government: Government, figures: Figures
) -> None:
    """C17: six epochs, each with another set, without a pause."""
    before = epoch(network.nodes[0])
    with Load(network, RATE).running() as load:
        began = time.monotonic()
        government.grow_to(JOINERS)
        joined = network.node("obs-1")
        assert joined.api.get("/v1/consensus")["validator"] == joined.name
        assert joined.api.status()["role"] == "validator"
        government.shrink_to(FIRST)
        gap_s = load.longest_gap_s(began)
        figures["longest gap over six set changes (s)"] = round(gap_s, 2)
    assert {epoch(node) for node in network.nodes} == {before + 6}
    assert joined.api.status()["role"] == "observer"
    assert gap_s < GAP_S, f"no block for {gap_s:.1f} s"
    network.assert_equal_chains()
    network.assert_on_every_node(load.finalized)


def test_every_key_is_rotated_without_a_restart(
    network: Cluster, government: Government, figures: Figures
) -> None:
    """C17: one validator after the other votes with another key from one epoch to the next."""
    old = {member["consensus_key"] for member in members(network.nodes[0]).values()}
    with Load(network, RATE).running() as load:
        began = time.monotonic()
        for node in network.validators:
            key = government.rotate(node).hex()
            for witness in network.nodes:

                def is_rotated(name: str = node.name, key: str = key, see: Node = witness) -> bool:
                    return consensus_key(see, name) == key

                wait_until(f"{witness.name} counts by the new key", EPOCH_S, is_rotated)
            assert node.api.get("/v1/consensus")["validator"] == node.name

            def is_signing(name: str = node.name, see: Node = witness) -> bool:
                return bool(members(see)[name]["signed"])

            wait_until(f"{node.name} signs with its new key", EPOCH_S, is_signing)
        gap_s = load.longest_gap_s(began)
        figures["longest gap over four rotations (s)"] = round(gap_s, 2)
    new = {member["consensus_key"] for member in members(network.nodes[0]).values()}
    assert len(new) == 4
    assert not new & old
    assert gap_s < GAP_S, f"no block for {gap_s:.1f} s"
    network.assert_equal_chains()


def test_who_is_down_may_be_removed_but_not_who_is_needed(
    network: Cluster, government: Government
) -> None:
    """C17: with two of seven down, a removal that leaves too few to decide is refused, and why.

    Removing those that are down is not; started again they follow, over epochs they have missed.
    """
    government.grow_to(JOINERS)
    down = [network.node("obs-1"), network.node("obs-2")]
    for node in down:
        node.kill()
    with Load(network, RATE).running() as load:
        witness = network.running[0]
        height = witness.api.height()
        witness.wait_height(height + PRESENCE_ROUNDS * 7 + 1, 30.0)
        needed = PublicKey(bytes.fromhex(members(witness)["gov-1"]["consensus_key"]))
        proposal = ProposeChange(None, RemoveValidator(needed))
        refused = government.simulate("gov-2", proposal)
        assert refused["receipt"]["code"] == "quorum_absent"
        assert all(node.name in refused["detail"] for node in down), refused["detail"]
        assert government.send("gov-2", proposal)["code"] == "quorum_absent"

        present = [name for name in members(witness) if name not in ("obs-1", "obs-2")]
        government.shrink_to(present)
        assert load.finalized
    for node in down:
        node.start()
    for node in down:
        network.wait_at_head(node)
    wait_members(down, present)
    assert [node.api.status()["role"] for node in down] == ["observer", "observer"]
    assert [epoch(node) for node in down] == [epoch(witness)] * 2
    network.assert_equal_chains()


def test_a_joiner_that_was_never_ready_is_refused(network: Cluster, government: Government) -> None:
    """C17: approved by all, and refused when its time comes, with the reason; the set stays."""
    before = epoch(network.nodes[0])
    node = network.node("obs-1")
    key = SigningKey.from_seed(bytes(range(32)))
    number = government.carry(AddValidator(government.joiner(node, "gov-1", key)))

    def is_refused() -> bool:
        proposal = government.proposal(number)
        assert proposal["status"] == "refused", proposal["status"]
        return "obs-1" in str(proposal) and "ready" in str(proposal)

    wait_until("the proposal is refused", EPOCH_S, is_refused)
    wait_members(network.nodes, FIRST)
    assert epoch(node) == before


def test_a_validator_killed_around_boundaries_comes_back(
    network: Cluster, government: Government
) -> None:
    """C19: killed before a boundary block, which it misses, and when an epoch has just begun."""
    victim, joiner = network.node("com-2"), network.node("obs-1")
    began = epoch(victim)
    with Load(network, RATE).running() as load:
        government.admit(joiner, "gov-1")
        restart(victim)
        wait_members(network.nodes, (*FIRST, joiner.name))
        government.dismiss(joiner.name)
        wait_members([joiner], FIRST)
        restart(victim)
        network.wait_at_head(victim)
        assert epoch(victim) == began + 2
        assert victim.api.status()["role"] == "validator"
    network.assert_equal_chains()
    network.assert_on_every_node(load.finalized)


def restart(node: Node) -> None:
    """Kill a node and start it again."""
    node.kill()
    node.start()


def test_a_peer_off_the_list_is_dropped_without_a_restart(
    network: Cluster, government: Government
) -> None:
    """P3: gone within 5 s of SIGHUP, refused afterwards, back when it is back on the list.

    A member of the set stays connected although it is on no list: the chain has admitted it.
    """
    node = network.node("gov-1")
    everyone = {other.name for other in network.others(node)}
    wait_until("a full mesh", EPOCH_S, lambda: connected(node) == everyone)
    before = keep_peers(node, everyone - {"obs-3", "com-2"})
    node.signal(signal.SIGHUP)
    began = time.monotonic()
    wait_until("obs-3 is dropped", DROPPED_S, lambda: "obs-3" not in connected(node))
    assert time.monotonic() - began < DROPPED_S
    wait_until("nobody else is", EPOCH_S, lambda: connected(node) == everyone - {"obs-3"})
    (node.home / "config.toml").write_text(before)
    node.signal(signal.SIGHUP)
    wait_until("obs-3 is back", EPOCH_S, lambda: connected(node) == everyone)
