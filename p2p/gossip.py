"""Collects transactions into batches: gossip costs a few frames instead of one per transaction.

The batcher remembers nothing about content and decides nothing about routing: the node says which
wires go to which peers, once. Wires for the same set of peers share a batch, which is encoded once
for all of them. A batch leaves when it is full, or :data:`DELAY_S` after its first wire; under load
batches are at least :data:`SPACING_S` apart and grow instead of multiplying. It has no clock: the
time is an argument.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from p2p.messages import TransactionBatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consensus.inputs import PeerId

BATCH_BYTES: Final = 64 * 1024
"""A batch is closed at this size; with the last transaction it stays below 128 KiB plus framing."""

BATCH_WIRES: Final = 1024
"""A batch is closed at this count: decoding one must not hold the event loop for more than a
millisecond."""

DELAY_S: Final = 0.002
"""How long the first transaction of an idle link waits for company."""

SPACING_S: Final = 0.010
"""Under load: at most 100 flushes a second. A frame costs some 40 us at both ends together."""

GROUPS_MAX: Final = 64
"""Different sets of receivers collected at a time; bounds the memory that waits here to 8 MiB."""

Recipients = tuple["PeerId", ...]
Outgoing = tuple[Recipients, TransactionBatch]


class Batcher:
    """Wires waiting for company, by recipients."""

    def __init__(self) -> None:
        self._groups: dict[Recipients, list[bytes]] = {}
        self._bytes: dict[Recipients, int] = {}
        self._flushed_s = float("-inf")
        self._due_s: float | None = None

    @property
    def due_s(self) -> float | None:
        """When :meth:`flush` wants to be called; None if nothing waits."""
        return self._due_s

    def add(self, wires: Sequence[bytes], recipients: Recipients, now_s: float) -> list[Outgoing]:
        """Queue wires for these peers; return the batches that became full."""
        if not recipients or not wires:
            return []
        full = self.flush(now_s) if self._is_crowded(recipients) else []
        group = self._groups.setdefault(recipients, [])
        size = self._bytes.get(recipients, 0)
        added = sum(map(len, wires))
        if size + added < BATCH_BYTES and len(group) + len(wires) < BATCH_WIRES:
            # The common case, without a step of ours per wire.
            group.extend(wires)
            size += added
            wires = ()
        for wire in wires:
            group.append(wire)
            size += len(wire)
            if size >= BATCH_BYTES or len(group) >= BATCH_WIRES:
                full.append((recipients, TransactionBatch(tuple(group))))
                group.clear()
                size = 0
        self._bytes[recipients] = size
        if group and self._due_s is None:
            self._due_s = max(now_s + DELAY_S, self._flushed_s + SPACING_S)
        return full

    def flush(self, now_s: float) -> list[Outgoing]:
        """Return everything that waits."""
        batches = [
            (to, TransactionBatch(tuple(wires))) for to, wires in self._groups.items() if wires
        ]
        self._groups.clear()
        self._bytes.clear()
        self._due_s = None
        self._flushed_s = now_s
        return batches

    def _is_crowded(self, recipients: Recipients) -> bool:
        return recipients not in self._groups and len(self._groups) >= GROUPS_MAX
