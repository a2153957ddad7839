"""Commands about one node: start, init, status, id."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mbi.cli.base import MbiGroup, Session, any_path, existing_directory, pass_session
from mbi.errors import OperationFailed, UsageError

_home = click.option(
    "--home", type=existing_directory(), required=True, help="Directory of the node."
)


@click.group(cls=MbiGroup)
def node() -> None:
    """Run and inspect one node."""


@node.command()
@_home
def start(home: Path) -> None:
    r"""Run a node in the foreground; Ctrl-C or SIGTERM stops it within five seconds.

    Settings are in HOME/config.toml; variables such as MBI_HTTP__PORT override them.

    \b
    Example:
      mbi node start --home localnet/nodes/gov-1
    """
    # The node takes our place, so signals and the exit code are its own.
    os.execv(sys.executable, [sys.executable, "-m", "node", "--home", str(home)])


@node.command()
@_home
@click.option(
    "--rejoin",
    is_flag=True,
    help="For a validator that lost its data: wait until it cannot contradict its earlier votes.",
)
@pass_session
def init(session: Session, home: Path, rejoin: bool) -> None:
    """Create the database of a node. Needed once; an existing one is never replaced."""
    command = [sys.executable, "-m", "node", "init", "--home", str(home)]
    done = subprocess.run(
        [*command, "--rejoin"] if rejoin else command, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no reason given"]
        raise OperationFailed(f"no database was created in {home}: {lines[0]}")
    session.output.document({"home": str(home), "created": True})
    session.output.text(f"database created in {home}")


@node.command()
@pass_session
def status(session: Session) -> None:
    r"""Show where a node stands.

    \b
    Example:
      mbi node status --node http://127.0.0.1:26111
    """
    found = session.client().status()
    session.output.document(found)
    session.output.fields(found, f"Node {session.node_url}")


@node.command("id")
@click.option("--home", type=existing_directory(), help="Directory of the node.")
@click.option("--certificate", type=any_path(), help="Certificate file instead of a home.")
@pass_session
def node_id(session: Session, home: Path | None, certificate: Path | None) -> None:
    r"""Print a node's id: the public key of its channel, as other nodes list it.

    \b
    Example:
      mbi node id --home localnet/nodes/gov-1
    """
    if (home is None) == (certificate is None):
        raise UsageError("give either --home or --certificate")
    value = node_key(home, certificate).hex()
    session.output.document({"node_id": value})
    session.output.text(value)


def node_key(home: Path | None, certificate: Path | None = None) -> bytes:
    """Return the public key of a node's channel, 32 bytes, from its home or its certificate."""
    path = certificate or Path(str(home)) / "keys" / "node.crt"
    try:
        key = x509.load_pem_x509_certificate(path.read_bytes()).public_key()
    except FileNotFoundError as error:
        raise UsageError(f"certificate {path} does not exist") from error
    except ValueError as error:
        raise UsageError(f"{path} is not a certificate in PEM form") from error
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)[-32:]
