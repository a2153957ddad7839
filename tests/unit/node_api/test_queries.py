"""Queries: contents of answers, pages and cursors."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import msgspec
import pytest

from consensus.certificates import verify_certificate
from ledger.address import format_address
from ledger.crypto import verify
from ledger.genesis import chain_id, parse_genesis
from ledger.types import Address, Epoch, Era
from node.api.limits import PAGE_ITEMS_MAX
from tests.unit.node_api.conftest import Api
from tests.unit.node_api.fakes import ALICE_ADDRESS, ASSET, BOB_ADDRESS
from tests.unit.node_api.test_problems import assert_problem

ALICE = format_address(ALICE_ADDRESS)


async def all_pages(api: Api, path: str, limit: int) -> list[Any]:
    """Follow the cursors of a list to its end."""
    items: list[Any] = []
    cursor = ""
    separator = "&" if "?" in path else "?"
    for _ in range(1000):
        page = (await api.get(f"{path}{separator}limit={limit}{cursor}")).json
        assert len(page["items"]) <= limit
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        cursor = f"&cursor={page['next_cursor']}"
    raise AssertionError("the pages do not end")


async def grow(api: Api, *counts: int) -> None:
    """Add blocks with so many transactions each."""
    for count in counts:
        await api.node.finalize(*(api.node.transfer() for _ in range(count)))


async def test_status_names_network_and_head(api: Api) -> None:
    await grow(api, 1)
    found = (await api.get("/v1/status")).json
    assert (found["chain_id"], found["height"]) == (api.node.chain_id.hex(), 1)
    assert found["time"] == "2023-11-14T22:13:20.100Z"
    assert found["state_root"] == api.node.state.root.hex()


async def test_genesis_is_the_file_whose_hash_is_the_chain_id(api: Api) -> None:
    body = (await api.get("/v1/genesis")).body
    assert chain_id(parse_genesis(body)) == api.node.chain_id


async def test_consensus_says_who_is_missing_and_why_it_stands(api: Api) -> None:
    found = (await api.get("/v1/consensus")).json
    names = [member.name for member in api.node.set]
    assert found["missing"] == names[2:]
    assert found["votes"]["notarize"] == names[:2]
    assert "no quorum: 1 more" in found["halted"]
    assert names[3] in found["halted"]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_of_blocks_are_complete(api: Api, limit: int, order: str) -> None:
    """A4: following the cursors visits everything once, in order."""
    await grow(api, 1, 0, 2, 0, 0, 1)
    found = await all_pages(api, f"/v1/blocks?order={order}", limit)
    heights = [item["height"] for item in found]
    assert heights == (list(range(7)) if order == "asc" else list(range(6, -1, -1)))


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_of_transactions_are_complete(api: Api, limit: int, order: str) -> None:
    await grow(api, 1, 0, 3, 0, 0, 2, 0)
    places = [(1, 0), (3, 0), (3, 1), (3, 2), (6, 0), (6, 1)]
    for path in ("/v1/transactions", f"/v1/accounts/{ALICE}/transactions"):
        found = await all_pages(api, f"{path}?order={order}", limit)
        seen = [(item["height"], item["index"]) for item in found]
        assert seen == (places if order == "asc" else places[::-1])


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize(
    ("path", "name", "expected"),
    [
        ("/v1/organisations", "id", ["bank", "ministry"]),
        ("/v1/assets", "id", [ASSET]),
        ("/v1/validators", "index", [0, 1, 2, 3]),
    ],
)
async def test_pages_by_name_are_complete(
    api: Api, path: str, name: str, expected: list[Any], order: str, limit: int
) -> None:
    found = [item[name] for item in await all_pages(api, f"{path}?order={order}", limit)]
    assert found == (expected if order == "asc" else expected[::-1])


async def test_transactions_of_a_block_are_in_order(api: Api) -> None:
    await grow(api, 5)
    ids = (await api.get("/v1/blocks/1/ids")).json["ids"]
    for order in ("asc", "desc"):
        found = await all_pages(api, f"/v1/blocks/latest/transactions?order={order}", 2)
        assert [item["id"] for item in found] == (ids if order == "asc" else ids[::-1])


async def test_limit_is_clamped(api: Api) -> None:
    """A4: a greedy limit gets a page, not a scan."""
    await grow(api, 1, *([0] * PAGE_ITEMS_MAX))
    answer = await api.get("/v1/blocks?limit=1000000000")
    assert len(answer.json["items"]) == PAGE_ITEMS_MAX


async def test_cursor_of_another_query_is_refused(api: Api) -> None:
    """A4: a cursor belongs to its path and parameters."""
    await grow(api, 1, 1, 1)
    cursor = (await api.get("/v1/blocks?limit=1")).json["next_cursor"]
    others = [
        f"/v1/blocks?order=asc&cursor={cursor}",
        f"/v1/transactions?cursor={cursor}",
        f"/v1/blocks?cursor={cursor[:-2]}",
        f"/v1/blocks?cursor={cursor}AA",
        "/v1/blocks?cursor=AAAA",
        "/v1/blocks?cursor=%21%21",
        "/v1/organisations?cursor=AAAAAAAAAAA",
    ]
    for path in others:
        assert_problem(await api.get(path), 400, "invalid_cursor")
    assert (await api.get(f"/v1/blocks?limit=2&cursor={cursor}")).status == 200


async def test_forged_position_is_harmless(api: Api) -> None:
    """A4: the worst a forged cursor does is an empty page."""
    await grow(api, 1, 1)
    for path, count in (("/v1/blocks", 1), ("/v1/transactions", 2), ("/v1/validators", 1)):
        cursor = (await api.get(f"{path}?limit=1")).json["next_cursor"]
        prefix = urlsafe_b64decode(cursor + "==")[:8]
        for position in (b"\xff" * 8 * count, b"\x00" * 8 * count):
            forged = urlsafe_b64encode(prefix + position).decode().rstrip("=")
            answer = await api.get(f"{path}?cursor={forged}")
            assert answer.status == 200


async def test_block_by_height_hash_and_latest_is_the_same(api: Api) -> None:
    await grow(api, 1)
    by_height = (await api.get("/v1/blocks/1")).json
    by_hash = (await api.get(f"/v1/blocks/{by_height['hash']}")).json
    latest = (await api.get("/v1/blocks/latest")).json
    assert by_height == by_hash == latest
    assert by_height["header"]["parent_hash"] == by_height["parent_hash"]


async def test_ids_in_msgpack(api: Api) -> None:
    await grow(api, 2)
    answer = await api.get("/v1/blocks/1/ids", headers={"Accept": "application/msgpack"})
    height, time_ms, ids = msgspec.msgpack.decode(answer.body, type=tuple[int, int, list[bytes]])
    assert (height, time_ms) == (1, api.node.chain.require_executed(1).header.time_ms)
    assert [item.hex() for item in ids] == (await api.get("/v1/blocks/1/ids")).json["ids"]


async def test_certificate_can_be_verified_from_its_json(api: Api) -> None:
    await grow(api, 1)
    found = (await api.get("/v1/blocks/1/certificate")).json
    certificate = api.node.chain.certificate(found["certified_height"])
    assert certificate is not None
    verify_certificate(certificate, api.node.chain_id, api.node.set, Era(0), Epoch(0), verify)
    signatures = b"".join(
        bytes.fromhex(signer["signature"]) for signer in found["certificate"]["signers"]
    )
    assert signatures == certificate.signatures
    names = [signer["name"] for signer in found["certificate"]["signers"]]
    assert names == [member.name for member in api.node.set][:3]


async def test_account_shows_keys_and_balances(api: Api) -> None:
    await api.node.finalize(api.node.transfer(5))
    bob = (await api.get(f"/v1/accounts/{format_address(BOB_ADDRESS)}")).json
    assert bob["organisation"] == "ministry"
    assert [(item["asset"], item["amount"]) for item in bob["balances"]] == [(ASSET, "5")]
    path = f"/v1/accounts/{format_address(BOB_ADDRESS)}/balances"
    assert await all_pages(api, path, 1) == bob["balances"]


async def test_unregistered_account_is_not_found(api: Api) -> None:
    nobody = format_address(Address(bytes(20)))
    assert_problem(await api.get(f"/v1/accounts/{nobody}"), 404, "not_found")


async def test_search_finds_everything_that_has_a_name(api: Api) -> None:
    await grow(api, 1)
    block = (await api.get("/v1/blocks/1")).json
    transaction = (await api.get("/v1/blocks/1/ids")).json["ids"][0]
    texts = {
        "1": "block",
        block["hash"]: "block",
        transaction: "transaction",
        ALICE: "account",
        ASSET: "asset",
        "bank": "organisation",
        "gov-1": "validator",
    }
    for text, kind in texts.items():
        (hit,) = (await api.get("/v1/search", params={"q": text})).json["items"]
        assert hit["type"] == kind
        assert (await api.get(hit["path"])).status == 200


async def test_statistics_are_rates_over_the_latest_blocks(api: Api) -> None:
    await grow(api, 2, 2)
    found = (await api.get("/v1/stats")).json
    assert (found["blocks"], found["transactions"]) == (2, 4)
    assert found["transactions_per_second"] == 20.0
    assert found["block_interval_seconds"] == 0.1


async def test_metrics_count_requests_by_route(api: Api) -> None:
    await api.get("/v1/blocks/0")
    await api.get("/v1/blocks/99")
    text = (await api.get("/metrics")).body.decode()
    assert 'mbi_http_requests_total{route="/v1/blocks/{block}",status="200"} 1.0' in text
    assert 'mbi_http_requests_total{route="/v1/blocks/{block}",status="404"} 1.0' in text
    assert "mbi_http_connections 1.0" in text


async def test_unknown_paths_make_no_new_series(api: Api) -> None:
    """P13 in spirit: a scanner cannot fill the registry."""
    for number in range(20):
        await api.get(f"/scan/{number}")
    text = (await api.get("/metrics")).body.decode()
    assert text.count('route="none"') == 1
