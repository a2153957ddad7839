"""One compose project: its node containers, and how to make one of them again with a difference."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mbi.calls import Json
from mbi.drill.engine import (
    BUILD_TIMEOUT_S,
    CommandFailed,
    compose_words,
    docker,
    inspect,
    run,
    surely,
)
from mbi.errors import UsageError
from mbi.localnet.compose import HTTP_PORT
from mbi.localnet.layout import NETWORK_FILE

LABEL: Final = "com.docker.compose"
NODE_IMAGE_TITLE: Final = "mbi-node"
NETWORK_DIRECTORY: Final = "/network"
"""Where the init service keeps the file of the network, and the development keys."""
OVERRIDE_FILE: Final = "mbi-drill-override.yml"


@dataclass(frozen=True, slots=True)
class Container:
    """The container of one node at this moment."""

    service: str
    id: str
    image: str
    is_running: bool
    addresses: dict[str, str]
    """Address in each network; an empty text while the container is down."""
    user: str
    """``uid:gid`` that its process runs as, and its files belong to."""
    published: int | None
    """Port of this machine that leads to its HTTP interface."""


class Project:
    """The containers of a compose project, looked up anew each time: drills replace them."""

    def __init__(
        self, name: str, files: tuple[Path, ...], directory: Path, environment: dict[str, str]
    ) -> None:
        """``environment``: values of the variables of the compose file."""
        self.name = name
        self._files = files
        self._directory = directory
        self._environment = environment

    async def nodes(self) -> dict[str, Container]:
        """Return the containers of all nodes by service, running or not."""
        found = (container_of(item) for item in await self._inspect_all() if is_node(item))
        return {item.service: item for item in sorted(found, key=lambda item: item.service)}

    async def node(self, service: str) -> Container:
        """Return one node's container."""
        nodes = await self.nodes()
        if service not in nodes:
            raise UsageError(f"project {self.name} has no node {service}")
        return nodes[service]

    async def network_file(self) -> Json:
        """Return ``network.json``: chain id and funded accounts of a development network.

        Raises:
            UsageError: there is none.
        """
        for item in await self._inspect_all():
            if any(mount["Destination"] == NETWORK_DIRECTORY for mount in item["Mounts"]):
                read = ("--entrypoint", "cat", item["Config"]["Image"])
                path = f"{NETWORK_DIRECTORY}/{NETWORK_FILE}"
                isolated = ("--rm", "--network", "none", "--volumes-from", f"{item['Id']}:ro")
                document: Json = json.loads(await docker("run", *isolated, *read, path))
                return document
        try:
            # A network laid out by `mbi localnet init --compose` has it beside its compose file.
            written: Json = json.loads((self._directory / NETWORK_FILE).read_text())
        except (OSError, ValueError) as error:
            raise UsageError(
                f"neither a container of project {self.name} nor its directory has {NETWORK_FILE} "
                f"({error}): drills need the funded accounts of a development network"
            ) from error
        return written

    async def compose(self, *words: str, override: Json | None = None) -> str:
        """Run Compose for this project; ``override`` is one more compose file."""
        with tempfile.TemporaryDirectory(prefix="mbi-drill-") as scratch:
            files = list(self._files)
            if override is not None:
                files.append(Path(scratch) / OVERRIDE_FILE)
                files[-1].write_text(json.dumps(override))
            named = [word for file in files for word in ("-f", str(file))]
            place = ("-p", self.name, "--project-directory", str(self._directory))
            return await run(
                *await compose_words(),
                *named,
                *place,
                *words,
                timeout_s=BUILD_TIMEOUT_S,
                directory=self._directory,
                environment=self._environment,
            )

    async def recreate(self, service: str, override: Json | None = None) -> None:
        """Make one container again; without an override as the compose file says."""
        await self.compose("up", "-d", "--no-deps", "--no-build", service, override=override)

    async def _inspect_all(self) -> list[dict[str, Any]]:
        label = f"label={LABEL}.project={self.name}"
        ids = (await docker("ps", "-aq", "--no-trunc", "--filter", label)).split()
        try:
            return await inspect(*ids)
        except CommandFailed:
            # One of them was replaced between the two commands.
            return await inspect(*(await docker("ps", "-aq", "--filter", label)).split())


async def running_project(name: str | None, files: tuple[Path, ...]) -> Project:
    """Find a running project; without a name there must be exactly one with nodes.

    Compose files, directory and the variables that the project's own file knows are taken from the
    containers, so that making one again changes nothing else.
    """
    label = f"{LABEL}.project" if name is None else f"{LABEL}.project={name}"
    ids = (await docker("ps", "-aq", "--filter", f"label={label}")).split()
    found = [item for item in await inspect(*ids) if is_node(item)]
    names = sorted({_label(item, "project") for item in found})
    if len(names) != 1:
        wanted = "a network of nodes" if name is None else f"nodes in project {name}"
        raise UsageError(
            f"several networks run, choose one with --project: {', '.join(names)}"
            if names
            else f"no {wanted} found: start one with docker-compose up -d, or use --fresh"
        )
    directory = Path(_label(found[0], "project.working_dir"))
    stated = map(Path, _label(found[0], "project.config_files").split(","))
    # A drill that was killed may have left a container made with one more file, which is gone.
    chosen = files or tuple(directory / file for file in stated if file.name != OVERRIDE_FILE)
    return Project(
        names[0], tuple(file.resolve() for file in chosen), directory, _environment(found)
    )


def new_project(name: str, file: Path, port: int) -> Project:
    """Return a project that does not run yet; its observer will be published at ``port``."""
    if not file.is_file():
        raise UsageError(f"no compose file {file}: run in the project's directory, or name one")
    environment = {"MBI_HTTP_PORT": str(port)}
    return Project(name, (file.resolve(),), file.resolve().parent, environment)


@contextlib.asynccontextmanager
async def running(project: Project) -> AsyncIterator[Project]:
    """Build and start a project, and in the end remove it with its volumes."""
    try:
        await project.compose("up", "-d", "--build")
        yield project
    finally:
        await surely(project.compose("down", "-v"))


def _environment(nodes: list[dict[str, Any]]) -> dict[str, str]:
    """Return image and port as they are now, unless the caller's environment says otherwise."""
    known = {"MBI_IMAGE": str(nodes[0]["Config"]["Image"])}
    ports = [item.published for item in map(container_of, nodes) if item.published is not None]
    if ports:
        known["MBI_HTTP_PORT"] = str(ports[0])
    return {name: value for name, value in known.items() if name not in os.environ}


def is_node(item: dict[str, Any]) -> bool:
    """Tell whether a container runs a node: not the maker of keys, not a one-off command."""
    labels, command = item["Config"]["Labels"], item["Config"]["Cmd"] or []
    return (
        labels.get("org.opencontainers.image.title") == NODE_IMAGE_TITLE
        and labels.get(f"{LABEL}.oneoff") == "False"
        and command[:2] == ["node", "start"]
    )


def container_of(item: dict[str, Any]) -> Container:
    """Return a node's container as the engine describes it."""
    settings = item["NetworkSettings"]
    places = (settings["Ports"] or {}).get(f"{HTTP_PORT}/tcp") or []
    networks = settings["Networks"]
    return Container(
        service=_label(item, "service"),
        id=str(item["Id"]),
        image=str(item["Config"]["Image"]),
        is_running=bool(item["State"]["Running"]),
        addresses={name: str(network["IPAddress"]) for name, network in networks.items()},
        user=str(item["Config"]["User"]),
        published=int(places[0]["HostPort"]) if places else None,
    )


def _label(item: dict[str, Any], name: str) -> str:
    return str(item["Config"]["Labels"].get(f"{LABEL}.{name}", ""))


async def in_parallel(*commands: Any) -> None:
    """Await all; if some fail, raise the first failure after all have ended."""
    results = await asyncio.gather(*commands, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
