"""What the governance commands read: descriptions of validators, keys of nodes, parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Final, TypeVar

from msgspec import Struct

from ledger.crypto import SigningKey
from ledger.errors import LedgerError
from ledger.json import from_json, load_json
from ledger.types import PublicKey
from ledger.validators import Validator
from mbi.cli.base import Session
from mbi.errors import UsageError
from mbi.keyfiles import read_key, read_passphrase_file

S = TypeVar("S", bound=Struct)

FILE_BYTES_MAX: Final = 64 * 1024
"""A description of a validator is below 1 KiB, two votes are below 2 KiB."""

CONSENSUS_KEYS: Final = ("keys/validator-next.pem", "keys/validator.pem")
"""Where a home keeps its consensus key; the first is there while the key is being replaced."""


def validator_of(file: Path) -> Validator:
    """Return the validator that a file of ``mbi gov validator`` describes."""
    try:
        return structure_of(Validator, load_json(file.read_bytes(), FILE_BYTES_MAX), str(file))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    except LedgerError as error:
        raise UsageError(f"{file}: {error}") from error


def structure_of(structure: type[S], document: object, source: str) -> S:
    """Return the ledger structure of a JSON document; names ``source`` if it is none."""
    try:
        return from_json(structure, document)
    except LedgerError as error:
        raise UsageError(f"{source}: {error}") from error


def consensus_key_of(home: Path, passphrase_file: Path | None) -> SigningKey:
    """Return the consensus key that a node is about to vote with."""
    path = next((home / name for name in CONSENSUS_KEYS if (home / name).exists()), None)
    if path is None:
        raise UsageError(f"{home} has no {CONSENSUS_KEYS[-1]}: only a node with one can validate")
    passphrase = None if passphrase_file is None else read_passphrase_file(passphrase_file)
    return SigningKey.from_seed(read_key(path, passphrase))


def member_key(session: Session, validator: str) -> PublicKey:
    """Return the consensus key of a present validator, given by name or key."""
    members = session.client().validators()
    for member in members:
        if validator in (member["name"], member["consensus_key"]):
            return PublicKey(bytes.fromhex(member["consensus_key"]))
    names = ", ".join(str(member["name"]) for member in members)
    raise UsageError(f"no validator {validator!r} in the present set; there are: {names}")
