"""Sends prepared requests at fixed rates (open loop) or with a fixed number in flight (closed).

In the open loop a request is due at its place in the schedule, whatever the network does; latency
counts from there, also if the generator or the node is late. A request that a node did not answer
goes once more, to the next node, as any client would do it: the same bytes have the same id and can
become final only once. What a node refuses for now counts as refused in the open loop, where other
transactions are due already; in the closed loop it is sent again when the node says.
"""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec

from mbi.bench.connection import Pool
from mbi.bench.http import Answer, request_bytes
from mbi.bench.workload import Prepared
from mbi.calls import MSGPACK
from mbi.errors import Unreachable

CONNECTIONS_PER_NODE: Final = 16
"""More would only queue in the node; fewer could make the generator the bottleneck."""
POSTS_IN_A_ROW_MAX: Final = 16
"""A generator that is late looks for answers after this many requests."""
HTTP_OK: Final = 200
HTTP_ACCEPTED: Final = 202

ACCEPTED: Final = 1
REJECTED: Final = 2
UNANSWERED: Final = 3

_decode_results: Final = msgspec.msgpack.Decoder(list[list[Any]]).decode
_decode_wires: Final = msgspec.msgpack.Decoder(list[bytes]).decode
_encode: Final = msgspec.msgpack.Encoder().encode


class Refusal(NamedTuple):
    """Why a transaction was refused."""

    code: str
    retry_after_s: int | None
    """When the node says that it may be sent again; None if it does not say."""


@dataclass(slots=True)
class Sent:
    """What happened to each transaction on the way in, by number."""

    intended_s: array[float]
    """When it was due, on the monotonic clock; NaN if never sent."""
    outcome: array[int]
    """0 not sent, :data:`ACCEPTED`, :data:`REJECTED` or :data:`UNANSWERED`."""
    refusals: dict[int, Refusal] = field(default_factory=dict)
    """Of each refused transaction."""
    failovers: int = 0
    """Requests that went to the next node because the first did not answer."""
    sent_again: int = 0
    """Transactions of a closed loop that a node refused for now, each time."""
    lateness_s_max: float = 0.0
    """Longest delay between due time and the moment the request left: the generator's own lag."""
    started_s: float = 0.0
    ended_s: float = 0.0
    """When the last request was due."""

    @property
    def rejected(self) -> Counter[str]:
        """Refusals by code."""
        return Counter(refusal.code for refusal in self.refusals.values())


class LoadGenerator:
    """Submits the prepared bodies to all nodes in turn."""

    def __init__(self, urls: Sequence[str], prepared: Prepared) -> None:
        self._prepared = prepared
        self._urls = urls
        self._pools = [Pool(url, CONNECTIONS_PER_NODE) for url in urls]
        self._is_batch = prepared.batch > 1
        self._again_until_s = -math.inf
        """Until when refused transactions are sent again: the end of a closed loop."""
        self._unanswered = 0
        self._in_flight = 0
        self._changed = asyncio.Event()
        self._reasons: dict[Refusal, Refusal] = {}
        count = len(prepared.ids)
        self.sent = Sent(array("d", [math.nan]) * count, array("b", [0]) * count)

    async def run_open(self, due_s: Iterable[float], duration_s: float) -> None:
        """Send each request when it is due, then wait for all answers.

        Args:
            due_s: of the requests in their order, in seconds from now.
            duration_s: of the load as a whole.
        """
        start = self.sent.started_s = time.monotonic()
        in_a_row = 0
        for index, offset in zip(range(len(self._prepared.bodies)), due_s, strict=False):
            delay = start + offset - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
                in_a_row = 0
            elif in_a_row >= POSTS_IN_A_ROW_MAX:
                await asyncio.sleep(0)
                in_a_row = 0
            in_a_row += 1
            self._post(index, start + offset)
        self.sent.ended_s = start + duration_s
        await self._settle()

    async def run_closed(self, in_flight: int, duration_s: float) -> None:
        """Keep ``in_flight`` transactions unanswered or not final for ``duration_s``.

        The caller reports finality through :meth:`finished`.
        """
        start = self.sent.started_s = time.monotonic()
        deadline = self._again_until_s = start + duration_s
        for index in range(len(self._prepared.bodies)):
            size = len(self._prepared.batch_range(index))
            while self._in_flight and self._in_flight + size > in_flight:
                self._changed.clear()
                try:
                    async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                        await self._changed.wait()
                except TimeoutError:
                    break
            if time.monotonic() >= deadline:
                break
            self._in_flight += size
            self._post(index, time.monotonic())
        self.sent.ended_s = min(deadline, time.monotonic())
        await self._settle()

    def finished(self, count: int) -> None:
        """Note that ``count`` transactions are final or refused, and make room for others."""
        self._in_flight -= count
        self._changed.set()

    def close(self) -> None:
        """End all connections."""
        for pool in self._pools:
            pool.close()

    def _post(self, index: int, due_s: float) -> None:
        numbers = self._prepared.batch_range(index)
        for number in numbers:
            self.sent.intended_s[number] = due_s
        self.sent.lateness_s_max = max(self.sent.lateness_s_max, time.monotonic() - due_s)
        self._unanswered += 1
        self._offer(index % len(self._pools), numbers, self._prepared.bodies[index])

    def _offer(self, turn: int, numbers: Sequence[int], body: bytes) -> None:
        """Post transactions to one node, and to the next if that one does not answer."""
        self._send(turn, body, partial(self._answered_first, turn, numbers, body))

    def _send(self, turn: int, body: bytes, done: partial[None]) -> None:
        request = request_bytes(
            self._urls[turn],
            "POST",
            "/v1/transactions/batch" if self._is_batch else "/v1/transactions",
            body,
            accept=MSGPACK if self._is_batch else "application/json",
            content_type=MSGPACK,
        )
        self._pools[turn].send(request, done)

    def _answered_first(
        self, turn: int, numbers: Sequence[int], body: bytes, found: Answer | Unreachable
    ) -> None:
        if isinstance(found, Unreachable) and len(self._pools) > 1:
            self.sent.failovers += 1
            turn = (turn + 1) % len(self._pools)
            self._send(turn, body, partial(self._answered, turn, numbers, body))
        else:
            self._answered(turn, numbers, body, found)

    def _answered(
        self, turn: int, numbers: Sequence[int], body: bytes, found: Answer | Unreachable
    ) -> None:
        if isinstance(found, Unreachable):
            self._mark(numbers, UNANSWERED)
            refused = {}
        else:
            refused = self._read(numbers, found)
        waits = [item.retry_after_s for item in refused.values() if item.retry_after_s is not None]
        if waits and time.monotonic() + max(waits) < self._again_until_s:
            body = self._without(numbers, body, refused)
            asyncio.get_running_loop().call_later(
                max(waits), self._offer, turn, list(refused), body
            )
            self.sent.sent_again += len(refused)
            return
        for number, refusal in refused.items():
            # One object for all refusals alike: there may be a million of them.
            self.sent.refusals[number] = self._reasons.setdefault(refusal, refusal)
            self.sent.outcome[number] = REJECTED
        # At the very end of a closed loop no other one takes the place of what comes too late.
        if refused and not (waits and self._again_until_s > -math.inf):
            self.finished(len(refused))
        self._unanswered -= 1
        if not self._unanswered:
            self._changed.set()

    def _without(self, numbers: Sequence[int], body: bytes, refused: Container[int]) -> bytes:
        """Return a body with only those that were refused."""
        if not self._is_batch:
            return body
        wires = zip(numbers, _decode_wires(body), strict=True)
        return _encode([wire for number, wire in wires if number in refused])

    def _read(self, numbers: Sequence[int], answer: Answer) -> dict[int, Refusal]:
        """Note what was accepted and return what was refused."""
        if answer.status not in (HTTP_OK, HTTP_ACCEPTED):
            refusal = Refusal(_problem_code(answer), answer.retry_after_s)
            return dict.fromkeys(numbers, refusal)
        if not self._is_batch:
            self._mark(numbers, ACCEPTED)
            return {}
        try:
            results = _decode_results(answer.body)
        except msgspec.DecodeError:
            results = []
        if len(results) != len(numbers):
            self._mark(numbers, UNANSWERED)
            return {}
        refused: dict[int, Refusal] = {}
        for number, result in zip(numbers, results, strict=True):
            if result[1] == "rejected":
                refused[number] = Refusal(str(result[2]), result[5])
            else:
                self.sent.outcome[number] = ACCEPTED
        return refused

    def _mark(self, numbers: Sequence[int], outcome: int) -> None:
        for number in numbers:
            self.sent.outcome[number] = outcome

    async def _settle(self) -> None:
        """Wait for the answers to everything sent."""
        while self._unanswered:
            self._changed.clear()
            await self._changed.wait()


def _problem_code(answer: Answer) -> str:
    try:
        document = msgspec.json.decode(answer.body)
    except msgspec.DecodeError:
        document = None
    code = document.get("code") if isinstance(document, dict) else None
    return str(code or f"http_{answer.status}")
