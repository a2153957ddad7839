"""Helper containers: a relay to every node's HTTP interface, and hands in the nodes' networks.

The nodes' containers have no capability, no tool and no root. So everything is done from outside:
a helper shares the network namespace of a node and has CAP_NET_ADMIN there, nothing else. This
works wherever containers do, without root on the host.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Sequence
from importlib.resources import files
from typing import Final

from mbi.drill.engine import CommandFailed, build, docker, inspect, surely
from mbi.drill.project import Container, Project, in_parallel
from mbi.errors import OperationFailed

TOOLS_IMAGE: Final = "mbi-drill-tools:1"
HELPER_LABEL: Final = "mbi.drill"
"""Carries the name of the project that a helper belongs to."""
RELAY_PORT_FIRST: Final = 9000
"""Inside the relay's container; the engine chooses the ports on this machine."""
READY_S: Final = 15.0
POLL_S: Final = 0.1
"""Between two looks at what a helper has said."""
STOP_S: Final = "5"

BASE: Final = "python:3.12-slim-bookworm"
_DOCKERFILE: Final = """\
FROM {base}
RUN apt-get update \\
    && apt-get install -y --no-install-recommends iproute2 iptables \\
    && rm -rf /var/lib/apt/lists/*
"""
_CUT: Final = "MBI-DRILL-CUT"


def program(name: str) -> str:
    """Return the text of a program of this package that runs in a helper."""
    return files("mbi.drill").joinpath(f"{name}.py").read_text()


async def build_tools() -> None:
    """Build the image of the helpers: Python, ``tc`` and ``iptables``."""
    await build(TOOLS_IMAGE, _DOCKERFILE.format(base=base_image()))


def base_image() -> str:
    """Return the image that helpers are built from; the environment may name another."""
    return os.environ.get("BASE", BASE)


async def remove_helpers(project: Project) -> None:
    """Remove helpers and their networks, also of a run that did not end well.

    A small volume of such a run stays: it may hold the newest copy of a validator's home.
    """
    label = f"label={HELPER_LABEL}={project.name}"
    for container in (await docker("ps", "-aq", "--filter", label)).split():
        with contextlib.suppress(CommandFailed):
            await docker("rm", "-f", container)
    for network in (await docker("network", "ls", "-q", "--filter", label)).split():
        await docker("network", "rm", network)


async def in_network_of(node: Container, *words: str) -> str:
    """Run a command of the tools image in a node's network namespace."""
    return await docker(
        "run", "--rm", *_hands(node), "--label", f"{HELPER_LABEL}.once", TOOLS_IMAGE, *words
    )


def _hands(node: Container) -> tuple[str, ...]:
    return ("--network", f"container:{node.id}", "--cap-drop", "ALL", "--cap-add", "NET_ADMIN")


async def clear_network(node: Container) -> None:
    """Remove every rule, delay and loss of drills from a node's network; harmless without any."""
    await in_network_of(node, "python3", "-c", program("impair"), "clear")
    await in_network_of(node, "sh", "-c", _uncut_script())


def _uncut_script() -> str:
    undo = (f"-D INPUT -j {_CUT}", f"-D OUTPUT -j {_CUT}", f"-F {_CUT}", f"-X {_CUT}")
    return "; ".join(f"iptables {words} 2>/dev/null" for words in undo) + "; true"


def cut_script(addresses: Sequence[str]) -> str:
    """Return the shell command that drops everything to and from some addresses, at once."""
    rules = [f"-A {_CUT} -s {address} -j DROP" for address in addresses]
    rules += [f"-A {_CUT} -d {address} -j DROP" for address in addresses]
    lines = ["*filter", f":{_CUT} -", *rules]
    lines += [f"-A INPUT -j {_CUT}", f"-A OUTPUT -j {_CUT}", "COMMIT"]
    text = "\\n".join(lines)
    return f"printf '{text}\\n' | iptables-restore --noflush"


@contextlib.asynccontextmanager
async def cut(nodes: Sequence[Container], groups: Sequence[Sequence[str]]) -> AsyncIterator[None]:
    """Drop every packet between nodes of different groups while the body runs."""
    by_name = {node.service: node for node in nodes}
    group_of = {name: number for number, names in enumerate(groups) for name in names}
    chosen = [by_name[name] for name in group_of]
    foreign = {
        node.service: [
            address
            for other in chosen
            if group_of[other.service] != group_of[node.service]
            for address in other.addresses.values()
        ]
        for node in chosen
    }
    try:
        await in_parallel(
            *(in_network_of(one, "sh", "-c", cut_script(foreign[one.service])) for one in chosen)
        )
        yield
    finally:
        undo = (in_network_of(one, "sh", "-c", _uncut_script()) for one in chosen)
        await surely(in_parallel(*undo))


@contextlib.asynccontextmanager
async def impaired(
    project: Project,
    nodes: Sequence[Container],
    delay_ms: int,
    jitter_ms: int,
    loss_percent: int,
) -> AsyncIterator[str]:
    """Delay and lose what nodes send while the body runs; yield by what means."""
    helpers: list[str] = []
    numbers = (str(delay_ms), str(jitter_ms), str(loss_percent))

    async def start(node: Container) -> None:
        words = ("run", "-d", "--init", "--label", f"{HELPER_LABEL}={project.name}")
        text = ("python3", "-c", program("impair"), *numbers)
        helpers.append(await docker(*words, *_hands(node), TOOLS_IMAGE, *text))

    try:
        await in_parallel(*map(start, nodes))
        means = [await _said_ready(helper) for helper in helpers]
        yield means[0]
    finally:
        await surely(in_parallel(*map(_end, helpers)))


async def _end(helper: str) -> None:
    await docker("stop", "-t", STOP_S, helper)
    await docker("rm", "-f", helper)


async def _said_ready(helper: str) -> str:
    """Wait for the word of an impairing helper; return what it works with."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        said = await docker("logs", helper)
        if said.startswith("ready "):
            return said.split()[1]
        await asyncio.sleep(POLL_S)
    raise OperationFailed(f"the network could not be impaired: {await docker('logs', helper)}")


@contextlib.asynccontextmanager
async def relay(project: Project, nodes: Sequence[Container]) -> AsyncIterator[dict[str, str]]:
    """Yield a URL on this machine for every node's HTTP interface."""
    inside = sorted(set.intersection(*(set(node.addresses) for node in nodes)))
    if not inside:
        raise OperationFailed("the nodes share no network of the engine")
    label = ("--label", f"{HELPER_LABEL}={project.name}")
    outside = f"{project.name}-drill"
    ports = {node.service: RELAY_PORT_FIRST + place for place, node in enumerate(nodes)}
    published = [word for port in ports.values() for word in ("-p", f"127.0.0.1::{port}")]
    pairs = [f"{port}={name}" for name, port in ports.items()]
    helper = ""
    try:
        await docker("network", "create", *label, outside)
        place = ("--init", "--cap-drop", "ALL", "--network", outside, *published)
        text = ("python3", "-c", program("relay"), *pairs)
        helper = await docker("create", *label, *place, TOOLS_IMAGE, *text)
        await docker("network", "connect", inside[0], helper)
        await docker("start", helper)
        (known,) = await inspect(helper)
        found = known["NetworkSettings"]["Ports"]
        yield {
            name: f"http://127.0.0.1:{found[f'{port}/tcp'][0]['HostPort']}"
            for name, port in ports.items()
        }
    finally:
        await surely(_remove(helper, outside))


async def _remove(helper: str, network: str) -> None:
    if helper:
        await docker("rm", "-f", helper)
    await docker("network", "rm", network)
