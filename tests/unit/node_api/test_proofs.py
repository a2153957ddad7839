"""Proof routes: what they answer is checked with the genesis alone."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from consensus.light import LightClient, SetChange
from consensus.light.proofs import ProvenState, ProvenTransaction, check_proof
from ledger.encoding import encode
from ledger.records import account_key, organisation_key
from ledger.transaction import decode_transaction
from node.api.limits import Limits
from node.api.routing import MSGPACK_TYPE
from tests.unit.node_api.conftest import Answer, Api, StartApi
from tests.unit.node_api.fakes import ALICE_ADDRESS
from tests.unit.node_api.test_problems import assert_problem
from tests.unit.node_api.test_queries import all_pages
from tests.unit.waiting import until

AS_FILE = {"Accept": MSGPACK_TYPE}


def check(api: Api, data: bytes) -> ProvenTransaction | ProvenState:
    return check_proof(data, LightClient.from_genesis(api.node.genesis))


async def answered_after_a_block(api: Api, path: str, **options: object) -> Answer:
    """Ask for something that waits for the next block, and make that block once it waits."""
    asked = asyncio.create_task(api.get(path, **options))
    await until(lambda: api.context.waiters.taken > 0 or asked.done())
    if not asked.done():
        await api.node.finalize()
    return await asked


async def test_a_transaction_proof_is_a_file_that_anyone_can_check(api: Api) -> None:
    wires = [api.node.transfer() for _ in range(3)]
    await api.node.finalize(*wires)
    await api.node.finalize()
    wanted = decode_transaction(api.node.chain_id, wires[1])
    path = f"/v1/transactions/{wanted.id.hex()}/proof"
    shown = (await api.get(path)).json
    assert (shown["id"], shown["height"]) == (wanted.id.hex(), 1)
    proven = check(api, bytes.fromhex(shown["proof"]))
    assert isinstance(proven, ProvenTransaction)
    assert (proven.decoded, proven.header.height) == (wanted, 1)
    assert (await api.get(path, headers=AS_FILE)).body.hex() == shown["proof"]


async def test_a_proof_ends_with_the_first_or_the_latest_header(api: Api) -> None:
    wire = api.node.transfer()
    await api.node.finalize(wire)
    for _ in range(4):
        await api.node.finalize()
    path = f"/v1/transactions/{decode_transaction(api.node.chain_id, wire).id.hex()}/proof"
    first, latest = [
        check(api, (await api.get(f"{path}?until={until}", headers=AS_FILE)).body)
        for until in ("first", "latest")
    ]
    assert (first.certified_header.height, latest.certified_header.height) == (2, 5)
    assert_problem(await api.get(f"{path}?until=now"), 400, "invalid_parameter")


async def test_the_proof_of_the_newest_transaction_waits_for_the_next_block(api: Api) -> None:
    wire = api.node.transfer()
    await api.node.finalize(wire)
    path = f"/v1/transactions/{decode_transaction(api.node.chain_id, wire).id.hex()}/proof"
    assert_problem(await api.get(f"{path}?timeout=0.01"), 404, "not_provable_yet")
    assert (await answered_after_a_block(api, path)).status == 200


@pytest.mark.parametrize(
    "key",
    [account_key(ALICE_ADDRESS), organisation_key("bank"), organisation_key("nobody"), b"\xff"],
)
async def test_a_state_proof_shows_what_is_there_and_what_is_not(api: Api, key: bytes) -> None:
    await api.node.finalize(api.node.transfer())
    record = api.node.state.record(key)
    shown = (await answered_after_a_block(api, f"/v1/state/{key.hex()}/proof")).json
    proven = check(api, bytes.fromhex(shown["proof"]))
    assert isinstance(proven, ProvenState)
    assert (proven.claim.key, proven.value) == (key, None if record is None else encode(record))
    assert shown["present"] is (record is not None)
    assert shown["value"] == (None if proven.value is None else proven.value.hex())
    assert shown["state_root"] == proven.claim.state_root.hex()


async def test_a_state_proof_gives_up_after_its_time(api: Api) -> None:
    await api.node.finalize(api.node.transfer())
    answer = await api.get(f"/v1/state/{account_key(ALICE_ADDRESS).hex()}/proof?timeout=0.01")
    assert_problem(answer, 404, "not_provable_yet")


async def test_no_more_state_proofs_wait_than_places_are_there(start_api: StartApi) -> None:
    """Who asks for proofs of a state that nobody has certified yet holds a bounded place."""
    api = await start_api(limits=Limits(waiters_max=1))
    await api.node.finalize(api.node.transfer())
    path = f"/v1/state/{account_key(ALICE_ADDRESS).hex()}/proof"
    first = asyncio.create_task(api.get(path))
    await until(lambda: api.context.waiters.is_full)
    assert_problem(await api.get(path), 404, "not_provable_yet")
    await api.node.finalize()
    assert (await first).status == 200


async def test_epoch_0_is_opened_by_genesis_and_not_closed(api: Api) -> None:
    await api.node.finalize()
    page = (await api.get("/v1/epochs")).json
    genesis = api.node.chain.require_executed(0).block_hash
    assert page["items"] == [{"epoch": 0, "height": 0, "hash": genesis.hex()}]
    assert page["next_cursor"] is None
    assert_problem(await api.get("/v1/epochs/0/change"), 404, "not_found")


async def test_epochs_are_listed_and_their_changes_lead_from_one_to_the_next(api: Api) -> None:
    client = LightClient.from_genesis(api.node.genesis)
    for _ in range(5):
        await api.node.finalize()
        boundary = api.node.close_epoch()
        answer = await api.get(f"/v1/epochs/{client.epoch}/change", headers=AS_FILE)
        client.apply(msgspec.msgpack.decode(answer.body, type=SetChange))
        assert client.base == boundary
    newest = (await api.get("/v1/epochs?order=desc&limit=1")).json["items"]
    assert newest == [{"epoch": 5, "height": 10, "hash": client.base_hash.hex()}]
    for order, numbers in (("asc", [0, 1, 2, 3, 4, 5]), ("desc", [5, 4, 3, 2, 1, 0])):
        items = await all_pages(api, f"/v1/epochs?order={order}", limit=2)
        assert [item["epoch"] for item in items] == numbers


async def test_a_proof_leads_through_every_epoch(api: Api) -> None:
    wire = api.node.transfer()
    for _ in range(3):
        await api.node.finalize()
        api.node.close_epoch()
    await api.node.finalize(wire)
    await api.node.finalize()
    path = f"/v1/transactions/{decode_transaction(api.node.chain_id, wire).id.hex()}/proof"
    proven = check(api, (await api.get(path, headers=AS_FILE)).body)
    assert proven.epochs == 3
