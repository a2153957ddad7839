"""Which drills there are, and what each must hold.

The limits are promises of ``docs/drills.md``; they leave room for a busy machine of two cores on
which all nodes run, and for the engine's own seconds to stop or make a container.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mbi.drill import faults, rebuilt
from mbi.drill.faults import Fault
from mbi.drill.judge import Limits
from mbi.errors import UsageError

PER_BLOCK_S: Final = 0.03
"""A lost node comes back within five minutes for 10,000 blocks."""


@dataclass(frozen=True, slots=True)
class Drill:
    """One drill."""

    name: str
    summary: str
    fault: Fault
    hold_s: float
    """How long the fault lasts once it is in force."""
    limits: Limits
    is_short: bool = False
    """Whether it belongs to the set for every change."""


DRILLS: Final = (
    Drill(
        "kill-leader",
        "SIGKILL for the validator that leads; it is started again 8 s later",
        faults.killed_leader,
        8.0,
        Limits(gap_s=5.0, block_s=5.0, agree_s=20.0),
        is_short=True,
    ),
    Drill(
        "pause",
        "the validator that leads is frozen for 10 s",
        faults.paused_leader,
        10.0,
        Limits(gap_s=5.0, block_s=5.0, agree_s=10.0),
    ),
    Drill(
        "disconnect",
        "one validator loses its network for 10 s",
        faults.disconnected,
        10.0,
        Limits(gap_s=5.0, block_s=5.0, agree_s=20.0),
    ),
    Drill(
        "partition-2-2",
        "two halves that lose every packet to each other for 10 s: nothing may become final",
        faults.parted_in_halves,
        10.0,
        Limits(gap_s=None, block_s=10.0, agree_s=20.0),
        is_short=True,
    ),
    Drill(
        "partition-3-1",
        "the validator that leads loses every packet to the others for 10 s",
        faults.parted_from_one,
        10.0,
        Limits(gap_s=5.0, block_s=5.0, agree_s=20.0),
    ),
    Drill(
        "delay",
        f"what validators send takes {faults.DELAY_MS} ms longer, give or take "
        f"{faults.JITTER_MS}, for 20 s",
        faults.delayed,
        20.0,
        Limits(gap_s=15.0, block_s=10.0, agree_s=20.0),
    ),
    Drill(
        "loss",
        f"{faults.LOSS_PERCENT} % of the packets that validators send are lost for 20 s",
        faults.lossy,
        20.0,
        Limits(gap_s=10.0, block_s=10.0, agree_s=20.0),
        is_short=True,
    ),
    Drill(
        "clock-skew",
        "one validator's clock an hour ahead, an hour behind, five seconds ahead; 8 s each",
        rebuilt.skewed_clock,
        0.0,
        Limits(gap_s=5.0, block_s=5.0, agree_s=40.0),
    ),
    Drill(
        "full-disk",
        "one validator's disk has no byte left for 10 s",
        rebuilt.full_disk,
        10.0,
        Limits(gap_s=5.0, block_s=5.0, agree_s=40.0),
    ),
    Drill(
        "wipe-rejoin",
        "one validator loses database and signing record, and rejoins 5 s later",
        rebuilt.wiped,
        5.0,
        Limits(gap_s=5.0, block_s=5.0, agree_s=30.0, agree_per_block_s=PER_BLOCK_S),
    ),
    Drill(
        "rolling-restart",
        "every node is restarted, one after the other",
        faults.restarted_in_turn,
        0.0,
        Limits(gap_s=5.0, block_s=5.0, agree_s=10.0),
    ),
    Drill(
        "rolling-upgrade",
        "every container is made again from another image, one after the other, and back",
        rebuilt.upgraded_in_turn,
        0.0,
        Limits(gap_s=5.0, block_s=5.0, agree_s=20.0),
    ),
    Drill(
        "stop-all",
        "every node is stopped; 5 s later all are started",
        faults.all_stopped,
        5.0,
        Limits(gap_s=None, block_s=30.0, agree_s=40.0),
        is_short=True,
    ),
    Drill(
        "kill-all",
        "SIGKILL for every node at once; 5 s later all are started",
        faults.all_killed,
        5.0,
        Limits(gap_s=None, block_s=30.0, agree_s=40.0),
    ),
)


def choose(names: Sequence[str], *, is_all: bool, is_short: bool) -> tuple[Drill, ...]:
    """Return the drills to run, in the order of :data:`DRILLS`, or of the names.

    Raises:
        UsageError: nothing or more than one kind of choice, or an unknown name.
    """
    if (bool(names), is_all, is_short).count(True) != 1:
        raise UsageError("say which drills: names, --all or --short; mbi drill list shows them")
    by_name = {drill.name: drill for drill in DRILLS}
    if unknown := [name for name in names if name not in by_name]:
        raise UsageError(f"no drill {', '.join(unknown)}; there are: {', '.join(by_name)}")
    if names:
        return tuple(by_name[name] for name in names)
    return tuple(drill for drill in DRILLS if drill.is_short or is_all)
