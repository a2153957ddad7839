"""Golden vectors: the bytes of the protocol, pinned, and made again by a second implementation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack
import pytest

from ledger import errors
from ledger.address import format_address, parse_address
from ledger.block import Block, Header, block_hash
from ledger.crypto import SigningKey, check_public_key, sha256, verify, verify_many
from ledger.encoding import StrictDecoder, encode
from ledger.errors import LedgerError, WeakPublicKey
from ledger.events import EVENT_NAMES
from ledger.genesis import chain_id, genesis_block, parse_genesis
from ledger.json import operation_from_json
from ledger.operations import REGISTRY, Transfer
from ledger.receipt import RECEIPT_DECODER, receipt_leaf
from ledger.records import CHANGE_NAMES, RECORD_TYPES
from ledger.state_proof import STATE_PROOF_DECODER, verify_state_proof
from ledger.transaction import decode_transaction, sign_transaction
from ledger.transition import BlockExecution
from ledger.types import Amount, Digest, PublicKey
from tests.unit.ledger.builders import GENESIS_TIME_MS
from tests.unit.ledger.electorate import Electorate, validator
from tests.vectors import build, independent

FOLDER = Path(build.__file__).parent
PROTOCOL = (FOLDER.parent.parent / "docs" / "protocol.md").read_text()

PINNED = {
    "blocks": "12f8b0977338a0deb9ff3df2e9a12a5c49474017216f099ebf6c4502e5f13293",
    "encodings": "86ce2f50de294c368f3e5cd974e7a065bc602f89ab933d625be25622523deefa",
    "genesis": "d50e263b9d3aeee1e140582e0c983334160db5f5f0711d5c534b6b692ce7f246",
    "governance": "cbad7d94870e0decdf4c83d82e63e4daf7a032227dd0e5fed93dd09ef0b25b67",
    "keys": "c101c459ffb28504ecf568690c1e8fdde87ceac30ef5f4d3f59b24ed2a05454e",
    "transactions": "580ae4a819223fd4f1b192d34092177f9067a249a1973be0c53034eead1feffb",
}
"""SHA-256 of each file. A change here breaks the protocol: it needs an ADR and a new version."""


def load(name: str) -> Any:  # JSON
    return json.loads((FOLDER / f"{name}.json").read_bytes())


@pytest.mark.parametrize("name", sorted(build.DOCUMENTS))
def test_the_wire_format_is_the_pinned_one(name: str) -> None:
    """The code writes today exactly the bytes that were written when the format was fixed."""
    stored = (FOLDER / f"{name}.json").read_bytes()
    assert build.document(name) == stored
    assert sha256(stored).hex() == PINNED[name]


def test_there_is_a_vector_for_every_operation() -> None:
    names = [case["json"]["type"] for case in load("encodings")["operations"]]
    assert names == [spec.name for spec in REGISTRY]
    for case in load("encodings")["operations"]:
        assert encode(operation_from_json(case["json"])).hex() == case["encoded"]


def test_the_protocol_names_every_error_code_with_its_permanence() -> None:
    def leaves(error: type[LedgerError]) -> list[type[LedgerError]]:
        found = [leaf for child in error.__subclasses__() for leaf in leaves(child)]
        return found + ([error] if "code" in vars(error) and error is not LedgerError else [])

    codes = {error.code: error.permanent for error in leaves(LedgerError)}
    assert len(codes) == len(leaves(LedgerError)), "a code is used twice"
    rows = [line.split("|") for line in PROTOCOL.splitlines() if line.count("|") == 4]
    documented = {
        row[1].strip().strip("`"): row[2].strip() == "yes"
        for row in rows
        if row[2].strip() in {"yes", "no"}
    }
    assert documented == codes
    assert errors.UnexpectedFailure.code in documented


def test_the_protocol_names_every_operation_with_its_tag() -> None:
    for spec in REGISTRY:
        assert f"| {spec.tag} | `{spec.name}` |" in PROTOCOL


def test_the_protocol_names_every_change_and_event_with_its_tag() -> None:
    for structure, name in (*CHANGE_NAMES.items(), *EVENT_NAMES.items()):
        assert f"| {structure.__struct_config__.tag} | `{name}` |" in PROTOCOL


def test_the_protocol_names_every_kind_of_record() -> None:
    for prefix in RECORD_TYPES:
        assert f"\n| {prefix:02x} | " in PROTOCOL


# --- The independent implementation -------------------------------------------------------------

SEEDS = [bytes([number]) * 32 for number in range(4)]


def test_keys_and_addresses_agree() -> None:
    for seed in SEEDS:
        public_key = independent.public_key_of(seed)
        found = independent.address_of(public_key)
        assert SigningKey(seed).public_key == public_key
        assert parse_address(independent.bech32m(found)) == found
    for case in load("keys")["addresses"]:
        public_key = independent.public_key_of(bytes.fromhex(case["seed"]))
        assert public_key.hex() == case["public_key"]
        assert independent.address_of(public_key).hex() == case["address"]
        assert independent.bech32m(independent.address_of(public_key)) == case["text"]


@pytest.mark.parametrize("nonce", [0, 127, 128, 255, 256, 65_535, 65_536, 2**32, 2**64 - 1])
@pytest.mark.parametrize(
    ("memo", "signers"), [("", 1), ("x" * 31, 2), ("é" * 16, 1), ("y" * 256, 4)]
)
def test_a_transfer_written_byte_by_byte_is_the_same(nonce: int, memo: str, signers: int) -> None:
    """An encoder that knows only the document makes the same bytes, id and signatures."""
    network = Digest(independent.sha256(b"some genesis"))
    sender, to = (independent.address_of(independent.public_key_of(seed)) for seed in SEEDS[:2])
    operation = independent.transfer(to, "bank/MYR", 2**40)
    fields = independent.body_fields(sender, nonce, 1_700_000_060_000, [operation], memo)
    wire = independent.sign(network, fields, SEEDS[:signers])
    ours = sign_transaction(
        network,
        parse_address(independent.bech32m(sender)),
        nonce,
        1_700_000_060_000,
        [Transfer(None, parse_address(independent.bech32m(to)), "bank/MYR", Amount(2**40))],
        memo,
        [SigningKey(seed) for seed in SEEDS[:signers]],
    )
    assert wire == ours
    decoded = decode_transaction(network, wire)
    assert decoded.preimage == independent.preimage(network, fields)
    assert decoded.id == independent.sha256(decoded.preimage)
    assert decoded.wire_hash == independent.wire_hash(wire)
    assert all(verify_many(decoded.signature_items()))


def test_the_worked_example_of_the_protocol_is_right() -> None:
    network = b"\x11" * 32
    sender, to = (independent.address_of(independent.public_key_of(seed)) for seed in SEEDS[:2])
    fields = independent.body_fields(
        sender, 1, 1_700_000_060_000, [independent.transfer(to, "bank/MYR", 500)], ""
    )
    wire = independent.sign(network, fields, SEEDS[:1])
    for part in (
        independent.array(fields),
        sender,
        to,
        independent.sha256(independent.preimage(network, fields)),
        independent.wire_hash(wire),
        wire[-66:],
        wire[-100:-66],
    ):
        assert part.hex() in PROTOCOL
    for account in (sender, to):
        assert independent.bech32m(account) in PROTOCOL
    assert decode_transaction(Digest(network), wire).wire == wire


def test_the_first_state_and_the_trees_agree() -> None:
    document = load("genesis")
    genesis = parse_genesis(json.dumps(document["json"]).encode())
    assert encode(genesis).hex() == document["encoded"]
    assert chain_id(genesis).hex() == document["chain_id"]
    preimage = independent.tag("MBI-GENESIS-v1") + bytes.fromhex(document["encoded"])
    assert independent.sha256(preimage).hex() == document["chain_id"]
    state = {bytes.fromhex(key): bytes.fromhex(value) for key, value in document["state"]}
    assert independent.state_root(state).hex() == document["state_root"]
    assert block_hash(chain_id(genesis), genesis_block(genesis)).hex() == document["block_hash"]
    header = independent.tag("MBI-HEAD-v1") + bytes.fromhex(
        document["chain_id"] + document["header"]
    )
    assert independent.sha256(header).hex() == document["block_hash"]


def test_the_roots_of_blocks_agree() -> None:
    document = load("blocks")
    network = Digest(bytes.fromhex(document["chain_id"]))
    for block in document["blocks"]:
        wires = [bytes.fromhex(wire) for wire in block["transactions"]]
        hashes = [independent.wire_hash(wire) for wire in wires]
        assert independent.dense_root(hashes).hex() == block["transactions_root"]
        receipts = [bytes.fromhex(receipt) for receipt in block["receipts"]]
        leaves = [
            independent.sha256(independent.tag("MBI-RECEIPT-v1") + receipt) for receipt in receipts
        ]
        assert independent.dense_root(leaves).hex() == block["receipts_root"]
        for wire, receipt in zip(wires, receipts, strict=True):
            assert receipt_leaf(receipt) in leaves
            identity = decode_transaction(network, wire).id
            assert RECEIPT_DECODER.decode(receipt).transaction_id == identity
        header = StrictDecoder(Header, 1_000).decode(bytes.fromhex(block["header"]))
        assert block_hash(network, header).hex() == block["block_hash"]


def test_the_history_is_the_tree_over_block_state_and_receipts() -> None:
    document = load("blocks")
    genesis = load("genesis")
    empty = independent.dense_root([]).hex()
    history = [(genesis["block_hash"], genesis["state_root"], empty)]
    for block in document["blocks"]:
        history.append((block["block_hash"], block["state_root"], block["receipts_root"]))
        leaves = [
            independent.sha256(independent.tag("MBI-HIST-v1") + bytes.fromhex("".join(parts)))
            for parts in history
        ]
        assert independent.dense_root(leaves).hex() == block["history_root"]


def test_stored_proofs_and_signatures_still_hold() -> None:
    blocks = load("blocks")
    root = Digest(bytes.fromhex(blocks["blocks"][-1]["state_root"]))
    for case in blocks["proofs"]:
        proof = STATE_PROOF_DECODER.decode(bytes.fromhex(case["proof"]))
        value = verify_state_proof(root, bytes.fromhex(case["key"]), proof)
        assert (None if value is None else value.hex()) == case["value"]
    keys = load("keys")
    assert sum(case["is_valid"] for case in keys["signatures"]) == 1
    for case in keys["signatures"]:
        parts = [bytes.fromhex(case[name]) for name in ("public_key", "message", "signature")]
        assert verify(parts[0], parts[1], parts[2]) is case["is_valid"]
    assert sum(case["is_sound"] for case in keys["public_keys"]) == 1
    for case in keys["public_keys"]:
        candidate = PublicKey(bytes.fromhex(case["public_key"]))
        if case["is_sound"]:
            check_public_key(candidate)
            assert format_address(parse_address(keys["addresses"][0]["text"]))
            continue
        with pytest.raises(WeakPublicKey):
            check_public_key(candidate)


# --- Governance ---------------------------------------------------------------------------------


def test_operations_of_governance_written_byte_by_byte_are_the_same() -> None:
    """An encoder that knows only the document makes the same changes, readiness and evidence."""
    stored = load("encodings")
    network = bytes.fromhex(stored["readiness"]["chain_id"])
    joining, rotated = validator("com-9"), validator("com-9", 1)
    keys = (joining.consensus_key, joining.node_key)
    member = independent.validator("com-9", "com-9", 2, keys)
    seed = sha256(b"test key com-9 consensus 0")
    expires = GENESIS_TIME_MS + 20_000
    changes = [
        independent.add_validator(member),
        independent.remove_validator(joining.consensus_key),
        independent.rotate_key(joining.consensus_key, (rotated.consensus_key, rotated.node_key)),
        independent.set_powers("bank", 7, (1, 3)),
        independent.set_parameters((4096, 1024 * 1024, 64 * 1024, 600_000, 5_000, 60_000, 20_000)),
        independent.activate_feature("holds", 70_000),
    ]
    proposals = [independent.propose_change(change).hex() for change in changes]
    assert proposals == [case["encoded"] for case in stored["changes"]]
    message = independent.readiness_preimage(network, member, expires)
    assert message.hex() == stored["readiness"]["preimage"]
    place, signature = (0, 1, 300), bytes(range(64))
    first = independent.vote(2, place, (0, bytes(32)), 2, signature)
    second = independent.vote(3, place, (299, network), 2, signature)
    written = [
        proposals[0],
        independent.vote_change(128, approve=False).hex(),
        independent.prove_readiness(network, member, expires, seed).hex(),
        independent.report_evidence(first, second).hex(),
    ]
    assert [case["encoded"] for case in stored["operations"][-4:]] == written


def test_an_epoch_can_be_followed_by_hashes_alone() -> None:
    """The set in a boundary block's body, hashed by the second implementation, is the header's."""
    document = load("governance")
    network = bytes.fromhex(document["chain_id"])
    boundaries = 0
    for case in document["blocks"]:
        header, certificate, wires, members = msgpack.unpackb(bytes.fromhex(case["block"]))
        encoded = msgpack.packb(header)
        preimage = independent.tag("MBI-HEAD-v1") + network + encoded
        assert independent.sha256(preimage).hex() == case["block_hash"]
        written = {
            member[3]: independent.validator(member[0], member[1], member[2], member[3:])
            for member in members
        }
        ascending = [written[key] for key in sorted(written)]
        assert independent.block(encoded, certificate, wires, ascending).hex() == case["block"]
        next_set_hash = header[16]
        if not members:
            assert next_set_hash == bytes(32)
            continue
        boundaries += 1
        assert independent.validator_set_hash(written) == next_set_hash
        assert (header[9], header[10], header[8]) == (0, 0, independent.dense_root([]))
    assert boundaries == 2


def test_the_blocks_of_governance_execute_to_the_same_roots() -> None:
    document = load("governance")
    chain = Electorate(parse_genesis(json.dumps(document["genesis"]).encode()))
    for case in document["blocks"]:
        block = StrictDecoder(Block, 100_000).decode(bytes.fromhex(case["block"]))
        members = block.next_validators or None
        execution = BlockExecution(chain.state, block.header, case["signers"], members)
        for wire in block.transactions:
            execution.apply(decode_transaction(chain.chain_id, wire))
        outcome = execution.finish()
        chain.reader.write(outcome)
        chain.state.stored(outcome.height)
        assert outcome.state_root.hex() == case["state_root"]
        assert [encode(receipt).hex() for receipt in outcome.receipts] == case["receipts"]
