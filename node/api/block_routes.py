"""Routes about blocks: headers and roots, transactions, ids, certificates."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from ledger.block import Block
from ledger.errors import InvariantViolation
from ledger.types import Digest, Height
from ledger.validators import ValidatorSet
from node.api import schemas
from node.api.paging import integer_position, page_response, read_integer_cursor
from node.api.parameters import (
    HEIGHT_SCHEMA,
    PAGE_BY_TIME,
    InvalidText,
    Parameter,
    parse_digest,
    parse_height,
)
from node.api.problems import Problem
from node.api.render import certificate_json, executed_json, header_json, transaction_json
from node.api.routing import (
    JSON_TYPE,
    MSGPACK_TYPE,
    Answer,
    Call,
    Route,
    json_response,
    msgpack_response,
)
from storage.chain_store import ExecutedBlock

LATEST: Final = "latest"
_HASH_LENGTH: Final = 64


def _parse_reference(text: str) -> Height | Digest | None:
    """Read a height, a hash, or ``latest`` as None."""
    if text == LATEST:
        return None
    if len(text) == _HASH_LENGTH:
        return parse_digest(text)
    try:
        return parse_height(text)
    except InvalidText as error:
        raise InvalidText("a height, a hash of 64 lower-case hex digits, or latest") from error


REFERENCE = Parameter(
    "block",
    _parse_reference,
    {"type": "string"},
    "Height, hash (64 lower-case hex digits) or `latest`.",
)
HEIGHT = Parameter("height", parse_height, HEIGHT_SCHEMA, "Height of the block.")
ASCENDING = Parameter(
    "order",
    PAGE_BY_TIME[2].parse,
    {"type": "string", "enum": ["asc", "desc"], "default": "asc"},
    "`asc` is the order of execution.",
    default=False,
)


def _executed(call: Call) -> ExecutedBlock:
    """Return the block that the path names.

    Raises:
        Problem: ``not_found``.
    """
    chain = call.context.view.chain
    reference = call.path["block"]
    if reference is None:
        return chain.head()
    height = reference if isinstance(reference, int) else chain.height_of(reference)
    executed = None if height is None else chain.executed(height)
    # A block that was voted for and lost has a height, but is not the block of that height.
    if executed is None or (isinstance(reference, bytes) and executed.block_hash != reference):
        raise Problem(
            "not_found", f"no such final block; the head has height {chain.head().height}"
        )
    return executed


def _body(call: Call, executed: ExecutedBlock) -> Block:
    block = call.context.view.chain.block(executed.height)
    if block is None:
        raise Problem("not_found", "no such final block")
    return block


async def blocks(call: Call) -> web.Response:
    """List blocks."""
    chain = call.context.view.chain
    position, newest_first = read_integer_cursor(call, 1), call.query["order"]
    first, last = 0, int(chain.head().height)
    if position is not None and newest_first:
        last = min(last, position[0] - 1)
    elif position is not None:
        first = position[0] + 1
    if newest_first:
        first = max(first, last - call.query["limit"] + 1)
    else:
        last = min(last, first + call.query["limit"] - 1)
    items = []
    if first <= last:
        found = chain.executed_blocks(first, last, reverse=newest_first)
        items = [executed_json(executed) for executed in found]
    is_end = not items or (newest_first and first == 0)
    return page_response(call, items, None if is_end else integer_position(items[-1]["height"]))


async def block(call: Call) -> web.Response:
    """Return one block without its transactions."""
    executed = _executed(call)
    certificate = call.context.view.chain.certificate(executed.height)
    return json_response(
        {
            **executed_json(executed),
            "header": header_json(executed.header),
            "has_certificate": certificate is not None,
        }
    )


async def block_transactions(call: Call) -> web.Response:
    """List the transactions of a block with their outcomes."""
    executed = _executed(call)
    position = read_integer_cursor(call, 1)
    count = executed.header.transaction_count
    order = list(range(count))
    if call.query["order"]:
        order.reverse()
    start = 0 if position is None else position[0]
    chosen = order[start : start + call.query["limit"]]
    items: list[dict[str, Any]] = []
    if chosen:
        body, view = _body(call, executed), call.context.view
        receipts = view.chain.receipts(executed.height)
        items = [
            {
                **transaction_json(view.chain_id, body.transactions[index]),
                "height": executed.height,
                "index": index,
                "code": receipts[index].code,
            }
            for index in chosen
        ]
    end = start + len(chosen)
    return page_response(call, items, integer_position(end) if items and end < count else None)


async def block_ids(call: Call) -> web.Response:
    """Return time and transaction ids of a block, for those who count what became final."""
    chain = call.context.view.chain
    height = call.path["height"]
    executed = chain.executed(height)
    if executed is None:
        raise Problem(
            "not_found", f"no such final block; the head has height {chain.head().height}"
        )
    time_ms = executed.header.time_ms
    ids = chain.transaction_ids(height)
    if call.accepts_msgpack():
        return msgpack_response([height, time_ms, ids])
    return json_response(
        {"height": height, "time_ms": time_ms, "ids": [digest.hex() for digest in ids]}
    )


async def block_certificate(call: Call) -> web.Response:
    """Return the certificate that makes a block final: its own, or its nearest descendant's."""
    view = call.context.view
    executed = _executed(call)
    found = view.chain.first_certified_at_or_after(executed.height)
    if found is None:
        raise Problem(
            "no_certificate",
            "genesis needs none" if executed.height == 0 else "no finalization is stored yet",
        )
    height, certificate = found
    epoch = view.state.epoch(certificate.epoch)
    if epoch is None:
        raise InvariantViolation("state_epoch", f"the state has no epoch {certificate.epoch}")
    return json_response(
        {
            "height": executed.height,
            "certified_height": height,
            "certificate": certificate_json(certificate, ValidatorSet(epoch.members)),
        }
    )


_REFERENCE_PATH: Final = (REFERENCE,)
_NOT_FOUND: Final = ("not_found",)

ROUTES: Final = (
    Route(
        "GET",
        "/v1/blocks",
        "blocks",
        "Final blocks",
        blocks,
        {200: Answer("Page of blocks", schemas.page("Block"))},
        query_parameters=PAGE_BY_TIME,
        problems=("invalid_cursor",),
    ),
    Route(
        "GET",
        "/v1/blocks/{block}",
        "blocks",
        "One block, without its transactions",
        block,
        {200: Answer("Block with header", schemas.ref("BlockDetail"))},
        path_parameters=_REFERENCE_PATH,
        problems=_NOT_FOUND,
    ),
    Route(
        "GET",
        "/v1/blocks/{block}/transactions",
        "blocks",
        "Transactions of a block, in order of execution",
        block_transactions,
        {200: Answer("Page of transactions", schemas.page("BlockTransaction"))},
        path_parameters=_REFERENCE_PATH,
        query_parameters=(*PAGE_BY_TIME[:2], ASCENDING),
        problems=("invalid_cursor", *_NOT_FOUND),
    ),
    Route(
        "GET",
        "/v1/blocks/{height}/ids",
        "blocks",
        "Ids of all transactions of a block; msgpack `[height, time_ms, [id, ...]]` if asked for",
        block_ids,
        {200: Answer("Ids", schemas.ref("BlockIds"), JSON_TYPE, (MSGPACK_TYPE,))},
        path_parameters=(HEIGHT,),
        problems=_NOT_FOUND,
    ),
    Route(
        "GET",
        "/v1/blocks/{block}/certificate",
        "blocks",
        "Certificate that makes a block final; that of a later block proves its ancestors too",
        block_certificate,
        {200: Answer("Certificate", schemas.ref("BlockCertificate"))},
        path_parameters=_REFERENCE_PATH,
        problems=("no_certificate", *_NOT_FOUND),
    ),
)
