"""What a local network tells of its nodes: the role of the present epoch, not of the genesis."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mbi.errors import Unreachable
from mbi.localnet.layout import NodeEntry
from mbi.localnet.processes import write_pid
from mbi.localnet.readiness import report_all, wait_ready
from tests.unit.mbi.fake_node import FakeNode


@pytest.fixture
def entry(tmp_path: Path, node: FakeNode) -> NodeEntry:
    """A node that was added as an observer; this process stands for it."""
    home = str(tmp_path)
    added = NodeEntry("com-3", "observer", None, node.url, "127.0.0.1:1", home)
    write_pid(added, os.getpid())
    return added


def report(entry: NodeEntry) -> dict[str, Any]:
    return report_all([entry])[0].to_json()


def test_an_observer_that_became_a_validator_is_one(entry: NodeEntry, node: FakeNode) -> None:
    node.role = "validator"
    node.documents["/v1/consensus"] = {"validator": "com-3"}
    node.documents["/v1/validators"] = [{"name": "com-3", "chamber": "commercial"}]
    found = report(entry)
    assert found["state"] == "ready"
    assert (found["role"], found["chamber"]) == ("validator", "commercial")


def test_a_validator_that_left_is_an_observer(entry: NodeEntry, node: FakeNode) -> None:
    first = NodeEntry("gov-1", "validator", "government", entry.http, entry.p2p, entry.home)
    found = report(first)
    assert (found["role"], found["chamber"], found["height"]) == ("observer", None, 7)


async def test_a_node_that_was_not_asked_in_time_is_not_ready(entry: NodeEntry) -> None:
    with pytest.raises(Unreachable, match="com-3: no answer"):
        await wait_ready([entry], 0.0)


def test_a_node_that_does_not_answer_has_the_role_it_was_made_with(entry: NodeEntry) -> None:
    entry.pid_path.unlink()
    found = report(entry)
    assert (found["role"], found["state"], found["height"]) == ("observer", "stopped", None)
