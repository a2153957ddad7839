"""Commands about key files: ``mbi keys``."""

from __future__ import annotations

import secrets
from pathlib import Path

import click

from ledger.crypto import SigningKey
from mbi.cli.base import MbiGroup, Session, any_path, pass_session
from mbi.cli.secret_input import keys_option, new_passphrase, open_store, read_secret_hex
from mbi.errors import UsageError
from mbi.keyfiles import is_encrypted_pem, read_key
from mbi.keystore import KeyStore, address_text

_unencrypted = click.option(
    "--unencrypted", is_flag=True, help="No passphrase: for development only."
)


@click.group(cls=MbiGroup)
def keys() -> None:
    r"""Make and look after key files (PKCS#8, encrypted with scrypt).

    \b
    Examples:
      mbi keys new alice
      mbi keys list
      mbi keys show alice
    """


@keys.command()
@click.argument("name")
@_unencrypted
@keys_option
@pass_session
def new(
    session: Session,
    name: str,
    unencrypted: bool,
    keys_directory: Path | None,
    passphrase_file: Path | None,
) -> None:
    """Make a new key. Back up the file: nobody can restore a lost key."""
    store = open_store(session, keys_directory, passphrase_file)
    _add(session, store, name, secrets.token_bytes(32), unencrypted, passphrase_file)


@keys.command("list")
@keys_option
@pass_session
def list_keys(session: Session, keys_directory: Path | None, passphrase_file: Path | None) -> None:
    """List the key files; the public parts of encrypted ones need `mbi keys show`."""
    store = open_store(session, keys_directory, passphrase_file)
    rows = []
    for entry in store.entries():
        is_open = not entry.is_encrypted
        address = address_text(store.open(entry.name)) if is_open else None
        rows.append((entry.name, "yes" if entry.is_encrypted else "no", address, str(entry.path)))
    columns = ("name", "encrypted", "address", "file")
    session.output.document({"keys": [dict(zip(columns, row, strict=True)) for row in rows]})
    if rows:
        session.output.table(columns, rows)
    else:
        session.output.note(f"no keys in {store.directory}; make one with: mbi keys new NAME")


@keys.command()
@click.argument("name")
@keys_option
@pass_session
def show(
    session: Session, name: str, keys_directory: Path | None, passphrase_file: Path | None
) -> None:
    """Show the public key and the address of a key; never the secret."""
    store = open_store(session, keys_directory, passphrase_file)
    _show(session, name, store.path(name), store.open(name))


@keys.command("import")
@click.argument("name")
@click.option("--file", "source", type=any_path(), help="Key file or file with 64 hex digits.")
@_unencrypted
@keys_option
@pass_session
def import_key(
    session: Session,
    name: str,
    source: Path | None,
    unencrypted: bool,
    keys_directory: Path | None,
    passphrase_file: Path | None,
) -> None:
    r"""Add a key from a key file, a file with hex digits, a pipe or a hidden prompt.

    \b
    Examples:
      mbi keys import alice --file backup/alice.pem
      mbi keys import alice
    """
    store = open_store(session, keys_directory, passphrase_file)
    seed = _read_source(store, source)
    _add(session, store, name, seed, unencrypted, passphrase_file)


@keys.command()
@click.argument("name")
@click.option("--out", type=any_path(), help="Write an unencrypted key file here (mode 0600).")
@click.option("--reveal", is_flag=True, help="Print the private key as hex on stdout.")
@keys_option
@pass_session
def export(
    session: Session,
    name: str,
    out: Path | None,
    reveal: bool,
    keys_directory: Path | None,
    passphrase_file: Path | None,
) -> None:
    """Give out a private key: to a file, or to stdout if you insist with --reveal."""
    if (out is None) == (not reveal):
        raise UsageError("give --out FILE, or --reveal to print the secret")
    store = open_store(session, keys_directory, passphrase_file)
    seed = store.open_seed(name)
    if out is not None:
        from mbi.keyfiles import write_key

        write_key(out, seed, None)
        session.output.document({"name": name, "file": str(out)})
        session.output.text(f"key {name} written to {out}, not encrypted")
        return
    session.output.document({"name": name, "private_key": seed.hex()})
    session.output.text(seed.hex())


def _read_source(store: KeyStore, source: Path | None) -> bytes:
    if source is None:
        return read_secret_hex(None)
    try:
        head = source.read_bytes()[:64]
    except OSError as error:
        raise UsageError(f"{source} cannot be read: {error.strerror}") from error
    if is_encrypted_pem(head):
        return store.open_seed(str(source.resolve()))
    if head.lstrip().startswith(b"-----BEGIN"):
        return read_key(source, None)
    return read_secret_hex(source)


def _add(
    session: Session,
    store: KeyStore,
    name: str,
    seed: bytes,
    unencrypted: bool,
    passphrase_file: Path | None,
) -> None:
    passphrase = None if unencrypted else new_passphrase(passphrase_file)
    path = store.add(name, seed, passphrase)
    _show(session, name, path, SigningKey.from_seed(seed))


def _show(session: Session, name: str, path: Path, key: SigningKey) -> None:
    facts = {
        "name": name,
        "address": address_text(key),
        "public_key": key.public_key.hex(),
        "file": str(path),
    }
    session.output.document(facts)
    session.output.fields(facts)
