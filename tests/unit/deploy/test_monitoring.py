"""Rules and board ask for what nodes expose; each alert is tested and has a text on what to do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from node.metrics import Metrics
from tests.unit.deploy.monitoring import (
    MONITORING,
    PROMTOOL,
    ROOT,
    alerts,
    board,
    expressions,
    metrics_exposed,
    metrics_used,
)

NAMES = [rule["alert"] for rule in alerts()]
PANELS = [panel for panel in board()["panels"] if panel["type"] != "row"]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_every_metric_that_rules_and_board_name_is_exposed() -> None:
    used = metrics_used()
    assert len(used) > 25
    assert used - metrics_exposed(Metrics().exposition().decode()) == set()


def test_a_metric_that_nobody_exposes_is_noticed() -> None:
    exposed = metrics_exposed(Metrics().exposition().decode())
    assert "mbi_chain_blocks_total" in exposed
    assert "mbi_chain_blocks" not in exposed
    assert "mbi_chain_finality_latency_seconds_bucket" in exposed
    assert "mbi_chain_finality_latency_seconds" not in exposed


def test_each_fault_of_the_network_has_an_alert() -> None:
    assert set(NAMES) >= {
        "MbiNoFinality",
        "MbiQuorumAtRisk",
        "MbiValidatorMissing",
        "MbiEvidence",
        "MbiHalted",
        "MbiDiskLow",
        "MbiPeersMissing",
        "MbiClockSkew",
        "MbiMempoolFull",
    }


@pytest.mark.parametrize("rule", alerts(), ids=NAMES)
def test_alert_leads_to_what_to_do(rule: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "deployment.md").read_text()
    assert rule["alert"] in re.findall(r"^### (\w+)$", page, re.MULTILINE)
    assert rule["annotations"]["runbook"] == f"docs/deployment.md#{rule['alert'].lower()}"
    assert rule["annotations"]["summary"]
    assert rule["labels"]["severity"] in {"warning", "critical"}


@pytest.mark.parametrize("name", NAMES)
def test_alert_has_a_test_in_which_it_fires(name: str) -> None:
    tests = yaml.safe_load((MONITORING / "rules.test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test.get("alert_rule_test", ())]
    assert any(case["alertname"] == name and case["exp_alerts"] for case in cases)


@pytest.mark.parametrize("what", PROMTOOL)
def test_promtool_accepts(what: str) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    words = [promtool, *PROMTOOL[what]]
    done = subprocess.run(
        words, cwd=MONITORING, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_node_of_the_compose_network_is_scraped() -> None:
    groups = json.loads((MONITORING / "targets.json").read_text())
    nodes = {name for name in COMPOSE["services"] if re.match(r"(gov|com|obs)-\d", name)}
    assert {group["labels"]["node"] for group in groups} == nodes
    for group in groups:
        assert group["targets"] == [f"{group['labels']['node']}:26101"]
        wanted = "observer" if group["labels"]["node"].startswith("obs") else "validator"
        assert group["labels"]["role"] == wanted


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in board()["panels"]}) == len(board()["panels"])


def test_board_reads_from_the_provisioned_source() -> None:
    path = MONITORING / "grafana" / "provisioning" / "datasources" / "prometheus.yml"
    (source,) = yaml.safe_load(path.read_text())["datasources"]
    panels = [*PANELS, *(target for panel in PANELS for target in panel["targets"])]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
    address = re.fullmatch(r"http://(\w+):(\d+)", source["url"])
    assert address is not None
    published = COMPOSE["services"][address[1]]["ports"]
    assert any(port.endswith(f":{address[2]}") for port in published)


def test_grafana_finds_the_board_where_it_is_mounted() -> None:
    path = MONITORING / "grafana" / "provisioning" / "dashboards" / "mbi.yml"
    (provider,) = yaml.safe_load(path.read_text())["providers"]
    grafana = COMPOSE["services"]["grafana"]
    mounts = dict(reversed(volume.split(":")[:2]) for volume in grafana["volumes"])
    folder = mounts[provider["options"]["path"]]
    assert sorted(file.name for file in (ROOT / folder).iterdir()) == ["mbi.json"]
    assert (ROOT / mounts["/etc/grafana/provisioning"] / "dashboards" / "mbi.yml").exists()
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/mbi.json"


def test_no_two_expressions_share_a_place() -> None:
    targets = sum(len(panel["targets"]) for panel in PANELS)
    assert len(expressions()) == len(NAMES) + targets + len(board()["annotations"]["list"])
