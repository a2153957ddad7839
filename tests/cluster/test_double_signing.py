"""Two processes with one validator key: proven, out of the set, and nobody else is hurt."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cluster.cluster import READY_S, Cluster, Node, free_port
from tests.cluster.governance import epoch, wait_members
from tests.cluster.peers import connected, keep_peers
from tests.cluster.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

SEED: Final = "double signing"
CULPRIT: Final = "gov-1"
BESIDE_TWIN: Final = ("com-2", "obs-1")
"""Nodes that reach the copy under the culprit's name; the others reach the original."""
TURNS_MAX: Final = 40
NOTICE_S: Final = 5.0
ATTEMPTS_MAX: Final = 6
REPORT_S: Final = 20.0
"""The last member of a set of five waits five seconds before it reports."""


class Twins:
    """A network of five validators, one of which was copied, key and all, and runs twice."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.original = cluster.node(CULPRIT)
        self.twin = self._copy()
        self.honest = cluster.others(self.original)

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
        everyone = {node.name for node in self.cluster.nodes}
        keep_peers(Node(entry, lambda _: None), {CULPRIT, *BESIDE_TWIN})
        keep_peers(self.original, everyone - {*BESIDE_TWIN})
        for name in BESIDE_TWIN:
            path = self.cluster.node(name).home / "config.toml"
            path.write_text(path.read_text().replace(first.p2p, entry.p2p))
        return Node(entry, lambda body: self.cluster.secrets.check(body, "an answer of the API"))

    def is_twin_connected(self) -> bool:
        """Tell whether the copy has met all that it may meet."""
        return connected(self.twin) == set(BESIDE_TWIN)

    @property
    def both(self) -> list[Node]:
        """The two processes."""
        return [self.twin, self.original]


@contextmanager
def running_twins(directory: Path) -> Iterator[Twins]:
    """The network, all processes running."""
    cluster = Cluster.build(directory, validators=5, observers=1, seed=SEED)
    made = Twins(cluster)
    try:
        made.twin.start()
        cluster.start()
        # Its neighbours are no quorum, so it is never ready.
        wait_until("the twin is connected", READY_S, made.is_twin_connected)
        yield made
    finally:
        if made.twin.is_running:
            made.twin.terminate()
        cluster.stop()
    cluster.check_logs()


def consensus(node: Node) -> Any:
    """Return what a node says about consensus."""
    return node.api.get("/v1/consensus")


def has_stopped(node: Node) -> bool:
    """Tell whether a node has stopped voting for good; that no quorum is there is no such thing."""
    reason = consensus(node)["halted"]
    return reason is not None and not reason.startswith("no quorum")


def lead_at_once(twins: Twins) -> bool:
    """If the culprit leads the present view, give each of its processes another transaction."""
    seen = [consensus(node) for node in twins.both]
    if {item["leader"] for item in seen} != {CULPRIT} or seen[0]["view"] != seen[1]["view"]:
        return False
    wires = [twins.cluster.transfer(amount)[1] for amount in (2, 3)]
    with ThreadPoolExecutor() as pool:
        list(
            pool.map(lambda pair: pair[0].api.submit(pair[1]), zip(twins.both, wires, strict=True))
        )
    return True


def is_proven(node: Node) -> bool:
    """Tell whether the culprit's evidence is on chain."""
    accused = [item["validator"]["name"] for item in node.api.items("/v1/evidence")]
    assert accused in ([], [CULPRIT]), accused
    return bool(accused)


def is_caught(twins: Twins) -> bool:
    """Let both processes lead one view, and tell whether a node noticed.

    They have to propose within the same milliseconds: one that hears of a vote that it does not
    remember stops voting before it has done anything that contradicts it.
    """
    for _ in range(TURNS_MAX):
        lead_at_once(twins)
        if any(has_stopped(node) for node in twins.both):
            break
        twins.cluster.finalize_one(twins.cluster.node("gov-2"))
    try:
        wait_until("evidence", NOTICE_S, lambda: any(is_proven(node) for node in twins.honest))
    except AssertionError:
        return False
    return True


def test_a_key_in_two_processes_is_proven_and_suspended(tmp_path: Path) -> None:
    """C2, C4: both lead one view; the two blocks are evidence, on chain, and cost the seat."""
    for attempt in range(ATTEMPTS_MAX):
        with running_twins(tmp_path / f"net-{attempt}") as twins:
            if is_caught(twins):
                check_that_only_the_culprit_pays(twins)
                return
    raise AssertionError(f"the two processes led no view at once in {ATTEMPTS_MAX} networks")


def check_that_only_the_culprit_pays(twins: Twins) -> None:
    """Demand the evidence on every honest node, the seat gone, one chain, and nobody else hurt."""
    cluster = twins.cluster
    for node in twins.honest:
        wait_until(f"{node.name} has the evidence on chain", REPORT_S, partial(is_proven, node))
    remaining = sorted(node.name for node in cluster.validators if node.name != CULPRIT)
    wait_members(twins.honest, remaining)

    identifier = cluster.finalize_one(cluster.node("gov-2"))
    cluster.wait_final(identifier, twins.honest)
    for node in twins.honest:
        assert consensus(node)["halted"] is None
        assert not list(node.home.glob("halt-*.json"))
        assert epoch(node) == 1
    for node in twins.both:
        stand = consensus(node)
        assert stand["validator"] is None or stand["halted"], f"{node.name} still votes: {stand}"
    cluster.assert_equal_chains()
