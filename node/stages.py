"""How long the stages of a view take, seen from outside the engine.

The clock of a view starts with its proposal, own or received: an idle view may have been open for
hours before. *notarization* ends when the view is left, *finalization* when its block is final.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

from consensus.effects import Effect, Finalize, RequestProposal, RequestVerification
from ledger.types import View
from node.metrics import ConsensusMetrics

VIEWS_MAX: Final = 64
"""Proposals whose end is still awaited; older ones are given up."""


class StageClock:
    """Watches the effects of the engine and feeds the histogram of stages."""

    def __init__(self, metrics: ConsensusMetrics) -> None:
        """Feed ``stage_seconds`` of these metrics."""
        self._metrics = metrics
        self._proposed_s: OrderedDict[View, float] = OrderedDict()
        self._view = View(0)

    def watch(self, effects: list[Effect], view: View) -> float | None:
        """Note what a turn of the engine asked for, and the view in which it ended.

        Returns how long the view that was left had taken since its proposal, None if none was left.
        """
        now_s = time.monotonic()
        if view < self._view:  # the views of a new epoch
            self._proposed_s.clear()
            self._view = view
        for effect in effects:
            if isinstance(effect, RequestProposal):
                self._start(effect.view, now_s)
            elif isinstance(effect, RequestVerification):
                self._start(effect.header.view, now_s)
            elif isinstance(effect, Finalize):
                self._observe("finalization", effect.certificate.view, now_s)
        if view == self._view:
            return None
        left, self._view = self._view, view
        return self._observe("notarization", left, now_s)

    def _start(self, view: View, now_s: float) -> None:
        self._proposed_s.setdefault(view, now_s)
        if len(self._proposed_s) > VIEWS_MAX:
            self._proposed_s.popitem(last=False)

    def _observe(self, stage: str, view: View, now_s: float) -> float | None:
        started_s = self._proposed_s.get(view)
        if started_s is None:
            return None
        self._metrics.stage_seconds.labels(stage).observe(now_s - started_s)
        return now_s - started_s
