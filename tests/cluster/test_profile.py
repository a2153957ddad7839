"""``mbi bench profile`` on a network of its own: where the time of a real node goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import pytest

from node.costs import STAGES
from tests.cluster.cluster import free_port
from tests.cluster.programs import MBI, run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

RATE: Final = 200


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """Return the document and the directory of a profile of a single validator."""
    directory = tmp_path_factory.mktemp("profile")
    load = ["--rate", str(RATE), "--duration", "5", "--senders", "20"]
    network = ["--validators", "1", "--port", str(free_port(1))]
    result = run(*MBI, "--json", "bench", "profile", *load, *network, "--report", str(directory))
    if "Permission" in result.stderr:
        pytest.skip("this system lets no process read another")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout), directory


def test_profile_names_functions_of_the_node(profiled: tuple[dict[str, Any], Path]) -> None:
    document, directory = profiled
    text = (directory / "profile.txt").read_text()
    assert "MainThread" in text
    assert "Executor" in text
    ElementTree.parse(directory / "flame.svg")
    assert document["node"] == "gov-1"
    assert json.loads((directory / "result.json").read_text()) == document["result"]


def test_every_stage_of_a_validator_takes_time(profiled: tuple[dict[str, Any], Path]) -> None:
    """A stage that nobody measures any more would make the rest look dear."""
    steady = profiled[0]["result"]["nodes"][0]["steady"]
    stages = steady["stages_us_per_transaction"]
    # A network of one has nobody to hear from.
    others = {"gossip", "resolve"}
    assert stages.keys() == {*STAGES, "rest"}
    assert [name for name in STAGES if name not in others and stages[name] <= 0] == []
    assert sum(stages.values()) == pytest.approx(steady["cpu_us_per_transaction"], abs=0.1)
    assert steady["transactions"] == pytest.approx(4 * RATE, rel=0.25)
