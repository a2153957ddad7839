"""Waiting for conditions of processes that tell nobody: look again until it holds or time is up."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

LOOK_AGAIN_S: Final = 0.05

PATIENCE_MAX: Final = 6.0

PATIENCE: Final = min(max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)), PATIENCE_MAX)
"""Factor on every deadline: 1 unless more programs than processors wanted to run just before.

The limits are promises about a machine that has nothing else to do.
"""


def wait_until(what: str, deadline_s: float, condition: Callable[[], T | None]) -> T:
    """Return the first value of ``condition`` that is true; fail, saying ``what``, at the deadline.

    The deadline is for an idle machine, see :data:`PATIENCE`.
    A condition that raises AssertionError or OSError does not hold yet; the last one is reported.
    """
    deadline_s *= PATIENCE
    end = time.monotonic() + deadline_s
    reason: object = None
    while True:
        try:
            value = condition()
            if value:
                return value
            reason = value
        except (AssertionError, OSError) as error:
            reason = error
        if time.monotonic() >= end:
            raise AssertionError(f"not within {deadline_s:g} s: {what} (last: {reason!r})")
        time.sleep(LOOK_AGAIN_S)
