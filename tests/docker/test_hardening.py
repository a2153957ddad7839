"""O1, O2: what the compose file promises about its containers holds while they run."""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import os
import tarfile
from pathlib import Path
from typing import Any, Final

import pytest

from tests.docker.compose import IMAGE, NODES, OBSERVER, ROOT, VALIDATORS, ComposeNetwork, run

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1200)]

UID: Final = 10001
CANARY_IMAGE: Final = "mbi-node:canary"
SERVICES: Final = (*NODES, "init")

PROCESSES: Final = """
import json, pathlib
wanted = ("Name", "Uid", "CapEff", "CapPrm", "CapBnd", "NoNewPrivs")
found = []
for file in pathlib.Path("/proc").glob("[0-9]*/status"):
    fields = dict(line.split(":", 1) for line in file.read_text().splitlines() if ":" in line)
    found.append({name: fields[name].split() for name in wanted})
print(json.dumps(found))
"""

WRITE: Final = """
import sys
try:
    open(sys.argv[1], "w").close()
except OSError as error:
    print(error.errno)
else:
    print(0)
"""

KEYS: Final = """
import json, pathlib
print(json.dumps({p.name: p.read_text() for p in pathlib.Path("/var/lib/mbi/keys").iterdir()}))
"""

FILES: Final = """
import json, pathlib
homes = (pathlib.Path("/var/lib/mbi"), pathlib.Path("/network"))
print(json.dumps([str(p) for home in homes for p in home.rglob("*") if not p.is_dir()]))
"""


def processes(network: ComposeNetwork, service: str) -> list[dict[str, Any]]:
    """Return what the kernel says about every process in a container."""
    found: list[dict[str, Any]] = json.loads(network.python(service, PROCESSES))
    return found


def keys(network: ComposeNetwork, service: str) -> dict[str, str]:
    """Return the key files in a node's home."""
    found: dict[str, str] = json.loads(network.python(service, KEYS))
    return found


def secret_texts(network: ComposeNetwork) -> list[str]:
    """Return every private key of the network in the forms in which it could leak."""
    found = [account["private_key"] for account in network.network_file()["accounts"]]
    for service in NODES:
        for name, content in keys(network, service).items():
            if name.endswith(".pem"):
                body = "".join(content.splitlines()[1:-1])
                # The seed is the end of the PKCS#8 structure.
                found += [body, base64.b64decode(body)[-32:].hex()]
    return found


def search_layers(archive: Path, needle: bytes) -> tuple[list[str], list[str]]:
    """Return the names of all files in all layers of a saved image, and those with the needle."""
    names: list[str] = []
    found: list[str] = []
    with tarfile.open(archive) as saved:
        for part in saved:
            content = saved.extractfile(part)
            if content is None:
                continue
            if needle in content.read():
                found.append(part.name)
            content.seek(0)
            with contextlib.suppress(tarfile.ReadError), tarfile.open(fileobj=content) as layer:
                for file in layer:
                    names.append(file.name)
                    data = layer.extractfile(file) if file.isfile() else None
                    if data is not None and needle in data.read():
                        found.append(file.name)
    return names, found


@pytest.mark.parametrize("service", NODES)
def test_no_process_is_root_or_has_a_capability(network: ComposeNetwork, service: str) -> None:
    """O1: not even the bounding set is left, and nothing can gain privileges."""
    found = processes(network, service)
    assert len(found) >= 2
    for process in found:
        assert set(process["Uid"]) == {str(UID)}, process
        assert process["NoNewPrivs"] == ["1"], process
        for name in ("CapEff", "CapPrm", "CapBnd"):
            assert int(process[name][0], 16) == 0, process


@pytest.mark.parametrize("service", NODES)
def test_root_file_system_cannot_be_written(network: ComposeNetwork, service: str) -> None:
    """O1: not by root either; only the home and /tmp are writable."""
    for path in ("/probe", "/opt/mbi/probe", "/usr/probe"):
        assert int(network.python(service, WRITE, path, user="0")) == errno.EROFS, path
    assert int(network.python(service, WRITE, "/network/probe")) == errno.EROFS
    assert int(network.python(service, WRITE, "/tmp/probe")) == 0


@pytest.mark.parametrize("service", SERVICES)
def test_container_is_limited(network: ComposeNetwork, service: str) -> None:
    """O1: limits, init process, no privileges, no part of the host's file system."""
    found = network.inspect(service)
    host = found["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert not host["Privileged"]
    assert any("no-new-privileges" in option for option in host["SecurityOpt"])
    assert 0 < host["PidsLimit"] <= 64
    assert 0 < host["Memory"] <= 1024**3
    assert host["Init"] is True
    assert {mount["Type"] for mount in found["Mounts"]} == {"volume"}
    assert found["Config"]["User"] == f"{UID}:{UID}"
    assert not found["Config"]["Image"].endswith(":latest")


def test_only_the_observer_is_published_and_only_on_loopback(network: ComposeNetwork) -> None:
    """O2: validators publish nothing."""
    for service in (*VALIDATORS, "init"):
        published = network.inspect(service)["NetworkSettings"]["Ports"]
        assert not any(published.values()), service
    published = network.inspect(OBSERVER)["NetworkSettings"]["Ports"]
    assert {port for port, places in published.items() if places} == {"26101/tcp"}
    assert {place["HostIp"] for place in published["26101/tcp"]} == {"127.0.0.1"}


@pytest.mark.parametrize("service", VALIDATORS)
def test_validator_is_on_the_closed_network_only(network: ComposeNetwork, service: str) -> None:
    """O2: the engine forwards nothing into or out of the network between the nodes."""
    (name,) = network.inspect(service)["NetworkSettings"]["Networks"]
    assert name == f"{network.name}_nodes"
    assert json.loads(run("docker", "network", "inspect", name))[0]["Internal"] is True


def test_each_volume_holds_the_keys_of_its_own_node_only(network: ComposeNetwork) -> None:
    """K2: whoever takes one volume gets one node."""
    found = {service: keys(network, service) for service in NODES}
    common = {"ca.crt", "node.crt", "node.pem"}
    for service in VALIDATORS:
        assert found[service].keys() == common | {"validator.pem", "reporter.pem"}
    assert found[OBSERVER].keys() == common | {"faucet.seed"}
    private = [text for files in found.values() for name, text in files.items() if ".pem" in name]
    assert len(set(private)) == len(private) == 3 * len(VALIDATORS) + 1


def test_no_secret_is_in_the_image_or_shown_by_the_engine(network: ComposeNetwork) -> None:
    """K1: neither layers nor environment nor logs carry a key."""
    shown = [run("docker", "history", "--no-trunc", IMAGE), run("docker", "inspect", IMAGE)]
    shown += [json.dumps(network.inspect(service)) for service in SERVICES]
    shown.append(network.compose("logs", "--no-color"))
    secrets = secret_texts(network)
    assert len(secrets) > 2 * len(NODES)
    assert [secret for secret in secrets if any(secret in text for text in shown)] == []


def test_keys_beside_the_code_do_not_get_into_any_layer(image: None, tmp_path: Path) -> None:
    """K1: a key in the directory of the build, wherever it lies, stays out of the image."""
    clone = tmp_path / "clone"
    run("git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone))
    canary = os.urandom(16).hex()
    for place in ("demo/nodes/gov-1/keys/validator.pem", ".env", "mbi/node.pem", "node/.env"):
        (clone / place).parent.mkdir(parents=True, exist_ok=True)
        (clone / place).write_text(canary)
    network = ComposeNetwork("mbi-canary", directory=clone)
    network.variables["MBI_IMAGE"] = CANARY_IMAGE
    network.build()
    try:
        archive = tmp_path / "image.tar"
        run("docker", "save", "--output", str(archive), CANARY_IMAGE)
        names, found = search_layers(archive, canary.encode())
    finally:
        run("docker", "image", "rm", CANARY_IMAGE)
    assert any(name.endswith("site-packages/mbi/__init__.py") for name in names)
    assert found == []


def test_image_holds_no_home_and_no_compiler(image: None) -> None:
    """O1: what is not there can neither leak nor be used."""
    plain = ("docker", "run", "--rm", "--network", "none", "--entrypoint")
    assert json.loads(run(*plain, "python", IMAGE, "-c", FILES)) == []
    tools = "import shutil; print([t for t in ('gcc', 'g++', 'cc', 'make') if shutil.which(t)])"
    assert run(*plain, "python", IMAGE, "-c", tools).strip() == "[]"


def test_image_says_what_it_is(image: None) -> None:
    labels = json.loads(run("docker", "inspect", IMAGE))[0]["Config"]["Labels"]
    prefix = "org.opencontainers.image."
    wanted = {"title", "description", "version", "revision", "licenses"}
    assert {name.removeprefix(prefix) for name in labels} >= wanted
    version = "from importlib.metadata import version; print(version('mbi-node'))"
    plain = ("docker", "run", "--rm", "--network", "none", "--entrypoint", "python", IMAGE)
    assert run(*plain, "-c", version).strip() == labels[f"{prefix}version"]
