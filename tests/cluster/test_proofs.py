"""Proofs of a real network through set changes: got from its nodes, checked when all are gone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from ledger.address import parse_address
from ledger.records import account_key, organisation_key
from tests.cluster.cluster import Cluster
from tests.cluster.governance import Government, epoch
from tests.cluster.programs import MBI, run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

SEED: Final = "proofs"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A network that is stopped by its test."""
    cluster = Cluster.build(tmp_path_factory.mktemp("proofs") / "net", observers=1, seed=SEED)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def mbi(*words: str, code: int = 0) -> Any:
    """Run ``mbi``; return its document."""
    done = run(*MBI, *words, "--json")
    assert done.returncode == code, done.stderr or done.stdout
    return json.loads(done.stdout)


def test_what_the_network_decided_is_provable_without_it(network: Cluster, tmp_path: Path) -> None:
    """Two set changes, proofs from two nodes, all nodes stopped, then everything is checked."""
    government = Government(network, SEED)
    genesis = str(network.nodes[0].home / "genesis.json")
    first = network.finalize_one(network.nodes[0])
    government.grow_to([("obs-1", "gov-1")])
    between = network.finalize_one(network.nodes[1])
    government.shrink_to(["gov-1", "gov-2", "com-1", "com-2"])
    network.finalize_one(network.nodes[2])
    network.finalize_one(network.nodes[3])
    assert {epoch(node) for node in network.nodes} == {2}

    files: list[tuple[Path, str]] = []
    witnesses = (network.nodes[0], network.node("obs-1"))
    for node in witnesses:
        for identifier in (first, between):
            path = tmp_path / f"{node.name}-{identifier[:8]}.proof"
            words = ("--latest", "--node", node.entry.http, "--out", str(path))
            mbi("audit", "proof", identifier, *words)
            files.append((path, identifier))
    url = network.nodes[0].entry.http
    account = account_key(parse_address(network.address("alice")))
    for name, key in (("account", account), ("nobody", organisation_key("nobody"))):
        # Nobody sends anything now: what the last transaction left is certified by its seal block.
        path = tmp_path / f"{name}.proof"
        mbi("audit", "proof", "--key", key.hex(), "--node", url, "--out", str(path))
    listed = mbi("audit", "checkpoints", "--node", url, "--genesis", genesis)["items"]
    assert [item["validators"] for item in listed] == [4, 5, 4]
    followed = mbi("audit", "verify", url, "--genesis", genesis)
    assert (followed["intact"], followed["epoch"]) == (True, 2)
    network.stop()

    trusted = ("--genesis", genesis, "--checkpoint", listed[2]["checkpoint"])
    for path, identifier in files:
        proven = mbi("audit", "check", str(path), *trusted)
        assert (proven["id"], proven["code"], proven["set_changes"]) == (identifier, "ok", 2)
    assert mbi("audit", "check", str(tmp_path / "account.proof"), *trusted)["present"]
    assert not mbi("audit", "check", str(tmp_path / "nobody.proof"), *trusted)["present"]
    for node in witnesses:
        replayed = mbi("audit", "verify", str(node.home))
        assert (replayed["intact"], replayed["epoch"]) == (True, 2)

    path, _ = files[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    mbi("audit", "check", str(path), *trusted, code=5)
