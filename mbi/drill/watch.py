"""Follows every node's chain over HTTP and notes when it showed which block with what in it."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from mbi.calls import HTTP_NOT_FOUND
from mbi.client import AsyncClient
from mbi.errors import ApiProblem, MbiError, OperationFailed

POLL_S: Final = 0.1
"""Resolution of all times of a drill."""
ANSWER_S: Final = 2.0
"""A node that needs longer is out of reach; the next question goes over a new connection."""


@dataclass(frozen=True, slots=True)
class DrillNode:
    """One node of the network under drill."""

    name: str
    url: str
    is_validator: bool
    chamber: str
    """Empty for an observer."""


@dataclass(slots=True)
class Timeline:
    """When greater heights were first seen on any node, and where each node stands."""

    first_height: int
    growth: list[tuple[float, int]] = field(default_factory=list)
    """Moment on the monotonic clock and height, both rising."""
    heights: dict[str, int] = field(default_factory=dict)
    shown: dict[str, list[float]] = field(default_factory=dict)
    """When each node showed its blocks, one after the other."""
    final: dict[str, int] = field(default_factory=dict)
    """Height at which a node first called each transaction final."""
    contradictions: list[str] = field(default_factory=list)
    """Transactions that two nodes, or one node twice, showed at different heights."""

    @property
    def tip(self) -> int:
        """Greatest height that any node has shown."""
        return self.growth[-1][1] if self.growth else self.first_height - 1

    @property
    def lowest(self) -> int:
        """Height that all nodes have shown."""
        return min(self.heights.values(), default=self.first_height - 1)

    def note(self, node: str, height: int, ids: Sequence[str], now_s: float) -> None:
        """Take in what a node shows as final at a height."""
        self.heights[node] = height
        self.shown.setdefault(node, []).append(now_s)
        if height > self.tip:
            self.growth.append((now_s, height))
        for identifier in ids:
            known = self.final.setdefault(identifier, height)
            if known != height:
                self.contradictions.append(
                    f"{node} has transaction {identifier} at height {height}, "
                    f"it was shown at height {known}"
                )

    def longest_gap_s(self, begin_s: float, end_s: float) -> float:
        """Return the longest time without a new block between two moments."""
        inside = [at for at, _ in self.growth if begin_s < at < end_s]
        times = [begin_s, *inside, end_s]
        return max(later - earlier for earlier, later in itertools.pairwise(times))

    def all_have_s(self, height: int) -> float:
        """Return the moment at which the last node showed a height that all have shown."""
        place = height - self.first_height
        return max(moments[place] for moments in self.shown.values())

    def blocks_between(self, node: str, begin_s: float, end_s: float) -> int:
        """Return how many blocks a node showed between two moments."""
        return sum(begin_s < at < end_s for at in self.shown.get(node, ()))


class Watch:
    """Reads the ids of every new block from every node, each node by a task of its own."""

    def __init__(self, nodes: Sequence[DrillNode], first_height: int) -> None:
        self.timeline = Timeline(first_height)
        self.timeline.heights = {node.name: first_height - 1 for node in nodes}
        self._nodes = nodes
        self._first = first_height

    async def run(self) -> None:
        """Follow all nodes until cancelled."""
        await asyncio.gather(*(self._follow(node) for node in self._nodes))

    async def until(
        self, what: str, deadline_s: float, reached: Callable[[Timeline], bool]
    ) -> None:
        """Wait until the timeline shows something.

        Raises:
            OperationFailed: it did not within ``deadline_s``.
        """
        end = time.monotonic() + deadline_s
        while not reached(self.timeline):
            if time.monotonic() > end:
                raise OperationFailed(f"{what}: not within {deadline_s:g} s")
            await asyncio.sleep(POLL_S / 2)

    async def _follow(self, node: DrillNode) -> None:
        following = self._first
        while True:
            try:
                async with AsyncClient(node.url, ANSWER_S) as client:
                    while True:
                        following = await self._look(client, node.name, following)
            except MbiError:
                await asyncio.sleep(POLL_S)

    async def _look(self, client: AsyncClient, name: str, height: int) -> int:
        """Ask for one height; return which to ask for next."""
        try:
            block = await client.get(f"/v1/blocks/{height}/ids")
        except ApiProblem as problem:
            if problem.status != HTTP_NOT_FOUND:
                raise
            await asyncio.sleep(POLL_S)
            return height
        self.timeline.note(name, height, block["ids"], time.monotonic())
        return height + 1
