"""How long the stages of a view take, seen from outside the engine.

The clock of a view starts with its proposal, own or received: an idle view may have been open for
hours before. *notarization* ends when the view is left, *finalization* when its block is final.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

from consensus.effects import Broadcast, Effect, Finalize, RequestVerification
from consensus.types import Proposal
from ledger.block import Header
from ledger.types import View
from node.metrics import ConsensusMetrics

VIEWS_MAX: Final = 64
"""Proposals whose end is still awaited; older ones are given up."""


class StageClock:
    """Watches the effects of the engine and feeds the histogram of stages."""

    def __init__(self, metrics: ConsensusMetrics) -> None:
        """Feed ``stage_seconds`` of these metrics."""
        self._metrics = metrics
        self._proposed: OrderedDict[View, tuple[float, int]] = OrderedDict()
        """When each view's block was proposed, and how many transactions it has."""
        self._view = View(0)

    def watch(self, effects: list[Effect], view: View) -> tuple[float, int] | None:
        """Note what a turn of the engine asked for, and the view in which it ended.

        Returns how long the view that was left had taken since its proposal, and how many
        transactions that had; None if none was left.
        """
        now_s = time.monotonic()
        if view < self._view:  # the views of a new epoch
            self._proposed.clear()
            self._view = view
        for effect in effects:
            if isinstance(effect, Broadcast) and isinstance(effect.message, Proposal):
                self._start(effect.message.view, effect.message.header, now_s)
            elif isinstance(effect, RequestVerification):
                self._start(effect.header.view, effect.header, now_s)
            elif isinstance(effect, Finalize):
                self._observe("finalization", effect.certificate.view, now_s)
        if view == self._view:
            return None
        left, self._view = self._view, view
        return self._observe("notarization", left, now_s)

    def _start(self, view: View, header: Header, now_s: float) -> None:
        self._proposed.setdefault(view, (now_s, header.transaction_count))
        if len(self._proposed) > VIEWS_MAX:
            self._proposed.popitem(last=False)

    def _observe(self, stage: str, view: View, now_s: float) -> tuple[float, int] | None:
        proposed = self._proposed.get(view)
        if proposed is None:
            return None
        started_s, transactions = proposed
        self._metrics.stage_seconds.labels(stage).observe(now_s - started_s)
        return now_s - started_s, transactions
