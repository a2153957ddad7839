"""Configuration of one node: ``config.toml`` in its home, overridden by the environment.

Parsed once into frozen records and then passed on explicitly. Precedence: environment
(``MBI_HTTP__PORT=...``: section and key joined by two underscores) over the file over the defaults.
Unknown keys are refused, and all problems are reported together, each with the key, what was found
and what is allowed. Everything that validators must agree on is in the genesis file, not here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from node.errors import ConfigError

ENVIRONMENT_PREFIX: Final = "MBI_"
PORT_MAX: Final = 65535
PEERS_MAX: Final = 200
"""Validators (at most 128) and observers of one network that a node may list."""
NAME_BYTES_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class PeerEntry:
    """Another node of the network that this node may talk to."""

    name: str
    node_id: bytes
    """Ed25519 public key of its channel, 32 bytes; the only identity that counts."""
    host: str | None
    """None: the peer dials us."""
    port: int | None


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """Where the HTTP API listens."""

    host: str = "127.0.0.1"
    port: int = 26101
    allowed_origins: tuple[str, ...] = ()
    """Origins of other sites whose pages may open a WebSocket."""
    allowed_hosts: tuple[str, ...] = ()
    """Names, besides addresses and localhost, under which requests may reach this node."""


@dataclass(frozen=True, slots=True)
class P2pConfig:
    """Where other nodes reach this node, and which they are."""

    host: str = "127.0.0.1"
    port: int = 26100
    peers: tuple[PeerEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class ConsensusConfig:
    """Local timing; never influences safety."""

    min_block_interval_ms: int = 50
    """Shortest time between a leader's proposal and its parent under load."""
    idle_beat_ms: int = 30_000
    """An idle network makes one empty block after this time as a sign of life."""


@dataclass(frozen=True, slots=True)
class LogConfig:
    """What is logged and how."""

    level: str = "info"
    format: str = "json"


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """All settings of one node."""

    home: Path
    name: str
    http: HttpConfig = field(default_factory=HttpConfig)
    p2p: P2pConfig = field(default_factory=P2pConfig)
    consensus: ConsensusConfig = field(default_factory=ConsensusConfig)
    log: LogConfig = field(default_factory=LogConfig)
    passphrase_file: Path | None = None
    """File with the passphrase of ``keys/validator.pem``; needed unless it is a dev network."""
    faucet_seed_file: Path | None = None
    """Dev networks only: file with the hex seed of the faucet account's key."""


class _Problems:
    """Collects problems while values are taken out of the parsed document."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def take(
        self, table: dict[str, Any], path: str, default: Any, rule: Callable[[Any], str | None]
    ) -> Any:
        """Pop one key; on a breach of ``rule`` (a sentence, or None if fine) note it and go on."""
        key = path.rsplit(".", 1)[-1]
        value = table.pop(key, default)
        breach = rule(value)
        if breach is not None:
            self.found.append(f"{path}: {breach}, found {value!r}")
            return default
        return value


def _text(value: Any) -> str | None:
    if isinstance(value, str) and 0 < len(value.encode()) <= NAME_BYTES_MAX * 4:
        return None
    return "must be a non-empty text"


def _name(value: Any) -> str | None:
    if isinstance(value, str) and 0 < len(value.encode()) <= NAME_BYTES_MAX:
        return None
    return f"must be a text of 1 to {NAME_BYTES_MAX} bytes"


def _optional_text(value: Any) -> str | None:
    return None if value is None else _text(value)


def _port(value: Any) -> str | None:
    if type(value) is int and 0 <= value <= PORT_MAX:
        return None
    return f"must be an integer from 0 to {PORT_MAX}"


def _between(low: int, high: int) -> Callable[[Any], str | None]:
    def rule(value: Any) -> str | None:
        if type(value) is int and low <= value <= high:
            return None
        return f"must be an integer from {low} to {high}"

    return rule


def _one_of(*allowed: str) -> Callable[[Any], str | None]:
    def rule(value: Any) -> str | None:
        return None if value in allowed else f"must be one of {', '.join(allowed)}"

    return rule


def _texts(value: Any) -> str | None:
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return None
    return "must be a list of texts"


_SECTIONS: Final[Mapping[str, Mapping[str, type]]] = {
    "node": {"name": str},
    "http": {"host": str, "port": int},
    "p2p": {"host": str, "port": int},
    "consensus": {"min_block_interval_ms": int, "idle_beat_ms": int},
    "keys": {"passphrase_file": str, "faucet_seed_file": str},
    "log": {"level": str, "format": str},
}
"""Settings that the environment may override, with the type a text is turned into."""


def load_config(home: Path, environment: Mapping[str, str]) -> NodeConfig:
    """Read ``home/config.toml`` and the environment.

    Raises:
        ConfigError: with every problem found.
    """
    path = home / "config.toml"
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(str(path), ["file not found; `mbi node init` makes a home"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), [f"not valid TOML: {error}"]) from error
    problems = _Problems()
    _apply_environment(document, environment, problems)
    config = _parse(home, document, problems)
    if problems.found:
        raise ConfigError(str(path), problems.found)
    return config


def _apply_environment(
    document: dict[str, Any], environment: Mapping[str, str], problems: _Problems
) -> None:
    for variable in sorted(environment):
        if not variable.startswith(ENVIRONMENT_PREFIX) or "__" not in variable:
            continue
        section, _, key = variable.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        kind = _SECTIONS.get(section, {}).get(key)
        if kind is None:
            problems.found.append(f"environment {variable}: no such setting {section}.{key}")
            continue
        text = environment[variable]
        if kind is int and not (text.isascii() and text.isdigit()):
            problems.found.append(f"environment {variable}: must be a whole number, found {text!r}")
            continue
        document.setdefault(section, {})[key] = kind(text)


def _parse(home: Path, document: dict[str, Any], problems: _Problems) -> NodeConfig:
    def section(name: str) -> dict[str, Any]:
        table = document.pop(name, {})
        if isinstance(table, dict):
            return dict(table)
        problems.found.append(f"{name}: must be a table, found {table!r}")
        return {}

    tables = {name: section(name) for name in _SECTIONS}
    take = problems.take
    http, p2p, consensus, keys, log = (
        tables[name] for name in ("http", "p2p", "consensus", "keys", "log")
    )
    passphrase = take(keys, "keys.passphrase_file", None, _optional_text)
    faucet = take(keys, "keys.faucet_seed_file", None, _optional_text)
    config = NodeConfig(
        home=home,
        name=take(tables["node"], "node.name", "node", _name),
        http=HttpConfig(
            take(http, "http.host", "127.0.0.1", _text),
            take(http, "http.port", 26101, _port),
            tuple(take(http, "http.allowed_origins", (), _texts)),
            tuple(take(http, "http.allowed_hosts", (), _texts)),
        ),
        p2p=P2pConfig(
            take(p2p, "p2p.host", "127.0.0.1", _text),
            take(p2p, "p2p.port", 26100, _port),
            _parse_peers(p2p.pop("peers", []), problems),
        ),
        consensus=ConsensusConfig(
            take(consensus, "consensus.min_block_interval_ms", 50, _between(0, 10_000)),
            take(consensus, "consensus.idle_beat_ms", 30_000, _between(1_000, 86_400_000)),
        ),
        log=LogConfig(
            take(log, "log.level", "info", _one_of("debug", "info", "warning", "error")),
            take(log, "log.format", "json", _one_of("json", "console")),
        ),
        passphrase_file=None if passphrase is None else home / passphrase,
        faucet_seed_file=None if faucet is None else home / faucet,
    )
    unknown = [*document, *(f"{name}.{key}" for name, table in tables.items() for key in table)]
    problems.found.extend(f"{key}: unknown key" for key in unknown)
    return config


def _parse_peers(entries: Any, problems: _Problems) -> tuple[PeerEntry, ...]:
    if not isinstance(entries, list) or len(entries) > PEERS_MAX:
        problems.found.append(f"p2p.peers: must be at most {PEERS_MAX} tables")
        return ()
    peers: list[PeerEntry] = []
    for index, entry in enumerate(entries):
        path = f"p2p.peers[{index}]"
        if not isinstance(entry, dict):
            problems.found.append(f"{path}: must be a table, found {entry!r}")
            continue
        table = dict(entry)
        name = problems.take(table, f"{path}.name", f"peer-{index}", _name)
        node_id = problems.take(table, f"{path}.node_id", "", _node_id)
        address = problems.take(table, f"{path}.address", None, _address)
        problems.found.extend(f"{path}.{key}: unknown key" for key in table)
        host, _, port = (address or "").rpartition(":")
        peers.append(
            PeerEntry(name, bytes.fromhex(node_id), host or None, int(port) if port else None)
        )
    for index, peer in enumerate(peers):
        if any(peer.node_id == other.node_id for other in peers[:index]):
            problems.found.append(f"p2p.peers[{index}].node_id: listed twice ({peer.name})")
    return tuple(peers)


def _node_id(value: Any) -> str | None:
    if isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef"):
        return None
    return "must be 64 lower-case hex digits"


def _address(value: Any) -> str | None:
    if value is None:
        return None
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if host and port.isascii() and port.isdigit() and 0 < int(port) <= PORT_MAX:
        return None
    return 'must look like "host:port"'
