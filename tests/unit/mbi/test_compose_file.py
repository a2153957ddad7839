"""The compose file of `mbi localnet init`: any number of nodes, hardened like the project's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ledger.genesis import parse_genesis
from mbi import cli
from mbi.errors import UsageError
from mbi.localnet import builder
from mbi.localnet.compose import Settings, compose_text, demand_publishable, write_compose
from mbi.localnet.topology import CONTAINERS_MAX, plan_containers

ROOT = Path(__file__).parent.parent.parent.parent
SETTINGS = Settings("mbi-node:0.1.0", "1000:1000", 26100)
PROJECT = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def document(validators: int, observers: int = 1, government: int | None = None) -> Any:
    """Return a compose file as its reader sees it."""
    return yaml.safe_load(
        compose_text(plan_containers(validators, observers, government), SETTINGS)
    )


@given(st.integers(1, 20), st.integers(1, CONTAINERS_MAX), st.data())
def test_every_node_is_a_service_on_its_own_home(
    validators: int, observers: int, data: st.DataObject
) -> None:
    least, most = max(0, validators - CONTAINERS_MAX), min(validators, CONTAINERS_MAX)
    government = data.draw(st.integers(least, most))
    topology = plan_containers(validators, observers, government)
    services = yaml.safe_load(compose_text(topology, SETTINGS))["services"]
    assert set(services) == {node.name for node in topology.nodes} | {"mbi"}
    for node in topology.nodes:
        assert services[node.name]["volumes"] == [f"./nodes/{node.name}:/var/lib/mbi"]
    assert sum(name.startswith("gov-") for name in services) == government


def test_only_observers_are_published_and_only_on_loopback() -> None:
    """O2: validators publish nothing and have no way out."""
    found = document(7, 2, 4)
    published = {
        name: service["ports"] for name, service in found["services"].items() if "ports" in service
    }
    assert published == {
        "obs-1": ["127.0.0.1:26101:26101"],
        "obs-2": ["127.0.0.1:26111:26101"],
    }
    assert found["networks"]["nodes"] == {"internal": True}
    validators = [name for name in found["services"] if name[:3] in {"gov", "com"}]
    assert all(found["services"][name]["networks"] == ["nodes"] for name in validators)


def test_containers_are_hardened_like_those_of_the_project() -> None:
    """O1: what holds for the one file holds for the other."""
    found = document(4)
    assert found["x-hardened"] | {"user": ""} == PROJECT["x-hardened"] | {"user": ""}
    shared = {"restart", "stop_grace_period", "networks", *PROJECT["x-hardened"]}
    node, wanted = found["x-node"], PROJECT["x-node"]
    assert {key: node[key] for key in shared} == {key: wanted[key] for key in shared}
    for name, service in found["services"].items():
        assert service.items() >= found["x-hardened"].items(), name


def test_a_network_that_nothing_could_reach_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one observer"):
        demand_publishable(plan_containers(4, 0), 26100)
    with pytest.raises(UsageError, match="--port must be from 1024 to 65524"):
        demand_publishable(plan_containers(4, 2), 65530)


def test_the_superuser_gives_the_homes_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """O1: no container runs as root, whoever made the network."""
    given_away: list[Path] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda path, user, group, **_: given_away.append(Path(path)))
    for name in ("nodes/gov-1/keys", "accounts"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "nodes/gov-1/keys/node.pem").touch()
    file = write_compose(tmp_path, plan_containers(4, 1), "mbi-node:1", 26100)
    assert yaml.safe_load(file.read_text())["x-hardened"]["user"] == "10001:10001"
    assert tmp_path / "nodes/gov-1/keys/node.pem" in given_away
    assert tmp_path / "accounts" in given_away


@pytest.fixture
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Databases are made by the node's own command; here only the files count."""
    monkeypatch.setattr(builder, "initialise_databases", lambda _: None)
    monkeypatch.chdir(tmp_path)


def init(*options: str) -> int:
    """Run `mbi localnet init net` and return its exit code."""
    return cli.run(["localnet", "init", "net", *options])


@pytest.mark.usefixtures("_in_an_empty_directory")
def test_command_writes_it_from_the_same_genesis() -> None:
    words = ("--validators", "7", "--government", "4", "--compose", "--port", "27000")
    assert init(*words) == 0
    text = Path("net/docker-compose.yml").read_text()
    services = yaml.safe_load(text)["services"]
    genesis = parse_genesis(Path("net/genesis.json").read_bytes())
    assert {validator.name for validator in genesis.validators} < set(services)
    assert services["obs-1"]["ports"] == ["127.0.0.1:27001:26101"]
    accounts = json.loads(Path("net/network.json").read_text())["accounts"]
    assert not any(account["private_key"] in text for account in accounts)


@pytest.mark.usefixtures("_in_an_empty_directory")
def test_its_nodes_are_not_started_as_processes(capsys: pytest.CaptureFixture[str]) -> None:
    assert init("--compose") == 0
    assert cli.run(["localnet", "start", "net"]) == 2
    assert "docker-compose -f net/docker-compose.yml up -d" in capsys.readouterr().err


@pytest.mark.usefixtures("_in_an_empty_directory")
@pytest.mark.parametrize(
    "options",
    [
        ("--compose", "--containers"),
        ("--compose", "--observers", "0"),
        ("--government", "5"),
        ("--containers", "--validators", "32", "--government", "17"),
    ],
)
def test_contradicting_options_are_refused(options: tuple[str, ...]) -> None:
    assert init(*options) == 2
    assert not Path("net").exists()
