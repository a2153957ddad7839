"""Posting a transfer to the published port, and asking every node for it."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from ledger.crypto import SigningKey
from ledger.types import Digest
from mbi.sync_client import Client
from mbi.wallet import Wallet
from tests.cluster.waiting import wait_until
from tests.docker.compose import ComposeNetwork

FINAL_S: Final = 10.0


def client(network: ComposeNetwork) -> Client:
    """Return a client of the published port."""
    return Client(f"http://127.0.0.1:{network.port}")


def transfer(document: Any) -> bytes:
    """Sign a transfer from the first funded account of a ``network.json`` to the second."""
    sender, receiver = document["accounts"][:2]
    key = SigningKey.from_seed(bytes.fromhex(sender["private_key"]))
    wallet = Wallet(Digest(bytes.fromhex(document["chain_id"])), [key])
    return wallet.transfer(sender["asset"], receiver["address"], 1).wire


def finalise(network: ComposeNetwork, document: Any = None) -> str:
    """Post a transfer to the published port and return its id when the observer has it final."""
    wire = transfer(document or network.network_file())
    answer = client(network).submit_and_wait(wire, FINAL_S)
    assert answer.status == "finalized", answer.document
    return answer.id


def has_final(network: ComposeNetwork, identifier: str, service: str) -> bool:
    """Tell whether a node has executed the transaction."""
    answer = network.ask(service, f"/v1/transactions/{identifier}")
    return answer.status == 200 and bool(answer.document["status"] == "finalized")


def wait_final(
    network: ComposeNetwork, identifier: str, *services: str, deadline_s: float = FINAL_S
) -> None:
    """Wait until each of these nodes has executed the transaction."""
    for service in services:
        has_it = partial(has_final, network, identifier, service)
        wait_until(f"{service} has it", deadline_s, has_it)
