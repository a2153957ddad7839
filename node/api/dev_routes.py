"""The faucet: on development networks only, everywhere else its path does not exist."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from ledger.errors import LedgerError
from ledger.text import organisation_of_asset
from ledger.types import Address, Amount
from node.api import schemas
from node.api.bodies import is_msgpack, parse_json, read_body
from node.api.parameters import InvalidText, parse_account, parse_amount
from node.api.problems import Problem, problem_of_rejection
from node.api.routing import JSON_TYPE, Answer, Body, Call, Route, json_response

_FIELDS: Final = frozenset({"address", "amount", "asset"})


async def faucet(call: Call) -> web.Response:
    """Send development funds to an account."""
    view = call.context.view
    if not view.genesis.dev:
        raise Problem("not_found", "no such path; /openapi.json lists them all")
    if is_msgpack(call):
        raise Problem("unsupported_media_type", f"expected Content-Type {JSON_TYPE}")
    address, asset, amount = _read(call, parse_json(await read_body(call)))
    result = await view.faucet(address, asset, amount)
    if result is None:
        raise Problem("not_found", "this node holds no faucet key; ask another node of the network")
    if result.status == "rejected" or result.id is None:
        raise problem_of_rejection(result)
    return json_response(
        {"id": result.id.hex(), "status": "pending", "asset": asset, "amount": str(amount)},
        202,
        Location=f"/v1/transactions/{result.id.hex()}",
    )


def _read(call: Call, document: Any) -> tuple[Address, str, Amount]:
    if not isinstance(document, dict) or not {"address", "amount"} <= document.keys() <= _FIELDS:
        raise Problem(
            "invalid_body", 'expected {"address": "mbi1...", "amount": "100"} and perhaps "asset"'
        )
    assets = call.context.view.genesis.assets
    asset = document.get("asset", assets[0].id if assets else None)
    address, amount = document["address"], document["amount"]
    if not (isinstance(address, str) and isinstance(amount, str) and isinstance(asset, str)):
        raise Problem("invalid_body", "address, amount and asset: expected texts")
    try:
        organisation_of_asset(asset)
        return parse_account(address), asset, parse_amount(amount)
    except (InvalidText, LedgerError) as error:
        raise Problem("invalid_body", f"expected {error}") from error


ROUTES: Final = (
    Route(
        "POST",
        "/dev/faucet",
        "dev",
        "Send development funds to an account; 404 unless this is a development network",
        faucet,
        {202: Answer("Submitted", schemas.ref("FaucetAnswer"))},
        body=Body({JSON_TYPE: schemas.ref("FaucetRequest")}, "Who gets how much of which asset."),
        problems=("invalid_body", "not_found", "transaction_refused"),
    ),
)
