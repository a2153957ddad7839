"""What an engine is made from: its configuration and what a node remembers of its past."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from consensus.timing import Timing
from consensus.types import Certificate, Proposal
from ledger.block import Header
from ledger.types import Digest, Epoch, Era, View
from ledger.validators import ValidatorSet
from ledger.votes import Round, Sign, Verify, Vote

FIRST_ERA: Final = Era(0)
FIRST_EPOCH: Final = Epoch(0)
NO_FLOOR: Final = Round(FIRST_ERA, FIRST_EPOCH, View(0))
"""Sign floor of a new node: views start at 1."""


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """One epoch of one chain, seen by one node."""

    chain_id: Digest
    validators: ValidatorSet
    me: int | None
    """Own index in ``validators``; None for an observer, which follows and never votes."""
    base: Header
    """The block that opened the epoch; genesis in epoch 0."""
    timing: Timing
    sign: Sign | None
    """None for an observer."""
    verify: Verify
    era: Era = FIRST_ERA
    epoch: Epoch = FIRST_EPOCH


@dataclass(frozen=True, slots=True)
class Restored:
    """What is on disk when a node starts. A new node has the base block and nothing else."""

    finalized: Header
    """Head: the highest block that is finalised, executed and stored; at least the base."""
    finalization: Certificate | None = None
    """Finalization of the head if it is stored, or of a later block."""
    sign_floor: Round = NO_FLOOR
    """Highest floor that was persisted."""
    votes: tuple[Vote, ...] = ()
    """Own votes of the epoch, those above the head's view at least (all, if the head is the base:
    views begin anew); the driver may delete those at or below it."""
    certificates: tuple[Certificate, ...] = ()
    """Every stored certificate of the epoch that is not pruned, in any order. Those of other epochs
    are ignored, as are votes, blocks and proposals of other epochs."""
    blocks: tuple[Header, ...] = ()
    """Headers of whole blocks stored above the head; they are judged again (no payload)."""
    proposals: tuple[Proposal, ...] = ()
    """Own proposals, as for ``votes``."""
    quarantined: bool = False
    """Votes may have been forgotten (lost, old, cloned disk): learn a safe floor before voting."""
    closings: tuple[Certificate, ...] = ()
    """Finalizations of the boundary blocks of earlier epochs, or the latest of them."""
    nonce: bytes = bytes(16)
    """16 fresh random bytes of this start: answers to a quarantined node repeat them."""
