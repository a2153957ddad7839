"""Requests of ours that wait for one peer's answers: bounded, matched by id and type."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from p2p.errors import PeerUnavailable, RequestTimedOut, TooManyRequests, UnsolicitedAnswer
from p2p.messages import ANSWER_OF, REQUEST_ID_MAX, Answer, Request

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable


class OutstandingRequests:
    """Every id is in use at most once at a time, and never again soon."""

    def __init__(self, requests_max: int) -> None:
        self._requests_max = requests_max
        self._waiting: dict[int, tuple[type[Answer], Future[Answer]]] = {}
        self._last_id = 0

    def __len__(self) -> int:
        return len(self._waiting)

    async def ask(
        self, message: Request, timeout_s: float, send: Callable[[Request], bool]
    ) -> Answer:
        """Send a request under a fresh id and return its answer; the id in ``message`` is ignored.

        Raises:
            TooManyRequests: the bound is reached.
            PeerUnavailable: ``send`` refused it, or the connection ended meanwhile.
            RequestTimedOut: no answer in time.
        """
        if len(self._waiting) >= self._requests_max:
            raise TooManyRequests(f"expected at most {self._requests_max} waiting requests")
        self._last_id = request_id = self._last_id % REQUEST_ID_MAX + 1
        future: Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = (ANSWER_OF[type(message)], future)
        try:
            if not send(msgspec.structs.replace(message, request_id=request_id)):
                raise PeerUnavailable("the peer does not read")
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError as error:
            raise RequestTimedOut(f"no answer in {timeout_s:g} s") from error
        finally:
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
