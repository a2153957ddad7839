"""Asks every node, after a drill, for its chain and for what it has to say against others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from mbi.bench.connection import Pool
from mbi.bench.http import request_bytes
from mbi.bench.internals import parse_readings
from mbi.calls import MSGPACK
from mbi.client import AsyncClient
from mbi.drill.judge import Statement
from mbi.drill.watch import DrillNode
from mbi.errors import Unreachable

READERS: Final = 8
"""Requests at a time and node."""
EVIDENCE_METRIC: Final = "mbi_consensus_evidence_total"

_decode_ids: Final = msgspec.msgpack.Decoder(tuple[int, int, list[bytes]]).decode


async def statements(
    nodes: Sequence[DrillNode], first_height: int, last_height: int
) -> list[Statement]:
    """Read blocks, transactions and complaints of every node.

    Raises:
        Unreachable: a node cannot be asked.
    """
    return await asyncio.gather(*(_read(node, first_height, last_height) for node in nodes))


async def _read(node: DrillNode, first: int, last: int) -> Statement:
    async with AsyncClient(node.url) as client:
        consensus = await client.consensus()
        blocks: dict[int, tuple[str, str]] = {}
        async for block in client.items("/v1/blocks", order="desc"):
            height = int(block["height"])
            if first <= height <= last:
                blocks[height] = (str(block["hash"]), str(block["state_root"]))
            if height <= first:
                break
    pool = Pool(node.url, READERS)
    try:
        ids = await asyncio.gather(*(_ids(pool, height) for height in range(first, last + 1)))
        evidence = await _evidence(pool)
    finally:
        pool.close()
    return Statement(
        node=node.name,
        blocks=blocks,
        transactions=dict(zip(range(first, last + 1), ids, strict=True)),
        evidence=evidence,
        halted=None if consensus["halted"] is None else str(consensus["halted"]),
    )


async def _ids(pool: Pool, height: int) -> list[str]:
    path = f"/v1/blocks/{height}/ids"
    answer = await pool.request(request_bytes(pool.url, "GET", path, accept=MSGPACK))
    try:
        return [identifier.hex() for identifier in _decode_ids(answer.body)[2]]
    except msgspec.DecodeError as error:
        raise Unreachable(f"{pool.url}{path}: HTTP {answer.status}: {error}") from error


async def _evidence(pool: Pool) -> int:
    """Return how many proofs against validators the node has seen since it was started."""
    answer = await pool.request(request_bytes(pool.url, "GET", "/metrics", accept="text/plain"))
    values = parse_readings(answer.body.decode("utf-8", errors="replace")).values
    return int(sum(value for key, value in values.items() if key.startswith(EVIDENCE_METRIC)))
