"""The compose network does what the README says: starts, finalises, halts, resumes, disappears."""

from __future__ import annotations

import os
from functools import partial
from typing import Final

import pytest

from tests.cluster.waiting import wait_until
from tests.docker.compose import NODES, OBSERVER, VALIDATORS, ComposeNetwork
from tests.docker.conftest import READY_S
from tests.docker.transactions import FINAL_S, client, finalise, has_final, transfer, wait_final

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1200)]

HALTED_S: Final = 2.0
"""How long no block may appear: many times what a block takes with a quorum."""
RESUMED_S: Final = 10.0
"""From the start of the containers that were missing until the next block."""
HEALTHY_S: Final = 60.0
"""The engine looks every ten seconds, and may have looked just before the node was ready."""

CHANGE_SCHEMA: Final = """
import sys
from pathlib import Path
import msgspec
from storage.leveldb import LevelDBStore
from storage.metadata import Identity
from storage.schema import IDENTITY_KEY
store = LevelDBStore.open(Path("/var/lib/mbi/data"))
found = msgspec.msgpack.decode(store.get(IDENTITY_KEY), type=Identity)
changed = msgspec.structs.replace(found, schema=found.schema + int(sys.argv[1]))
batch = store.batch()
batch.put(IDENTITY_KEY, msgspec.msgpack.encode(changed))
store.write(batch, sync=True)
store.close()
"""
"""Makes the database look like one that a newer version has written, or undoes that."""


def is_healthy(network: ComposeNetwork, service: str) -> bool:
    """Tell whether the engine found the node ready by the image's health check."""
    return bool(network.inspect(service)["State"]["Health"]["Status"] == "healthy")


def test_every_node_is_healthy_for_the_engine(network: ComposeNetwork) -> None:
    for service in NODES:
        wait_until(f"{service} is healthy", HEALTHY_S, partial(is_healthy, network, service))


def test_transaction_posted_to_the_published_port_is_final_on_every_node(
    network: ComposeNetwork,
) -> None:
    identifier = finalise(network)
    wait_final(network, identifier, *NODES)
    height = network.get(f"/v1/transactions/{identifier}").document["height"]
    blocks = [network.ask(service, f"/v1/blocks/{height}").document for service in NODES]
    assert len({block["hash"] for block in blocks}) == 1


def test_network_goes_on_without_one_validator(network: ComposeNetwork) -> None:
    network.compose("stop", "com-1")
    identifier = finalise(network)
    wait_final(network, identifier, "gov-1", "gov-2", "com-2")
    network.compose("start", "com-1")
    wait_final(network, identifier, "com-1", deadline_s=READY_S)


def test_network_halts_without_two_names_them_and_resumes(network: ComposeNetwork) -> None:
    """C14: without a quorum nothing becomes final; the missing are named; then it goes on."""
    finalise(network)
    stopped = ("gov-2", "com-2")
    network.compose("stop", *stopped)

    def names_the_missing(service: str) -> bool:
        consensus = network.ask(service, "/v1/consensus").document
        return sorted(consensus["missing"]) == sorted(stopped) and bool(consensus["halted"])

    for service in (*VALIDATORS[:2], OBSERVER):
        wait_until(f"{service} names them", FINAL_S, partial(names_the_missing, service))
        readiness = network.ask(service, "/readyz")
        assert readiness.status == 503
        quorum = next(one for one in readiness.document["checks"] if one["name"] == "quorum")
        assert all(name in quorum["detail"] for name in stopped)

    height = network.get("/v1/status").document["height"]
    answer = client(network).submit(transfer(network.network_file()), HALTED_S)
    assert answer.status == "pending"
    assert network.get("/v1/status").document["height"] == height

    network.compose("start", *stopped)
    wait_final(network, answer.id, OBSERVER, deadline_s=RESUMED_S)


def test_older_version_refuses_the_data_of_a_newer_one_and_leaves_it_whole(
    network: ComposeNetwork,
) -> None:
    """O5: going back is refused with a reason; the newer version goes on with the same data."""

    def change_schema(by: int) -> None:
        network.compose("stop", "com-2")
        options = ("--rm", "--no-deps", "-T", "--entrypoint", "python")
        network.compose("run", *options, "com-2", "-c", CHANGE_SCHEMA, str(by))
        network.compose("start", "com-2")

    def says_why() -> bool:
        return "newer_schema" in network.compose("logs", "--no-color", "--tail", "3", "com-2")

    change_schema(1)
    wait_until("refused", FINAL_S, says_why)
    identifier = finalise(network)
    change_schema(-1)
    wait_final(network, identifier, "com-2", deadline_s=READY_S)


def test_chain_and_keys_survive_the_removal_of_the_containers(network: ComposeNetwork) -> None:
    identifier = finalise(network)
    before = network.network_file()
    network.compose("down")
    network.up()
    wait_until("all ready", READY_S, network.all_ready)
    assert network.network_file() == before
    for service in NODES:
        assert has_final(network, identifier, service)


def test_network_that_was_killed_as_a_whole_goes_on_from_the_same_block(
    network: ComposeNetwork,
) -> None:
    """O6: nobody chooses a block; what was final is there on every node, then the chain grows."""
    identifier = finalise(network)
    height = network.get(f"/v1/transactions/{identifier}").document["height"]
    before = network.get(f"/v1/blocks/{height}").document["hash"]
    network.compose("kill")
    network.compose("start", *NODES)
    wait_until("all ready", READY_S, network.all_ready)
    for service in NODES:
        assert network.ask(service, f"/v1/blocks/{height}").document["hash"] == before, service
    wait_final(network, finalise(network), *NODES)


def test_removing_the_network_leaves_nothing(image: None) -> None:
    network = ComposeNetwork(f"mbi-gone-{os.getpid()}")
    try:
        network.up()
        assert len(network.remains()) > len(NODES)
    finally:
        network.down()
    assert network.remains() == []
