"""The wallet: what it signs is what every node accepts, and it keeps its secrets."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from ledger.address import address_of, format_address
from ledger.crypto import SigningKey, verify_many
from ledger.errors import LedgerError
from ledger.genesis import DEFAULT_PARAMETERS
from ledger.json import operation_to_json, to_json
from ledger.operations import SPEC_BY_NAME
from ledger.transaction import decode_transaction
from ledger.types import Digest
from mbi.drafts import Draft, field_kind, field_types, operation_fields, parse_file
from mbi.errors import UsageError
from mbi.keyfiles import KeyFileMissing
from mbi.keystore import KeyStore
from mbi.wallet import Wallet, add_signatures, operation

CHAIN = Digest(b"\x11" * 32)
ALICE, BOB = SigningKey.from_seed(b"a" * 32), SigningKey.from_seed(b"b" * 32)
ADDRESS = format_address(address_of(BOB.public_key))
KEYS = [{"public_key": BOB.public_key.hex(), "weight": 1}]
JOINING = {
    "name": "gov-3",
    "organisation": "treasury",
    "chamber": "government",
    "consensus_key": ALICE.public_key.hex(),
    "node_key": BOB.public_key.hex(),
}
VOTE = {
    "kind": "notarize",
    "era": 0,
    "epoch": 1,
    "view": 8,
    "voter": 2,
    "signature": "ab" * 64,
    "value": {"parent_view": 7, "block_hash": "01" * 32},
}

EXAMPLES: dict[str, dict[str, str]] = {
    "register_account": {
        "organisation": "issuer",
        "keys": json.dumps(KEYS),
        "transfer_threshold": "1",
        "admin_threshold": "1",
    },
    "set_keys": {"keys": json.dumps(KEYS), "transfer_threshold": "1", "admin_threshold": "1"},
    "set_status": {"account": ADDRESS, "status": "suspended"},
    "create_asset": {
        "asset": "issuer/ABC",
        "name": "A name",
        "asset_class": "voucher",
        "decimals": "2",
        "issuer": ADDRESS,
        "policy": json.dumps(
            {
                "holder_authorisation": False,
                "transfer_max": None,
                "day_max": "10",
                "memo_required": False,
            }
        ),
    },
    "mint": {"asset": "issuer/ABC", "to": ADDRESS, "amount": "5"},
    "burn": {"asset": "issuer/ABC", "amount": "5"},
    "transfer": {"asset": "issuer/ABC", "to": ADDRESS, "amount": "5"},
    "authorise_holder": {"asset": "issuer/ABC", "holder": ADDRESS, "is_authorised": "yes"},
    "propose_change": {"change": json.dumps({"type": "add_validator", "validator": JOINING})},
    "vote_change": {"proposal": "7", "approve": "no"},
    "prove_readiness": {
        "validator": json.dumps(JOINING),
        "expires_ms": "1735689600000",
        "signature": "cd" * 64,
    },
    "report_evidence": {"first": json.dumps(VOTE), "second": json.dumps(VOTE | {"view": 9})},
}
"""Fields of each operation as one types them on the command line."""


def built(name: str) -> Any:
    return operation(name, operation_fields(name, EXAMPLES[name]))


@pytest.mark.parametrize("name", sorted(SPEC_BY_NAME))
def test_every_operation_of_the_registry_can_be_typed_and_signed(name: str) -> None:
    signed = Wallet(CHAIN, [ALICE]).sign([built(name)])
    decoded = decode_transaction(CHAIN, signed.wire)
    assert decoded.transaction.operations == (built(name),)
    assert decoded.id.hex() == signed.id


@pytest.mark.parametrize(
    "change",
    [
        {"type": "add_validator", "validator": JOINING},
        {"type": "remove_validator", "consensus_key": ALICE.public_key.hex()},
        {
            "type": "rotate_key",
            "consensus_key": ALICE.public_key.hex(),
            "new_consensus_key": BOB.public_key.hex(),
            "new_node_key": SigningKey.from_seed(b"c" * 32).public_key.hex(),
        },
        {"type": "set_powers", "organisation": "bank", "weight": 5, "licences": ["deposit"]},
        {"type": "set_parameters", "parameters": to_json(DEFAULT_PARAMETERS)},
        {"type": "activate_feature", "name": "settlement-2", "height": 9},
    ],
    ids=lambda change: str(change["type"]),
)
def test_every_change_can_be_typed_and_signed(change: dict[str, Any]) -> None:
    fields = operation_fields("propose_change", {"change": json.dumps(change)})
    typed = operation("propose_change", fields)
    decoded = decode_transaction(CHAIN, Wallet(CHAIN, [ALICE]).sign([typed]).wire)
    assert decoded.transaction.operations == (typed,)
    assert operation_to_json(typed)["change"] == change


def test_signature_covers_chain_and_body() -> None:
    decoded = decode_transaction(CHAIN, Wallet(CHAIN, [ALICE]).transfer("a/B", ADDRESS, 5).wire)
    assert all(verify_many(decoded.signature_items()))
    other = decode_transaction(Digest(b"\x22" * 32), decoded.wire)
    assert not any(verify_many(other.signature_items()))


def test_sender_is_the_account_of_the_first_key() -> None:
    wallet = Wallet(CHAIN, [ALICE, BOB])
    decoded = decode_transaction(CHAIN, wallet.sign([built("burn")]).wire)
    assert decoded.transaction.sender == address_of(ALICE.public_key)
    assert len(decoded.transaction.signatures) == 2


def test_nonces_are_drawn_anew_each_time() -> None:
    """K4: 64 bits from the operating system, so that two wallets of one account do not collide."""
    wallet = Wallet(CHAIN, [ALICE])
    wires = [wallet.sign([built("burn")]).wire for _ in range(64)]
    nonces = [decode_transaction(CHAIN, wire).transaction.nonce for wire in wires]
    assert len(set(nonces)) == 64
    assert max(nonces) > 2**60


def test_validity_ends_within_the_protocols_window() -> None:
    signed = Wallet(CHAIN, [ALICE]).sign([built("burn")], valid_for_s=60)
    assert 0 < signed.valid_until - time.time_ns() // 1_000_000 <= 60_000


@pytest.mark.parametrize("nonce", [-1, 2**64])
def test_nonce_out_of_range_is_refused(nonce: int) -> None:
    with pytest.raises(UsageError, match="nonce must be from 0"):
        Wallet(CHAIN, [ALICE]).sign([built("burn")], nonce=nonce)


def test_signers_add_signatures_one_after_the_other() -> None:
    signed = Wallet(CHAIN, [ALICE]).sign([built("burn")])
    both = decode_transaction(CHAIN, add_signatures(CHAIN, signed.wire, [BOB]))
    assert both.id.hex() == signed.id
    assert all(verify_many(both.signature_items()))
    assert len(both.transaction.signatures) == 2
    assert add_signatures(CHAIN, both.wire, [ALICE]) == both.wire


def test_wallet_shows_no_key() -> None:
    """K1: representation and attributes that print show addresses only."""
    shown = repr(Wallet(CHAIN, [ALICE])) + str(vars(Wallet(CHAIN, [ALICE])))
    assert (b"a" * 32).hex() not in shown
    assert repr(b"a" * 32) not in shown


def test_a_wallet_without_keys_is_a_mistake() -> None:
    with pytest.raises(UsageError):
        Wallet(CHAIN, [])


@pytest.mark.parametrize(
    ("name", "fields", "reason"),
    [
        ("transfr", {}, "no operation 'transfr'; there are: register_account"),
        ("transfer", {"too": ADDRESS}, "transfer has no field 'too'; its fields: source, to"),
    ],
)
def test_unknown_names_list_the_known_ones(name: str, fields: dict[str, str], reason: str) -> None:
    with pytest.raises(UsageError, match=re.escape(reason)):
        operation_fields(name, fields)


@pytest.mark.parametrize(
    "changed",
    [
        {"amount": "0"},
        {"amount": "-5"},
        {"amount": "1.5"},
        {"amount": str(2**63)},
        {"to": "mbi1nonsense"},
    ],
)
def test_wrong_values_are_refused_before_signing(changed: dict[str, str]) -> None:
    with pytest.raises(LedgerError):
        operation("transfer", operation_fields("transfer", EXAMPLES["transfer"] | changed))


def test_kinds_of_fields_are_said_in_words() -> None:
    kinds = {name: field_kind(kind) for name, kind in field_types("register_account").items()}
    assert kinds["source"] == "text, optional"
    assert kinds["keys"] == "JSON"
    assert kinds["transfer_threshold"] == "integer"
    assert field_kind(field_types("transfer")["amount"]) == "amount"


def test_draft_file_is_read() -> None:
    content = {
        "operations": [{"type": "transfer", "source": None, **EXAMPLES["transfer"]}],
        "memo": "rent",
        "sender": ADDRESS,
    }
    draft = parse_file(json.dumps(content).encode(), "f")
    assert draft == Draft((built("transfer"),), "rent", address_of(BOB.public_key))


def test_signed_file_is_read() -> None:
    assert parse_file(b'{"tx": "9701"}', "f") == b"\x97\x01"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"operations": []}',
        b'{"operations": [1]}',
        b'{"operations": [{"type": "x"}]}',
        b'{"operations": [{"type": "burn"}], "extra": 1}',
        b'{"tx": 5}',
        b'{"tx": "zz"}',
        b'{"tx": "00", "operations": []}',
        b'{"tx": "00", "tx": "01"}',
        b"\xff\xfe",
    ],
)
def test_wrong_files_are_refused_with_their_name(content: bytes) -> None:
    with pytest.raises(UsageError, match=r"draft\.json: "):
        parse_file(content, "draft.json")


def test_key_store_finds_keys_by_name_and_lists_them_otherwise(tmp_path: Path) -> None:
    store = KeyStore(tmp_path, lambda _: b"unused")
    store.add("alice", b"a" * 32, None)
    assert store.open("alice").public_key == ALICE.public_key
    assert store.open(str(tmp_path / "alice.pem")).public_key == ALICE.public_key
    with pytest.raises(KeyFileMissing, match=r"keys in .*: alice"):
        store.open("bob")


@pytest.mark.parametrize("name", ["", "-x", "a b", "é", "x" * 65])
def test_key_names_are_plain(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="key name"):
        KeyStore(tmp_path, lambda _: b"").path(name)
