"""Routes about the present state: accounts, assets, organisations, search."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from ledger.address import format_address, parse_address
from ledger.errors import LedgerError
from ledger.json import to_json
from ledger.receipt import OK_CODE
from ledger.records import (
    ASSET_PREFIX,
    HOLDING_ASSET_OFFSET,
    HOLDING_PREFIX,
    ORGANISATION_PREFIX,
    Holding,
)
from ledger.text import ASSET_CODE_PATTERN, ORGANISATION_PATTERN
from ledger.types import Digest, Height
from node.api import schemas
from node.api.limits import PAGE_ITEMS_MAX, SCAN_SLICE
from node.api.paging import (
    integer_position,
    page_response,
    read_cursor,
    read_integer_cursor,
)
from node.api.parameters import (
    ADDRESS_SCHEMA,
    PAGE_BY_NAME,
    PAGE_BY_TIME,
    InvalidText,
    Parameter,
    parse_account,
    parse_digest,
    parse_height,
    parse_search,
    pattern_parser,
)
from node.api.problems import Problem
from node.api.record_pages import record_page
from node.api.render import time_text
from node.api.routing import Answer, Call, Route, json_response
from node.api.scan import keys_with_prefix
from storage.schema import Location

if TYPE_CHECKING:
    from ledger.records import Account
    from ledger.types import Address

# --- Accounts -------------------------------------------------------------------------------------


def _account(call: Call) -> Account:
    """Return the account that the path names.

    Raises:
        Problem: ``not_found``.
    """
    account = call.context.view.state.account(call.path["address"])
    if account is None:
        raise Problem("not_found", "no account is registered under this address")
    return account


def _balances(
    call: Call, address: Address, after: bytes | None, limit: int
) -> list[dict[str, Any]]:
    state = call.context.view.state
    keys = keys_with_prefix(state, HOLDING_PREFIX + address, after)
    items = []
    for key in islice(keys, limit):
        holding = state.record(key)
        if isinstance(holding, Holding):
            asset = key[HOLDING_ASSET_OFFSET:].decode()
            items.append({"asset": asset, **to_json(holding)})
    return items


async def account(call: Call) -> web.Response:
    """Return an account with its first balances."""
    found = _account(call)
    balances = _balances(call, found.address, None, PAGE_ITEMS_MAX + 1)
    return json_response(
        {
            **to_json(found),
            "balances": balances[:PAGE_ITEMS_MAX],
            "has_more_balances": len(balances) > PAGE_ITEMS_MAX,
        }
    )


async def account_balances(call: Call) -> web.Response:
    """List what an account holds, by asset."""
    found = _account(call)
    limit = call.query["limit"]
    items = _balances(call, found.address, read_cursor(call), limit + 1)
    last = items[limit - 1]["asset"].encode() if len(items) > limit else None
    return page_response(call, items[:limit], last)


async def account_transactions(call: Call) -> web.Response:
    """List the transactions that an account sent or that touched it."""
    chain = call.context.view.chain
    position = read_integer_cursor(call, 2)
    after = None if position is None else Location(Height(position[0]), position[1])
    page = chain.account_history(
        call.path["address"], after, call.query["limit"], newest_first=call.query["order"]
    )
    items = []
    for number, location in enumerate(page.locations):
        if number % SCAN_SLICE == SCAN_SLICE - 1:
            await asyncio.sleep(0)
        height, index = location.height, location.index
        receipt = chain.receipt(height, index)
        if receipt is None:
            raise Problem("internal_error", "an index names a transaction that is not there")
        items.append(
            {
                "id": receipt.transaction_id.hex(),
                "status": "finalized" if receipt.code == OK_CODE else "failed",
                "code": receipt.code,
                "height": height,
                "index": index,
                "time": time_text(chain.require_executed(height).header.time_ms),
            }
        )
    last = page.next_cursor
    return page_response(
        call, items, None if last is None else integer_position(last.height, last.index)
    )


# --- Assets and organisations ---------------------------------------------------------------------


async def assets(call: Call) -> web.Response:
    """List the assets by id."""
    return record_page(call, ASSET_PREFIX)


async def asset(call: Call) -> web.Response:
    """Return an asset."""
    identifier = f"{call.path['organisation']}/{call.path['code']}"
    found = call.context.view.state.asset(identifier)
    if found is None:
        raise Problem("not_found", f"no asset {identifier}")
    return json_response(to_json(found))


async def organisations(call: Call) -> web.Response:
    """List the organisations by id."""
    return record_page(call, ORGANISATION_PREFIX)


async def organisation(call: Call) -> web.Response:
    """Return an organisation."""
    found = call.context.view.state.organisation(call.path["id"])
    if found is None:
        raise Problem("not_found", f"no organisation {call.path['id']}")
    return json_response(to_json(found))


# --- Search ---------------------------------------------------------------------------------------


async def search(call: Call) -> web.Response:
    """Find everything that a text can name."""
    text = call.query["q"]
    if text is None:
        raise Problem("invalid_parameter", "q: expected the text to search for")
    return json_response(
        {"items": [*_by_number(call, text), *_by_digest(call, text), *_by_name(call, text)]}
    )


def _hit(kind: str, identifier: str, path: str) -> dict[str, str]:
    return {"type": kind, "id": identifier, "path": path}


def _by_number(call: Call, text: str) -> list[dict[str, str]]:
    try:
        height = parse_height(text)
    except InvalidText:
        return []
    if call.context.view.chain.executed(height) is None:
        return []
    return [_hit("block", str(height), f"/v1/blocks/{height}")]


def _by_digest(call: Call, text: str) -> list[dict[str, str]]:
    try:
        digest = parse_digest(text)
    except InvalidText:
        return []
    view = call.context.view
    hits = []
    height = view.chain.height_of(digest)
    executed = None if height is None else view.chain.executed(height)
    if executed is not None and executed.block_hash == digest:
        hits.append(_hit("block", text, f"/v1/blocks/{text}"))
    if view.transaction_status(Digest(digest)).stage != "unknown":
        hits.append(_hit("transaction", text, f"/v1/transactions/{text}"))
    return hits


def _by_name(call: Call, text: str) -> list[dict[str, str]]:
    view = call.context.view
    hits = []
    try:
        address = parse_address(text)
    except LedgerError:
        pass
    else:
        if view.state.account(address) is not None:
            hits.append(_hit("account", format_address(address), f"/v1/accounts/{text}"))
    if text.isascii():
        if view.state.asset(text) is not None:
            hits.append(_hit("asset", text, f"/v1/assets/{text}"))
        if view.state.organisation(text) is not None:
            hits.append(_hit("organisation", text, f"/v1/organisations/{text}"))
    members = [
        member.name
        for member in view.validators()
        if text in (member.name, member.consensus_key.hex(), member.node_key.hex())
    ]
    return hits + [_hit("validator", name, f"/v1/validators/{name}") for name in members]


ADDRESS = Parameter("address", parse_account, ADDRESS_SCHEMA, "Address in bech32m.")
ORGANISATION = Parameter(
    "organisation",
    pattern_parser(ORGANISATION_PATTERN, "an organisation id"),
    {"type": "string", "pattern": f"^{ORGANISATION_PATTERN}$"},
    "Organisation part of the asset id.",
)
ORGANISATION_ID = Parameter("id", ORGANISATION.parse, ORGANISATION.schema, "Organisation id.")
CODE = Parameter(
    "code",
    pattern_parser(ASSET_CODE_PATTERN, "the code of an asset"),
    {"type": "string", "pattern": f"^{ASSET_CODE_PATTERN}$"},
    "Code of the asset.",
)
QUERY = Parameter("q", parse_search, {"type": "string"}, "Height, hash, address, id or name.")
_PAGE_PROBLEMS: Final = ("invalid_cursor",)
_ASCENDING: Final = PAGE_BY_NAME[:2]

ROUTES: Final = (
    Route(
        "GET",
        "/v1/accounts/{address}",
        "accounts",
        "An account with its keys, thresholds and balances",
        account,
        {200: Answer("Account", schemas.ref("Account"))},
        path_parameters=(ADDRESS,),
        problems=("not_found",),
    ),
    Route(
        "GET",
        "/v1/accounts/{address}/balances",
        "accounts",
        "What an account holds, by asset",
        account_balances,
        {200: Answer("Page of balances", schemas.page("Balance"))},
        path_parameters=(ADDRESS,),
        query_parameters=_ASCENDING,
        problems=("not_found", *_PAGE_PROBLEMS),
    ),
    Route(
        "GET",
        "/v1/accounts/{address}/transactions",
        "accounts",
        "Transactions that an account sent or that touched it",
        account_transactions,
        {200: Answer("Page of transactions", schemas.page("TransactionSummary"))},
        path_parameters=(ADDRESS,),
        query_parameters=PAGE_BY_TIME,
        problems=_PAGE_PROBLEMS,
    ),
    Route(
        "GET",
        "/v1/assets",
        "assets",
        "Assets",
        assets,
        {200: Answer("Page of assets", schemas.page("Asset"))},
        query_parameters=PAGE_BY_NAME,
        problems=_PAGE_PROBLEMS,
    ),
    Route(
        "GET",
        "/v1/assets/{organisation}/{code}",
        "assets",
        "One asset",
        asset,
        {200: Answer("Asset", schemas.ref("Asset"))},
        path_parameters=(ORGANISATION, CODE),
        problems=("not_found",),
    ),
    Route(
        "GET",
        "/v1/organisations",
        "network",
        "Organisations",
        organisations,
        {200: Answer("Page of organisations", schemas.page("Organisation"))},
        query_parameters=PAGE_BY_NAME,
        problems=_PAGE_PROBLEMS,
    ),
    Route(
        "GET",
        "/v1/organisations/{id}",
        "network",
        "One organisation",
        organisation,
        {200: Answer("Organisation", schemas.ref("Organisation"))},
        path_parameters=(ORGANISATION_ID,),
        problems=("not_found",),
    ),
    Route(
        "GET",
        "/v1/search",
        "state",
        "Everything that a text names",
        search,
        {200: Answer("Matches", schemas.listing("SearchHit"))},
        query_parameters=(QUERY,),
    ),
)
