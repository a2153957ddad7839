"""Signature checks, off the event loop, in chunks, in one thread.

A signature costs 55 microseconds and is half of the work for a transaction. One worker
thread checks chunks: libsodium releases the interpreter lock, the loop thread wins it back
whenever it has work, so votes are not delayed by a flood of transactions (measured: round trip
0.4 ms against 20 to 80 ms with checks on the loop). One task per signature would cost as much
again as the signature.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from ledger.crypto import verify_many
from node.costs import Costs

CHUNK_SIGNATURES: Final = 128
"""Signatures per hand-over of what is not urgent: 7 ms of work, which urgent work may wait for."""

SignatureItem = tuple[bytes, bytes, bytes]
"""Public key, message, signature."""


class Verifier:
    """Checks signatures in one worker thread; proposals go before gossip."""

    def __init__(self, *, costs: Costs) -> None:
        """Prepare; the thread starts with the first check."""
        self._costs = costs
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="verifier")
        self._is_busy = False
        self._urgent: deque[asyncio.Future[None]] = deque()
        self._others: deque[asyncio.Future[None]] = deque()
        """Turns that are waited for, in the order in which they come."""
        self.signatures_total = 0
        """Signatures checked since start."""

    async def verify(self, items: Sequence[SignatureItem], *, urgent: bool = False) -> list[bool]:
        """Return for each (public key, message, signature) whether it holds under the strict rule.

        Every chunk takes its turn. What is urgent has it next and is one chunk, so it waits for the
        running chunk and for what else is urgent, however many others there are.
        """
        verdicts: list[bool] = []
        size = CHUNK_SIGNATURES if not urgent else max(1, len(items))
        for start in range(0, len(items), size):
            await self._take_turn(self._urgent if urgent else self._others)
            try:
                verdicts += await self._run(items[start : start + size])
            finally:
                self._end_turn()
        return verdicts

    async def _take_turn(self, line: deque[asyncio.Future[None]]) -> None:
        if not self._is_busy:
            self._is_busy = True
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it has come just now
                self._end_turn()
            raise

    def _end_turn(self) -> None:
        for line in (self._urgent, self._others):
            while line:
                turn = line.popleft()
                if not turn.done():
                    turn.set_result(None)
                    return
        self._is_busy = False

    async def _run(self, chunk: Sequence[SignatureItem]) -> list[bool]:
        verdicts, seconds = await asyncio.get_running_loop().run_in_executor(
            self._thread, _timed, chunk
        )
        self._costs.add("signature", seconds)
        self.signatures_total += len(chunk)
        return verdicts

    def close(self) -> None:
        """Stop the thread; running checks end first."""
        self._thread.shutdown(wait=True, cancel_futures=True)


def _timed(chunk: Sequence[SignatureItem]) -> tuple[list[bool], float]:
    """Return the verdicts, and the processor time of this thread that they took."""
    started = time.thread_time()
    verdicts = verify_many(chunk)
    return verdicts, time.thread_time() - started
