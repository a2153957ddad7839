"""Defaults of the ``mbi`` command: flag over environment over ``config.toml`` over built-in.

The file is ``$XDG_CONFIG_HOME/mbi/config.toml`` (usually ``~/.config/mbi/config.toml``), the
variables are ``MBI_NODE``, ``MBI_TIMEOUT`` and ``MBI_KEYS``. Unknown keys are refused and all
problems reported together. Secrets have no setting: other programs can read the environment of a
process.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mbi.calls import TIMEOUT_S, parse_node_url
from mbi.errors import UsageError

NODE_DEFAULT: Final = "http://127.0.0.1:26101"
"""First node of a local network."""

TIMEOUT_MAX_S: Final = 2_592_000.0
"""Thirty days: `mbi gov wait` lasts through the notice of a change, which is a day by default."""

_KEYS: Final = ("node", "timeout", "keys")


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds unless a flag says otherwise."""

    node: str
    timeout_s: float
    keys: Path
    """Directory of the user's key files."""


def load_settings(environment: Mapping[str, str]) -> Settings:
    """Read the file and the environment; raises :class:`UsageError` listing every problem."""
    home = Path(environment.get("HOME") or "/")
    path = Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "mbi" / "config.toml"
    found = _read(path)
    problems = [
        f"{path}: {key}: unknown key; allowed: {', '.join(_KEYS)}" for key in found.keys() - _KEYS
    ]
    sources = {key: f"{path}: {key}" for key in found}
    for key in _KEYS:
        variable = f"MBI_{key.upper()}"
        if environment.get(variable):
            found[key] = environment[variable]
            sources[key] = f"environment {variable}"
    node, timeout_s = NODE_DEFAULT, TIMEOUT_S
    keys = Path(environment.get("XDG_DATA_HOME") or home / ".local/share") / "mbi" / "keys"
    try:
        node = parse_node_url(str(found.get("node", NODE_DEFAULT)))
    except UsageError as error:
        problems.append(f"{sources['node']}: {error}")
    try:
        timeout_s = parse_timeout(found.get("timeout", TIMEOUT_S))
    except UsageError as error:
        problems.append(f"{sources['timeout']}: {error}")
    if isinstance(found.get("keys", ""), str):
        keys = Path(found["keys"]).expanduser() if found.get("keys") else keys
    else:
        problems.append(f"{sources['keys']}: must be a path, found {found['keys']!r}")
    if problems:
        raise UsageError("; ".join(sorted(problems)))
    return Settings(node, timeout_s, keys)


def parse_timeout(value: object) -> float:
    """Return seconds, a number above 0 and at most thirty days; raises :class:`UsageError`."""
    try:
        seconds = float(value) if isinstance(value, str | int | float) else math.nan
    except ValueError:
        seconds = math.nan
    if isinstance(value, bool) or not 0 < seconds <= TIMEOUT_MAX_S:
        raise UsageError(
            f"timeout must be a number of seconds above 0 up to {TIMEOUT_MAX_S:.0f}, "
            f"found {value!r}"
        )
    return seconds


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{path} cannot be used: {error}") from error
