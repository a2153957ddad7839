"""Asks every node, after a drill, for its chain and for what it has to say against others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Final

import msgspec

from mbi.bench.connection import Pool
from mbi.bench.http import request_bytes
from mbi.calls import MSGPACK
from mbi.client import AsyncClient
from mbi.drill.judge import Statement
from mbi.drill.watch import DrillNode
from mbi.errors import Unreachable

READERS: Final = 8
"""Requests at a time and node."""

_decode_ids: Final = msgspec.msgpack.Decoder(tuple[int, int, list[bytes]]).decode


async def statements(
    nodes: Sequence[DrillNode], first_height: int, last_height: int
) -> list[Statement]:
    """Read blocks, transactions and accusations of every node.

    Raises:
        Unreachable: a node cannot be asked.
    """
    return await asyncio.gather(*(_read(node, first_height, last_height) for node in nodes))


async def accusations(client: AsyncClient) -> frozenset[str]:
    """Return the proofs against validators that a node has, on chain or not yet, as texts."""
    on_chain = [item async for item in client.items("/v1/evidence")]
    pending = (await client.get("/v1/evidence/pending"))["items"]
    return frozenset(json.dumps(item, sort_keys=True) for item in (*on_chain, *pending))


async def known_accusations(nodes: Sequence[DrillNode]) -> frozenset[str]:
    """Return what any node holds against validators."""
    found: set[str] = set()
    for node in nodes:
        async with AsyncClient(node.url) as client:
            found |= await accusations(client)
    return frozenset(found)


async def _read(node: DrillNode, first: int, last: int) -> Statement:
    async with AsyncClient(node.url) as client:
        consensus = await client.consensus()
        accused = await accusations(client)
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
    finally:
        pool.close()
    return Statement(
        node=node.name,
        blocks=blocks,
        transactions=dict(zip(range(first, last + 1), ids, strict=True)),
        accusations=accused,
        halted=None if consensus["halted"] is None else str(consensus["halted"]),
    )


async def _ids(pool: Pool, height: int) -> list[str]:
    path = f"/v1/blocks/{height}/ids"
    answer = await pool.request(request_bytes(pool.url, "GET", path, accept=MSGPACK))
    try:
        return [identifier.hex() for identifier in _decode_ids(answer.body)[2]]
    except msgspec.DecodeError as error:
        raise Unreachable(f"{pool.url}{path}: HTTP {answer.status}: {error}") from error
