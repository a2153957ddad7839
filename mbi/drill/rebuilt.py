"""Faults that need a node's container made again: another image, clock, disk, or an empty disk."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

from mbi.drill import skew
from mbi.drill.bed import Bed
from mbi.drill.engine import build, docker, logs, surely
from mbi.drill.faults import STOP_S, CutOff
from mbi.drill.helpers import HELPER_LABEL, TOOLS_IMAGE, base_image
from mbi.drill.project import Container
from mbi.drill.watch import POLL_S
from mbi.errors import MbiError, OperationFailed

UPGRADED_VERSION: Final = "drill"
CLOCK_IMAGE: Final = "mbi-drill-clock:1"
CLOCK_STEPS_S: Final = (3600, -3600, 5)
"""An hour ahead, a jump to an hour behind, then a little ahead."""
CLOCK_STEP_LASTS_S: Final = 8.0
IN_FORCE_S: Final = 10.0
SMALL_DISK_EXTRA_MIB: Final = 16
HOME: Final = "/var/lib/mbi"
SMALL: Final = "/small"

_UPGRADE_FILE: Final = """\
FROM {image}
LABEL org.opencontainers.image.version="{version}"
"""


@contextlib.asynccontextmanager
async def upgraded_in_turn(bed: Bed) -> AsyncIterator[CutOff]:
    """Every container made again from another image, one after the other, then back again."""
    image = (await bed.container(bed.victim)).image
    other = f"mbi-drill-upgrade:{bed.project.name}"
    await build(other, _UPGRADE_FILE.format(image=image, version=UPGRADED_VERSION))
    try:
        for node in bed.nodes:
            bed.note(f"{node.name}: {image} -> {other}")
            await bed.project.recreate(node.name, {"services": {node.name: {"image": other}}})
            await bed.wait_whole()
        yield ()
    finally:
        await surely(_recreate_in_turn(bed))


async def _recreate_in_turn(bed: Bed) -> None:
    """Make every container again as the compose file says."""
    for node in bed.nodes:
        await bed.project.recreate(node.name)
        with contextlib.suppress(OperationFailed):
            await bed.wait_whole()


@contextlib.asynccontextmanager
async def skewed_clock(bed: Bed) -> AsyncIterator[CutOff]:
    """Set one validator's wall clock an hour ahead, then behind, then five seconds ahead.

    The monotonic clock stays true, as it does when an operator sets the time.
    """
    victim = bed.victim
    await build(CLOCK_IMAGE, skew.dockerfile((await bed.container(victim)).image, base_image()))
    service = {"image": CLOCK_IMAGE, "environment": {"LD_PRELOAD": skew.LIBRARY}}
    try:
        await bed.project.recreate(victim.name, {"services": {victim.name: service}})
        await bed.wait_whole()
        for step_s in CLOCK_STEPS_S:
            bed.note(f"clock of {victim.name}: {step_s:+d} s")
            await _set_clock(bed, step_s)
            await asyncio.sleep(CLOCK_STEP_LASTS_S)
        yield ()
    finally:
        await surely(bed.project.recreate(victim.name))


async def _set_clock(bed: Bed, offset_s: int) -> None:
    """Set the offset and wait until the node itself tells the other time."""
    container = await bed.container(bed.victim)
    write = f"open('{skew.OFFSET_FILE}', 'w').write('{offset_s:+d}')"
    await docker("exec", container.id, "python", "-c", write)
    deadline = time.monotonic() + IN_FORCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(MbiError):
            told = datetime.fromisoformat((await bed.status(bed.victim))["now"]).timestamp()
            if abs(told - time.time() - offset_s) < 2:
                return
        await asyncio.sleep(POLL_S)
    raise OperationFailed(f"the clock of {bed.victim.name} does not show {offset_s:+d} s")


@contextlib.asynccontextmanager
async def full_disk(bed: Bed) -> AsyncIterator[CutOff]:
    """One validator moves to a small volume of its own, which is then filled to the last byte.

    The home is moved, never run twice: the node is stopped whenever it is copied, and only the
    newest copy is ever started again.
    """
    victim = bed.victim
    original = await bed.container(victim)
    async with _small_volume(bed, original) as (volume, holder):
        override = {
            "services": {victim.name: {"volumes": [f"small:{HOME}"]}},
            "volumes": {"small": {"external": True, "name": volume}},
        }
        is_moved = False
        try:
            await docker("stop", "-t", STOP_S, original.id)
            await docker("exec", holder, "cp", "-a", f"{HOME}/.", SMALL)
            is_moved = True
            await bed.project.recreate(victim.name, override)
            await bed.wait_whole()
            bed.note(f"filling the disk of {victim.name}")
            await docker("exec", holder, "sh", "-c", _fill())
            await _wait_refused(bed)
            yield ()
        finally:
            await surely(_move_back(bed, holder, is_moved=is_moved))


async def _move_back(bed: Bed, holder: str, *, is_moved: bool) -> None:
    """Free the small volume and put the home back where it was."""
    if is_moved:
        await docker("exec", holder, "rm", "-f", f"{SMALL}/ballast")
        await docker("stop", "-t", STOP_S, (await bed.container(bed.victim)).id)
        # Keys and configuration are never deleted, whatever interrupts this.
        back = f"rm -rf {HOME}/data && cp -a {SMALL}/. {HOME}/"
        await docker("exec", holder, "sh", "-c", back)
    await bed.project.recreate(bed.victim.name)


def _fill() -> str:
    """Return the command that leaves no byte: it has to fail, and only for want of room."""
    return (
        f"dd if=/dev/zero of={SMALL}/ballast bs=4096 2>&1 | grep -q 'No space left'"
        f" && test $(df --output=avail {SMALL} | tail -1) -eq 0"
    )


async def _wait_refused(bed: Bed) -> None:
    """Wait until the node has ended itself for want of room, by what it said last."""
    deadline = time.monotonic() + IN_FORCE_S
    while time.monotonic() < deadline:
        if "disk_full" in await logs((await bed.container(bed.victim)).id):
            return
        await asyncio.sleep(POLL_S)
    raise OperationFailed(f"{bed.victim.name} did not notice that its disk is full")


@contextlib.asynccontextmanager
async def _small_volume(bed: Bed, original: Container) -> AsyncIterator[tuple[str, str]]:
    """Yield a volume in memory, a little larger than the home, and a helper that keeps it alive."""
    volume = f"{bed.project.name}-drill-small"
    label = ("--label", f"{HELPER_LABEL}={bed.project.name}")
    used = await docker("exec", original.id, "du", "-sm", HOME)
    size = int(used.split()[0]) + SMALL_DISK_EXTRA_MIB
    owner, _, group = original.user.partition(":")
    options = f"o=size={size}m,uid={owner},gid={group},mode=0700"
    memory = ("--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", options)
    await docker("volume", "create", *label, *memory, volume)
    holder = ""
    try:
        mounts = ("--volumes-from", original.id, "-v", f"{volume}:{SMALL}")
        alone = ("--network", "none", "--cap-drop", "ALL", "--init", "--user", original.user)
        holder = await docker(
            "run", "-d", *label, *alone, *mounts, TOOLS_IMAGE, "sleep", "infinity"
        )
        yield volume, holder
    finally:
        await surely(_drop_volume(volume, holder))


async def _drop_volume(volume: str, holder: str) -> None:
    if holder:
        await docker("rm", "-f", holder)
    await docker("volume", "rm", "-f", volume)


@contextlib.asynccontextmanager
async def wiped(bed: Bed) -> AsyncIterator[CutOff]:
    """One validator loses database and signing record; keys and configuration stay."""
    victim = bed.victim
    container = await bed.container(victim)
    home = ("--rm", "--network", "none", "--volumes-from", container.id, "--user", container.user)
    erase = f"find {HOME}/data {HOME}/signer.json -delete"
    is_erased = False
    bed.note(f"erasing the data of {victim.name}")
    try:
        await docker("stop", "-t", STOP_S, container.id)
        is_erased = True
        await docker("run", *home, TOOLS_IMAGE, "sh", "-c", erase)
        yield (victim.name,)
    finally:
        await surely(_rejoin(container, home, is_erased=is_erased))


async def _rejoin(container: Container, home: tuple[str, ...], *, is_erased: bool) -> None:
    if is_erased:
        words = ("node", "init", "--home", HOME, "--rejoin")
        await docker("run", *home, container.image, *words)
    await docker("start", container.id)
