"""What lasts of a simulated node over its crashes, and what a start makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from consensus.config import Restored
from consensus.types import Certificate, Proposal
from ledger.block import Block
from ledger.types import Digest, Epoch, Era, View
from ledger.votes import Round, Vote
from tests.simulation.messages import Message

if TYPE_CHECKING:
    from tests.simulation.disk import Disk
    from tests.simulation.process import Process
    from tests.simulation.world import World

Filter = Callable[[int, Message], Message | None]
"""Takes target and message; returns what is sent instead, or None for nothing."""


@dataclass(slots=True)
class Node:
    """What lasts over crashes: who the node is, its disk, and its clock's error."""

    index: int
    """Place in the network: validators first, in the order of the set, then observers."""
    member: int | None
    """Index in the validator set; None for an observer."""
    disk: Disk
    clock_offset_ms: int = 0
    """Error of its wall clock. Timers run on a monotonic clock without error."""
    execution_ms: int = 0
    """Time to execute one block."""
    verification_ms: int = 0
    """Longest time to verify or build a block."""
    process: Process | None = None
    boots: int = 0
    finalized_height: int = 0
    """Height that the engine of this boot has declared final."""
    durable_height: int = 0
    """Highest executed height whose batch was synced: a restart may never go below it (I8)."""
    filter: Filter | None = None
    """Byzantine nodes only: changes or drops what the node sends to a peer."""

    @property
    def is_up(self) -> bool:
        return self.process is not None and self.process.is_alive


def restore(world: World, disk: Disk) -> Restored:
    """Build what the engine starts from out of the durable image, as the node does at its start.

    The finalised head is the executed head on disk; of votes, certificates, blocks and proposals
    only those above it are handed over.
    """
    records = disk.live
    height = 0
    while ("executed", height + 1) in records:
        height += 1
    head = world.network.genesis
    if height:
        executed: tuple[Digest, object] = records["executed", height]  # type: ignore[assignment]
        block = records["block", executed[0]]
        assert isinstance(block, Block)
        head = block.header
    finalization = records.get(("final", height))
    floor = records.get(("sign floor",))
    return Restored(
        finalized=head,
        finalization=finalization if isinstance(finalization, Certificate) else None,
        sign_floor=floor if isinstance(floor, Round) else Round(Era(0), Epoch(0), View(0)),
        votes=tuple(r for r in records.values() if isinstance(r, Vote) and r.view > head.view),
        certificates=tuple(
            record
            for key, record in records.items()
            if isinstance(record, Certificate) and key[0] == "certificate"
        ),
        blocks=tuple(
            record.header
            for record in records.values()
            if isinstance(record, Block) and record.header.height > height
        ),
        proposals=tuple(
            r for r in records.values() if isinstance(r, Proposal) and r.view > head.view
        ),
        quarantined=records.get(("quarantined",)) is True,
        nonce=world.random.randbytes(16),
    )
