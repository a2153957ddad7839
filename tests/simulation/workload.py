"""Clients: they submit transactions in bursts with idle gaps, to random honest nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.simulation.application import TRANSACTION_PREFIX, transaction_hash

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
        self.wires: dict[Digest, bytes] = {}
        """What was submitted."""
        self._world = world
        self._random = world.random
        self._burst_ends_ms = 0

    def start(self) -> None:
        self._begin_burst()

    def submit(self, index: int) -> Digest:
        """Give a fresh transaction to a node, as a client does; return its hash."""
        wire = TRANSACTION_PREFIX + self._random.randbytes(31)
        digest = transaction_hash(wire)
        self.wires[digest] = wire
        self._world.trace.record(f"client submits {digest[:4].hex()} to {index}")
        process = self._world.nodes[index].process
        if process is not None and process.is_alive:
            process.add_transactions((wire,), gossip=True)
        return digest

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
