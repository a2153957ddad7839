"""What a node of four validators answers about governance, for tests of commands."""

from __future__ import annotations

from typing import Any

from ledger.crypto import SigningKey
from ledger.operations import Operation
from ledger.transaction import decode_transaction
from ledger.types import Digest
from tests.unit.mbi.commands import Outcome, Runner
from tests.unit.mbi.fake_node import CHAIN_ID, FakeNode

NAMES = ("gov-1", "com-1", "gov-2", "com-2")
NOTE = "a reason in words"


def member(name: str, key: SigningKey | None = None) -> dict[str, Any]:
    """Return a validator as a node lists it; its organisation has its name."""
    consensus_key = key or SigningKey.from_seed(name.encode().ljust(32))
    return {
        "name": name,
        "organisation": name,
        "chamber": "government" if name.startswith("gov") else "commercial",
        "consensus_key": consensus_key.public_key.hex(),
        "node_key": SigningKey.from_seed(name.encode().rjust(32)).public_key.hex(),
    }


def proposal(number: int, change: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return an open proposal as a node shows it, approved by gov-1."""
    return {
        "id": number,
        "change": change,
        "organisation": "gov-1",
        "votes": [{"organisation": "gov-1", "approve": True}],
        "status": "open",
        "created": "2026-11-21T22:57:13.811Z",
        "expires": "2026-12-05T22:57:13.811Z",
        "effective": None,
        "effective_ms": 0,
        "reason": "",
        **more,
    }


POWERS = {"type": "set_powers", "organisation": "bank", "weight": 5, "licences": ["deposit"]}


def sent(node: FakeNode) -> Operation:
    """Return the one operation that was submitted."""
    (wire,) = node.submitted
    (operation,) = decode_transaction(Digest(bytes.fromhex(CHAIN_ID)), wire).transaction.operations
    return operation


def finalized(*events: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return the answer to a submission that is final with these events."""
    receipt = {"code": "ok", "events": list(events)}
    return 200, {"id": "ab" * 32, "status": "finalized", "height": 9, "receipt": receipt}


def vote(mbi: Runner, node: FakeNode, *words: str) -> Outcome:
    """Vote on proposal 7 with the key `alice`."""
    return mbi("gov", "vote", "7", *words, "--from", "alice", "--node", node.url)
