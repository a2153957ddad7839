"""Who is let in when more comes than can be final soon.

The node refuses at its own door, before it spends anything on a transaction: what is turned away
is not even decoded. Two things close the door: more is pending than the network makes final in the
time that a client will wait (``node.backpressure``), and own transactions that wait too long for
the check of their signature, because this node alone cannot keep up. Nobody is kept out by what
others send: an organisation that has less than its share here is let in all the same. Peers'
transactions do not come through this door, or the nodes would propose what others refuse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from ledger.state import State
from ledger.transaction import sender_bytes
from node.mempool import Mempool

BACKLOG_MAX: Final = 4_096
"""Transactions waiting for their check, own and peers', above which nothing new comes in here: a
quarter of a second of one core's signature checks, and half of what the queue of peers' holds."""
LINE_MS_MAX: Final = 250
"""Once the first own transaction in line has waited so long for its check, the node has more than
it can check: new ones are refused rather than kept waiting."""
LATE_PLACES: Final = 128
"""Places that organisations share by weight in a line which has become too long: one group."""


class Door:
    """Turns transactions away while too many wait."""

    def __init__(self, mempool: Mempool) -> None:
        """Take ``mempool`` as the place that fills up."""
        self._mempool = mempool
        self._in_line: Counter[str] = Counter()

    def entered(self, organisations: Iterable[str]) -> None:
        """Count own transactions that begin to wait for their check."""
        self._in_line.update(organisations)

    def left(self, organisations: Iterable[str]) -> None:
        """Count those whose check is over."""
        self._in_line.subtract(organisations)

    def let_in(
        self, wires: Sequence[bytes], state: State, *, backlog: int, waited_ms: int
    ) -> tuple[Sequence[int], str]:
        """Return which of these may come in, by position, and what the others are to be told.

        ``backlog``: how many wait for their check, own and peers'; ``waited_ms``: how long the
        first own one has waited by now.
        """
        pool = self._mempool
        is_late = waited_ms > LINE_MS_MAX
        room = 0 if is_late else min(pool.waiting_max - len(pool), BACKLOG_MAX) - backlog
        if room >= len(wires):
            return range(len(wires)), ""
        # Senders that nobody knows have no share: they are refused anyway, later and at more cost.
        own_places = {"": 0}
        kept: list[int] = []
        for index, wire in enumerate(wires):
            sender = state.account(sender_bytes(wire))
            organisation = "" if sender is None else sender.organisation
            if organisation not in own_places:
                own_places[organisation] = self._own_places(organisation, backlog, is_late=is_late)
            if len(kept) < room or own_places[organisation] > 0:
                own_places[organisation] -= 1
                kept.append(index)
        return kept, (
            f"{len(pool) + backlog} transactions wait here, too many to be final soon; send again "
            "later"
        )

    def _own_places(self, organisation: str, backlog: int, *, is_late: bool) -> int:
        """Return how many more an organisation may have here by its share, whoever else waits."""
        if backlog > BACKLOG_MAX:
            return 0
        pool, in_line = self._mempool, self._in_line[organisation]
        if is_late:
            return pool.share(organisation, LATE_PLACES) - in_line
        return pool.share(organisation, pool.waiting_max) - in_line - pool.pending_of(organisation)
