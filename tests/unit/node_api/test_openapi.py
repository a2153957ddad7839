"""The OpenAPI document is true: every route is in it, and answers are as it says."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.address import format_address
from ledger.operations import ProposeChange, ReportEvidence
from ledger.records import SetPowers, account_key
from node.api.openapi import openapi_document
from node.api.problems import all_kinds
from node.api.routes import ROUTES
from node.api.routing import Route
from tests.unit.node_api.conftest import Api
from tests.unit.node_api.fakes import ALICE_ADDRESS, ASSET, BOB, double_vote, wire_hex
from tests.unit.node_api.json_schema import breaches, undocumented
from tests.unit.node_api.test_proofs import answered_after_a_block

DOCUMENT = openapi_document(ROUTES, "0.0.0")
PROPOSAL = ProposeChange(None, SetPowers("bank", 2, ()))
JSON_GETS = [
    route
    for route in ROUTES
    if route.method == "GET" and route.answers.get(200) and route.answers[200].schema is not None
]


async def sample_path(api: Api, route: Route) -> str:
    """Return the route's path with parameters that exist."""
    transaction = (await api.get("/v1/transactions")).json["items"][0]["id"]
    values = {
        "/v1/transactions/{id}": transaction,
        "/v1/validators/{id}": "gov-1",
        "/v1/organisations/{id}": "bank",
        "/v1/governance/proposals/{id}": "1",
    }
    path = route.path
    for prefix, value in values.items():
        if path.startswith(prefix):
            path = path.replace("{id}", value)
    fixed = {
        "{block}": "2",
        "{height}": "2",
        "{address}": format_address(ALICE_ADDRESS),
        "{organisation}": ASSET.split("/")[0],
        "{code}": ASSET.split("/")[1],
        "{key}": account_key(ALICE_ADDRESS).hex(),
        "{epoch}": "0",
    }
    for name, value in fixed.items():
        path = path.replace(name, value)
    return path + ("?q=bank" if path == "/v1/search" else "")


@pytest.mark.parametrize("route", JSON_GETS, ids=lambda route: route.path)
async def test_json_answer_is_as_documented(api: Api, route: Route) -> None:
    """Each GET answers with the documented members, of the documented types, and no others."""
    node = api.node
    await node.finalize(node.transfer(memo="rent"), node.signed(PROPOSAL))
    await node.finalize(node.transfer(), node.transfer(2**60, sender=BOB))
    if route.path == "/v1/evidence":
        votes = double_vote(node.chain_id, node.set)
        await node.finalize(node.signed(ReportEvidence(None, *votes)))
    if "epoch" in route.path:
        node.close_epoch()
    path = await sample_path(api, route)
    if route.path.endswith("/proof"):
        await node.finalize()
        answer = await answered_after_a_block(api, path)
    else:
        answer = await api.get(path)
    schema = route.answers[200].schema
    assert answer.status == 200
    assert breaches(DOCUMENT, schema, answer.json) == []
    assert undocumented(DOCUMENT, schema, answer.json) == []
    assert answer.json.get("items") != [], "an empty list shows nothing of its items"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/transactions", "one", 202),
        ("/v1/transactions/simulate", "one", 200),
        ("/v1/transactions/batch", "many", 200),
        ("/dev/faucet", "faucet", 202),
    ],
)
async def test_post_answer_is_as_documented(api: Api, path: str, body: str, status: int) -> None:
    one = wire_hex(api.node.transfer())
    faucet = {"address": format_address(ALICE_ADDRESS), "amount": "1"}
    bodies: dict[str, Any] = {"one": one, "many": [one, "00"], "faucet": faucet}
    answer = await api.post(path, json=bodies[body])
    (route,) = (route for route in ROUTES if route.path == path and route.method == "POST")
    schema = route.answers[status].schema
    assert answer.status == status
    assert breaches(DOCUMENT, schema, answer.json) == []
    assert undocumented(DOCUMENT, schema, answer.json) == []


async def test_document_is_served_and_lists_every_registered_route(api: Api) -> None:
    served = (await api.get("/openapi.json")).json
    runner = api.server._runner
    assert runner is not None
    registered = {
        (route.method, route.resource.canonical)
        for route in runner.app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    documented = {
        (method.upper(), path) for path, methods in served["paths"].items() for method in methods
    }
    assert registered == documented
    assert len(registered) == len(ROUTES)


def test_every_operation_has_its_own_id_and_known_tag() -> None:
    operations = [item for methods in DOCUMENT["paths"].values() for item in methods.values()]
    ids = [operation["operationId"] for operation in operations]
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    assert len(set(ids)) == len(ids)
    assert all(operation["summary"] and set(operation["tags"]) <= tags for operation in operations)


def test_every_reference_resolves() -> None:
    names = set(DOCUMENT["components"]["schemas"])

    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"].rsplit("/", 1)[1]} if "$ref" in value else set()
            return own.union(*(references(item) for item in value.values()))
        if isinstance(value, list | tuple):
            return set().union(*(references(item) for item in value))
        return set()

    used = references(DOCUMENT)
    assert used <= names
    assert names <= used, "a schema that no route uses"


def test_every_documented_problem_has_a_page() -> None:
    kinds = all_kinds()
    assert all(code in kinds for route in ROUTES for code in route.problems)


def test_no_administrative_route_exists() -> None:
    """A7: nothing that stops, signs, or adds peers is reachable."""
    posts = {route.path for route in ROUTES if route.method == "POST"}
    assert posts == {
        "/v1/transactions",
        "/v1/transactions/batch",
        "/v1/transactions/simulate",
        "/dev/faucet",
    }
    assert {route.method for route in ROUTES} == {"GET", "POST"}
