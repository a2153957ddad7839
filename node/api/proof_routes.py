"""Routes for those who verify instead of trusting: proof files and the changes of validator sets.

What these routes answer is checked with the genesis file alone (``consensus.light``); the node is
not believed. Files are the answer itself as msgpack, or hex in JSON.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import web

from ledger.json import to_json
from ledger.records import RECORD_TYPES
from node.api import schemas
from node.api.headers import DATA_HEADERS
from node.api.paging import integer_position, page_response, read_integer_cursor
from node.api.parameters import (
    DIGEST_SCHEMA,
    HEX_SCHEMA,
    PAGE_BY_NAME,
    TIMEOUT,
    InvalidText,
    Parameter,
    parse_digest,
    parse_integer,
    parse_state_key,
)
from node.api.problems import Problem
from node.api.routing import JSON_TYPE, MSGPACK_TYPE, Answer, Call, Route, json_response

if TYPE_CHECKING:
    from collections.abc import Callable


async def transaction_proof(call: Call) -> web.Response:
    """Return the file that proves a transaction's outcome without trust in this node.

    The header that commits to it comes with a later block, so this waits for it.
    """
    view, transaction_id = call.context.view, call.path["id"]
    status = view.transaction_status(transaction_id)
    if status.stage not in ("finalized", "failed"):
        raise Problem(
            "not_found", f"the transaction is {status.stage}, not final; nothing to prove"
        )
    newest = call.query["until"]
    proof = await _covered(
        call, lambda: view.prover.transaction(view.state, transaction_id, newest=newest)
    )
    if proof is None:
        raise Problem("not_provable_yet", "no certified header covers its result yet")
    return _file(call, proof, {"id": transaction_id.hex(), "height": status.height})


async def state_proof(call: Call) -> web.Response:
    """Prove what the state holds under a key now, or that it holds nothing.

    The header that commits to the present state comes with the next block, so this waits for it.
    """
    view, key = call.context.view, call.path["key"]
    found = view.prover.key(view.state, key)
    proof = await _covered(call, lambda: view.prover.key_file(view.state, found))
    if proof is None:
        raise Problem("not_provable_yet", "no certified header covers the present state yet")
    value = found.proof.value if found.proof.key == key else None
    facts = {
        "key": key.hex(),
        "height": found.height,
        "state_root": found.state_root.hex(),
        "present": value is not None,
        "value": None if value is None else value.hex(),
        "record": None if value is None else _record(key, value),
    }
    return _file(call, proof, facts)


def _record(key: bytes, value: bytes) -> Any:
    """Return the JSON form of a record, whose type the first byte of its key says."""
    return to_json(msgspec.msgpack.decode(value, type=RECORD_TYPES[key[0]]))


async def _covered(call: Call, make_file: Callable[[], bytes | None]) -> bytes | None:
    """Return the file as soon as a header covers it; None if the client's time is over before."""
    view, places = call.context.view, call.context.waiters
    proof = make_file()
    if proof is not None or places.is_full:
        return proof
    try:
        with places.place(), call.cancelled_if_client_leaves():
            async with asyncio.timeout(call.query["timeout"]):
                while proof is None:
                    await view.wait_executed(view.chain.head().height)
                    proof = make_file()
    except TimeoutError:
        return None
    return proof


async def epochs(call: Call) -> web.Response:
    """List the block that opened each epoch; its hash is a checkpoint for verifiers."""
    openings = call.context.view.prover.openings()
    if newest_first := call.query["order"]:
        openings.reverse()
    position = read_integer_cursor(call, 1)
    if position is not None:
        last = position[0]
        openings = [item for item in openings if (item.epoch < last) is newest_first]
        openings = [item for item in openings if item.epoch != last]
    page = openings[: call.query["limit"]]
    items = [
        {"epoch": item.epoch, "height": item.height, "hash": item.block_hash.hex()} for item in page
    ]
    is_end = len(page) == len(openings)
    return page_response(call, items, None if is_end else integer_position(page[-1].epoch))


async def set_change(call: Call) -> web.Response:
    """Return how an epoch was closed: its last header, finalization or plan, and the next set."""
    epoch = call.path["epoch"]
    change = call.context.view.prover.change(epoch)
    if change is None:
        raise Problem("not_found", f"epoch {epoch} is not closed")
    return _file(call, change, {"epoch": epoch}, name="change")


def _file(call: Call, data: bytes, facts: dict[str, Any], name: str = "proof") -> web.Response:
    if call.accepts_msgpack():
        return web.Response(body=data, content_type=MSGPACK_TYPE, headers=DATA_HEADERS)
    return json_response({**facts, name: data.hex()})


def _parse_until(text: str) -> bool:
    if text not in ("first", "latest"):
        raise InvalidText("first or latest")
    return text == "latest"


ID: Final = Parameter(
    "id", parse_digest, DIGEST_SCHEMA, "Transaction id: 64 lower-case hex digits."
)
STATE_KEY: Final = Parameter(
    "key", parse_state_key, HEX_SCHEMA, "Key of the authenticated state in lower-case hex."
)
EPOCH: Final = Parameter(
    "epoch", parse_integer, {"type": "integer", "minimum": 0}, "Number of the epoch."
)
UNTIL: Final = Parameter(
    "until",
    _parse_until,
    {"type": "string", "enum": ["first", "latest"], "default": "first"},
    "Header that the file ends with: the first that covers the transaction gives the smallest "
    "file, the latest one passes through every checkpoint.",
    default=False,
)
_TYPES: Final = (MSGPACK_TYPE,)

ROUTES: Final = (
    Route(
        "GET",
        "/v1/transactions/{id}/proof",
        "proofs",
        "File that proves a transaction's outcome, for `mbi audit check`",
        transaction_proof,
        {200: Answer("Proof file", schemas.ref("ProofBundle"), JSON_TYPE, _TYPES)},
        path_parameters=(ID,),
        query_parameters=(UNTIL, TIMEOUT),
        problems=("not_found", "not_provable_yet"),
    ),
    Route(
        "GET",
        "/v1/state/{key}/proof",
        "proofs",
        "File that proves what the state holds under a key, or that it holds nothing",
        state_proof,
        {200: Answer("Proof file", schemas.ref("StateProof"), JSON_TYPE, _TYPES)},
        path_parameters=(STATE_KEY,),
        query_parameters=(TIMEOUT,),
        problems=("not_provable_yet",),
    ),
    Route(
        "GET",
        "/v1/epochs",
        "proofs",
        "Epochs and the blocks that opened them",
        epochs,
        {200: Answer("Page of epochs", schemas.page("Epoch"))},
        query_parameters=PAGE_BY_NAME,
        problems=("invalid_cursor",),
    ),
    Route(
        "GET",
        "/v1/epochs/{epoch}/change",
        "proofs",
        "How an epoch was closed, for light clients",
        set_change,
        {200: Answer("Change of the validator set", schemas.ref("SetChange"), JSON_TYPE, _TYPES)},
        path_parameters=(EPOCH,),
        problems=("not_found",),
    ),
)
