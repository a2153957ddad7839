"""Waiting for conditions that have no event, with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

DEADLINE_S = 20.0
POLL_S = 0.005


def wait_until(condition: Callable[[], bool]) -> None:
    """Block until the condition holds; raises ``TimeoutError``."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the condition did not come true")
        time.sleep(POLL_S)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds; raises ``TimeoutError``."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - files and fakes have no event
            await asyncio.sleep(POLL_S)
