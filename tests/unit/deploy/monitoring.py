"""What the rules and the board ask Prometheus for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import yaml
from prometheus_client.parser import text_string_to_metric_families

ROOT: Final = Path(__file__).parent.parent.parent.parent
MONITORING: Final = ROOT / "deploy" / "monitoring"
BOARD: Final = MONITORING / "grafana" / "boards" / "mbi.json"
METRIC: Final = re.compile(r"\bmbi_[a-z0-9_]+")

SUFFIXES: Final = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_sum", "_count"),
    "gauge": ("",),
}
"""Names of the series of a family, by its type."""

PROMTOOL: Final = {
    "config": ("check", "config", "prometheus.yml"),
    "rules": ("check", "rules", "rules.yml"),
    "tests of rules": ("test", "rules", "rules.test.yml"),
}
"""What ``promtool`` has to accept, in the directory of the configuration."""


def alerts() -> list[dict[str, Any]]:
    """Return the rules."""
    document = yaml.safe_load((MONITORING / "rules.yml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def board() -> Any:
    """Return the Grafana board."""
    return json.loads(BOARD.read_text())


def expressions() -> dict[str, str]:
    """Return every expression of rules and board, by where it is."""
    found = {f"rule {rule['alert']}": rule["expr"] for rule in alerts()}
    for panel in board()["panels"]:
        for target in panel.get("targets", ()):
            found[f"panel {panel['title']} {target['refId']}"] = target["expr"]
    for annotation in board()["annotations"]["list"]:
        found[f"annotation {annotation['name']}"] = annotation["expr"]
    return found


def metrics_used() -> set[str]:
    """Return the name of every series that rules and board ask for."""
    return {name for text in expressions().values() for name in METRIC.findall(text)}


def metrics_exposed(page: str) -> set[str]:
    """Return the names of the series that a `/metrics` page has or announces.

    A family whose labels are not known yet is announced with its type and has no series.
    """
    return {
        family.name + suffix
        for family in text_string_to_metric_families(page)
        for suffix in SUFFIXES[family.type]
    }
