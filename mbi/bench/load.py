"""Sends prepared requests at a fixed rate (open loop) or with a fixed number in flight (closed).

In the open loop a request is due at its place in the schedule, whatever the network does; latency
counts from there, also if the generator or the node is late. A request that a node did not answer
goes once more, to the next node, as any client would do it: the same bytes have the same id and can
become final only once.
"""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from mbi.bench.connection import Pool
from mbi.bench.http import Answer, request_bytes
from mbi.bench.workload import Prepared
from mbi.calls import MSGPACK
from mbi.errors import Unreachable

CONNECTIONS_PER_NODE: Final = 16
"""More would only queue in the node; fewer could make the generator the bottleneck."""
HTTP_OK: Final = 200
HTTP_ACCEPTED: Final = 202

ACCEPTED: Final = 1
REJECTED: Final = 2
UNANSWERED: Final = 3

_decode_results: Final = msgspec.msgpack.Decoder(list[list[Any]]).decode


@dataclass(slots=True)
class Sent:
    """What happened to each transaction on the way in, by number."""

    intended_s: array[float]
    """When it was due, on the monotonic clock; NaN if never sent."""
    outcome: array[int]
    """0 not sent, :data:`ACCEPTED`, :data:`REJECTED` or :data:`UNANSWERED`."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Refusals by code."""
    failovers: int = 0
    """Requests that went to the next node because the first did not answer."""
    lateness_s_max: float = 0.0
    """Longest delay between due time and the moment the request left: the generator's own lag."""
    started_s: float = 0.0
    ended_s: float = 0.0
    """When the last request was due."""


class LoadGenerator:
    """Submits the prepared bodies to all nodes in turn."""

    def __init__(self, urls: Sequence[str], prepared: Prepared) -> None:
        self._prepared = prepared
        self._urls = urls
        self._pools = [Pool(url, CONNECTIONS_PER_NODE) for url in urls]
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        self._room = asyncio.Event()
        count = len(prepared.ids)
        self.sent = Sent(array("d", [math.nan]) * count, array("b", [0]) * count)

    async def run_open(self, rate: float, duration_s: float) -> None:
        """Send ``rate`` transactions per second for ``duration_s``, then wait for all answers."""
        interval = self._prepared.batch / rate
        start = self.sent.started_s = time.monotonic()
        for index in range(len(self._prepared.bodies)):
            due = start + index * interval
            if due >= start + duration_s:
                break
            delay = due - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            self._post(index, due)
        self.sent.ended_s = start + duration_s
        await self._drain()

    async def run_closed(self, in_flight: int, duration_s: float) -> None:
        """Keep ``in_flight`` transactions unanswered or not final for ``duration_s``.

        The caller reports finality through :meth:`finished`.
        """
        start = self.sent.started_s = time.monotonic()
        deadline = start + duration_s
        for index in range(len(self._prepared.bodies)):
            size = len(self._prepared.batch_range(index))
            while self._in_flight and self._in_flight + size > in_flight:
                self._room.clear()
                try:
                    async with asyncio.timeout_at(
                        asyncio.get_running_loop().time() + deadline - time.monotonic()
                    ):
                        await self._room.wait()
                except TimeoutError:
                    break
            if time.monotonic() >= deadline:
                break
            self._in_flight += size
            self._post(index, time.monotonic())
        self.sent.ended_s = min(deadline, time.monotonic())
        await self._drain()

    def finished(self, count: int) -> None:
        """Note that ``count`` transactions are final or refused, and make room for others."""
        self._in_flight -= count
        self._room.set()

    def close(self) -> None:
        """End all connections."""
        for pool in self._pools:
            pool.close()

    def _post(self, index: int, due_s: float) -> None:
        for number in self._prepared.batch_range(index):
            self.sent.intended_s[number] = due_s
        task = asyncio.create_task(self._exchange(index, due_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _exchange(self, index: int, due_s: float) -> None:
        self.sent.lateness_s_max = max(self.sent.lateness_s_max, time.monotonic() - due_s)
        numbers = self._prepared.batch_range(index)
        turn = index % len(self._pools)
        answer = await self._ask(turn, index)
        if answer is None and len(self._pools) > 1:
            self.sent.failovers += 1
            answer = await self._ask((turn + 1) % len(self._pools), index)
        if answer is None:
            self._mark(numbers, UNANSWERED)
            return
        self._read(numbers, answer, is_batch=self._prepared.batch > 1)

    async def _ask(self, turn: int, index: int) -> Answer | None:
        """Post one request body to one node; None if it does not answer."""
        is_batch = self._prepared.batch > 1
        request = request_bytes(
            self._urls[turn],
            "POST",
            "/v1/transactions/batch" if is_batch else "/v1/transactions",
            self._prepared.bodies[index],
            accept=MSGPACK if is_batch else "application/json",
            content_type=MSGPACK,
        )
        try:
            return await self._pools[turn].request(request)
        except Unreachable:
            return None

    def _read(self, numbers: range, answer: Answer, *, is_batch: bool) -> None:
        if answer.status not in (HTTP_OK, HTTP_ACCEPTED):
            self.sent.rejected[_problem_code(answer)] += len(numbers)
            self._mark(numbers, REJECTED)
            self.finished(len(numbers))
            return
        if not is_batch:
            self._mark(numbers, ACCEPTED)
            return
        try:
            results = _decode_results(answer.body)
        except msgspec.DecodeError:
            results = []
        if len(results) != len(numbers):
            self._mark(numbers, UNANSWERED)
            return
        for number, result in zip(numbers, results, strict=True):
            is_refused = result[1] == "rejected"
            self.sent.outcome[number] = REJECTED if is_refused else ACCEPTED
            if is_refused:
                self.sent.rejected[str(result[2])] += 1
                self.finished(1)

    def _mark(self, numbers: range, outcome: int) -> None:
        for number in numbers:
            self.sent.outcome[number] = outcome

    async def _drain(self) -> None:
        """Wait for the answers to everything sent."""
        if self._tasks:
            await asyncio.gather(*self._tasks)


def _problem_code(answer: Answer) -> str:
    try:
        document = msgspec.json.decode(answer.body)
    except msgspec.DecodeError:
        document = None
    code = document.get("code") if isinstance(document, dict) else None
    return str(code or f"http_{answer.status}")
