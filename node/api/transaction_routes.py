"""Routes about transactions: submission alone or in batches, dry runs, status, lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web

from ledger.json import receipt_json
from ledger.receipt import OK_CODE
from node.api import schemas
from node.api.bodies import is_msgpack, parse_wire, parse_wires, read_body
from node.api.paging import integer_position, page_response, read_integer_cursor
from node.api.parameters import DIGEST_SCHEMA, PAGE_BY_TIME, TIMEOUT, WAIT, Parameter, parse_digest
from node.api.ports import StageTimes, SubmitResult, TransactionStatus
from node.api.problems import problem_of_rejection
from node.api.render import status_json, time_text
from node.api.routing import (
    JSON_TYPE,
    MSGPACK_TYPE,
    Answer,
    Body,
    Call,
    Route,
    json_response,
    msgpack_response,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger.types import Digest

SCAN_BLOCKS_MAX: Final = 256
"""Blocks looked at for one page of transactions; a chain may be idle for long."""
HTTP_OK: Final = 200
HTTP_ACCEPTED: Final = 202

_MALFORMED: Final = SubmitResult(
    None, "rejected", "malformed_encoding", 'expected the hex of a transaction, or {"tx": "<hex>"}'
)


async def submit(call: Call) -> web.Response:
    """Hand in one transaction, and wait for it to be final if asked."""
    msgpack = is_msgpack(call)
    wire = parse_wire(await read_body(call), msgpack=msgpack)
    view = call.context.view
    (result,) = await view.submit((wire,))
    transaction_id = result.id
    if result.status == "rejected" or transaction_id is None:
        raise problem_of_rejection(result)
    if call.query["wait"] and result.status != "finalized":
        status = await _wait(call, transaction_id)
    elif result.status == "accepted":
        status = TransactionStatus(transaction_id, "pending", times=_NO_TIMES)
    else:
        status = view.transaction_status(transaction_id)
    is_open = status.stage == "pending" and (result.status == "accepted" or call.query["wait"])
    return json_response(
        status_json(status, view.chain_id, with_transaction=False),
        HTTP_ACCEPTED if is_open else HTTP_OK,
        Location=f"/v1/transactions/{transaction_id.hex()}",
    )


_NO_TIMES: Final = StageTimes()


async def _wait(call: Call, transaction_id: Digest) -> TransactionStatus:
    """Wait for the end of a transaction; if all places are taken, as if the time were over."""
    view, places = call.context.view, call.context.waiters
    if places.is_full:
        return view.transaction_status(transaction_id)
    with places.place(), call.cancelled_if_client_leaves():
        return await view.wait_finalized(transaction_id, call.query["timeout"])


async def submit_batch(call: Call) -> web.Response:
    """Hand in many transactions; a result for each, in order."""
    msgpack = is_msgpack(call)
    wires = parse_wires(await read_body(call), msgpack=msgpack)
    view = call.context.view
    results: Sequence[SubmitResult]
    if msgpack:
        results = await view.submit(cast("list[bytes]", wires))
    else:
        given = iter(await view.submit([wire for wire in wires if wire is not None]))
        results = [_MALFORMED if wire is None else next(given) for wire in wires]
    if call.accepts_msgpack():
        response = msgpack_response(results)
    else:
        response = json_response({"items": [_result_json(result) for result in results]})
    # For those who look at nothing else: the longest wait that is asked for.
    waits = [result.retry_after_s for result in results if result.retry_after_s is not None]
    if waits:
        response.headers["Retry-After"] = str(max(waits))
    return response


def _result_json(result: SubmitResult) -> dict[str, Any]:
    identifier = result.id
    return {
        "id": None if identifier is None else identifier.hex(),
        "status": result.status,
        "code": result.code,
        "detail": result.detail,
        "height": result.height,
        "retry_after": result.retry_after_s,
    }


async def simulate(call: Call) -> web.Response:
    """Execute a transaction on a copy of the present state."""
    wire = parse_wire(await read_body(call), msgpack=is_msgpack(call))
    view = call.context.view
    receipt, detail = await view.simulate(wire)
    return json_response(
        {
            "height": view.status().executed_height,
            "ok": receipt.code == OK_CODE,
            "receipt": receipt_json(receipt),
            "detail": detail or None,
        }
    )


async def transactions(call: Call) -> web.Response:
    """List final transactions; a cursor is a height and how many of its transactions were shown."""
    chain = call.context.view.chain
    head, limit = chain.head().height, call.query["limit"]
    newest_first = call.query["order"]
    step = -1 if newest_first else 1
    position = read_integer_cursor(call, 2)
    height, shown = position or (head if newest_first else 0, 0)
    items: list[dict[str, Any]] = []
    for _ in range(SCAN_BLOCKS_MAX):
        if not 0 <= height <= head:
            return page_response(call, items, None)
        found = _transactions_of(call, height, newest_first=newest_first)
        taken = found[shown : shown + limit - len(items)]
        items += taken
        shown += len(taken)
        if len(items) == limit and shown < len(found):
            return page_response(call, items, integer_position(height, shown))
        height, shown = height + step, 0
        if len(items) == limit:
            break
    is_end = not 0 <= height <= head
    return page_response(call, items, None if is_end else integer_position(height, 0))


def _transactions_of(call: Call, height: int, *, newest_first: bool) -> list[dict[str, Any]]:
    chain = call.context.view.chain
    executed = chain.require_executed(height)
    if not executed.header.transaction_count:
        return []
    time = time_text(executed.header.time_ms)
    items = [
        {
            "id": receipt.transaction_id.hex(),
            "status": "finalized" if receipt.code == OK_CODE else "failed",
            "code": receipt.code,
            "height": height,
            "index": index,
            "time": time,
        }
        for index, receipt in enumerate(chain.receipts(height))
    ]
    if newest_first:
        items.reverse()
    return items


async def transaction(call: Call) -> web.Response:
    """Return what this node knows about one transaction."""
    view = call.context.view
    status = view.transaction_status(call.path["id"])
    return json_response(status_json(status, view.chain_id, with_transaction=True))


ID = Parameter("id", parse_digest, DIGEST_SCHEMA, "Transaction id: 64 lower-case hex digits.")
_ONE: Final = Body(
    {MSGPACK_TYPE: {"type": "string", "format": "binary"}, JSON_TYPE: schemas.ref("WireDocument")},
    "The signed transaction: its bytes, or their hex in JSON.",
)
_MANY: Final = Body(
    {MSGPACK_TYPE: {"type": "string", "format": "binary"}, JSON_TYPE: schemas.ref("WireList")},
    "A msgpack array of byte strings, or a JSON list.",
)
_BODY_PROBLEMS: Final = (
    "invalid_body",
    "length_required",
    "body_too_large",
    "body_timeout",
    "unsupported_media_type",
)
_STATUS: Final = schemas.ref("TransactionStatus")

ROUTES: Final = (
    Route(
        "POST",
        "/v1/transactions",
        "transactions",
        "Submit a signed transaction; posting the same bytes again is safe",
        submit,
        {
            202: Answer("Accepted, not final yet, also when a wait has run out", _STATUS),
            200: Answer("Already known, or final within the wait", _STATUS),
        },
        query_parameters=(WAIT, TIMEOUT),
        body=_ONE,
        problems=(
            *_BODY_PROBLEMS,
            "mempool_full",
            "sender_quota",
            "nonce_reserved",
            "transaction_refused",
        ),
    ),
    Route(
        "POST",
        "/v1/transactions/batch",
        "transactions",
        "Submit many signed transactions; msgpack arrays of results if asked for",
        submit_batch,
        {
            200: Answer(
                "A result for each, in order",
                schemas.ref("BatchResult"),
                JSON_TYPE,
                (MSGPACK_TYPE,),
            )
        },
        body=_MANY,
        problems=_BODY_PROBLEMS,
    ),
    Route(
        "POST",
        "/v1/transactions/simulate",
        "transactions",
        "Dry run: what execution would answer now",
        simulate,
        {200: Answer("Receipt", schemas.ref("Simulation"))},
        body=_ONE,
        problems=(*_BODY_PROBLEMS, "transaction_refused"),
    ),
    Route(
        "GET",
        "/v1/transactions",
        "transactions",
        "Final transactions",
        transactions,
        {200: Answer("Page of transactions", schemas.page("TransactionSummary"))},
        query_parameters=PAGE_BY_TIME,
        problems=("invalid_cursor",),
    ),
    Route(
        "GET",
        "/v1/transactions/{id}",
        "transactions",
        "Status of a transaction: pending, finalized, failed, rejected, expired or unknown",
        transaction,
        {200: Answer("Status", schemas.ref("TransactionDetail"))},
        path_parameters=(ID,),
    ),
)
