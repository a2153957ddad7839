"""Writes to the database, off the event loop, in one thread and in order.

Batches are filled on the loop (filling them beside a busy thread costs thirty times as much)
and handed over whole: one call, which releases the interpreter lock while the disk works.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from node.costs import Costs
from node.errors import FatalError
from storage.errors import StorageError
from storage.kv import Batch, KeyValueStore


class Writer:
    """The only place that writes to an open database."""

    def __init__(
        self, store: KeyValueStore, observe: Callable[[float], None], *, costs: Costs
    ) -> None:
        """Prepare; the thread starts with the first write. ``observe`` gets seconds per write."""
        self._costs = costs
        self._store = store
        self._observe = observe
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self.writes_total = 0

    async def write(self, batch: Batch, *, sync: bool) -> None:
        """Write a batch atomically; with ``sync`` it is on disk when this returns.

        Raises:
            FatalError: the disk refused. Never retried: after a failed fsync nothing is known
                about what is on disk (Rebello et al., "Can Applications Recover from fsync
                Failures?", USENIX ATC 2020).
        """
        self.writes_total += 1
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        try:
            seconds = await loop.run_in_executor(self._thread, self._timed, batch, sync)
        except StorageError as error:
            raise FatalError(f"storage write failed: {error}", cause=error.code) from error
        self._observe(time.perf_counter() - started)
        self._costs.add("write", seconds)

    def close(self) -> None:
        """Finish queued writes and stop the thread."""
        self._thread.shutdown(wait=True)

    def _timed(self, batch: Batch, sync: bool) -> float:
        """Write, and return the processor time of this thread that it took."""
        started = time.thread_time()
        self._store.write(batch, sync=sync)
        return time.thread_time() - started
