"""The profile of a node: shares from stacks, the picture of them, and reading a real process."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ledger.crypto import SigningKey
from ledger.types import Digest
from mbi.bench import profile
from mbi.bench.flame import WIDTH, flame_graph
from mbi.bench.profile import choose_node, parse_stacks, profiler, sampled, tables
from mbi.bench.target import LocalProcess, Target, TargetNode
from mbi.errors import ProcessFailed, UsageError
from mbi.localnet.layout import NodeEntry
from mbi.localnet.processes import write_pid
from mbi.localnet.topology import Role
from tests.unit.waiting import until

STACKS = """thread (11): MainThread;main (node.py:1);loop (node.py:9);decode (tx.py:2) 30
thread (11): MainThread;main (node.py:1);loop (node.py:9) 10
thread (11): MainThread;main (node.py:1);loop (node.py:9);main (node.py:1) 20
thread (12): verifier_0;verify <i> (crypto.py:7) 40
"""


def entry(home: Path, name: str = "com-1", role: Role = "validator") -> NodeEntry:
    return NodeEntry(name, role, "commercial", "http://127.0.0.1:1", "127.0.0.1:2", str(home))


def target(*nodes: TargetNode) -> Target:
    funder = SigningKey.from_seed(bytes(32))
    return Target(nodes, Digest(bytes(32)), funder, "issuer", "issuer/MYR", "1")


def program(folder: Path, script: str) -> str:
    """Return the path of a program that stands for py-spy."""
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def own_process(tmp_path: Path) -> LocalProcess:
    """Return a node whose process is that of the tests."""
    node = entry(tmp_path)
    write_pid(node, os.getpid())
    return LocalProcess(node)


@pytest.fixture
def spinning(tmp_path: Path) -> Iterator[LocalProcess]:
    """Yield a node whose process does one thing all the time."""
    script = "def spin():\n    while True: pass\nprint('up', flush=True)\nspin()\n"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        node = entry(tmp_path)
        assert process.stdout is not None
        process.stdout.readline()
        write_pid(node, process.pid)
        yield LocalProcess(node)
        process.kill()


def test_own_time_is_of_the_innermost_function() -> None:
    found = parse_stacks(STACKS)
    assert found.total == 100
    assert found.own() == {
        "decode (tx.py:2)": 30,
        "loop (node.py:9)": 10,
        "main (node.py:1)": 20,
        "verify <i> (crypto.py:7)": 40,
    }
    assert found.threads() == {"MainThread": 60, "verifier_0": 40}


def test_a_function_that_calls_itself_counts_once() -> None:
    stacks = "thread (1): t;f (a.py:1);g (a.py:2);f (a.py:1) 30\nthread (1): t;h (a.py:3) 30\n"
    assert parse_stacks(stacks).cumulative()["f (a.py:1)"] == 30


def test_what_starts_a_thread_is_not_in_the_table() -> None:
    found = parse_stacks(STACKS).cumulative()
    assert found == {"decode (tx.py:2)": 30}


def test_tables_give_shares_in_order() -> None:
    text = tables(parse_stacks(STACKS), rows=2)
    own = text.partition("own time")[2].partition("everything")[0]
    assert re.findall(r"([\d.]+%)  (\w+)", own) == [("40.0%", "verify"), ("30.0%", "decode")]
    assert "60.0%  MainThread" in text


def test_another_text_is_no_profile() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        parse_stacks("py-spy has changed its format\n")


def test_width_in_the_picture_is_the_share_of_time() -> None:
    root = ElementTree.fromstring(flame_graph(parse_stacks(STACKS), "com-1 <&>"))
    widths = {}
    for rectangle in root.iter("{http://www.w3.org/2000/svg}rect"):
        title = rectangle.find("{http://www.w3.org/2000/svg}title")
        if title is not None:
            widths[title.text] = float(rectangle.get("width", "0"))
    assert widths["MainThread: 60.0%"] == pytest.approx(0.6 * WIDTH)
    assert widths["decode (tx.py:2): 30.0%"] == pytest.approx(0.3 * WIDTH)
    assert widths["verify <i> (crypto.py:7): 40.0%"] == pytest.approx(0.4 * WIDTH)


def test_what_cannot_be_seen_is_not_drawn() -> None:
    text = "t;wide (a.py:1) 10000\nt;narrow (a.py:2) 1\n"
    assert "narrow" not in flame_graph(parse_stacks(text), "t")


def test_the_watched_node_is_a_validator_and_not_the_observed_one(tmp_path: Path) -> None:
    roles: dict[str, Role] = {"obs-1": "observer", "gov-1": "validator", "com-1": "validator"}
    nodes = [
        TargetNode(name, "", LocalProcess(entry(tmp_path / name, name, role)))
        for name, role in roles.items()
    ]
    assert choose_node(target(*nodes))[0] == "com-1"
    assert choose_node(target(*nodes[:2]))[0] == "gov-1"
    with pytest.raises(UsageError, match="on this machine"):
        choose_node(target(TargetNode("far", "http://192.0.2.1:1", None), nodes[0]))


def test_a_missing_profiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="extra dev"):
        profiler()


async def test_a_process_that_is_gone_fails_the_run(tmp_path: Path) -> None:
    process = LocalProcess(entry(tmp_path))
    with pytest.raises(ProcessFailed, match="com-1 does not run"):
        async with sampled(process, 0.0, 1.0, tmp_path / "stacks.txt"):
            pass


async def test_what_the_profiler_says_is_in_the_error(
    own_process: LocalProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tool = program(tmp_path, "echo Permission Denied >&2; exit 1")
    monkeypatch.setattr(profile, "profiler", lambda: tool)
    with pytest.raises(ProcessFailed, match=r"Permission Denied.*as root"):
        async with sampled(own_process, 0.0, 1.0, tmp_path / "stacks.txt"):
            pass


async def test_a_load_that_fails_ends_the_profiler(
    own_process: LocalProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It must not be waited for, nor left behind."""
    told = tmp_path / "pid"
    tool = program(tmp_path, f"echo $$ > {told}.new; mv {told}.new {told}; exec sleep 600")
    monkeypatch.setattr(profile, "profiler", lambda: tool)
    async with asyncio.timeout(20):
        recording = sampled(own_process, 0.0, 1.0, tmp_path / "stacks.txt")
        await recording.__aenter__()
        await until(told.exists)
        pid = told.read_text(encoding="ascii").strip()
        await recording.__aexit__(KeyError, KeyError("the load failed"), None)
    assert pid not in os.listdir("/proc")


async def test_a_running_process_is_read(spinning: LocalProcess, tmp_path: Path) -> None:
    file = tmp_path / "stacks.txt"
    try:
        async with sampled(spinning, 0.0, 1.0, file):
            pass
    except ProcessFailed as error:
        if "Permission" in str(error):
            pytest.skip("this system lets no process read another")
        raise
    found = parse_stacks(file.read_text(encoding="utf-8"))
    assert found.own().most_common(1)[0][0].startswith("spin ")
