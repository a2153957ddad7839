"""Two processes with one validator key: proven, out of the set, and nobody else is hurt.

A process that hears of a vote of its own key that it did not make stops voting, before it has
done anything that contradicts it. So both have to propose before word of the one is at the other.
The culprit leads the first view, in which the chain rests until somebody has work for it, and who
could carry the word is paused until both have proposed.
"""

from __future__ import annotations

import dataclasses
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from consensus.leader import leader, leader_order
from ledger.genesis import chain_id, parse_genesis
from ledger.types import Epoch, Era, View
from ledger.validators import ValidatorSet
from tests.cluster.cluster import READY_S, Cluster, Node, free_port
from tests.cluster.governance import epoch, wait_members
from tests.cluster.peers import connected, keep_peers
from tests.cluster.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

SEED: Final = "double signing"
FIRST_VIEW: Final = View(1)
OBSERVER: Final = "obs-1"
PROPOSED_S: Final = 1.0
"""Of the two seconds after which a view is given up."""
REPORT_S: Final = 20.0
"""The last member of a set of five waits five seconds before it reports."""


class Twins:
    """A network of five validators; the first leader was copied, key and all, and runs twice."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.original = cluster.node(first_leader(cluster))
        self.culprit = self.original.name
        self.honest = cluster.others(self.original)
        near, *far = [node for node in cluster.validators if node is not self.original]
        self.near = near
        """The one validator that reaches the copy under the culprit's name."""
        self.absent = far[0]
        """Without this one neither block gets a quorum."""
        self.beside_twin = {near.name, OBSERVER}
        """Who reaches the copy; the others reach the original."""
        self.twin = self._copy()

    def _copy(self) -> Node:
        port = free_port(1)
        first = self.original.entry
        home = self.original.home.with_name("twin")
        shutil.copytree(self.original.home, home)
        entry = dataclasses.replace(
            first,
            home=str(home),
            p2p=f"127.0.0.1:{port}",
            http=f"http://127.0.0.1:{port + 1}",
        )
        config = (home / "config.toml").read_text()
        for old, new in zip(first.ports, entry.ports, strict=True):
            config = config.replace(f"port = {old}\n", f"port = {new}\n")
        (home / "config.toml").write_text(config)
        twin = Node(entry, lambda body: self.cluster.secrets.check(body, "an answer of the API"))
        everyone = {node.name for node in self.cluster.nodes}
        keep_peers(twin, {self.culprit, *self.beside_twin})
        keep_peers(self.original, everyone - self.beside_twin)
        for name in self.beside_twin:
            path = self.cluster.node(name).home / "config.toml"
            path.write_text(path.read_text().replace(first.p2p, entry.p2p))
        return twin

    def are_connected(self) -> bool:
        """Tell whether both have met all that they may meet."""
        far = {node.name for node in self.honest} - self.beside_twin
        return connected(self.twin) == self.beside_twin and connected(self.original) == far

    @property
    def both(self) -> list[Node]:
        """The two processes."""
        return [self.twin, self.original]


def first_leader(cluster: Cluster) -> str:
    """Return the name of the validator that leads the first view."""
    genesis = parse_genesis((cluster.nodes[0].home / "genesis.json").read_bytes())
    validators = ValidatorSet(genesis.validators)
    order = leader_order(chain_id(genesis), Era(0), Epoch(0), validators)
    return validators[leader(order, FIRST_VIEW)].name


@contextmanager
def running_twins(directory: Path) -> Iterator[Twins]:
    """The network, all processes running."""
    cluster = Cluster.build(directory, validators=5, observers=1, seed=SEED)
    made = Twins(cluster)
    try:
        made.twin.start()
        cluster.start()
        # The neighbours of the twin are no quorum, so it is never ready.
        wait_until("both are connected", READY_S, made.are_connected)
        yield made
    finally:
        if made.twin.is_running:
            made.twin.terminate()
        cluster.stop()
    cluster.check_logs()


@contextmanager
def paused(*nodes: Node) -> Iterator[None]:
    """Stop processes where they are; what is sent to them waits."""
    for node in nodes:
        node.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for node in nodes:
            node.signal(signal.SIGCONT)


def consensus(node: Node) -> Any:
    """Return what a node says about consensus."""
    return node.api.get("/v1/consensus")


def has_vote(node: Node, voter: str) -> bool:
    """Tell whether a node counts a vote of this validator for a block of the first view."""
    seen = consensus(node)
    assert seen["view"] == FIRST_VIEW, seen
    return voter in seen["votes"]["notarize"]


def lead_at_once(twins: Twins) -> None:
    """Give each process of the culprit another transaction to propose in the first view."""
    with paused(twins.absent):
        with paused(twins.near, twins.cluster.node(OBSERVER)):
            for amount, node in enumerate(twins.both, 2):
                assert not has_vote(node, twins.culprit)
                assert node.api.submit(twins.cluster.transfer(amount)[1]).status == 202
                what = f"the process on port {node.api.port} has proposed"
                wait_until(what, PROPOSED_S, partial(has_vote, node, twins.culprit))
        what = f"{twins.near.name} knows the block of the twin"
        wait_until(what, PROPOSED_S, partial(has_vote, twins.near, twins.culprit))


def is_proven(node: Node, culprit: str) -> bool:
    """Tell whether the culprit's evidence is on chain."""
    accused = [item["validator"]["name"] for item in node.api.items("/v1/evidence")]
    assert accused in ([], [culprit]), accused
    return bool(accused)


def test_a_key_in_two_processes_is_proven_and_suspended(tmp_path: Path) -> None:
    """C2, C4: both lead one view; the two blocks are evidence, on chain, and cost the seat."""
    with running_twins(tmp_path / "net") as twins:
        lead_at_once(twins)
        check_that_only_the_culprit_pays(twins)


def check_that_only_the_culprit_pays(twins: Twins) -> None:
    """Demand the evidence on every honest node, the seat gone, one chain, and nobody else hurt."""
    cluster = twins.cluster
    for node in twins.honest:
        what = f"{node.name} has the evidence on chain"
        wait_until(what, REPORT_S, partial(is_proven, node, twins.culprit))
    remaining = sorted(node.name for node in twins.honest if node.is_validator)
    wait_members(twins.honest, remaining)

    identifier = cluster.finalize_one(twins.near)
    cluster.wait_final(identifier, twins.honest)
    for node in twins.honest:
        assert consensus(node)["halted"] is None
        assert not list(node.home.glob("halt-*.json"))
        assert epoch(node) == 1
    for node in twins.both:
        stand = consensus(node)
        assert stand["validator"] is None or stand["halted"], f"{node.name} still votes: {stand}"
    cluster.assert_equal_chains()
