"""The faults: each is in force inside its ``async with`` and undone when that ends in any way."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from mbi.drill.bed import Bed
from mbi.drill.engine import docker, surely
from mbi.drill.helpers import cut, impaired
from mbi.drill.project import in_parallel
from mbi.drill.watch import DrillNode

CutOff = tuple[str, ...]
"""Names of the nodes that a fault keeps from a quorum: nothing may become final there."""
Fault = Callable[[Bed], AbstractAsyncContextManager[CutOff]]
"""In force inside; what it yields says who is cut off meanwhile."""

STOP_S: Final = "15"
"""As in the compose file; a node stops in five."""
DELAY_MS: Final = 500
JITTER_MS: Final = 100
LOSS_PERCENT: Final = 10


@contextlib.asynccontextmanager
async def killed_leader(bed: Bed) -> AsyncIterator[CutOff]:
    """Kill the validator that leads the present view."""
    leader = await bed.leader()
    container = await bed.container(leader)
    bed.note(f"killing {leader.name}, which leads")
    try:
        await docker("kill", container.id)
        yield (leader.name,)
    finally:
        await surely(docker("start", container.id))


@contextlib.asynccontextmanager
async def paused_leader(bed: Bed) -> AsyncIterator[CutOff]:
    """Freeze all processes of the validator that leads the present view."""
    leader = await bed.leader()
    container = await bed.container(leader)
    bed.note(f"pausing {leader.name}, which leads")
    await docker("pause", container.id)
    try:
        yield (leader.name,)
    finally:
        await surely(docker("unpause", container.id))


@contextlib.asynccontextmanager
async def disconnected(bed: Bed) -> AsyncIterator[CutOff]:
    """Take one validator's container off its networks; it may come back with other addresses."""
    container = await bed.container(bed.victim)
    bed.note(f"disconnecting {bed.victim.name}")
    taken: list[str] = []
    try:
        for network in container.addresses:
            await docker("network", "disconnect", network, container.id)
            taken.append(network)
        yield (bed.victim.name,)
    finally:
        name = ("--alias", bed.victim.name)
        back = (docker("network", "connect", *name, one, container.id) for one in taken)
        await surely(in_parallel(*back))


def halves(nodes: list[DrillNode]) -> tuple[list[str], list[str]]:
    """Split so that each side has half of each chamber; observers are with the first side."""
    sides: tuple[list[str], list[str]] = ([], [])
    count_of: dict[str, int] = {}
    for node in nodes:
        place = count_of.get(node.chamber, 0) if node.is_validator else 0
        count_of[node.chamber] = place + 1
        sides[place % 2].append(node.name)
    return sides


@contextlib.asynccontextmanager
async def parted_in_halves(bed: Bed) -> AsyncIterator[CutOff]:
    """Part the network into two sides without a quorum."""
    sides = halves(list(bed.nodes))
    bed.note(f"parting {', '.join(sides[0])} from {', '.join(sides[1])}")
    async with cut(await bed.containers(bed.nodes), sides):
        yield (*sides[0], *sides[1])


@contextlib.asynccontextmanager
async def parted_from_one(bed: Bed) -> AsyncIterator[CutOff]:
    """Part the validator that leads the present view from everybody else."""
    alone = await bed.leader()
    bed.note(f"parting {alone.name}, which leads, from all others")
    others = [node.name for node in bed.nodes if node is not alone]
    async with cut(await bed.containers(bed.nodes), ([alone.name], others)):
        yield (alone.name,)


@contextlib.asynccontextmanager
async def delayed(bed: Bed) -> AsyncIterator[CutOff]:
    """Delay every packet that a validator sends."""
    validators = await bed.containers(bed.validators)
    async with impaired(bed.project, validators, DELAY_MS, JITTER_MS, 0) as means:
        bed.note(f"delay of {DELAY_MS} ms ± {JITTER_MS} ms at every validator, by {means}")
        yield ()


@contextlib.asynccontextmanager
async def lossy(bed: Bed) -> AsyncIterator[CutOff]:
    """Lose a share of all packets that validators send."""
    validators = await bed.containers(bed.validators)
    async with impaired(bed.project, validators, 0, 0, LOSS_PERCENT) as means:
        bed.note(f"loss of {LOSS_PERCENT} % at every validator, by {means}")
        yield ()


@contextlib.asynccontextmanager
async def restarted_in_turn(bed: Bed) -> AsyncIterator[CutOff]:
    """Restart every node, one after the other; each is back before the next."""
    for node in bed.nodes:
        bed.note(f"restarting {node.name}")
        await docker("restart", "-t", STOP_S, (await bed.container(node)).id)
        await bed.wait_whole()
    yield ()


@contextlib.asynccontextmanager
async def all_stopped(bed: Bed) -> AsyncIterator[CutOff]:
    """Stop every node at once, later start all at once."""
    ids = [container.id for container in await bed.containers(bed.nodes)]
    bed.note("stopping every node")
    try:
        await in_parallel(*(docker("stop", "-t", STOP_S, one) for one in ids))
        yield tuple(node.name for node in bed.nodes)
    finally:
        await surely(in_parallel(*(docker("start", one) for one in ids)))


@contextlib.asynccontextmanager
async def all_killed(bed: Bed) -> AsyncIterator[CutOff]:
    """Kill every node at once, later start all at once."""
    ids = [container.id for container in await bed.containers(bed.nodes)]
    bed.note("killing every node")
    try:
        await docker("kill", *ids)
        yield tuple(node.name for node in bed.nodes)
    finally:
        await surely(in_parallel(*(docker("start", one) for one in ids)))
