"""Configuration: everything wrong is reported at once, with the key and what is allowed."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from node.config import (
    ConsensusConfig,
    HttpConfig,
    LogConfig,
    P2pConfig,
    PeerEntry,
    load_config,
)
from node.errors import ConfigError

NODE_ID = "ab" * 32
OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"


def write(home: Path, text: str) -> Path:
    (home / "config.toml").write_text(text)
    return home


def problems(home: Path, text: str, environment: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(write(home, text), environment or {})
    return caught.value.problems


def test_an_empty_file_gives_loopback_defaults(tmp_path: Path) -> None:
    """O2: nothing listens on other interfaces unless told to."""
    config = load_config(write(tmp_path, ""), {})
    assert (config.http.host, config.p2p.host) == ("127.0.0.1", "127.0.0.1")
    assert (config.http.port, config.p2p.port) == (26101, 26100)


def test_peers_are_read_with_and_without_an_address(tmp_path: Path) -> None:
    text = f"""
[[p2p.peers]]
name = "com-1"
node_id = "{NODE_ID}"
address = "10.0.0.7:26110"

[[p2p.peers]]
name = "obs-1"
node_id = "{"cd" * 32}"
"""
    assert load_config(write(tmp_path, text), {}).p2p.peers == (
        PeerEntry("com-1", bytes.fromhex(NODE_ID), "10.0.0.7", 26110),
        PeerEntry("obs-1", b"\xcd" * 32, None, None),
    )


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    home = write(tmp_path, "[http]\nport = 5000\n")
    config = load_config(home, {"MBI_HTTP__PORT": "6000", "MBI_LOG__LEVEL": "debug", "PATH": "/"})
    assert (config.http.port, config.log.level) == (6000, "debug")


def test_every_problem_is_reported_with_its_key(tmp_path: Path) -> None:
    """O3: unknown key, limits out of range, wrong types: all in one error that names each."""
    found = problems(
        tmp_path,
        'colour = 1\n[http]\nport = -1\nprot = 2\n[log]\nlevel = "loud"\n[consensus]\n'
        "min_block_interval_ms = true\n[[p2p.peers]]\nnode_id = 'AB'\n",
        {"MBI_HTTP__SPEED": "1", "MBI_P2P__PORT": "many"},
    )
    text = "\n".join(found)
    for expected in (
        "colour: unknown key",
        "http.prot: unknown key",
        "http.port: must be an integer from 0 to 65535, found -1",
        "log.level: must be one of debug, info, warning, error, found 'loud'",
        "consensus.min_block_interval_ms: must be an integer from 0 to 10000, found True",
        "p2p.peers[0].node_id: must be 64 lower-case hex digits, found 'AB'",
        "environment MBI_HTTP__SPEED: no such setting http.speed",
        "environment MBI_P2P__PORT: must be a whole number, found 'many'",
    ):
        assert expected in text


def test_one_node_id_cannot_be_listed_twice(tmp_path: Path) -> None:
    """O3: two nodes with one key."""
    entry = f'[[p2p.peers]]\nname = "x"\nnode_id = "{NODE_ID}"\n'
    assert "p2p.peers[1].node_id: listed twice (x)" in problems(tmp_path, entry * 2)


@pytest.mark.parametrize("text", ["[http\n", "\xff"])
def test_broken_toml_is_a_config_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config(tmp_path, {})


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mbi node init"):
        load_config(tmp_path, {})


@pytest.mark.parametrize(
    ("section", "settings"),
    [("http", HttpConfig), ("p2p", P2pConfig), ("consensus", ConsensusConfig), ("log", LogConfig)],
)
def test_every_setting_is_described_with_its_default(section: str, settings: type) -> None:
    rows = [row for row in OPERATIONS.read_text().splitlines() if row.startswith("|")]
    for setting in fields(settings):
        (row,) = (row for row in rows if f"`{section}.{setting.name}`" in row)
        if setting.default:
            assert str(setting.default) in row.split("|")[2]
