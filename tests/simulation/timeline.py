"""Virtual time: one heap of events ordered by (time, sequence), run by one thread.

Nothing in a simulation happens except as an event of this heap, so a run is a function of its seed.
Time is in whole milliseconds since the start of the run; events of one millisecond run in the order
in which they were scheduled.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

EVENTS_MAX = 400_000
"""Events of one run; one that needs more is storming (I10). Normal are 5,000 to 40,000."""


class EventStorm(Exception):
    """The run needed more than :data:`EVENTS_MAX` events: somebody talks without end."""


class Timeline:
    """The clock and the agenda of a simulated world."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.events_run = 0
        self.events_max = EVENTS_MAX
        self._sequence = 0
        # Any: the arguments belong to the action scheduled beside them.
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []

    def at(self, time_ms: int, action: Callable[..., None], *arguments: Any) -> None:
        """Run ``action`` at ``time_ms``, or as soon as possible if that has passed."""
        self._sequence += 1
        when = time_ms if time_ms > self.now_ms else self.now_ms
        heappush(self._heap, (when, self._sequence, action, arguments))

    def after(self, delay_ms: int, action: Callable[..., None], *arguments: Any) -> None:
        """Run ``action`` in ``delay_ms``."""
        self._sequence += 1
        when = self.now_ms + delay_ms if delay_ms > 0 else self.now_ms
        heappush(self._heap, (when, self._sequence, action, arguments))

    def run_until(self, end_ms: int, done: Callable[[], bool] | None = None) -> bool:
        """Run events up to ``end_ms``; stop early and return True once ``done`` holds."""
        heap = self._heap
        while heap and heap[0][0] <= end_ms:
            self.now_ms, _, action, arguments = heappop(heap)
            self.events_run += 1
            if self.events_run > self.events_max:
                raise EventStorm(f"more than {self.events_max} events by {self.now_ms} ms")
            action(*arguments)
            if done is not None and done():
                return True
        self.now_ms = end_ms
        return done is not None and done()
