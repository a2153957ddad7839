"""Requests of ours that wait for one peer's answers: bounded, matched by id and type."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from p2p.errors import PeerUnavailable, TooManyRequests, UnsolicitedAnswer
from p2p.messages import ANSWER_OF, REQUEST_ID_MAX, Answer, Request

if TYPE_CHECKING:
    from asyncio import Future


class OutstandingRequests:
    """Every id is in use at most once at a time, and never again soon."""

    def __init__(self, requests_max: int) -> None:
        self._requests_max = requests_max
        self._waiting: dict[int, tuple[type[Answer], Future[Answer]]] = {}
        self._last_id = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def open(self, request: type[Request]) -> tuple[int, Future[Answer]]:
        """Return a fresh id and the future of its answer; :meth:`forget` it in the end.

        Raises:
            TooManyRequests: the bound is reached.
        """
        if len(self._waiting) >= self._requests_max:
            raise TooManyRequests(f"expected at most {self._requests_max} waiting requests")
        self._last_id = self._last_id % REQUEST_ID_MAX + 1
        future: Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[self._last_id] = (ANSWER_OF[request], future)
        return self._last_id, future

    def forget(self, request_id: int) -> None:
        """Stop waiting; a later answer is unsolicited."""
        self._waiting.pop(request_id, None)

    def resolve(self, answer: Answer) -> None:
        """Hand an answer to whoever waits for it.

        Raises:
            UnsolicitedAnswer: nobody asked for it, or for something of another type.
        """
        expected, future = self._waiting.get(answer.request_id, (None, None))
        if future is None or future.done() or type(answer) is not expected:
            raise UnsolicitedAnswer(
                f"expected an answer to a waiting request, received {type(answer).__name__}"
                f" number {answer.request_id}"
            )
        future.set_result(answer)

    def fail_all(self, reason: str) -> None:
        """Tell everybody that no answer will come."""
        for _, future in self._waiting.values():
            if not future.done():
                future.set_exception(PeerUnavailable(reason))
        self._waiting.clear()
