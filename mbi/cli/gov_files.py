"""What the governance commands read: homes of nodes, descriptions of validators, parameters."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from msgspec import Struct

from ledger.crypto import SigningKey
from ledger.errors import LedgerError
from ledger.json import from_json, load_json
from ledger.types import PublicKey
from ledger.validators import Validator
from mbi.cli.base import Options, Session, read_file
from mbi.cli.node import node_key
from mbi.errors import UsageError
from mbi.keyfiles import read_key, read_passphrase_file

S = TypeVar("S", bound=Struct)

FILE_BYTES_MAX: Final = 64 * 1024
"""A description of a validator is below 1 KiB, two votes are below 2 KiB."""

CONSENSUS_KEYS: Final = ("keys/validator-next.pem", "keys/validator.pem")
"""Where a home keeps its consensus key; the first is there while the key is being replaced."""

_NAME_DEFAULT: Final = "node"
_HTTP_HOST_DEFAULT: Final = "127.0.0.1"
_HTTP_PORT_DEFAULT: Final = 26101
_LOOPBACK_OF: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
"""A node that listens everywhere is reached here, from its own machine."""


@dataclass(frozen=True, slots=True)
class Home:
    """What the owner of a node's home needs of it to take part in governance."""

    path: Path
    name: str
    url: str
    """Where the node's own HTTP interface answers, seen from this machine."""
    passphrase_file: Path | None
    """Of the consensus key."""

    def consensus_key(self) -> SigningKey:
        """Return the consensus key that the node is about to vote with."""
        path = next((p for p in (self.path / n for n in CONSENSUS_KEYS) if p.exists()), None)
        if path is None:
            raise UsageError(
                f"{self.path} has no {CONSENSUS_KEYS[-1]}, without which a node only observes; "
                f"make one: mbi keys new validator --key-dir {self.path / 'keys'}"
            )
        passphrase = None
        if self.passphrase_file is not None:
            passphrase = read_passphrase_file(self.passphrase_file)
        return SigningKey.from_seed(read_key(path, passphrase))

    def node_key(self) -> PublicKey:
        """Return the public key of the node's channel."""
        return PublicKey(node_key(self.path))

    def session(self, session: Session) -> Session:
        """Return a session that talks to this node, unless the command line names another."""
        if session.has_node_flag:
            return session
        return Session(Options(self.url, session.timeout_s, session.output.is_json))


def read_home(path: Path, passphrase_file: Path | None) -> Home:
    """Read a node's ``config.toml``; a stated passphrase file counts instead of its own.

    Raises:
        UsageError: it is missing, no TOML, or the settings needed here have other types.
    """
    file = path / "config.toml"
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}; is this a home?") from error
    except ValueError as error:
        raise UsageError(f"{file}: {error}") from error
    name = _setting(file, document, "node", "name", _NAME_DEFAULT)
    host = _setting(file, document, "http", "host", _HTTP_HOST_DEFAULT)
    port = _setting(file, document, "http", "port", _HTTP_PORT_DEFAULT)
    stated = _setting(file, document, "keys", "passphrase_file", "")
    if passphrase_file is None and stated:
        passphrase_file = path / stated
    return Home(path, name, f"http://{_LOOPBACK_OF.get(host, host)}:{port}", passphrase_file)


def validator_of(file: Path) -> Validator:
    """Return the validator that a file of ``mbi gov validator`` describes."""
    content = read_file(file, FILE_BYTES_MAX)
    try:
        return structure_of(Validator, load_json(content, FILE_BYTES_MAX), str(file))
    except LedgerError as error:
        raise UsageError(f"{file}: {error}") from error


def structure_of(structure: type[S], document: object, source: str) -> S:
    """Return the ledger structure of a JSON document; names ``source`` if it is none."""
    try:
        return from_json(structure, document)
    except LedgerError as error:
        raise UsageError(f"{source}: {error}") from error


def member_key(session: Session, validator: str) -> PublicKey:
    """Return the consensus key of a present validator, given by name or key."""
    members = session.client().validators()
    for member in members:
        if validator in (member["name"], member["consensus_key"]):
            return PublicKey(bytes.fromhex(member["consensus_key"]))
    names = ", ".join(sorted(str(member["name"]) for member in members))
    raise UsageError(f"no validator {validator!r} in the present set; there are: {names}")


D = TypeVar("D", str, int)


def _setting(file: Path, document: dict[str, Any], section: str, key: str, default: D) -> D:
    table = document.get(section, {})
    value = table.get(key, default) if isinstance(table, dict) else None
    if type(value) is not type(default):
        raise UsageError(f"{file}: {section}.{key}: expected {type(default).__name__}")
    return value
