"""A directory of key files, one ``NAME.pem`` per key: what ``--from NAME`` means."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.address import address_of, format_address
from ledger.crypto import SigningKey
from mbi.errors import UsageError
from mbi.keyfiles import KeyFileMissing, is_encrypted, read_key, write_key

SUFFIX: Final = ".pem"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

AskPassphrase = Callable[[str], bytes]
"""Asks for the passphrase of the key with this name."""


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """A key file that is there; its public part is known only after it was opened."""

    name: str
    path: Path
    is_encrypted: bool


class KeyStore:
    """Finds, makes and opens the user's keys by name."""

    def __init__(self, directory: Path, ask: AskPassphrase) -> None:
        self.directory = directory
        self._ask = ask

    def entries(self) -> list[KeyEntry]:
        """Return all key files by name; raises a ``KeyFileError`` if one cannot be used."""
        return [
            KeyEntry(path.stem, path, is_encrypted(path))
            for path in sorted(self.directory.glob(f"*{SUFFIX}"))
        ]

    def path(self, name: str) -> Path:
        """Return the file of a key: a name in the directory, or the path of a key file."""
        if name.endswith(SUFFIX) or "/" in name:
            return Path(name).expanduser()
        if not _NAME.fullmatch(name):
            raise UsageError(f"key name {name!r} must be letters, digits, dot, dash, underscore")
        return self.directory / f"{name}{SUFFIX}"

    def open(self, name: str) -> SigningKey:
        """Return the key, asking for its passphrase if it is encrypted."""
        return SigningKey.from_seed(self.open_seed(name))

    def open_seed(self, name: str) -> bytes:
        """Return the secret seed of a key; raises a ``KeyFileError``, which lists known names."""
        path = self.path(name)
        try:
            passphrase = self._ask(name) if is_encrypted(path) else None
            return read_key(path, passphrase)
        except KeyFileMissing as error:
            names = ", ".join(item.stem for item in sorted(self.directory.glob(f"*{SUFFIX}")))
            known = f"keys in {self.directory}: {names or 'none'}"
            raise KeyFileMissing(
                path, f"does not exist; {known}; make one: mbi keys new"
            ) from error

    def add(self, name: str, seed: bytes, passphrase: bytes | None) -> Path:
        """Write a new key file, never replacing one."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_key(path, seed, passphrase)
        return path


def address_text(key: SigningKey) -> str:
    """Return the address that this key gives to an account whose first key it is."""
    return format_address(address_of(key.public_key))
