"""Writes the golden proof files. Running it is a deliberate act: old proofs must hold for ever.

    python -m tests.vectors.build_proofs

``proofs.json`` holds everything a checker needs besides a file: chain id, genesis header, first
validators. The files lead through three changes of the validator set.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, Final

from ledger.encoding import encode
from ledger.genesis import genesis_block
from ledger.records import PARAMETERS_KEY, organisation_key
from node.proofs import Prover
from tests.unit.node.stored_chain import StoredChain

FILE: Final = Path(__file__).parent / "proofs.json"
ABSENT: Final = organisation_key("nobody")


def document() -> dict[str, Any]:
    """Return the proofs of a new chain: a transaction, a key that is there, one that is not."""
    with tempfile.TemporaryDirectory() as folder, StoredChain(Path(folder) / "home") as chain:
        chain.run()
        prover = Prover(chain.chain, chain.chain_id)
        found = [prover.key(chain.state, key) for key in (PARAMETERS_KEY, ABSENT)]
        chain.blocks(5)
        identifier = chain.ids[-1]
        return {
            "chain_id": chain.chain_id.hex(),
            "genesis_header": encode(genesis_block(chain.genesis)).hex(),
            "validators": [encode(member).hex() for member in chain.genesis.validators],
            "checkpoints": [
                f"{opening.epoch}:{opening.block_hash.hex()}" for opening in prover.openings()
            ],
            "transaction_id": identifier.hex(),
            "present_key": PARAMETERS_KEY.hex(),
            "absent_key": ABSENT.hex(),
            "transaction": _hex(prover.transaction(chain.state, identifier, newest=True)),
            "present": _hex(prover.key_file(chain.state, found[0])),
            "absent": _hex(prover.key_file(chain.state, found[1])),
        }


def _hex(data: bytes | None) -> str:
    if data is None:
        raise LookupError("a header that certifies the claim is missing")
    return data.hex()


if __name__ == "__main__":
    FILE.write_text(json.dumps(document(), indent=1) + "\n")
