"""The consensus engine: a function of inputs and time that returns effects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consensus.config import EngineConfig, Restored
from consensus.status import EngineStatus

if TYPE_CHECKING:
    from consensus.effects import Effect
    from consensus.inputs import Input

__all__ = ["Engine", "EngineConfig", "EngineStatus", "Restored"]


class Engine:
    """State machine of one validator or observer for one epoch; does no I/O and reads no clock."""

    def __init__(self, config: EngineConfig, restored: Restored) -> None:
        self._config = config
        self._restored = restored

    def start(self, now_ms: int) -> list[Effect]:
        """Return the effects of a start or restart; call once, before the first ``step``."""
        raise NotImplementedError

    def step(self, now_ms: int, event: Input) -> list[Effect]:
        """Handle one input at monotonic time ``now_ms`` and return the effects, in order."""
        raise NotImplementedError

    def status(self) -> EngineStatus:
        """Return a snapshot for operators."""
        raise NotImplementedError
