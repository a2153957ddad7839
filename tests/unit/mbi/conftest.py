"""Fixtures of tests that run commands: the command, a node to talk to, a key."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.genesis import DEFAULT_PARAMETERS
from ledger.json import to_json
from tests.unit.mbi.commands import Runner
from tests.unit.mbi.fake_node import FakeNode, serving_in_thread
from tests.unit.mbi.gov_documents import NAMES, member


@pytest.fixture
def mbi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Runner:
    """The command, with an empty home directory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("MBI_")]:
        monkeypatch.delenv(name)
    return Runner(capsys)


@pytest.fixture
def node() -> Iterator[FakeNode]:
    """A running fake node."""
    with serving_in_thread(FakeNode()) as running:
        yield running


@pytest.fixture
def keys(mbi: Runner) -> Path:
    """A key directory with an unencrypted key `alice`."""
    assert mbi("keys", "new", "alice", "--unencrypted").code == 0
    return Path("data/mbi/keys").resolve()


@pytest.fixture
def government(node: FakeNode, keys: Path) -> FakeNode:
    """A node of a network of four validators, and a key `alice` to act with."""
    parameters = to_json(DEFAULT_PARAMETERS)
    organisation = {"kind": "government", "weight": 3, "licences": ["e_money", "deposit"]}
    node.documents |= {
        "/v1/validators": [member(name) for name in NAMES],
        "/v1/governance/parameters": parameters,
        "/v1/organisations/treasury": organisation,
        "/v1/consensus": {"era": 0, "epoch": 3, "epoch_base_height": 90, "scheduled": None},
        "/v1/blocks/90": {"header": {"executed_height": 88}},
        "/v1/blocks/88": {"header": {"time_ms": 5000}},
    }
    return node
