"""The port between what a node keeps and where: an ordered map of bytes with atomic batches.

Every value a node must not lose goes through :meth:`KeyValueStore.write`. A batch is atomic: after
a crash either all of it is there or nothing. Batches take effect in the order they were written,
so what survives a crash is always the state after some batch, never a mixture. A batch written
with ``sync`` is on disk when the call returns, and so is every batch before it. A failed write is
final: the store refuses every later one, because nobody knows what reached the disk.

Reads see written batches at once, synced or not. All methods but ``write`` are quick and are
called by the owner of the store; ``write`` may wait for the disk and is called in one writer
thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOWEST_KEY: Final = b"\x00"
"""Below every key of the schema; kept by the adapters themselves."""

HIGHEST_KEY: Final = b"\xff"
"""Above every key of the schema; kept by the adapters themselves."""


class Batch(Protocol):
    """Changes that take effect together; a later one of the same key wins."""

    def put(self, key: bytes, value: bytes, /) -> None:
        """Set a value; the key is between :data:`LOWEST_KEY` and :data:`HIGHEST_KEY`, exclusive."""

    def delete(self, key: bytes, /) -> None:
        """Remove a key; no effect if it is not there."""


class KeyValueStore(Protocol):
    """An ordered map of bytes. Reading damaged data raises ``StoreCorrupt``, never guesses."""

    @property
    def path(self) -> Path:
        """Where it is, for messages."""

    def get(self, key: bytes, /) -> bytes | None:
        """Return the value of a key, None if there is none."""

    def batch(self) -> Batch:
        """Return an empty batch for this store."""

    def write(self, batch: Batch, /, *, sync: bool) -> None:
        """Apply a batch; with ``sync``, return only once it is on disk. A batch is written once.

        Raises:
            WriteError: it may or may not be on disk. Fatal: every later write raises too.
        """

    def iterate(
        self, start: bytes, stop: bytes, *, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over ``start <= key < stop`` in ascending, or descending, order of keys.

        The iterator shows the store as it was when the first item was taken.
        """

    def close(self) -> None:
        """Release the store. Closing twice is harmless."""


def prefix_end(prefix: bytes) -> bytes:
    """Return the first key after every key with this prefix; its last byte must not be 0xff."""
    return prefix[:-1] + bytes([prefix[-1] + 1])
