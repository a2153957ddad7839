"""Clients: they submit transactions in bursts with idle gaps, to random honest nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ledger.types import Digest
    from tests.simulation.world import World

BURST_MS: Final = (200, 3_000)
"""Length of a burst."""

GAP_MS: Final = (1_000, 6_000)
"""Length of an idle gap."""


class Workload:
    """Submits random transactions until stopped."""

    def __init__(self, world: World) -> None:
        self.is_over = False
        self._world = world
        self._random = world.random
        self._burst_ends_ms = 0

    def start(self) -> None:
        """Begin with a burst."""
        self._begin_burst()

    def submit(self, index: int) -> Digest:
        """Give a fresh transaction to a node, as a client does; return its id."""
        wire = self._world.universe.transfer(self._random, self._world.wall_ms())
        return self.submit_wire(index, wire)

    def submit_wire(self, index: int, wire: bytes) -> Digest:
        """Give a transaction to a node; return its id."""
        identity = self._world.universe.decode(wire).id
        if self._world.trace.is_on:
            self._world.trace.record(f"client submits {identity[:4].hex()} to {index}")
        process = self._world.nodes[index].process
        if process is not None:
            process.submit((wire,))
        return identity

    def _begin_burst(self) -> None:
        self._burst_ends_ms = self._world.timeline.now_ms + self._random.randint(*BURST_MS)
        self._next()

    def _next(self) -> None:
        if self.is_over:
            return
        self.submit(self._random.choice(tuple(self._world.nodes)))
        if self._world.options.idle_gaps and self._world.timeline.now_ms > self._burst_ends_ms:
            self._world.timeline.after(self._random.randint(*GAP_MS), self._begin_burst)
            return
        every_ms = self._world.options.transaction_every_ms
        self._world.timeline.after(self._random.randint(1, 2 * every_ms), self._next)
