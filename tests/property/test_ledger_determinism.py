"""The same blocks give the same roots in every process, whatever Python's hash seed is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ledger.crypto import sha256
from ledger.operations import Mint, Operation, RegisterAccount, SetKeys, Transfer
from ledger.types import Amount
from tests.unit.ledger.builders import MYR, Chain, address, key_weight

ROOT = Path(__file__).parent.parent.parent
BLOCKS = 12


def operations_of(height: int) -> list[tuple[str, list[Operation], list[str] | None]]:
    """Return sender, operations and signers of the transactions of one block: good and bad ones."""
    plans: list[tuple[str, list[Operation], list[str] | None]] = []
    for name in [f"n{height} {number}" for number in range(height % 5)]:
        register = RegisterAccount(None, "bank", (key_weight(name),), 1, 1)
        plans.append(("bank", [register], None))
        plans.append(("alice", [Transfer(None, address(name), MYR, Amount(height))], None))
    there = Transfer(None, address("carol"), MYR, Amount(3))
    back = Transfer(address("carol"), address("bob"), MYR, Amount(height))
    plans.append(("bob", [there, back], ["bob", "carol"]))
    plans.append(("carol", [Transfer(None, address("bob"), MYR, Amount(10_000))], None))
    plans.append(("issuer", [Mint(None, MYR, address("alice"), Amount(50))], None))
    rotate = SetKeys(None, (key_weight("bob"), key_weight(f"b{height}")), 1, 2)
    plans.append(("bob", [rotate], None))
    return plans


def replay() -> str:
    """Execute the blocks on a fresh ledger; return a digest of everything that came out."""
    chain = Chain()
    seen = b""
    for height in range(1, BLOCKS + 1):
        transactions = [
            chain.transaction(sender, *operations, signers=signers)
            for sender, operations, signers in operations_of(height)
        ]
        outcome = chain.execute(*transactions)
        seen += outcome.state_root + outcome.receipts_root + outcome.history_root
        seen += repr(outcome.state_writes).encode()
    return sha256(seen).hex()


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_the_hash_seed_changes_nothing(seed: str) -> None:
    """C10: no order of sets or dictionaries reaches a root."""
    result = subprocess.run(
        [sys.executable, "-c", f"from {__name__} import replay; print(replay())"],
        env={**os.environ, "PYTHONHASHSEED": seed, "TZ": "Asia/Kuala_Lumpur", "LC_ALL": "C"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    assert result.stdout.strip() == replay()
