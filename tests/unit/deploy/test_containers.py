"""Compose and Swarm files: what holds for one service holds for all, in both."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
import yaml

from tests.unit.deploy.monitoring import ROOT

COMPOSE: Final = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
STACK: Final = yaml.safe_load((ROOT / "deploy" / "swarm" / "stack.yml").read_text())
SERVICES: Final = COMPOSE["services"]
NODES: Final = ("gov-1", "com-1", "gov-2", "com-2", "obs-1")
IMAGE: Final = re.compile(r"\$\{[A-Z_]+:-[a-z/-]+:v?\d+\.\d+\.\d+\}")


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened(name: str) -> None:
    """O1: those of the profiles, too."""
    service, wanted = SERVICES[name], COMPOSE["x-hardened"]
    for key in wanted.keys() - {"image", "pull_policy"}:
        assert service[key] == wanted[key], key
    assert IMAGE.fullmatch(service["image"]), service["image"]
    assert service.get("user", "10001:10001").split(":")[0] != "0"
    for forbidden in ("privileged", "cap_add", "devices", "pid", "ipc"):
        assert forbidden not in service


@pytest.mark.parametrize("name", SERVICES)
def test_every_port_is_published_on_loopback(name: str) -> None:
    """O2: and validators publish none."""
    ports = SERVICES[name].get("ports", [])
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert bool(ports) == (name in {"obs-1", "prometheus", "grafana"})


@pytest.mark.parametrize("name", SERVICES)
def test_host_files_are_mounted_read_only(name: str) -> None:
    """O1: the socket of the engine least of all."""
    for volume in SERVICES[name].get("volumes", ()):
        if volume.startswith((".", "/")):
            assert volume.startswith("./deploy/monitoring"), volume
            assert volume.endswith(":ro"), volume


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_is_given_a_secret_by_environment(name: str) -> None:
    """K1: `docker inspect` shows the environment to whoever may ask the engine."""
    for key in SERVICES[name].get("environment", {}):
        assert not re.search("PASS|SECRET|TOKEN|SEED|PRIVATE", key), key


def test_networks_have_no_fixed_addresses() -> None:
    assert COMPOSE["networks"] == {"nodes": {"internal": True}, "edge": {}}


def test_load_generator_offers_to_every_validator() -> None:
    urls = [word for word in SERVICES["bench"]["entrypoint"] if word.startswith("http")]
    assert urls == [f"http://{name}:26101" for name in NODES if name != "obs-1"]


@pytest.mark.parametrize("name", NODES)
def test_service_of_the_swarm_is_confined_like_that_of_compose(name: str) -> None:
    """O1: in the words of Swarm."""
    service: dict[str, Any] = STACK["services"][name]
    wanted = COMPOSE["x-node"]
    for key in ("image", "read_only", "cap_drop", "init", "stop_grace_period", "logging"):
        assert service[key] == wanted[key], key
    assert service["user"] == "10001:10001"
    limits = service["deploy"]["resources"]["limits"]
    assert limits == {"memory": "1G", "pids": wanted["pids_limit"]}
    assert service["volumes"] == [f"{name}:/var/lib/mbi", {"type": "tmpfs", "target": "/tmp"}]


@pytest.mark.parametrize("name", NODES)
def test_swarm_never_runs_two_processes_with_one_key(name: str) -> None:
    """One key, one process: no second replica, no start before the end, no other machine."""
    deploy = STACK["services"][name]["deploy"]
    assert deploy["replicas"] == 1
    assert deploy["update_config"]["order"] == deploy["rollback_config"]["order"] == "stop-first"
    assert deploy["placement"]["constraints"] == [f"node.labels.mbi.{name} == yes"]


def test_swarm_does_not_restart_nodes_that_lack_a_quorum() -> None:
    """C14: Swarm ends what its health check calls unhealthy."""
    for name in NODES:
        test = " ".join(STACK["services"][name]["healthcheck"]["test"])
        assert "/healthz" in test
        assert "/readyz" not in test


def test_stack_publishes_the_observer_only() -> None:
    """O2: validators are reached by nodes."""
    assert set(STACK["services"]) == set(NODES)
    assert [name for name in NODES if "ports" in STACK["services"][name]] == ["obs-1"]
    assert all(STACK["services"][name]["networks"] == ["nodes"] for name in NODES[:4])
    assert STACK["networks"]["nodes"] == {"driver": "overlay", "internal": True}
