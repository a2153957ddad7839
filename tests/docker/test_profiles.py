"""The profiles of the compose file: a real Prometheus on the nodes, and the load generator."""

from __future__ import annotations

import json
import os
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.cluster.waiting import wait_until
from tests.docker.compose import BUILD_TIMEOUT_S, NODES, ComposeNetwork, free_port, run
from tests.docker.conftest import READY_S
from tests.docker.transactions import finalise
from tests.unit.deploy.monitoring import (
    PROMTOOL,
    alerts,
    expressions,
    metrics_exposed,
    metrics_used,
)

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(1200)]

PROMETHEUS: Final = "mbi-prometheus:compose-test"
DOCKERFILE: Final = """
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends prometheus \
    && rm -rf /var/lib/apt/lists/* && mkdir -p /prometheus && chown 65534:65534 /prometheus
USER 65534:65534
ENTRYPOINT ["/usr/bin/prometheus"]
"""
"""Debian's Prometheus in the place of the image that the compose file names: no registry needed."""

SCRAPED_S: Final = 30.0
FIRING_S: Final = 90.0
"""Alerts wait for 30 s; scrapes and evaluations are 5 s apart."""


@pytest.fixture(scope="module")
def watched(image: None) -> Iterator[ComposeNetwork]:
    """The network with Prometheus, published on a port of its own."""
    host = os.environ.get("MBI_BUILD_NETWORK", "default")
    words = ("docker", "build", "--quiet", "--network", host, "--tag", PROMETHEUS, "-")
    run(*words, stdin=DOCKERFILE, timeout_s=BUILD_TIMEOUT_S)
    port = free_port()
    network = ComposeNetwork(
        f"mbi-watched-{os.getpid()}", PROMETHEUS_IMAGE=PROMETHEUS, PROMETHEUS_PORT=port
    )
    try:
        network.compose("up", "-d", *NODES, "prometheus")
        wait_until("ready", READY_S, lambda: network.get("/readyz").status == 200)
        yield network
    finally:
        network.compose("--profile", "monitoring", "--profile", "bench", "down", "-v")
    assert network.remains() == []


def prometheus(network: ComposeNetwork, path: str, **query: str) -> Any:
    """Ask Prometheus through its published port."""
    where = f"http://127.0.0.1:{network.variables['PROMETHEUS_PORT']}/api/v1/{path}"
    with urllib.request.urlopen(f"{where}?{urllib.parse.urlencode(query)}", timeout=5) as answer:
        return json.load(answer)["data"]


def firing(network: ComposeNetwork) -> set[tuple[str, str]]:
    """Return which alerts fire on which nodes."""
    return {
        (alert["labels"]["alertname"], alert["labels"]["instance"])
        for alert in prometheus(network, "alerts")["alerts"]
        if alert["state"] == "firing"
    }


@pytest.mark.parametrize("what", PROMTOOL)
def test_promtool_of_that_prometheus_accepts(watched: ComposeNetwork, what: str) -> None:
    place = ("--workdir", "/etc/prometheus", watched.container("prometheus"))
    run("docker", "exec", *place, "promtool", *PROMTOOL[what])


def test_every_node_is_scraped_under_its_name(watched: ComposeNetwork) -> None:
    def nodes_up() -> bool:
        targets = prometheus(watched, "targets")["activeTargets"]
        found = {(one["labels"]["instance"], one["health"]) for one in targets}
        assert found == {(name, "up") for name in NODES}, [one["lastError"] for one in targets]
        return True

    wait_until("all up", SCRAPED_S, nodes_up)


def test_the_rules_of_the_project_are_loaded(watched: ComposeNetwork) -> None:
    groups = prometheus(watched, "rules")["groups"]
    loaded = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert loaded.keys() == {rule["alert"] for rule in alerts()}
    assert "err" not in loaded.values()


def test_every_metric_of_rules_and_board_is_on_the_live_page(watched: ComposeNetwork) -> None:
    program = (
        "import urllib.request as u;"
        "print(u.urlopen('http://127.0.0.1:26101/metrics', timeout=5).read().decode())"
    )
    for service in NODES:
        page = watched.python(service, program)
        assert metrics_used() - metrics_exposed(page) == set(), service


@pytest.mark.parametrize("place", expressions())
def test_expression_is_answered(watched: ComposeNetwork, place: str) -> None:
    """Syntax, functions and labels of every rule and panel, on real series."""
    assert "result" in prometheus(watched, "query", query=expressions()[place])


def test_alerts_fire_when_a_validator_stops_and_calm_down(watched: ComposeNetwork) -> None:
    finalise(watched)
    expected = {
        ("MbiNodeDown", "com-1"),
        *(("MbiValidatorMissing", name) for name in NODES if name != "com-1"),
        *(("MbiQuorumAtRisk", name) for name in NODES if name != "com-1"),
    }
    assert not expected & firing(watched)
    watched.compose("stop", "com-1")
    wait_until("alerts fire", FIRING_S, lambda: expected <= firing(watched))
    assert not any(name == "MbiHalted" for name, _ in firing(watched))
    watched.compose("start", "com-1")
    wait_until("alerts are over", FIRING_S, lambda: not expected & firing(watched))


def test_prometheus_is_hardened(watched: ComposeNetwork) -> None:
    """O1: what watches the nodes is no way to them."""
    found = watched.inspect("prometheus")
    host = found["HostConfig"]
    assert found["Config"]["User"] == "65534:65534"
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert any("no-new-privileges" in option for option in host["SecurityOpt"])
    binds = [mount for mount in found["Mounts"] if mount["Type"] == "bind"]
    assert binds
    assert not any(mount["RW"] for mount in binds)
    published = found["NetworkSettings"]["Ports"]["9090/tcp"]
    assert {place["HostIp"] for place in published} == {"127.0.0.1"}


def test_load_generator_measures_the_network(watched: ComposeNetwork) -> None:
    """Its run ends with a check of all nodes and balances; it would fail otherwise."""
    options = ("--rate", "50", "--duration", "5", "--senders", "20", "--json")
    result = json.loads(watched.compose("run", "--rm", "-T", "bench", *options))
    assert result["integrity"]["passed"] is True
    assert result["transactions"]["finalized"] > 100
