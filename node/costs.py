"""What each stage of the work costs this node, in processor time of the thread that does it.

Elapsed time says little on a machine that four nodes share, so the counters read the processor
clock of the thread. A stage that begins inside another one suspends it: the sum of all stages is
never more than the process used, and the difference is what no stage covers (event loop, sockets,
TLS, HTTP, the interpreter's own work).
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, Literal, get_args

Stage = Literal[
    "decode",
    "checks",
    "signature",
    "gossip",
    "propose",
    "resolve",
    "consensus",
    "execute",
    "tree",
    "write",
]
"""``decode``: bytes to transactions, with their hashes. ``checks``: everything else that admission
and the mempool look at. ``signature``: the verifying thread. ``gossip``: passing transactions on
and taking them in, with frames and encryption, those of votes too; decryption is the event loop's.
``propose``: building a block. ``resolve``: finding and judging the transactions of another's block.
``consensus``: the engine, with the signatures of votes. ``execute``: applying transactions.
``tree``: state root and history. ``write``: filling the database's batch, and writing it."""

STAGES: Final[tuple[Stage, ...]] = get_args(Stage)


class Costs:
    """Seconds of processor time per stage since start; only the event loop's thread adds to it."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.seconds: dict[Stage, float] = dict.fromkeys(STAGES, 0.0)
        self._running: Stage | None = None
        self._since_s = 0.0

    def measure(self, stage: Stage) -> AbstractContextManager[None]:
        """Charge what happens inside to a stage, which must not await.

        It costs two microseconds: use it for a group of transactions or a block.
        """
        return _Span(self, stage)

    def add(self, stage: Stage, seconds: float) -> None:
        """Charge what another thread has used."""
        self.seconds[stage] += seconds

    def switch(self, stage: Stage | None) -> Stage | None:
        """Begin to charge another stage, or none; return the one charged so far."""
        now_s = time.thread_time()
        left = self._running
        if left is not None:
            self.seconds[left] += now_s - self._since_s
        self._running, self._since_s = stage, now_s
        return left


class _Span(AbstractContextManager[None]):
    """One measured piece of work; a generator would cost as much again."""

    __slots__ = ("_costs", "_outer", "_stage")

    def __init__(self, costs: Costs, stage: Stage) -> None:
        self._costs = costs
        self._stage = stage
        self._outer: Stage | None = None

    def __enter__(self) -> None:
        self._outer = self._costs.switch(self._stage)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._costs.switch(self._outer)
