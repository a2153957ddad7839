"""The source obeys the rules of the design, and each rule is shown to notice an offence."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.source_rules import FILE_LINES_MAX, FUNCTION_LINES_MAX, IMPORTABLE, RULES, Rule, Source

ROOT = Path(__file__).parent.parent
FILES = sorted(file for folder in (*IMPORTABLE, "tests") for file in (ROOT / folder).rglob("*.py"))

OFFENCES: list[tuple[str, str, str]] = [
    ("imports_go_down", "ledger/state.py", "from consensus.types import View"),
    ("imports_go_down", "consensus/engine.py", "import storage.kv"),
    ("imports_go_down", "storage/kv.py", "from p2p import messages"),
    ("imports_go_down", "p2p/network.py", "from mbi.client import Client"),
    ("imports_go_down", "mbi/client.py", "def start():\n    from node import config"),
    ("imports_go_down", "node/runtime.py", "from tests.simulation import World"),
    ("imports_go_down", "node/runtime.py", "from . import config"),
    ("pure_packages_are_pure", "ledger/state.py", "import time"),
    ("pure_packages_are_pure", "ledger/state.py", "def read():\n    from os import path"),
    ("pure_packages_are_pure", "consensus/engine.py", "import asyncio.locks as locks"),
    ("pure_packages_are_pure", "consensus/engine.py", "from concurrent.futures import Future"),
    ("pure_packages_are_pure", "ledger/genesis.py", "data = open('genesis.json').read()"),
    ("pure_packages_are_deterministic", "ledger/state.py", "fee = 0.5"),
    ("pure_packages_are_deterministic", "ledger/state.py", "fee = float(amount)"),
    ("pure_packages_are_deterministic", "ledger/state.py", "share = amount / 2"),
    ("pure_packages_are_deterministic", "ledger/state.py", "share /= 2"),
    ("pure_packages_are_deterministic", "consensus/leader.py", "leader = hash(view)"),
    ("pure_packages_are_deterministic", "consensus/leader.py", "for key in set(keys): vote(key)"),
    ("pure_packages_are_deterministic", "consensus/leader.py", "order = [k for k in {a, b}]"),
    ("randomness_is_not_predictable", "mbi/wallet.py", "import random"),
    ("randomness_is_not_predictable", "ledger/crypto.py", "from random import randbytes"),
    ("secrets_compare_in_constant_time", "node/api/auth.py", "ok = token == expected"),
    ("secrets_compare_in_constant_time", "node/api/auth.py", "ok = b'x' != request.api_token"),
    ("secrets_compare_in_constant_time", "p2p/frames.py", "ok = hmac.digest(k, m, 'sha256') == x"),
    ("database_has_one_door", "storage/chain_store.py", "import plyvel"),
    ("database_has_one_door", "node/runtime.py", "from plyvel import DB"),
    ("no_process_pools", "node/verifier.py", "from concurrent.futures import ProcessPoolExecutor"),
    ("no_process_pools", "mbi/bench/load.py", "import multiprocessing"),
    ("input_is_never_run", "storage/kv.py", "import pickle"),
    ("input_is_never_run", "node/config.py", "limit = eval(text)"),
    ("only_commands_print", "node/runtime.py", "print('started')"),
    ("modules_have_docstrings", "ledger/state.py", "import hashlib"),
    ("files_stay_short", "ledger/state.py", "\n" * (FILE_LINES_MAX + 1)),
    ("functions_stay_short", "p2p/peers.py", "def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX),
    ("nothing_is_left_for_later", "node/runtime.py", "x = 1  # TODO: finish"),
    ("exports_are_complete", "ledger/state.py", "__all__ = ['a']\ndef a(): ...\ndef b(): ..."),
    ("exports_are_complete", "ledger/state.py", "__all__ = ['a', 'gone']\na = 1\nB = 2"),
    ("exports_are_complete", "ledger/state.py", "__all__: list[str] = ['a', 'a']\na = 1"),
    ("exports_are_complete", "p2p/__init__.py", "from p2p.network import A\n__all__ = ['A', 'B']"),
]
"""Rule, path and text that the rule has to refuse."""

ACCEPTED: list[tuple[str, str]] = [
    ("consensus/engine.py", "from ledger.types import Height\nimport ledger.block"),
    ("node/runtime.py", "import asyncio, os, time\nfrom mbi.client import Client"),
    ("storage/leveldb.py", "import plyvel"),
    ("mbi/bench/workload.py", "import random"),
    ("mbi/cli/keys.py", "print('done')"),
    ("ledger/state.py", "half = amount // 2\nfor key in sorted(set(keys)): use(key)"),
    ("node/api/auth.py", "import hmac\nok = hmac.compare_digest(token, expected)"),
    ("node/api/auth.py", "missing = token is None"),
    ("node/api/auth.py", "todo_count = 'TODO'"),
    ("p2p/__init__.py", "import ssl\nfrom p2p.network import A\n__all__ = ['A']\n_b = 1"),
    ("p2p/frames.py", "__all__ = ['Frame']\nFRAME_BYTES_MAX = 1\nclass Frame: ..."),
    ("tests/simulation/clock.py", "import random\nprint(0.5)"),
]
"""Path and text that every rule lets pass; the docstring is added."""


def named(name: str) -> Rule:
    return next(rule for rule in RULES if rule.__name__ == name)


@pytest.fixture(scope="module")
def findings() -> dict[Rule, list[str]]:
    """What each rule finds wrong; a file is parsed once for all of them, and forgotten."""
    found: dict[Rule, list[str]] = {rule: [] for rule in RULES}
    for file in FILES:
        source = Source(file.relative_to(ROOT).as_posix(), file.read_text())
        for rule, lines in found.items():
            lines += [f"{source.path}:{line}: {message}" for line, message in rule(source)]
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_source_obeys(rule: Rule, findings: dict[Rule, list[str]]) -> None:
    """K3, K4: every file of the project obeys the rule."""
    wrong = findings[rule]
    assert not wrong, "\n" + textwrap.dedent(rule.__doc__ or "") + "\n" + "\n".join(wrong)


@pytest.mark.parametrize(("name", "path", "text"), OFFENCES)
def test_rule_notices_offence(name: str, path: str, text: str) -> None:
    assert list(named(name)(Source(path, text)))


def test_every_rule_has_an_offence_that_proves_it() -> None:
    assert {rule.__name__ for rule in RULES} == {name for name, _, _ in OFFENCES}


@pytest.mark.parametrize(("path", "text"), ACCEPTED)
def test_rules_accept_proper_source(path: str, text: str) -> None:
    source = Source(path, f'"""What it is."""\n{text}\n')
    assert [finding for rule in RULES for finding in rule(source)] == []


def test_all_packages_are_looked_at() -> None:
    assert {file.relative_to(ROOT).parts[0] for file in FILES} == {*IMPORTABLE, "tests"}
