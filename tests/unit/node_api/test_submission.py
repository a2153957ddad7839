"""Submission of transactions: single, waiting, batch, dry run."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from ledger.crypto import sha256
from ledger.transaction import transaction_id
from node.api.limits import BATCH_TRANSACTIONS_MAX, Limits
from node.api.ports import SubmitResult
from tests.unit.node_api.conftest import Api, StartApi
from tests.unit.node_api.fakes import wire_hex
from tests.unit.node_api.test_problems import assert_problem
from tests.unit.waiting import until

MSGPACK = {"Content-Type": "application/msgpack"}


@pytest.mark.parametrize("form", ["msgpack", "json"])
async def test_new_transaction_is_202_pending(api: Api, form: str) -> None:
    wire = api.node.transfer()
    if form == "json":
        answer = await api.post("/v1/transactions", json=wire_hex(wire))
    else:
        answer = await api.post("/v1/transactions", data=wire, headers=MSGPACK)
    identifier = transaction_id(api.node.chain_id, wire).hex()
    assert answer.status == 202
    assert (answer.json["id"], answer.json["status"]) == (identifier, "pending")
    assert answer.headers["Location"] == f"/v1/transactions/{identifier}"


async def test_same_bytes_again_are_200(api: Api) -> None:
    """The id is the idempotency key."""
    wire = api.node.transfer()
    await api.post("/v1/transactions", data=wire, headers=MSGPACK)
    again = await api.post("/v1/transactions", data=wire, headers=MSGPACK)
    assert (again.status, again.json["status"]) == (200, "pending")
    await api.node.finalize()
    final = await api.post("/v1/transactions", data=wire, headers=MSGPACK)
    assert (final.status, final.json["status"], final.json["height"]) == (200, "finalized", 1)


async def test_wait_answers_200_when_final(api: Api) -> None:
    wire = api.node.transfer()
    request = asyncio.create_task(
        api.post("/v1/transactions?wait=finalized", data=wire, headers=MSGPACK)
    )
    await until(lambda: api.node.waiting == 1)
    await api.node.finalize()
    answer = await request
    assert (answer.status, answer.json["status"]) == (200, "finalized")
    assert answer.json["receipt"]["code"] == "ok"


async def test_wait_answers_200_when_final_but_failed(api: Api) -> None:
    wire = api.node.transfer(2**60)
    request = asyncio.create_task(
        api.post("/v1/transactions?wait=finalized", data=wire, headers=MSGPACK)
    )
    await until(lambda: api.node.waiting == 1)
    await api.node.finalize()
    answer = await request
    assert (answer.status, answer.json["status"]) == (200, "failed")
    assert answer.json["code"] == "insufficient_balance"


async def test_wait_that_runs_out_is_202(api: Api) -> None:
    """Never an error: the transaction is still on its way."""
    wire = api.node.transfer()
    path = "/v1/transactions?wait=finalized&timeout=0.05"
    answer = await api.post(path, data=wire, headers=MSGPACK)
    assert (answer.status, answer.json["status"]) == (202, "pending")
    known = await api.post(path, data=wire, headers=MSGPACK)
    assert known.status == 202


@pytest.mark.parametrize("timeout", ["-1", "1e3", "nan", "inf", "1.2345", ""])
async def test_strange_timeout_is_refused(api: Api, timeout: str) -> None:
    path = f"/v1/transactions?wait=finalized&timeout={timeout}"
    answer = await api.post(path, data=api.node.transfer(), headers=MSGPACK)
    assert_problem(answer, 400, "invalid_parameter")
    assert api.node.submitted == 0


async def test_waiters_are_bounded_and_the_rest_answered_at_once(start_api: StartApi) -> None:
    """A10: the place after the last is a wait that has run out."""
    api = await start_api(limits=Limits(waiters_max=2))
    path = "/v1/transactions?wait=finalized&timeout=30"
    waits = [
        asyncio.create_task(api.post(path, data=api.node.transfer(), headers=MSGPACK))
        for _ in range(2)
    ]
    await until(lambda: api.node.waiting == 2)
    third = await api.post(path, data=api.node.transfer(), headers=MSGPACK)
    assert (third.status, third.json["status"]) == (202, "pending")
    await api.node.finalize()
    assert {(await wait).status for wait in waits} == {200}
    assert api.context.waiters.taken == 0


async def test_client_that_vanishes_frees_its_place(start_api: StartApi) -> None:
    """A10: nobody waits for a client that is gone, long before the wait runs out."""
    api = await start_api(limits=Limits(waiters_max=1))
    body = api.node.transfer()
    peer = await api.connect(
        b"POST /v1/transactions?wait=finalized&timeout=30 HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Type: application/msgpack\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    await until(lambda: api.context.waiters.taken == 1)
    peer.writer.close()
    await until(lambda: api.context.waiters.taken == 0)
    assert api.node.waiting == 0


async def test_batch_has_a_result_for_each_item(api: Api) -> None:
    wires = [api.node.transfer(), b"\x90", api.node.transfer()]
    body = msgspec.msgpack.encode(wires)
    answer = await api.post("/v1/transactions/batch", data=body, headers=MSGPACK)
    assert answer.status == 200
    assert [item["status"] for item in answer.json["items"]] == ["accepted", "rejected", "accepted"]
    assert answer.json["items"][1]["code"] == "malformed_encoding"
    again = await api.post("/v1/transactions/batch", data=body, headers=MSGPACK)
    assert [item["status"] for item in again.json["items"]] == ["known", "rejected", "known"]


async def test_batch_answers_msgpack_if_asked(api: Api) -> None:
    wires = [api.node.transfer(), b"\x90"]
    headers = {**MSGPACK, "Accept": "application/msgpack"}
    answer = await api.post(
        "/v1/transactions/batch", data=msgspec.msgpack.encode(wires), headers=headers
    )
    results = msgspec.msgpack.decode(answer.body, type=list[SubmitResult])
    assert results[0].id == transaction_id(api.node.chain_id, wires[0])
    assert [result.status for result in results] == ["accepted", "rejected"]


@pytest.mark.parametrize("accept", ["application/json", "application/msgpack"])
async def test_batch_says_in_a_header_when_to_send_the_refused_again(api: Api, accept: str) -> None:
    """A client that slows down needs no look at the items."""
    body = msgspec.msgpack.encode([api.node.transfer()])
    headers = MSGPACK | {"Accept": accept}
    answer = await api.post("/v1/transactions/batch", data=body, headers=headers)
    assert "Retry-After" not in answer.headers
    api.node.refuse_with = SubmitResult(None, "rejected", "mempool_full", "full", None, 3)
    answer = await api.post("/v1/transactions/batch", data=body, headers=headers)
    assert (answer.status, answer.headers["Retry-After"]) == (200, "3")


async def test_json_batch_takes_both_forms_and_judges_items_alone(api: Api) -> None:
    wire = api.node.transfer()
    items = ["zz", wire.hex(), {"tx": wire.hex()}, {"tx": 1}, 5, wire.hex().upper()]
    answer = await api.post("/v1/transactions/batch", json=items)
    found = [item["status"] for item in answer.json["items"]]
    assert found == ["rejected", "accepted", "known", "rejected", "rejected", "rejected"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc0",
        b"\x90",
        b"\x91\xa1x",
        b"\x91\xc4",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 1100,
        b"\x80" * 1000,
        b"\x91\xc4\x01x\x00",
    ],
)
async def test_hostile_msgpack_batch_is_refused(api: Api, body: bytes) -> None:
    """T11-T13 at the endpoint: claims of length and depth cost nothing."""
    answer = await api.post("/v1/transactions/batch", data=body, headers=MSGPACK)
    if body:
        assert_problem(answer, 400, "invalid_body")
    assert 400 <= answer.status < 500
    assert api.node.submitted == 0


async def test_batch_is_bounded(api: Api) -> None:
    body = msgspec.msgpack.encode([b"x"] * (BATCH_TRANSACTIONS_MAX + 1))
    answer = await api.post("/v1/transactions/batch", data=body, headers=MSGPACK)
    assert_problem(answer, 413, "body_too_large")
    assert api.node.submitted == 0


async def test_simulation_returns_the_receipt_and_changes_nothing(api: Api) -> None:
    good = await api.post("/v1/transactions/simulate", json=wire_hex(api.node.transfer()))
    bad = await api.post("/v1/transactions/simulate", json=wire_hex(api.node.transfer(2**60)))
    assert (good.json["ok"], good.json["receipt"]["code"]) == (True, "ok")
    assert (bad.json["ok"], bad.json["receipt"]["code"]) == (False, "insufficient_balance")
    assert good.json["detail"] is None
    assert str(2**60) in bad.json["detail"]
    assert api.node.submitted == 0
    assert api.node.state.height == 0


async def test_simulation_of_no_transaction_is_a_problem(api: Api) -> None:
    answer = await api.post("/v1/transactions/simulate", json={"tx": "00"})
    assert_problem(answer, 400, "malformed_encoding")


async def test_unknown_transaction_has_status_unknown(api: Api) -> None:
    answer = await api.get(f"/v1/transactions/{sha256(b'x').hex()}")
    assert (answer.status, answer.json["status"]) == (200, "unknown")


async def test_faucet_exists_on_development_networks_only(start_api: StartApi) -> None:
    from ledger.address import format_address
    from tests.unit.node_api.fakes import BOB_ADDRESS, FakeNode

    body = {"address": format_address(BOB_ADDRESS), "amount": "5"}
    dev = await start_api()
    assert (await dev.post("/dev/faucet", json=body)).status == 202
    production = await start_api(FakeNode(dev=False))
    answer = await production.post("/dev/faucet", json=body)
    assert_problem(answer, 404, "not_found")
    assert answer.json["detail"] == (await production.get("/nowhere")).json["detail"]
