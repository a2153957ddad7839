"""How commands get secrets: from a hidden prompt or a protected file, never from arguments.

Other programs can read the arguments and the environment of a process, and shells keep a history.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from mbi.cli.base import Session, any_path
from mbi.errors import UsageError
from mbi.keyfiles import read_passphrase_file
from mbi.keystore import KeyStore

PASSPHRASE_CHARACTERS_MIN: Final = 12
"""A key stretched by scrypt for 0.25 s a guess still falls to shorter ones."""

Decorated = Callable[..., Any]


def keys_option(function: Decorated) -> Decorated:
    """Add ``--key-dir`` and ``--passphrase-file``."""
    function = click.option(
        "--passphrase-file",
        type=any_path(),
        help="Read the passphrase from this file (mode 0600) instead of asking.",
    )(function)
    return click.option(
        "--key-dir",
        "keys_directory",
        type=any_path(),
        help="Directory of key files (environment MBI_KEYS; default ~/.local/share/mbi/keys).",
    )(function)


def open_store(
    session: Session, keys_directory: Path | None, passphrase_file: Path | None
) -> KeyStore:
    """Return the key store; it asks for passphrases when it needs one."""

    def ask(name: str) -> bytes:
        if passphrase_file is not None:
            return read_passphrase_file(passphrase_file)
        return _prompt(f"Passphrase of key {name}")

    return KeyStore(keys_directory or session.settings.keys, ask)


def new_passphrase(passphrase_file: Path | None) -> bytes:
    """Return the passphrase for a new key, asked for twice unless it comes from a file."""
    if passphrase_file is not None:
        passphrase = read_passphrase_file(passphrase_file)
    else:
        passphrase = _prompt("Passphrase for the new key", confirm=True)
    if len(passphrase) < PASSPHRASE_CHARACTERS_MIN:
        raise UsageError(
            f"the passphrase must have at least {PASSPHRASE_CHARACTERS_MIN} characters; "
            "four random words are easy to remember"
        )
    return passphrase


def read_secret_hex(source: Path | None) -> bytes:
    """Return a 32-byte private key given as 64 hex digits: from a file, a pipe or a prompt."""
    if source is not None:
        text = read_passphrase_file(source).decode(errors="replace")
    elif sys.stdin.isatty():
        text = click.prompt("Private key (64 hex digits)", hide_input=True, err=True)
    else:
        text = sys.stdin.readline()
    try:
        seed = bytes.fromhex(text.strip())
    except ValueError:
        seed = b""
    if len(seed) != 32:
        raise UsageError("the private key must be 64 hex digits; what was read is not shown")
    return seed


def _prompt(text: str, *, confirm: bool = False) -> bytes:
    if not sys.stdin.isatty():
        raise UsageError("no terminal to ask for a passphrase; use --passphrase-file FILE")
    answer: str = click.prompt(text, hide_input=True, confirmation_prompt=confirm, err=True)
    return answer.encode()
