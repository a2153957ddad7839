"""A node that must not start says why in one line that names what to change, and exits with 2."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.programs import NODE, run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

USAGE: Final = 2
"""Exit code for configuration that cannot be used."""


class Homes(NamedTuple):
    """Homes with databases; no process runs on them."""

    own: Path
    """The one that is spoilt and then started."""
    sibling: Path
    """Another validator of the same network."""
    stranger: Path
    """A validator of another network."""


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Homes:
    """Make two networks."""
    first, second = (
        Cluster.build(tmp_path_factory.mktemp(name) / "net", validators=2, observers=0)
        for name in ("first", "second")
    )
    return Homes(first.nodes[0].home, first.nodes[1].home, second.nodes[0].home)


@pytest.fixture
def homes(originals: Homes, tmp_path: Path) -> Homes:
    """Return the homes with a copy of the first, to be spoilt."""
    return originals._replace(own=Path(shutil.copytree(originals.own, tmp_path / "home")))


def start(home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Start a node that is expected to refuse."""
    return run(*NODE, "--home", str(home), settings=environment)


def assert_refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """Demand exit code 2 and one last line with all these words, without a traceback."""
    assert result.returncode == USAGE, f"exit code {result.returncode}: {result.stderr[-2000:]}"
    assert "Traceback" not in result.stderr
    # The message of several problems has a line for each; all of it follows the code.
    for word in words:
        assert word in result.stderr, result.stderr


def edit(path: Path, pattern: str, replacement: str) -> None:
    """Replace the first match of a pattern, which must be there."""
    text, count = re.subn(pattern, replacement, path.read_text(encoding="utf-8"), count=1)
    assert count == 1
    path.write_text(text, encoding="utf-8")


def with_unknown_key(homes: Homes) -> None:
    edit(homes.own / "config.toml", r"\[http\]", "[http]\nprot = 1")


def with_negative_port(homes: Homes) -> None:
    edit(homes.own / "config.toml", r"port = \d+", "port = -1")


def with_peer_listed_twice(homes: Homes) -> None:
    edit(homes.own / "config.toml", r"(?s)(\[\[p2p\.peers\]\].*)", r"\1\n\1")


def without_authority(homes: Homes) -> None:
    (homes.own / "keys" / "ca.crt").unlink()


def with_other_authority(homes: Homes) -> None:
    shutil.copy(homes.stranger / "keys" / "ca.crt", homes.own / "keys")


def without_node_key(homes: Homes) -> None:
    (homes.own / "keys" / "node.pem").unlink()


def with_node_key_of_sibling(homes: Homes) -> None:
    for name in ("node.pem", "node.crt"):
        shutil.copy(homes.sibling / "keys" / name, homes.own / "keys")


def with_other_genesis(homes: Homes) -> None:
    shutil.copy(homes.stranger / "genesis.json", homes.own)
    shutil.copytree(homes.stranger / "keys", homes.own / "keys", dirs_exist_ok=True)


def without_genesis(homes: Homes) -> None:
    (homes.own / "genesis.json").unlink()


def with_weak_key_in_genesis(homes: Homes) -> None:
    path = homes.own / "genesis.json"
    edit(path, r'"consensus_key": "[0-9a-f]{64}"', f'"consensus_key": "01{31 * "00"}"')


def with_unregistered_validator_key(homes: Homes) -> None:
    shutil.copy(homes.stranger / "keys" / "validator.pem", homes.own / "keys")


def with_open_validator_key(homes: Homes) -> None:
    (homes.own / "keys" / "validator.pem").chmod(0o644)


def with_truncated_validator_key(homes: Homes) -> None:
    path = homes.own / "keys" / "validator.pem"
    path.write_bytes(path.read_bytes()[:60])


def without_database(homes: Homes) -> None:
    shutil.rmtree(homes.own / "data")


def without_current_file(homes: Homes) -> None:
    (homes.own / "data" / "CURRENT").unlink()


CASES: Final[dict[str, tuple[Callable[[Homes], None], tuple[str, ...]]]] = {
    "O3 unknown key": (with_unknown_key, ("config_invalid:", "http.prot: unknown key")),
    "O3 negative value": (with_negative_port, ("config_invalid:", "http.port", "-1")),
    "O3 peer listed twice": (with_peer_listed_twice, ("config_invalid:", "listed twice")),
    "O3 missing CA": (without_authority, ("identity_unusable:", "ca.crt")),
    "O3 other CA": (with_other_authority, ("identity_unusable:", "ca.crt")),
    "O3 missing node key": (without_node_key, ("identity_unusable:", "node.pem")),
    "O3 node key of another node": (with_node_key_of_sibling, ("home_invalid:", "node.pem")),
    "O3 genesis of another network": (with_other_genesis, ("wrong_chain:",)),
    "O3 missing genesis": (without_genesis, ("home_invalid:", "genesis.json")),
    "T1 weak key in genesis": (with_weak_key_in_genesis, ("home_invalid:", "consensus_key")),
    "O3 validator key not in genesis": (
        with_unregistered_validator_key,
        ("home_invalid:", "validator.pem"),
    ),
    "K2 key readable by all": (with_open_validator_key, ("key_file_permissions:", "validator.pem")),
    "K2 truncated key": (with_truncated_validator_key, ("key_file_damaged:", "validator.pem")),
    "S3 database missing": (without_database, ("store_missing:", "--rejoin")),
    "S3 CURRENT missing": (without_current_file, ("store_missing:", "CURRENT")),
}


@pytest.mark.parametrize("case", CASES)
def test_unusable_home_is_refused(case: str, homes: Homes) -> None:
    """O3, K2, S3, T1: exit code 2, a stable code first, and the name of what is wrong."""
    spoil, words = CASES[case]
    spoil(homes)
    assert_refused(start(homes.own), *words)


def test_unknown_variable_is_refused(homes: Homes) -> None:
    """O3: a mistyped setting in the environment is no silent default."""
    result = start(homes.own, MBI_HTTP__PROT="1")
    assert_refused(result, "config_invalid:", "MBI_HTTP__PROT", "http.prot")
