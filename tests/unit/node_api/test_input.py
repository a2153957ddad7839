"""Hostile text and JSON at the endpoints: one accepted form for each kind of value."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.address import format_address
from ledger.types import AMOUNT_MAX
from node.api.parameters import InvalidText, parse_digest, parse_hex, parse_integer
from tests.unit.node_api.conftest import Api
from tests.unit.node_api.fakes import ALICE_ADDRESS, ASSET, BOB_ADDRESS
from tests.unit.node_api.test_problems import assert_problem

JSON = {"Content-Type": "application/json"}
POSTS = ["/v1/transactions", "/v1/transactions/batch", "/v1/transactions/simulate", "/dev/faucet"]
STRANGE_NUMBERS = [
    "-1", "+1", "01", "1_000", " 12", "12 ", "1.0", "1e3", "0x10", "１２", "²", "NaN",
    "Infinity", str(AMOUNT_MAX + 1), str(2**64), "9" * 4301, "", "\x00", "true", "1\n",
]  # fmt: skip


async def test_strange_height_is_refused(api: Api) -> None:
    """T16: `int()` would take half of these."""
    for text in STRANGE_NUMBERS:
        quoted = quote(text, safe="")
        for path in (f"/v1/blocks/{quoted}", f"/v1/blocks/{quoted}/ids"):
            answer = await api.get(path)
            assert answer.status in (400, 404), text
            assert answer.json["code"] in ("invalid_parameter", "not_found", "bad_request")


@pytest.mark.parametrize("text", STRANGE_NUMBERS)
def test_strange_integer_is_refused(text: str) -> None:
    """T16: only plain ASCII digits without leading zeros, below 2^63."""
    with pytest.raises(InvalidText):
        parse_integer(text)


@given(st.integers(min_value=0, max_value=AMOUNT_MAX))
def test_every_plain_integer_is_read(value: int) -> None:
    assert parse_integer(str(value)) == value


async def test_amount_above_2_53_survives_json(api: Api) -> None:
    """T16: a JavaScript client reads 2^53 + 1 and gets exactly that."""
    answer = await api.get(f"/v1/accounts/{format_address(ALICE_ADDRESS)}")
    assert answer.json["balances"][0]["amount"] == str(2**53 + 1)
    assert b'"9007199254740993"' in answer.body


async def test_strange_amount_is_refused(api: Api) -> None:
    """T16: amounts are decimal strings in one form."""
    for amount in (*STRANGE_NUMBERS, "0", 1, 1.5, None, True, ["1"]):
        body = {"address": format_address(BOB_ADDRESS), "amount": amount, "asset": ASSET}
        assert_problem(await api.post("/dev/faucet", json=body), 400, "invalid_body")
    assert not api.node.pending


HOSTILE_JSON = [
    b"",
    b"{",
    b"[" * 100_000,
    b'{"tx":' * 100_000,
    b"[" * 100_000 + b"]" * 100_000,
    b'{"tx":"00","tx":"00"}',
    b'{"tx":"00"}{"tx":"00"}',
    b'{"tx":"00","extra":1}',
    b'{"tx":1e400}',
    b'{"tx":NaN}',
    b'{"tx":Infinity}',
    b'{"tx":' + b"9" * 4301 + b"}",
    b'{"tx":9007199254740993.0}',
    b'{"tx":"' + b"0" * 1_000_000,
    b'{"tx":"\xff"}',
    b'{"tx":"\\ud800"}',
    b'\xef\xbb\xbf{"tx":"00"}',
    '{"tx":"00"}'.encode("utf-16"),
    b"null",
    b"true",
    b"0",
    b'"00"x',
    b"{'tx':'00'}",
    b'{"tx":"00"}\x00',
]


@pytest.mark.parametrize("path", POSTS)
async def test_hostile_json_is_refused(api: Api, path: str) -> None:
    """T17: a 4xx for every document that is not exactly the expected one."""
    for body in HOSTILE_JSON:
        answer = await api.post(path, data=body, headers=JSON)
        shown = body[:40]
        assert answer.json is not None, shown
        if answer.status == 200:  # a batch is answered for each item
            assert path.endswith("batch"), shown
            assert {item["status"] for item in answer.json["items"]} == {"rejected"}, shown
        else:
            assert 400 <= answer.status < 500, shown
            assert answer.json["code"], shown
    assert not api.node.pending


async def test_document_with_two_meanings_is_refused(api: Api) -> None:
    """T17: of two equal keys one reader takes the first, another the last."""
    wires = [api.node.transfer().hex().encode() for _ in range(2)]
    body = b'{"tx":"%b","tx":"%b"}' % tuple(wires)
    answer = await api.post("/v1/transactions", data=body, headers=JSON)
    assert_problem(answer, 400, "invalid_body")
    answer = await api.post("/v1/transactions/batch", data=b"[%b]" % body, headers=JSON)
    assert_problem(answer, 400, "invalid_body")
    assert not api.node.pending


@pytest.mark.parametrize("path", POSTS)
async def test_other_media_type_is_refused(api: Api, path: str) -> None:
    for kind in ("text/plain", "application/xml", "multipart/form-data", None):
        headers = {"Content-Type": kind} if kind else {}
        answer = await api.post(path, data=b'{"tx":"00"}', headers=headers)
        assert_problem(answer, 415, "unsupported_media_type")


STRANGE_HEX = [
    "", "0", "0g", "0x00", "00 00", " 00", "00 ", "0A", "aB" * 32, "A" * 64, "a" * 63, "a" * 65,
    "é" * 64, "０" * 64, "a" * 64 + "\n",
]  # fmt: skip


async def test_strange_digest_is_refused(api: Api) -> None:
    """T18: lower-case hex of exactly the right length, or nothing."""
    for text in STRANGE_HEX:
        with pytest.raises(InvalidText):
            parse_digest(text)
        if text:
            answer = await api.get(f"/v1/transactions/{quote(text, safe='')}")
            assert answer.status == 400, text


@pytest.mark.parametrize("text", ["", "0", "0A", "00 00", " 00", "0x00", "zz", "00\n"])
def test_strange_hex_is_refused(text: str) -> None:
    """T18: `bytes.fromhex` accepts spaces and capitals; this does not."""
    with pytest.raises(InvalidText):
        parse_hex(text)


@given(st.binary(min_size=1, max_size=64))
def test_every_byte_string_has_one_hex_form(data: bytes) -> None:
    assert parse_hex(data.hex()) == data


@pytest.mark.parametrize(
    "change",
    [str.upper, lambda text: text[:-1], lambda text: text + "q", lambda text: " " + text,
     lambda text: text[:-1] + ("q" if text[-1] != "q" else "p"), lambda text: "x" + text[1:]],
)  # fmt: skip
async def test_strange_address_is_refused(api: Api, change: object) -> None:
    """T18: one text form for each address."""
    text = change(format_address(ALICE_ADDRESS))  # type: ignore[operator]
    answer = await api.get(f"/v1/accounts/{quote(text, safe='')}")
    assert_problem(answer, 400, "invalid_parameter")


@pytest.mark.parametrize("key", ["", "0G", "AB", "ab" * 256])
async def test_strange_state_key_is_refused(api: Api, key: str) -> None:
    answer = await api.get(f"/v1/state/{key}/proof")
    assert answer.status in (400, 404)
    assert answer.json["code"] in ("invalid_parameter", "not_found")


@pytest.mark.parametrize(
    "text", ["<script>", "\x00", "é", "' OR 1=1", "../..", "a" * 128, "%", "🂡"]
)
async def test_search_takes_any_text(api: Api, text: str) -> None:
    answer = await api.get("/v1/search", params={"q": text})
    assert (answer.status, answer.json) == (200, {"items": []})
