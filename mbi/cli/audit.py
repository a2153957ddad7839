"""``mbi audit``: verify a data directory or a running node."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from consensus.types import Certificate
from ledger.block import Header
from ledger.errors import LedgerError
from ledger.genesis import Genesis, parse_genesis
from ledger.json import from_json
from ledger.types import Digest, Epoch, Era, View
from ledger.votes import Value, VoteKind
from mbi.calls import Json
from mbi.cli.base import MbiGroup, Session, any_path, pass_session
from mbi.errors import IntegrityViolation, OperationFailed, UsageError
from mbi.sync_client import Client
from mbi.verify import ChainVerifier

EXIT_INTEGRITY: Final = 5
EXIT_USAGE: Final = 2


@click.group(cls=MbiGroup)
def audit() -> None:
    """Verify instead of trusting."""


@audit.command()
@click.argument("target", metavar="DIR|URL")
@click.option("--genesis", type=any_path(), help="Genesis file to trust (default: the node's).")
@pass_session
def verify(session: Session, target: str, genesis: Path | None) -> None:
    r"""Replay the data directory of a stopped node, or follow a running node's chain.

    For a directory every block is executed again and every root compared. For a URL headers,
    signatures and finalization certificates are verified from genesis on; give --genesis with a
    file that you trust, because the node's own word about its genesis proves nothing.
    Exit code 5 if anything does not hold.

    \b
    Examples:
      mbi audit verify localnet/nodes/gov-1
      mbi audit verify http://127.0.0.1:26101 --genesis genesis.json
    """
    if target.startswith(("http://", "https://")):
        _verify_node(session, Client(target, session.timeout_s), genesis)
        return
    if genesis is not None:
        raise UsageError("--genesis is for a URL; a directory is verified against its own file")
    _verify_directory(session, Path(target))


def _verify_directory(session: Session, home: Path) -> None:
    if not (home / "config.toml").exists():
        raise UsageError(f"{home} is no home of a node: it has no config.toml")
    command = [sys.executable, "-m", "node", "audit", "--home", str(home)]
    if session.output.is_json:
        command.append("--json")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    click.echo(done.stdout, nl=False)
    if done.returncode == EXIT_INTEGRITY:
        raise click.exceptions.Exit(EXIT_INTEGRITY)
    if done.returncode == EXIT_USAGE:
        raise UsageError(f"{home} cannot be audited; the reason is above")
    if done.returncode != 0:
        raise OperationFailed(f"the audit of {home} ended with exit code {done.returncode}")


def _verify_node(session: Session, client: Client, genesis: Path | None) -> None:
    verifier = ChainVerifier(_genesis(client, genesis))
    target = int(client.status()["height"])
    with session.output.progress() as progress:
        task = progress.add_task("verifying blocks", total=target)
        for height in range(1, target + 1):
            _verify_block(verifier, client, height)
            progress.update(task, completed=height)
    if verifier.uncovered:
        raise IntegrityViolation(f"no finalization covers the last {verifier.uncovered} blocks")
    facts = {
        "chain_id": verifier.chain_id.hex(),
        "head": verifier.head_hash.hex(),
        **asdict(verifier.progress),
        "genesis": str(genesis) if genesis else "taken from the node, not from you",
    }
    session.output.document({"intact": True, **facts})
    session.output.text("INTACT", "bold green")
    session.output.fields(facts)


def _genesis(client: Client, path: Path | None) -> Genesis:
    if path is None:
        content = json.dumps(client.genesis()).encode()
    else:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UsageError(f"genesis {path} cannot be read: {error.strerror}") from error
    return parse_genesis(content)


def _verify_block(verifier: ChainVerifier, client: Client, height: int) -> None:
    shown = client.block(height)
    try:
        fields = {key: value for key, value in shown["header"].items() if key != "time"}
        header = from_json(Header, fields)
        listed = client.items(f"/v1/blocks/{height}/transactions")
        wires = [bytes.fromhex(item["wire"]) for item in listed]
        digest = verifier.add(header, wires)
        if digest.hex() != shown["hash"]:
            raise IntegrityViolation(f"block {height}: the node calls it {shown['hash']}")
        if shown["has_certificate"]:
            answer = client.get(f"/v1/blocks/{height}/certificate")
            verifier.cover(certificate_of(answer["certificate"], len(verifier.validators)))
    except (KeyError, TypeError, ValueError, LedgerError) as error:
        raise IntegrityViolation(f"block {height} as the node shows it: {error}") from error


def certificate_of(shown: Json, validators: int) -> Certificate:
    """Return the certificate that the API shows; raises KeyError or ValueError if it is none."""
    mask = sum(1 << int(signer["index"]) for signer in shown["signers"])
    return Certificate(
        kind=VoteKind[str(shown["kind"]).upper()],
        era=Era(int(shown["era"])),
        epoch=Epoch(int(shown["epoch"])),
        view=View(int(shown["view"])),
        value=Value(View(int(shown["parent_view"])), Digest(bytes.fromhex(shown["block_hash"]))),
        bitmap=mask.to_bytes((validators + 7) // 8, "little"),
        signatures=b"".join(bytes.fromhex(signer["signature"]) for signer in shown["signers"]),
    )
