"""Golden proof files: what was proved once must be provable for ever, by both checkers."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from consensus.light import LightClient
from consensus.light.proofs import ProvenState, ProvenTransaction, check_proof
from ledger.block import Header
from ledger.crypto import verify
from ledger.types import Digest, Epoch
from ledger.validators import Validator, ValidatorSet
from tests.vectors import independent_proof
from tests.vectors.build_proofs import FILE


@pytest.fixture(scope="module")
def stored() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(FILE.read_text())
    return document


def client(stored: dict[str, Any]) -> LightClient:
    """Return a client at the stored genesis, which trusts the stored checkpoints."""
    base = msgspec.msgpack.decode(bytes.fromhex(stored["genesis_header"]), type=Header)
    members = ValidatorSet(
        msgspec.msgpack.decode(bytes.fromhex(member), type=Validator)
        for member in stored["validators"]
    )
    checkpoints = {
        Epoch(int(epoch)): Digest(bytes.fromhex(digest))
        for epoch, _, digest in (text.partition(":") for text in stored["checkpoints"])
    }
    chain_id = Digest(bytes.fromhex(stored["chain_id"]))
    return LightClient(chain_id, base, members, verify, checkpoints)


def test_the_stored_transaction_is_proved(stored: dict[str, Any]) -> None:
    proven = check_proof(bytes.fromhex(stored["transaction"]), client(stored))
    assert isinstance(proven, ProvenTransaction)
    assert proven.decoded.id.hex() == stored["transaction_id"]
    assert (proven.claim.receipt.code, proven.epochs) == ("ok", 3)


@pytest.mark.parametrize("name", ["present", "absent"])
def test_the_stored_keys_are_proved(stored: dict[str, Any], name: str) -> None:
    proven = check_proof(bytes.fromhex(stored[name]), client(stored))
    assert isinstance(proven, ProvenState)
    assert proven.claim.key.hex() == stored[f"{name}_key"]
    assert (proven.value is not None) is (name == "present")


@pytest.mark.parametrize("name", ["transaction", "present", "absent"])
def test_the_independent_checker_agrees(stored: dict[str, Any], name: str) -> None:
    members = [
        msgspec.msgpack.decode(bytes.fromhex(member), type=list[Any])
        for member in stored["validators"]
    ]
    chain_id = bytes.fromhex(stored["chain_id"])
    _, claim = independent_proof.check(bytes.fromhex(stored[name]), chain_id, members)
    assert claim[0] == (1 if name == "transaction" else 2)
