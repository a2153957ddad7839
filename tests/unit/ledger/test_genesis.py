"""Genesis files: read strictly, refused with the path of what is wrong."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from ledger.address import format_address
from ledger.block import block_hash
from ledger.encoding import encode
from ledger.errors import GenesisError
from ledger.genesis import (
    GENESIS_DECODER,
    chain_id,
    genesis_block,
    genesis_json,
    genesis_records,
    genesis_state,
    parse_genesis,
)
from ledger.records import (
    PRESENCE_KEY,
    VALIDATORS_KEY,
    EpochRecord,
    Presence,
    ValidatorsRecord,
    epoch_key,
)
from ledger.transition import execute_genesis
from ledger.types import ZERO_DIGEST, Epoch, Height
from ledger.validators import ValidatorSet
from tests.unit.ledger.builders import GENESIS_TIME_MS, address, make_genesis, make_key

GENESIS = make_genesis()
DOCUMENT = json.loads(genesis_json(GENESIS))
ALICE = format_address(address("alice"))
IDENTITY_KEY = "01" + "00" * 31


def changed(path: str, value: object) -> bytes:
    """Return the genesis file with one value replaced; a path is like ``accounts.0.keys``."""
    document = copy.deepcopy(DOCUMENT)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    target: Any = document  # JSON
    for part in parents:
        target = target[part]
    target[last] = value
    return json.dumps(document).encode()


def test_a_file_is_read_back_to_the_same_genesis() -> None:
    assert parse_genesis(genesis_json(GENESIS)) == GENESIS
    assert GENESIS_DECODER.decode(encode(GENESIS)) == GENESIS


def test_the_chain_id_does_not_depend_on_how_the_file_is_laid_out() -> None:
    compact = json.dumps(DOCUMENT, sort_keys=True, separators=(",", ":")).encode()
    assert chain_id(parse_genesis(compact)) == chain_id(GENESIS)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("network", "other"),
        ("time_ms", GENESIS_TIME_MS + 1),
        ("dev", False),
        ("parameters.block_transactions_max", 1),
        ("organisations.0.weight", 7),
        ("balances.0.amount", "1001"),
        ("validators.0.name", "x"),
        ("faucet", ALICE),
    ],
)
def test_every_part_of_a_genesis_is_in_its_chain_id(path: str, value: object) -> None:
    """T4: networks that differ anywhere share no signed bytes."""
    assert chain_id(parse_genesis(changed(path, value))) != chain_id(GENESIS)


KEYS = [{"public_key": IDENTITY_KEY, "weight": 1}]


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("accounts.0.keys", KEYS, "$.accounts[0].keys: "),
        ("validators.1.consensus_key", IDENTITY_KEY, "$.validators[1].consensus_key: "),
        ("validators.0.node_key", "ff" * 32, "$.validators[0].node_key: "),
        (
            "validators.0.node_key",
            "ff" * 31,
            "$.validators[0].node_key: expected 64 lower-case hex",
        ),
        ("network", "a\u202eb", "$.network: character U+202E"),
        ("network", 5, "$.network: expected text"),
        ("time_ms", 0, "$.time_ms: expected an integer from 1"),
        ("time_ms", True, "$.time_ms: expected an integer"),
        ("time_ms", 1.5, "$: expected integers only"),
        ("dev", 1, "$.dev: expected true or false"),
        ("version", 2, "$.version: expected an integer from 1 to 1, got 2"),
        ("balances.0.amount", 1000, "$.balances[0].amount: expected a decimal string"),
        ("balances.0.amount", "0", "$.balances[0].amount: expected a decimal string from 1"),
        ("balances.0.account", ALICE.upper(), "$.balances[0].account: "),
        (
            "balances.0.account",
            format_address(address("x")),
            "$.balances[0].account: expected an acc",
        ),
        ("balances.1.account", ALICE, "$.balances[1]: expected each account and asset once"),
        ("balances.0.amount", str(2**63 - 1), "$.balances[1].amount: supply of bank/MYR exceeds"),
        ("balances.0.asset", "bank/USD", "$.balances[0].asset: expected an asset"),
        (
            "organisations.0.kind",
            "royal",
            "$.organisations[0].kind: expected one of government, comm",
        ),
        (
            "organisations.0.admin",
            ALICE,
            "$.organisations[0].admin: expected an account of organis",
        ),
        ("organisations.0.id", "Regulator", "$.organisations[0].id: expected an organisation id"),
        ("organisations.0.id", "bank", "$.organisations[1]: expected each id once, got bank again"),
        (
            "organisations.1.licences",
            ["deposit", "e_money"],
            "$.organisations[1].licences: expected",
        ),
        (
            "organisations.1.licences",
            [],
            "$.assets[0].asset_class: bank has no licence for e_money",
        ),
        (
            "organisations.1.weight",
            0,
            "$.organisations[1].weight: expected an integer from 1 to 1000",
        ),
        ("accounts.0.transfer_threshold", 2, "$.accounts[0].keys: keys weigh 1"),
        ("accounts.1.organisation", "none", "$.accounts[1].organisation: expected an organisation"),
        ("validators.0.chamber", "commercial", "$.validators[0].chamber: expected government"),
        (
            "validators.0.organisation",
            "none",
            "$.validators[0].organisation: expected an organisat",
        ),
        ("validators.1.name", "regulator-1", "$.validators[1]: expected each name once"),
        ("validators", [], "$.validators: expected a list of 1 to 128"),
        ("assets.0.id", "bank/myr", "$.assets[0].id: expected an asset id"),
        ("assets.0.id", "none/MYR", "$.assets[0].id: expected an organisation before the slash"),
        (
            "assets.0.issuer",
            format_address(address("regulator")),
            "$.assets[0].issuer: expected an",
        ),
        ("assets.0.policy.day_max", "-1", "$.assets[0].policy.day_max: expected a decimal string"),
        ("assets.0.color", "red", "$.assets[0].color: unknown field; allowed: id, name"),
        ("faucet", format_address(address("x")), "$.faucet: expected an account"),
        (
            "parameters.block_bytes_max",
            2**40,
            "$.parameters.block_bytes_max: expected an integer fr",
        ),
        ("parameters", None, "$.parameters: expected an object with block_transactions_max"),
        ("hello", 1, "$.hello: unknown field"),
    ],
)
def test_a_wrong_genesis_names_the_place_and_what_is_allowed(
    path: str, value: object, expected: str
) -> None:
    """T1 for weak keys; for the rest: the first problem, by its path."""
    with pytest.raises(GenesisError) as refusal:
        parse_genesis(changed(path, value))
    assert str(refusal.value).startswith(expected), str(refusal.value)
    assert refusal.value.code == "invalid_genesis"


def test_one_key_serves_one_purpose() -> None:
    key = make_key("bank consensus").public_key.hex()
    with pytest.raises(GenesisError, match="each consensus and node key once"):
        parse_genesis(changed("validators.0.node_key", key))


def test_a_faucet_belongs_to_development_networks() -> None:
    document = copy.deepcopy(DOCUMENT)
    document |= {"dev": False, "faucet": ALICE}
    with pytest.raises(GenesisError, match=r"\$\.faucet: expected null"):
        parse_genesis(json.dumps(document).encode())


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"null", b"{", b"\xff\xfe", b"\xef\xbb\xbf{}", b'{"a":1,"a":2}', b"[" * 10**5],
)
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    """T17's kinds, at the genesis file."""
    with pytest.raises(GenesisError):
        parse_genesis(data)


def test_the_genesis_block_carries_the_first_state() -> None:
    header = genesis_block(GENESIS)
    outcome = execute_genesis(GENESIS)
    assert (header.height, header.view, header.epoch, header.executed_height) == (0, 0, 0, 0)
    assert header.time_ms == GENESIS_TIME_MS
    assert header.state_root == outcome.state_root
    assert header.parent_hash == header.transactions_root == header.history_root == ZERO_DIGEST
    assert block_hash(chain_id(GENESIS), header) != block_hash(ZERO_DIGEST, header)
    state = genesis_state(GENESIS)
    assert state == sorted(state)
    written = [(key, record.value) for key, record in outcome.state_writes[1:]]
    assert written == state


# --- The council and the validators of epoch 0 ----------------------------------------------------


def member(name: str, chamber: str = "government") -> dict[str, str]:
    public_key = make_key(f"council {name}").public_key.hex()
    return {"name": name, "chamber": chamber, "public_key": public_key}


def council(threshold: int, *members: dict[str, str]) -> dict[str, object]:
    return {"threshold": threshold, "members": list(members)}


JUDGE, BANKER = member("judge"), member("banker", "commercial")


def test_a_council_is_part_of_the_network() -> None:
    genesis = parse_genesis(changed("council", council(2, JUDGE, BANKER)))
    assert genesis.council is not None
    assert [item.name for item in genesis.council.members] == ["judge", "banker"]
    assert chain_id(genesis) != chain_id(GENESIS)
    assert parse_genesis(genesis_json(genesis)) == genesis


VALIDATOR_KEY = make_key("bank consensus").public_key.hex()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (council(0, JUDGE, BANKER), "$.council.threshold: expected an integer from 1"),
        (council(3, JUDGE, BANKER), "$.council.threshold: expected at most 2"),
        (council(1, JUDGE), "$.council.members: expected a member appointed by the commercial"),
        (council(1, BANKER), "$.council.members: expected a member appointed by the government"),
        (council(1, JUDGE, BANKER, JUDGE), "$.council.members[2]: expected each name once"),
        (
            council(1, JUDGE, {**BANKER, "public_key": JUDGE["public_key"]}),
            "$.council.members[1]: expected each public key once",
        ),
        (
            council(1, JUDGE, {**BANKER, "public_key": VALIDATOR_KEY}),
            "$.council.members[1].public_key: expected no key of a validator",
        ),
        (
            council(1, JUDGE, {**BANKER, "public_key": IDENTITY_KEY}),
            "$.council.members[1].public_key: ",
        ),
        (council(1), "$.council.members: expected a list of 1 to 32"),
    ],
)
def test_a_council_must_be_able_to_decide_for_both_chambers(value: object, expected: str) -> None:
    """T1: and none of its keys may lie on a machine that votes."""
    with pytest.raises(GenesisError) as refused:
        parse_genesis(changed("council", value))
    assert str(refused.value).startswith(expected)


def test_the_first_state_knows_the_validators_of_epoch_0() -> None:
    records = genesis_records(GENESIS)
    members = ValidatorSet(GENESIS.validators).members
    validators = records[VALIDATORS_KEY]
    assert isinstance(validators, ValidatorsRecord)
    assert validators.members == validators.scheduled == members
    assert validators.scheduled_parameters == GENESIS.parameters
    epoch = records[epoch_key(Epoch(0))]
    assert isinstance(epoch, EpochRecord)
    assert (epoch.members, epoch.opened_height, epoch.closed_height) == (members, 0, 0)
    assert records[PRESENCE_KEY] == Presence((Height(0),) * len(members))
