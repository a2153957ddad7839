"""Routes about the node: health, status, consensus, mempool, peers, rates, validators."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from node.api import schemas
from node.api.headers import DATA_HEADERS
from node.api.paging import integer_position, page_response, read_integer_cursor
from node.api.parameters import PAGE_BY_NAME, InvalidText, Parameter
from node.api.problems import Problem, problem_response
from node.api.render import (
    MS_PER_S,
    check_json,
    consensus_json,
    peer_json,
    time_text,
    validator_json,
)
from node.api.routing import JSON_TYPE, Answer, Call, Route, json_response

if TYPE_CHECKING:
    from storage.chain_store import ExecutedBlock

STATISTICS_BLOCKS: Final = 100
"""Latest blocks over which rates are computed: about 2 ms of reading."""
VALIDATOR_TEXT_MAX: Final = 128


async def health(call: Call) -> web.Response:
    """Answer while the event loop turns."""
    return json_response({"status": "alive"})


async def readiness(call: Call) -> web.Response:
    """Answer 200 if every condition holds, otherwise 503 with each of them."""
    checks = call.context.view.readiness()
    shown = [check_json(check) for check in checks]
    failed = [check for check in checks if not check.ok]
    if not failed:
        return json_response({"ready": True, "checks": shown})
    detail = "; ".join(f"{check.name}: {check.detail or check.value}" for check in failed)
    return problem_response(
        Problem(
            "not_ready",
            detail,
            headers={"Retry-After": "1"},
            extra={"ready": False, "checks": shown},
        )
    )


async def metrics(call: Call) -> web.Response:
    """Expose the metrics."""
    return web.Response(
        body=call.context.metrics.exposition(),
        headers={**DATA_HEADERS, "Content-Type": CONTENT_TYPE_PLAIN_0_0_4},
    )


async def status(call: Call) -> web.Response:
    """Say who this node is and where it stands."""
    view = call.context.view
    node = view.status()
    return json_response(
        {
            "name": node.name,
            "role": node.role,
            "version": node.version,
            "network": view.genesis.network,
            "dev": view.genesis.dev,
            "chain_id": view.chain_id.hex(),
            "genesis_hash": view.chain.require_executed(0).block_hash.hex(),
            "height": node.executed_height,
            "hash": node.executed_hash.hex(),
            "time": time_text(node.executed_time_ms),
            "state_root": node.state_root.hex(),
            "history_root": node.history_root.hex(),
            "finalized_height": node.finalized_height,
            "network_height": node.network_height,
            "syncing": node.is_syncing,
            "started": time_text(node.started_ms),
            "now": time_text(_now_ms()),
        }
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def genesis(call: Call) -> web.Response:
    """Return the genesis file, from which the chain id can be computed again."""
    return web.Response(
        body=call.context.genesis_document, content_type=JSON_TYPE, headers=DATA_HEADERS
    )


async def consensus(call: Call) -> web.Response:
    """Say what consensus is doing and who is missing."""
    view = call.context.view
    return json_response(consensus_json(view.consensus(), view.validators(), view.state.validators))


async def mempool(call: Call) -> web.Response:
    """Return statistics of the pending transactions."""
    pool = call.context.view.mempool()
    return json_response(
        {
            "transactions": pool.transactions,
            "bytes": pool.bytes,
            "transactions_max": pool.transactions_max,
            "bytes_max": pool.bytes_max,
            "oldest_age_ms": pool.oldest_age_ms,
            "by_organisation": dict(sorted(pool.by_organisation.items())),
            "dropped": dict(sorted(pool.dropped.items())),
        }
    )


async def peers(call: Call) -> web.Response:
    """Return the configured peers; there are few, so the list is whole."""
    return json_response({"items": [peer_json(peer) for peer in call.context.view.peers()]})


async def statistics(call: Call) -> web.Response:
    """Return rates over the latest blocks."""
    head = call.context.view.status().executed_height
    first = max(0, head - STATISTICS_BLOCKS)
    blocks = list(call.context.view.chain.executed_blocks(first, head))
    return json_response({"height": head, **_rates(blocks)})


def _rates(blocks: list[ExecutedBlock]) -> dict[str, Any]:
    """Return rates of the blocks after the first, whose time is where the measured span begins."""
    counted = blocks[1:]
    transactions = sum(block.header.transaction_count for block in counted)
    span_ms = blocks[-1].header.time_ms - blocks[0].header.time_ms
    is_measured = bool(counted) and span_ms > 0
    return {
        "blocks": len(counted),
        "transactions": transactions,
        "body_bytes": sum(block.header.body_bytes for block in counted),
        "span_seconds": span_ms / MS_PER_S,
        "transactions_per_second": transactions * MS_PER_S / span_ms if is_measured else None,
        "block_interval_seconds": span_ms / MS_PER_S / len(counted) if is_measured else None,
    }


def _parse_validator(text: str) -> str:
    if not 0 < len(text) <= VALIDATOR_TEXT_MAX:
        raise InvalidText("a validator's name, index or consensus key in hex")
    return text


VALIDATOR = Parameter(
    "id",
    _parse_validator,
    {"type": "string"},
    "Name, index in the validator set, or consensus key in hex.",
)


def _validator_item(call: Call, index: int, connected: frozenset[int]) -> dict[str, Any]:
    view = call.context.view
    return validator_json(
        view.validators(), index, view.participation()[index], is_connected=index in connected
    )


async def validators(call: Call) -> web.Response:
    """List the validator set in its order."""
    view = call.context.view
    position = read_integer_cursor(call, 1)
    indices = list(range(len(view.validators())))
    if call.query["order"]:
        indices.reverse()
    start = 0 if position is None else position[0]
    chosen = indices[start : start + call.query["limit"]]
    connected = frozenset(view.consensus().connected)
    end = start + len(chosen)
    return page_response(
        call,
        [_validator_item(call, index, connected) for index in chosen],
        integer_position(end) if chosen and end < len(indices) else None,
    )


async def validator(call: Call) -> web.Response:
    """Return one member of the validator set."""
    view = call.context.view
    wanted = call.path["id"]
    for index, member in enumerate(view.validators()):
        if wanted in (member.name, str(index), member.consensus_key.hex()):
            connected = frozenset(view.consensus().connected)
            return json_response(_validator_item(call, index, connected))
    raise Problem("not_found", "no validator of the present set has this name, index or key")


ROUTES: Final = (
    Route(
        "GET",
        "/healthz",
        "node",
        "Whether the process is alive",
        health,
        {200: Answer("Alive", schemas.ref("Health"))},
    ),
    Route(
        "GET",
        "/readyz",
        "node",
        "Whether the node can serve: synced, quorum reachable, voting allowed",
        readiness,
        {200: Answer("Ready", schemas.ref("Readiness"))},
        problems=("not_ready",),
    ),
    Route(
        "GET",
        "/metrics",
        "node",
        "Metrics in the Prometheus text format",
        metrics,
        {200: Answer("Metrics", media_type="text/plain")},
    ),
    Route(
        "GET",
        "/v1/status",
        "node",
        "Who this node is and where it stands",
        status,
        {200: Answer("Status", schemas.ref("Status"))},
    ),
    Route(
        "GET",
        "/v1/genesis",
        "node",
        "Genesis of the network",
        genesis,
        {
            200: Answer(
                "Genesis file; its canonical form hashes to the chain id", schemas.ref("Genesis")
            )
        },
    ),
    Route(
        "GET",
        "/v1/consensus",
        "node",
        "View, votes, missing validators and the reason of a halt",
        consensus,
        {200: Answer("Consensus", schemas.ref("Consensus"))},
    ),
    Route(
        "GET",
        "/v1/mempool",
        "node",
        "Statistics of the pending transactions",
        mempool,
        {200: Answer("Mempool", schemas.ref("Mempool"))},
    ),
    Route(
        "GET",
        "/v1/peers",
        "node",
        "Configured peers and their connections",
        peers,
        {200: Answer("Peers", schemas.listing("Peer"))},
    ),
    Route(
        "GET",
        "/v1/stats",
        "node",
        f"Rates over the latest {STATISTICS_BLOCKS} blocks",
        statistics,
        {200: Answer("Rates", schemas.ref("Statistics"))},
    ),
    Route(
        "GET",
        "/v1/validators",
        "network",
        "The validator set",
        validators,
        {200: Answer("Page of validators", schemas.page("Validator"))},
        query_parameters=PAGE_BY_NAME,
        problems=("invalid_cursor",),
    ),
    Route(
        "GET",
        "/v1/validators/{id}",
        "network",
        "One validator",
        validator,
        {200: Answer("Validator", schemas.ref("Validator"))},
        path_parameters=(VALIDATOR,),
        problems=("not_found",),
    ),
)
