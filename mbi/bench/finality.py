"""Watches one node for finalized blocks and notes when each of our transactions became final.

The node is asked for the ids of the next height until it has it: one small request every ten
milliseconds from the moment on when there can be another block, and no work per transaction on the
node beyond listing 32 bytes. The resolution of every latency is :data:`POLL_S`; it is always added,
never subtracted.
"""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from ledger.types import Digest
from mbi.bench.connection import Pool
from mbi.bench.http import BadAnswer, request_bytes
from mbi.bench.statistics import ObservedBlock
from mbi.calls import HTTP_NOT_FOUND, MSGPACK
from mbi.errors import Unreachable

POLL_S: Final = 0.01
PAUSE_S: Final = 0.04
"""After a block nobody asks for the next one: blocks are 50 ms apart, and a question that is
answered with *not found* costs the observed node as much as two transactions."""
RETRY_S: Final = 0.2
"""Pause after a failed request: the observed node may be restarting."""
HTTP_OK: Final = 200

_decode: Final = msgspec.msgpack.Decoder(tuple[int, int, list[bytes]]).decode


class FinalityWatch:
    """Follows the chain from a height on."""

    def __init__(self, url: str, next_height: int) -> None:
        self._pool = Pool(url, 1)
        self._url = url
        self._next = next_height
        self._numbers: dict[bytes, int] = {}
        self.final_s: array[float] = array("d")
        """Per transaction: when it was seen final, or NaN."""
        self.heights: array[int] = array("q")
        """Per transaction: the block that holds it, or -1."""
        self.blocks: list[ObservedBlock] = []
        self.on_final: Callable[[int], None] = lambda _: None
        """Called with the number of our transactions that just became final."""
        self.seen_s = 0.0
        """When the last block was seen."""
        self.ours_last_s: float | None = None
        """When the last block with a transaction of ours was seen."""
        self.missed_polls = 0
        """Requests that failed; while they do, latencies are over-estimated."""

    def expect(self, ids: Sequence[Digest]) -> None:
        """Name the transactions to look for, by number."""
        self._numbers = {identifier: number for number, identifier in enumerate(ids)}
        self.final_s = array("d", [math.nan]) * len(ids)
        self.heights = array("q", [-1]) * len(ids)

    @property
    def height(self) -> int:
        """Last height that was seen."""
        return self._next - 1

    async def run(self) -> None:
        """Follow the chain until cancelled."""
        try:
            while True:
                try:
                    has_block = await self._look()
                except Unreachable:
                    self.missed_polls += 1
                    await asyncio.sleep(RETRY_S)
                    continue
                if not has_block:
                    pause_s = self.seen_s + PAUSE_S - time.monotonic()
                    await asyncio.sleep(max(POLL_S, pause_s))
        finally:
            self._pool.close()

    async def _look(self) -> bool:
        """Ask for the next height; return whether there was one."""
        path = f"/v1/blocks/{self._next}/ids"
        answer = await self._pool.request(request_bytes(self._url, "GET", path, accept=MSGPACK))
        if answer.status == HTTP_NOT_FOUND:
            return False
        if answer.status != HTTP_OK:
            raise Unreachable(f"{self._url} answered HTTP {answer.status} to GET {path}")
        try:
            height, time_ms, ids = _decode(answer.body)
        except msgspec.DecodeError as error:
            raise BadAnswer(f"ids of block {self._next} cannot be decoded: {error}") from error
        self._take(height, time_ms, ids, time.monotonic())
        self._next += 1
        return True

    def _take(self, height: int, time_ms: int, ids: Sequence[bytes], now_s: float) -> None:
        ours, self.seen_s = 0, now_s
        for identifier in ids:
            number = self._numbers.get(identifier)
            if number is not None and self.heights[number] < 0:
                self.final_s[number] = now_s
                self.heights[number] = height
                ours += 1
        self.blocks.append(ObservedBlock(height, time_ms, now_s, len(ids), ours))
        if ours:
            self.ours_last_s = now_s
            self.on_final(ours)
