"""One chamber is gone for good: the runbook of docs/operations.md, line by line, on real nodes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from mbi.localnet.builder import build_network
from mbi.localnet.topology import plan
from tests.cluster.cluster import Cluster, Node, free_port
from tests.cluster.figures import Figures
from tests.cluster.load import Load
from tests.cluster.programs import MBI, run
from tests.cluster.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

RUNBOOK: Final = Path(__file__).parents[2] / "docs" / "operations.md"
SECTION: Final = "## 8. When a chamber is gone for good"
RATE: Final = 100
BLOCKS: Final = 16
"""More than a plan carries: who joins late must fetch the rest."""
HALT_S: Final = 10.0
GOES_ON_S: Final = 15.0
SURVIVORS: Final = ("gov-1", "gov-2")
LOST: Final = ("com-1", "com-2")
NEW: Final = ("obs-1", "obs-2")


def runbook() -> list[list[str]]:
    """Return the commands of the runbook, word by word."""
    section = RUNBOOK.read_text().split(SECTION)[1].split("\n## ")[0]
    lines = re.findall(r"^    mbi (.*)$", section, re.MULTILINE)
    return [line.split("#")[0].split() for line in lines]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Two and two validators, two observers, and a council."""
    topology = plan(4, 2, free_port(6))
    network = build_network(tmp_path / "net", topology, "era change", with_council=True)
    cluster = Cluster(network)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
    cluster.check_logs()


class Operators:
    """Whoever runs the lines of the runbook, in the directory of the network."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lines = runbook()
        assert len(self._lines) >= 15, "the runbook has lost its commands"

    def run(self, *words: str, code: int = 0) -> Any:
        """Run one command of ``mbi``; return its document."""
        done = run(
            *(*MBI, *words, "--json"),
            directory=self._cluster.network.directory,
            settings={"MBI_NODE": self._cluster.node("gov-1").entry.http},
        )
        assert done.returncode == code, f"{words}: {done.returncode} {done.stdout} {done.stderr}"
        return json.loads(done.stdout)

    def next(self, *begin: str) -> list[Any]:
        """Run the next lines of the runbook, all of which must begin with these words."""
        answers = []
        while self._lines and tuple(self._lines[0][: len(begin)]) == begin:
            answers.append(self.run(*self._lines.pop(0)))
        assert answers, f"expected lines with {begin}, the runbook goes on with {self._lines[:1]}"
        return answers


def missing(node: Node) -> list[str]:
    """Return whom a halted node waits for."""
    consensus = node.api.get("/v1/consensus")
    assert consensus["halted"] is not None
    return sorted(consensus["missing"])


def era(node: Node) -> int:
    """Return the era that a node is in."""
    return int(node.api.get("/v1/consensus")["era"])


def test_the_network_goes_on_without_a_chamber(cluster: Cluster, figures: Figures) -> None:
    """§3.17: halt, fence, plan, council, acceptance, new set; nothing final is lost."""
    operators = Operators(cluster)
    survivors = [cluster.node(name) for name in SURVIVORS]
    lost = [cluster.node(name) for name in LOST]
    new = [cluster.node(name) for name in NEW]
    with Load(cluster, RATE).running() as load:
        survivors[0].wait_height(BLOCKS)
        for node in lost:
            node.kill()
    wait_until(
        "the survivors name the missing",
        HALT_S,
        lambda: all(missing(node) == sorted(LOST) for node in survivors),
    )
    began = time.monotonic()
    operators.next("keys", "new")
    operators.next("gov", "validator")
    for node in (*survivors, *new):
        code, _ = node.terminate()
        assert code == 0

    wrong = ("recovery", "fence", "--home", "nodes/gov-1", "--era", "1")
    assert "is in era 0" in operators.run(*wrong, code=2)["error"]["detail"]
    operators.next("recovery", "fence")
    survivors[0].start()
    fence_is_shown(survivors[0])
    survivors[0].terminate()

    (made,) = operators.next("recovery", "plan")
    assert made["validators"] == ["com-3", "com-4", "gov-1", "gov-2"]
    unsigned = operators.run("recovery", "check", "plan.json", "--genesis", "genesis.json", code=5)
    assert "must sign 3 times" in unsigned["error"]["detail"]
    operators.run("recovery", "accept", "plan.json", "--home", "nodes/gov-1", code=2)
    operators.next("recovery", "sign")
    (checked,) = operators.next("recovery", "check")
    assert checked["plan"] == made["plan"]
    operators.next("recovery", "accept")

    cluster.start([*survivors, *new])
    identifier = cluster.finalize_one(new[0], GOES_ON_S)
    figures["era change, from the halt to the next final transaction (s)"] = round(
        time.monotonic() - began, 1
    )
    cluster.wait_final(identifier)
    assert {era(node) for node in cluster.running} == {1}
    cluster.assert_on_every_node(load.finalized)
    cluster.assert_equal_chains()

    is_told_and_cannot_vote(cluster, operators, lost[0], made["plan"])
    joins_late(cluster, operators, lost[1])
    verdict = operators.run("audit", "verify", new[0].entry.http, "--genesis", "genesis.json")
    assert (verdict["intact"], verdict["epoch"]) == (True, 1)
    survivors[0].terminate()
    (verdict,) = operators.next("audit", "verify")
    assert (verdict["intact"], verdict["epoch"]) == (True, 1)


def fence_is_shown(node: Node) -> None:
    """A node that is fenced and has no plan says so and does not vote."""

    def is_fenced() -> bool:
        checks = node.api.request("GET", "/readyz").document["checks"]
        voting = next(item for item in checks if item["name"] == "voting")
        assert not voting["ok"]
        return "mbi recovery accept" in voting["detail"]

    wait_until("the fence is shown", HALT_S, is_fenced)
    assert node.api.get("/v1/consensus")["validator"] is None
    assert '"fenced"' in node.log()


def is_told_and_cannot_vote(
    cluster: Cluster, operators: Operators, node: Node, plan_hash: str
) -> None:
    """A member of the old era comes back: it is told what it lacks, accepts it and follows."""
    node.start()
    wait_until(
        "the old member is told which plan it lacks", HALT_S, lambda: plan_hash in node.log()
    )
    assert era(node) == 0
    height = node.api.height()
    identifier = cluster.finalize_one(cluster.node("gov-2"))
    assert node.api.height() == height
    node.terminate()
    operators.run("recovery", "accept", "plan.json", "--home", f"nodes/{node.name}")
    node.start()
    cluster.wait_final(identifier, [node])
    assert era(node) == 1
    assert node.api.get("/v1/consensus")["validator"] is None


def joins_late(cluster: Cluster, operators: Operators, node: Node) -> None:
    """A node without any data follows the old era from genesis, and goes on in the new one."""
    node.wipe()
    assert node.run("init", "--rejoin").returncode == 0
    operators.run("recovery", "accept", "plan.json", "--home", f"nodes/{node.name}")
    node.start()
    node.wait_height(cluster.node("gov-2").api.height())
    assert era(node) == 1
    assert "era_complete" in node.log()
    identifier = cluster.finalize_one(cluster.node("gov-2"))
    cluster.wait_final(identifier, [node])
