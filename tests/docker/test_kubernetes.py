"""The commands of the Kubernetes manifests, in containers that see volumes as a pod sees them.

There is no cluster here. What kubelet does is done by hand: volumes belong to root and the group
of the pod, secrets can be read by the group, and one volume lies inside another.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any, Final

import pytest
import yaml

from tests.cluster.waiting import wait_until
from tests.docker.compose import ASK, IMAGE, ROOT, run
from tests.docker.conftest import READY_S

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(1200)]

FOLDER: Final = ROOT / "deploy" / "kubernetes"

PREPARE: Final = """
cp /made/genesis.json /network/
cp /made/nodes/gov-1/config.toml /own/
cp -r /made/nodes/gov-1/keys /own/keys
chown -R 0:10001 /network /own /home /keys
chmod -R u=rX,g=rX,o= /network /own
chmod 2775 /home
chmod 2777 /keys
"""
"""What kubelet makes of a ConfigMap, a Secret, a claim and an emptyDir with ``fsGroup: 10001``."""

MODES: Final = """
import json, pathlib
keys = pathlib.Path("/var/lib/mbi/keys").iterdir()
print(json.dumps([key.stat().st_mode & 0o777 for key in keys]))
"""


def manifest(file: str, kind: str) -> Any:
    """Return the pod that a manifest describes."""
    documents = yaml.safe_load_all((FOLDER / file).read_text())
    (found,) = (one for one in documents if one["kind"] == kind)
    return found["spec"]["template"]["spec"]


class Volumes:
    """The volumes of one pod."""

    def __init__(self, prefix: str) -> None:
        self.names = {
            name: f"{prefix}-{name}" for name in ("made", "home", "keys", "network", "own")
        }

    def mount(self, name: str, path: str, *, read_only: bool = False) -> tuple[str, str]:
        """Return the option that mounts one of them."""
        return "-v", f"{self.names[name]}:{path}{':ro' if read_only else ''}"

    def prepare(self) -> None:
        """Make a network of one validator, which needs nobody else, and hand it over as kubelet."""
        one = ("localnet", "init", "/network", "--containers", "--validators", "1")
        made = self.mount("made", "/network")
        run("docker", "run", "--rm", "--network", "none", *made, IMAGE, *one, "--observers", "0")
        mounts = [word for name in self.names for word in self.mount(name, f"/{name}")]
        root = ("--user", "0", "--network", "none", "--entrypoint", "sh")
        run("docker", "run", "--rm", *root, *mounts, IMAGE, "-euc", PREPARE)

    def remove(self) -> None:
        """Remove them."""
        run("docker", "volume", "rm", "--force", *self.names.values())


def options(pod: Any, container: Any, volumes: Volumes) -> list[str]:
    """Say to the engine what the manifest says to Kubernetes."""
    security, confined = pod["securityContext"], container["securityContext"]
    words = ["--network", "none", "--user", f"{security['runAsUser']}:{security['runAsGroup']}"]
    words += ["--group-add", str(security["fsGroup"])]
    words += [f"--cap-drop={name}" for name in confined["capabilities"]["drop"]]
    if confined["readOnlyRootFilesystem"]:
        words.append("--read-only")
    if not confined["allowPrivilegeEscalation"]:
        words += ["--security-opt", "no-new-privileges"]
    for mount in container["volumeMounts"]:
        if mount["name"] == "tmp":
            words += ["--tmpfs", mount["mountPath"]]
        else:
            read_only = mount.get("readOnly", False)
            words += volumes.mount(mount["name"], mount["mountPath"], read_only=read_only)
    if "command" in container:
        words += ["--entrypoint", container["command"][0]]
    return words


def arguments(container: Any) -> list[str]:
    """Return what follows the entry point."""
    return [*container.get("command", [])[1:], *container["args"]]


@pytest.fixture
def volumes(image: None) -> Iterator[Volumes]:
    """The volumes as a pod finds them."""
    volumes = Volumes(f"mbi-pod-{os.getpid()}")
    try:
        volumes.prepare()
        yield volumes
    finally:
        volumes.remove()


def test_a_pod_becomes_ready_after_the_job(volumes: Volumes) -> None:
    """K2: the keys that a pod sees are too open, what the node reads is not."""
    job, pod = manifest("init.yaml", "Job"), manifest("node.yaml", "StatefulSet")
    once = ("docker", "run", "--rm")
    for part, container in ((job, job["containers"][0]), (pod, pod["initContainers"][0])):
        run(*once, *options(part, container, volumes), IMAGE, *arguments(container))
    (node,) = pod["containers"]
    started = options(pod, node, volumes)
    container_id = run("docker", "run", "-d", *started, IMAGE, *arguments(node)).strip()
    try:

        def is_ready() -> bool:
            path = node["readinessProbe"]["httpGet"]["path"]
            said = run("docker", "exec", container_id, "python", "-c", ASK, path)
            assert said.startswith("200 "), said
            return True

        wait_until("ready", READY_S, is_ready)
        modes = run("docker", "exec", container_id, "python", "-c", MODES)
        assert set(json.loads(modes)) == {0o600}
    finally:
        run("docker", "rm", "--force", container_id)


def test_a_pod_that_lost_its_volume_does_not_start_as_a_new_node(volumes: Volumes) -> None:
    """A validator that has forgotten its votes must not vote: the database is not made anew."""
    pod = manifest("node.yaml", "StatefulSet")
    (prepare,), (node,) = pod["initContainers"], pod["containers"]
    words = options(pod, prepare, volumes)
    run("docker", "run", "--rm", *words, IMAGE, *arguments(prepare))
    with pytest.raises(AssertionError, match="store_missing"):
        run("docker", "run", "--rm", *options(pod, node, volumes), IMAGE, *arguments(node))
