"""Writes the golden vectors. Running it is a deliberate act: any difference breaks the protocol.

    python -m tests.vectors.build

Other implementations read the JSON files; the tests read them and pin the hash of each.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ledger.address import address_of, format_address
from ledger.block import block_hash
from ledger.block_rules import transactions_root
from ledger.crypto import (
    LOW_ORDER_ENCODINGS,
    SigningKey,
    add_group_order,
    check_public_key,
    verify,
)
from ledger.encoding import encode
from ledger.errors import LedgerError
from ledger.genesis import chain_id, genesis_block, genesis_json, genesis_state
from ledger.json import operation_to_json, transaction_to_json
from ledger.operations import (
    AuthoriseHolder,
    Burn,
    CreateAsset,
    Mint,
    Operation,
    ProposeChange,
    RegisterAccount,
    ReportEvidence,
    SetKeys,
    SetStatus,
    Transfer,
    VoteChange,
)
from ledger.operations.governance import readiness_preimage, sign_readiness
from ledger.records import (
    AccountStatus,
    ActivateFeature,
    AddValidator,
    AssetClass,
    AssetPolicy,
    Change,
    RemoveValidator,
    RotateKey,
    SetParameters,
    SetPowers,
    holding_key,
)
from ledger.transaction import decode_transaction, sign_transaction
from ledger.types import Amount, Epoch, Era, Height, ProposalId, Signature, TimeMs, View
from ledger.validators import ValidatorSet
from ledger.votes import NULL_VALUE, Value, Vote, VoteKind
from tests.unit.ledger.builders import (
    GENESIS_TIME_MS,
    MYR,
    Chain,
    address,
    key_weight,
    make_genesis,
    make_header,
    make_key,
)
from tests.unit.ledger.electorate import PARAMETERS, Electorate, consensus_key, validator

FOLDER = Path(__file__).parent

JsonObject = dict[str, Any]  # JSON

POLICY = AssetPolicy(
    holder_authorisation=True,
    transfer_max=Amount(1_000),
    day_max=Amount(2**63 - 1),
    memo_required=False,
)

JOINING = validator("com-9")
JOIN_EXPIRES_MS = TimeMs(GENESIS_TIME_MS + 20_000)
CHANGES: list[Change] = [
    AddValidator(JOINING),
    RemoveValidator(JOINING.consensus_key),
    RotateKey(
        JOINING.consensus_key,
        validator("com-9", 1).consensus_key,
        validator("com-9", 1).node_key,
    ),
    SetPowers("bank", 7, (AssetClass.E_MONEY, AssetClass.SECURITY)),
    SetParameters(PARAMETERS),
    ActivateFeature("holds", Height(70_000)),
]


def _vote(kind: VoteKind, value: Value) -> Vote:
    return Vote(kind, Era(0), Epoch(1), View(300), value, 2, Signature(bytes(range(64))))


OPERATIONS: list[Operation] = [
    RegisterAccount(None, "bank", (key_weight("dave", 2), key_weight("erin")), 2, 3),
    SetKeys(address("alice"), (key_weight("alice 2"),), 1, 1),
    SetStatus(None, address("alice"), AccountStatus.SUSPENDED),
    CreateAsset(None, "bank/GOLD.1", "Gold é", AssetClass.COMMODITY, 3, address("issuer"), POLICY),
    Mint(None, MYR, address("alice"), Amount(128)),
    Burn(None, MYR, Amount(65_536)),
    Transfer(None, address("bob"), MYR, Amount(1)),
    AuthoriseHolder(None, MYR, address("bob"), True),
    ProposeChange(None, CHANGES[0]),
    VoteChange(None, ProposalId(128), approve=False),
    sign_readiness(Chain().chain_id, JOINING, JOIN_EXPIRES_MS, consensus_key("com-9")),
    ReportEvidence(
        None,
        _vote(VoteKind.NULLIFY, NULL_VALUE),
        _vote(VoteKind.FINALIZE, Value(View(299), Chain().chain_id)),
    ),
]


def encodings() -> JsonObject:
    """Every operation and every kind of change, by itself."""
    return {
        "operations": [
            {"json": operation_to_json(operation), "encoded": encode(operation).hex()}
            for operation in OPERATIONS
        ],
        "changes": [
            {"json": operation_to_json(operation), "encoded": encode(operation).hex()}
            for operation in (ProposeChange(None, change) for change in CHANGES)
        ],
        "readiness": {
            "chain_id": Chain().chain_id.hex(),
            "preimage": readiness_preimage(Chain().chain_id, JOINING, JOIN_EXPIRES_MS).hex(),
        },
    }


def keys() -> JsonObject:
    """Seeds with public keys and addresses; signatures that verify and that must not."""
    key = make_key("alice")
    message = b"message"
    signature = key.sign(message)
    cases = [
        (key.public_key, message, signature),
        (key.public_key, b"other", signature),
        (key.public_key, message, add_group_order(signature)),
        *((low, message, LOW_ORDER_ENCODINGS[2] + bytes(32)) for low in LOW_ORDER_ENCODINGS),
        (key.public_key, message, LOW_ORDER_ENCODINGS[2] + bytes(32)),
    ]
    seeds = [bytes([number]) * 32 for number in range(3)]
    return {
        "addresses": [
            {
                "seed": seed.hex(),
                "public_key": SigningKey(seed).public_key.hex(),
                "address": _address_of_seed(seed)[0],
                "text": _address_of_seed(seed)[1],
            }
            for seed in seeds
        ],
        "signatures": [
            {
                "public_key": public_key.hex(),
                "message": text.hex(),
                "signature": case.hex(),
                "is_valid": verify(public_key, text, case),
            }
            for public_key, text, case in cases
        ],
        "public_keys": [
            {"public_key": candidate.hex(), "is_sound": _is_sound(candidate)}
            for candidate in (key.public_key, *LOW_ORDER_ENCODINGS, (2).to_bytes(32, "little"))
        ],
    }


def _address_of_seed(seed: bytes) -> tuple[str, str]:
    found = address_of(SigningKey(seed).public_key)
    return found.hex(), format_address(found)


def _is_sound(key: bytes) -> bool:
    try:
        check_public_key(key)
    except LedgerError:
        return False
    return True


def transactions() -> JsonObject:
    """Signed transactions with their ids."""
    chain = Chain()
    wires = [
        sign_transaction(
            chain.chain_id,
            address("alice"),
            nonce,
            GENESIS_TIME_MS + 60_000,
            operations,
            memo,
            [make_key(name) for name in signers],
        )
        for nonce, operations, memo, signers in (
            (0, [OPERATIONS[6]], "", ["alice"]),
            (2**64 - 1, [OPERATIONS[6], OPERATIONS[4]], "invoice 4711", ["alice", "issuer"]),
            (300, OPERATIONS, "café", [f"key {number}" for number in range(17)]),
        )
    ]
    cases = []
    for wire in wires:
        decoded = decode_transaction(chain.chain_id, wire)
        cases.append(
            {
                "wire": wire.hex(),
                "preimage": decoded.preimage.hex(),
                "id": decoded.id.hex(),
                "wire_hash": decoded.wire_hash.hex(),
                "json": transaction_to_json(decoded),
            }
        )
    return {"chain_id": chain.chain_id.hex(), "transactions": cases}


def genesis() -> JsonObject:
    """One genesis with its canonical form, first state and block."""
    made = make_genesis()
    header = genesis_block(made)
    return {
        "json": json.loads(genesis_json(made)),
        "encoded": encode(made).hex(),
        "chain_id": chain_id(made).hex(),
        "state": [[key.hex(), value.hex()] for key, value in genesis_state(made)],
        "state_root": header.state_root.hex(),
        "header": encode(header).hex(),
        "block_hash": block_hash(chain_id(made), header).hex(),
    }


def blocks() -> JsonObject:
    """Three blocks with their receipts and roots, and proofs about the state after them."""
    chain = Chain()
    plans: list[list[tuple[str, list[Operation]]]] = [
        [
            ("alice", [Transfer(None, address("bob"), MYR, Amount(5))]),
            ("alice", [Transfer(None, address("bob"), MYR, Amount(9_999))]),
            ("bank", [RegisterAccount(None, "bank", (key_weight("dave"),), 1, 1)]),
        ],
        [],
        [
            ("issuer", [Mint(None, MYR, address("dave"), Amount(70))]),
            ("nobody", [Transfer(None, address("bob"), MYR, Amount(1))]),
        ],
    ]
    executed = []
    for plan in plans:
        made = [chain.transaction(sender, *operations) for sender, operations in plan]
        header = make_header(chain.state.height + 1, made)
        outcome = chain.execute(*made)
        executed.append(
            {
                "header": encode(header).hex(),
                "block_hash": block_hash(chain.chain_id, header).hex(),
                "transactions": [decoded.wire.hex() for decoded in made],
                "transactions_root": transactions_root([item.wire_hash for item in made]).hex(),
                "receipts": [encode(receipt).hex() for receipt in outcome.receipts],
                "receipts_root": outcome.receipts_root.hex(),
                "state_root": outcome.state_root.hex(),
                "history_root": outcome.history_root.hex(),
                "state_writes": [
                    [key.hex(), record.index, record.next_key.hex(), record.value.hex()]
                    for key, record in outcome.state_writes
                ],
            }
        )
    proofs = []
    for name in ("dave", "nobody"):
        key = holding_key(address(name), MYR)
        value = chain.state.get(key)
        proofs.append(
            {
                "key": key.hex(),
                "value": None if value is None else value.hex(),
                "proof": encode(chain.state.prove(key)).hex(),
            }
        )
    return {
        "chain_id": chain.chain_id.hex(),
        "blocks": executed,
        "proofs": proofs,
        "history_path_of_block_1": [part.hex() for part in chain.state.history_path(4, Height(1))],
    }


def governance() -> JsonObject:
    """A change from its proposal to the boundary block, and evidence against a validator."""
    chain = Electorate()
    chain.approve(AddValidator(JOINING))
    chain.ready(JOINING, consensus_key("com-9"))
    chain.settle()
    chain.alone("gov-1 clerk", chain.double_vote("com-2"))
    chain.blocks(5)
    return {
        "genesis": json.loads(genesis_json(chain.genesis)),
        "chain_id": chain.chain_id.hex(),
        "blocks": [
            {
                "block": encode(block).hex(),
                "signers": signers,
                "block_hash": block_hash(chain.chain_id, block.header).hex(),
                "receipts": [encode(receipt).hex() for receipt in outcome.receipts],
                "state_root": outcome.state_root.hex(),
                "history_root": outcome.history_root.hex(),
                "schedule": None
                if outcome.schedule is None
                else [outcome.schedule[0], ValidatorSet(outcome.schedule[1]).hash.hex()],
                "state_writes": [
                    [key.hex(), record.value.hex()] for key, record in outcome.state_writes
                ],
            }
            for (block, signers), outcome in zip(chain.executed, chain.outcomes, strict=True)
        ],
    }


DOCUMENTS = {
    "encodings": encodings,
    "keys": keys,
    "transactions": transactions,
    "genesis": genesis,
    "blocks": blocks,
    "governance": governance,
}
"""Name of each file and what writes it."""


def document(name: str) -> bytes:
    """Return the file of one kind of vectors as the code writes it now."""
    text = json.dumps(DOCUMENTS[name](), indent=1, ensure_ascii=False)
    return (text + "\n").encode()


def main() -> None:
    """Write all files."""
    for name in DOCUMENTS:
        (FOLDER / f"{name}.json").write_bytes(document(name))


if __name__ == "__main__":
    main()
