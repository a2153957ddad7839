"""The human form of values: one text each, and nothing else is read."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.address import format_address
from ledger.errors import InvalidField, LedgerError, TooLarge
from ledger.json import (
    event_json,
    load_json,
    operation_from_json,
    operation_to_json,
    parse_decimal,
    receipt_json,
    transaction_to_json,
)
from ledger.operations import CreateAsset, SetKeys, Transfer
from ledger.records import AssetClass
from ledger.types import AMOUNT_MAX, UINT64_MAX, Amount
from tests.unit.ledger.builders import MYR, OPEN_POLICY, Chain, address, key_weight

TRANSFER = {
    "type": "transfer",
    "source": None,
    "to": format_address(address("bob")),
    "asset": MYR,
    "amount": "9007199254740993",
}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "+1",
        "01",
        "00",
        "1.0",
        "1e3",
        "1e400",
        "NaN",
        "Infinity",
        "1_000",
        " 12 ",
        "12\n",
        "１２",  # full width
        "1２",
        "٣",  # Arabic-Indic
        "0x10",
        "²",
        str(UINT64_MAX + 1),
        "9" * 4_301,
        "9" * 10**6,
        12,
        12.0,
        True,
        None,
        ["1"],
    ],
    ids=lambda text: ascii(text)[:20],
)
def test_decimal_strings_have_one_form(text: object) -> None:
    """T16, R6: checked by length and by an ASCII pattern before any conversion."""
    started = time.thread_time()
    with pytest.raises(InvalidField) as refusal:
        parse_decimal(text, "$.amount")
    assert time.thread_time() - started < 0.01
    assert len(str(refusal.value)) < 200
    assert refusal.value.code == "invalid_field"


@given(st.integers(0, UINT64_MAX))
def test_every_number_in_range_is_read_exactly(number: int) -> None:
    """T16: also those above 2^53."""
    assert parse_decimal(str(number), "$") == number


@given(st.text(alphabet="0123456789eE+-._ ٣１", max_size=25))
def test_no_other_text_is_taken_for_a_number(text: str) -> None:
    """T16."""
    try:
        number = parse_decimal(text, "$")
    except InvalidField:
        return
    assert str(number) == text


@pytest.mark.parametrize(
    ("text", "allowed"), [("0", False), ("1", True), ("9223372036854775808", False)]
)
def test_amounts_keep_their_range_in_json(text: str, allowed: bool) -> None:
    document = {**TRANSFER, "amount": text}
    if allowed:
        operation_from_json(document)
        return
    with pytest.raises(InvalidField, match=f"from 1 to {AMOUNT_MAX}"):
        operation_from_json(document)


def test_an_operation_is_read_and_written_alike() -> None:
    operation = operation_from_json(TRANSFER)
    assert operation == Transfer(None, address("bob"), MYR, Amount(2**53 + 1))
    assert operation_to_json(operation) == TRANSFER
    del (without_source := dict(TRANSFER))["source"]
    assert operation_from_json(without_source) == operation


@pytest.mark.parametrize(
    "operation",
    [
        CreateAsset(None, MYR, "x", AssetClass.E_MONEY, 2, address("bob"), OPEN_POLICY),
        SetKeys(address("alice"), (key_weight("a", 3), key_weight("b")), 4, 1),
    ],
)
def test_nested_operations_survive_json(operation: CreateAsset | SetKeys) -> None:
    text = json.dumps(operation_to_json(operation))
    assert operation_from_json(json.loads(text)) == operation


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "teleport"}, "$.type: expected one of register_account, "),
        ({"type": ["transfer"]}, "$.type: expected one of"),
        ({"extra": 1}, "$.extra: unknown field; allowed: source, to, asset, amount"),
        ({"to": None}, "$.to: expected an address"),
        ({"to": "mbi1"}, "$.to: expected 42 characters"),
        ({"to": ["x"] * 10**5}, "$.to: expected an address mbi1..., got list"),
        ({"asset": "x" * 46}, "$.asset: expected text of 1 to 45 characters"),
        ({"amount": 5}, "$.amount: expected a decimal string"),
        (
            {"amount": 10**4_000},
            "$.amount: expected a decimal string from 1 to 9223372036854775807, got int",
        ),
        ({"source": 5}, "$.source: expected an address"),
    ],
)
def test_a_wrong_field_is_named_with_what_is_allowed(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidField) as refusal:
        operation_from_json({**TRANSFER, **change})
    assert str(refusal.value).startswith(message), str(refusal.value)
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"NaN",
        b"[Infinity]",
        b"[-Infinity]",
        b"[1e400]",
        b"[1.0]",
        b"[-0.0]",
        b'{"a":1,"a":1}',
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b'"\xff"',
        b"[" * 10**5,
        b'{"a":' * 10**5,
        b"[" + b"9" * 4_301 + b"]",
        b"[" + b"9" * 10**6 + b"]",
        b"'a'",
        b"{} {}",
    ],
    ids=lambda data: ascii(data)[:24],
)
def test_ambiguous_or_hostile_json_is_refused(data: bytes) -> None:
    """T16, T17, R6: whatever two readers might understand differently."""
    with pytest.raises(InvalidField):
        load_json(data, 2 * 10**6)


def test_json_is_bounded_before_it_is_read() -> None:
    with pytest.raises(TooLarge):
        load_json(b" " * 101, 100)
    assert load_json(b'{"a": [1, "x", null, true]}', 100) == {"a": [1, "x", None, True]}


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=10))
def test_no_value_breaks_the_reader(value: object) -> None:
    with pytest.raises(LedgerError):
        operation_from_json({**TRANSFER, "to": value})


def test_transactions_receipts_and_events_have_a_json_form() -> None:
    chain = Chain()
    decoded = chain.transaction(
        "alice", Transfer(None, address("bob"), MYR, Amount(5)), nonce=UINT64_MAX, memo="hi"
    )
    document = json.loads(json.dumps(transaction_to_json(decoded)))
    assert document["id"] == decoded.id.hex()
    assert document["wire_hash"] == decoded.wire_hash.hex()
    assert document["nonce"] == str(UINT64_MAX)
    assert document["operations"][0]["type"] == "transfer"
    assert operation_from_json(document["operations"][0]) == decoded.transaction.operations[0]
    receipt = chain.execute(decoded).receipts[0]
    shown = json.loads(json.dumps(receipt_json(receipt)))
    assert shown["status"] == "ok"
    assert shown["operation_index"] == -1
    assert shown["events"] == [event_json(receipt.events[0])]
    assert shown["events"][0] == {
        "type": "transferred",
        "asset": MYR,
        "source": format_address(address("alice")),
        "to": format_address(address("bob")),
        "amount": "5",
    }
