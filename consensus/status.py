"""What the engine says about itself: for operators, never for decisions."""

from __future__ import annotations

from dataclasses import dataclass

from consensus.inputs import Timer
from ledger.types import Digest, Epoch, Era, Height, View
from ledger.validators import Shortfall
from ledger.votes import VoteKind


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """A snapshot of the engine."""

    era: Era
    epoch: Epoch
    view: View
    """Present view."""
    leader: int
    """Index of the validator that may propose in it."""
    active: bool
    """Whether something has to happen in this view; an idle chain waits in an inactive one."""
    me: int | None
    votes: dict[VoteKind, tuple[int, ...]]
    """Indices of the validators whose votes for the present view have arrived, by kind."""
    connected: tuple[int, ...]
    """Indices of the validators with an open channel, this node included."""
    missing: tuple[int, ...]
    """Indices of the validators without one."""
    shortfall: Shortfall
    """What the connected validators lack to be a quorum; until it is zero the chain stands."""
    last_heard_ms: dict[int, int]
    """Monotonic time of the last message from each validator heard since the start."""
    timers: dict[Timer, int]
    """Timers that run, with the monotonic time at which they fire."""
    backoff: int
    """Factor on the timeouts, in thousandths."""
    finalized_height: Height
    finalized_view: View
    finalized_hash: Digest
    executed_height: Height
    certified_view: View
    """View of the highest finalization held; above ``finalized_view`` while blocks are missing."""
    work_pending: bool
    quarantined: bool
    """This node may have forgotten own votes and does not vote yet."""
    halted: str | None
    """Reason for which this node stopped voting for good."""
    closed: bool = False
    """The boundary block is final and not executed here yet: the next epoch is about to begin."""
