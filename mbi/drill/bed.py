"""What a drill works on: the project's containers, and the nodes as they answer over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from mbi.calls import Json
from mbi.client import AsyncClient
from mbi.drill.engine import docker, inspect
from mbi.drill.helpers import build_tools, clear_network, relay, remove_helpers
from mbi.drill.load import Payer, payers_of
from mbi.drill.project import Container, Project, in_parallel
from mbi.drill.watch import ANSWER_S, POLL_S, DrillNode
from mbi.errors import MbiError, OperationFailed, UsageError

VALIDATORS_MIN: Final = 4
"""The smallest network that bears one faulty validator."""
CALM_S: Final = 120.0
"""How long a network may take to be whole before a drill begins."""
LEADER_S: Final = 10.0

Note = Callable[[str], None]
"""Takes a line about what is being done."""


@dataclass(frozen=True, slots=True)
class Bed:
    """A network under drill."""

    project: Project
    nodes: tuple[DrillNode, ...]
    payers: tuple[Payer, ...]
    note: Note

    @property
    def validators(self) -> list[DrillNode]:
        """The validators, in order of name."""
        return [node for node in self.nodes if node.is_validator]

    @property
    def victim(self) -> DrillNode:
        """The validator that suffers where any would do: the last one."""
        return self.validators[-1]

    def node(self, name: str) -> DrillNode:
        """Return a node by name."""
        return next(node for node in self.nodes if node.name == name)

    async def container(self, node: DrillNode) -> Container:
        """Return a node's container as it is now."""
        return await self.project.node(node.name)

    async def containers(self, nodes: Sequence[DrillNode]) -> list[Container]:
        """Return containers in the order of the nodes."""
        found = await self.project.nodes()
        return [found[node.name] for node in nodes]

    async def leader(self) -> DrillNode:
        """Return the validator that leads the present view, by what the nodes say.

        Raises:
            OperationFailed: no node names one in time.
        """
        names = {node.name for node in self.validators}
        deadline = time.monotonic() + LEADER_S
        while time.monotonic() < deadline:
            for node in self.nodes:
                with contextlib.suppress(MbiError):
                    async with AsyncClient(node.url, ANSWER_S) as client:
                        name = (await client.consensus())["leader"]
                    if name in names:
                        return self.node(name)
            await asyncio.sleep(POLL_S)
        raise OperationFailed("no node says who leads")

    async def status(self, node: DrillNode) -> Json:
        """Return a node's summary."""
        async with AsyncClient(node.url, ANSWER_S) as client:
            return await client.status()

    async def wait_whole(self) -> int:
        """Wait until every node is ready and sees all validators; return the greatest height.

        Raises:
            OperationFailed: some are not in :data:`CALM_S`; it says which and why.
        """
        deadline = time.monotonic() + CALM_S
        while True:
            faults = [f for f in await asyncio.gather(*map(self._fault_of, self.nodes)) if f]
            if not faults:
                statuses = await asyncio.gather(*map(self.status, self.nodes))
                return max(int(status["height"]) for status in statuses)
            if time.monotonic() > deadline:
                raise OperationFailed(f"the network is not whole: {'; '.join(faults)}")
            await asyncio.sleep(POLL_S)

    async def _fault_of(self, node: DrillNode) -> str:
        """Say what keeps a node from being whole; empty if nothing does."""
        try:
            async with AsyncClient(node.url, ANSWER_S) as client:
                is_ready, consensus = await client.ready(), await client.consensus()
        except MbiError as error:
            return f"{node.name} does not answer ({error.code})"
        if not is_ready:
            return f"{node.name} is not ready"
        if consensus["missing"]:
            return f"{node.name} misses {', '.join(consensus['missing'])}"
        return ""


@contextlib.asynccontextmanager
async def lay(project: Project, note: Note) -> AsyncIterator[Bed]:
    """Yield the bed of a project, with everything healed that an earlier run left behind."""
    note("building the image of the helpers")
    await build_tools()
    await heal(project)
    containers = list((await project.nodes()).values())
    async with relay(project, containers) as urls:
        note("waiting for the network")
        roles = await _roles(urls)
        nodes = tuple(
            DrillNode(name, url, name in roles, roles.get(name, "")) for name, url in urls.items()
        )
        payers = tuple(payers_of(await project.network_file()))
        bed = Bed(project, nodes, payers, note)
        if len(bed.validators) < VALIDATORS_MIN:
            raise UsageError(
                f"drills need at least {VALIDATORS_MIN} validators, the network has "
                f"{len(bed.validators)}"
            )
        await bed.wait_whole()
        yield bed


async def heal(project: Project, *, keep_relay: bool = False) -> None:
    """Undo what drills do to containers and networks: harmless where nothing was done."""
    if not keep_relay:
        await remove_helpers(project)
    containers = list((await project.nodes()).values())
    for known in await inspect(*(container.id for container in containers)):
        if known["State"]["Paused"]:
            await docker("unpause", known["Id"])
        elif not known["State"]["Running"]:
            await docker("start", known["Id"])
    running = (await project.nodes()).values()
    await in_parallel(*(clear_network(container) for container in running))


async def _roles(urls: dict[str, str]) -> dict[str, str]:
    """Return the chamber of each validator, as the first node that answers knows them."""
    deadline = time.monotonic() + CALM_S
    while time.monotonic() < deadline:
        for url in urls.values():
            with contextlib.suppress(MbiError):
                async with AsyncClient(url, ANSWER_S) as client:
                    known = await client.validators()
                return {one["name"]: one["chamber"] for one in known}
        await asyncio.sleep(POLL_S)
    raise OperationFailed(f"no node answers within {CALM_S:g} s")
