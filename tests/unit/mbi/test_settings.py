"""Defaults of the command: flag over environment over file over built-in, and nothing unknown."""

from __future__ import annotations

from pathlib import Path

import pytest

from mbi.errors import UsageError
from mbi.settings import NODE_DEFAULT, load_settings, parse_timeout


def environment(tmp_path: Path, content: str | None = None, **variables: str) -> dict[str, str]:
    if content is not None:
        (tmp_path / "mbi").mkdir()
        (tmp_path / "mbi" / "config.toml").write_text(content)
    return {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), **variables}


def test_built_in_values_hold_without_a_file(tmp_path: Path) -> None:
    settings = load_settings(environment(tmp_path))
    assert (settings.node, settings.timeout_s) == (NODE_DEFAULT, 10.0)
    assert settings.keys == tmp_path / ".local/share/mbi/keys"


def test_file_is_over_the_built_in_and_environment_over_the_file(tmp_path: Path) -> None:
    found = environment(tmp_path, 'node = "http://a:1"\ntimeout = 3\n', MBI_NODE="http://b:2")
    settings = load_settings(found)
    assert (settings.node, settings.timeout_s) == ("http://b:2", 3.0)


def test_all_problems_are_reported_together(tmp_path: Path) -> None:
    """O3: unknown key, wrong value and wrong type, each with its place."""
    content = 'nod = "http://a:1"\ntimeout = -1\nkeys = 5\n'
    with pytest.raises(UsageError) as caught:
        load_settings(environment(tmp_path, content, MBI_NODE="ftp://x"))
    message = str(caught.value)
    assert "config.toml: nod: unknown key; allowed: node, timeout, keys" in message
    assert "config.toml: timeout: timeout must be a number of seconds above 0" in message
    assert "config.toml: keys: must be a path, found 5" in message
    assert "environment MBI_NODE: node URL 'ftp://x'" in message


def test_broken_file_is_named(tmp_path: Path) -> None:
    """O3: a file that is not TOML is refused, not ignored."""
    with pytest.raises(UsageError, match=r"config\.toml cannot be used"):
        load_settings(environment(tmp_path, "node = "))


@pytest.mark.parametrize("value", [0, -1, "nan", "inf", "abc", "", True, None, [], "2592001"])
def test_impossible_timeouts_are_refused(value: object) -> None:
    """O3: a limit must be a positive number."""
    with pytest.raises(UsageError, match="number of seconds"):
        parse_timeout(value)
