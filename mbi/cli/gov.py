"""Commands of governance: ``mbi gov``. What is proposed is in ``gov_propose``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Final

import click

from ledger.json import load_json, operation_from_json, to_json
from ledger.operations import VoteChange
from ledger.operations.governance import sign_readiness
from ledger.types import ProposalId, PublicKey, TimeMs
from ledger.validators import Chamber, Validator
from mbi.calls import Json, NotReady
from mbi.cli.base import MbiGroup, Session, any_path, existing_directory, pass_session
from mbi.cli.gov_files import FILE_BYTES_MAX, consensus_key_of, validator_of
from mbi.cli.gov_propose import propose
from mbi.cli.node import node_key
from mbi.cli.secret_input import keys_option, open_store
from mbi.cli.tx_sign import chain_id_of, chain_id_option, finish, read_input, sender_options
from mbi.drafts import Draft
from mbi.errors import UsageError
from mbi.keyfiles import create_private_file

LIST_DEFAULT: Final = 20
COLUMNS: Final = ("id", "change", "organisation", "status", "approve", "oppose", "expires", "note")


@click.group(cls=MbiGroup)
def gov() -> None:
    r"""Propose and decide changes: validators, powers, parameters, features.

    Organisations that run validators decide, each with as many votes as it has validators: a
    change needs two thirds of all and more than half of each chamber. It takes effect after the
    notice period, a change of validators with the next boundary block.

    \b
    A new validator, its node running and synced as an observer:
      mbi gov validator --home HOME --name gov-3 --organisation treasury --out gov-3.json
      mbi gov ready gov-3.json --home HOME --from treasury-admin --wait
      mbi gov propose add-validator gov-3.json --from treasury-admin --wait
      mbi gov vote 7 --approve --from bank-admin --wait
      mbi gov show 7
    """


gov.add_command(propose)


@gov.command("list")
@click.option("--status", metavar="STATUS", help="Only these, for example open or approved.")
@click.option("--limit", type=click.IntRange(min=1), default=LIST_DEFAULT, show_default=True)
@pass_session
def list_(session: Session, status: str | None, limit: int) -> None:
    """List the latest proposals, newest first."""
    items = list(session.client().items("/v1/governance/proposals", limit=limit, order="desc"))
    if status is not None:
        items = [item for item in items if item["status"] == status]
    session.output.document({"items": items})
    session.output.table(COLUMNS, (_row(item) for item in items))


@gov.command()
@click.argument("proposal", type=click.IntRange(min=1))
@pass_session
def show(session: Session, proposal: int) -> None:
    """Show a proposal: what it changes, who voted how, and what has become of it."""
    found: Json = session.client().get(f"/v1/governance/proposals/{proposal}")
    session.output.document(found)
    session.output.fields(found, f"Proposal {proposal}")


@gov.command()
@click.argument("proposal", type=click.IntRange(min=1))
@click.option("--approve/--reject", required=True, default=None, help="What to say to it.")
@click.option("--from", "signer", required=True, metavar="KEY", help="Admin of an organisation.")
@sender_options
@keys_option
@chain_id_option
@pass_session
def vote(
    session: Session,
    /,
    proposal: int,
    approve: bool,
    signer: str,
    keys_directory: Path | None,
    passphrase_file: Path | None,
    chain_id: str | None,
    **options: Any,
) -> None:
    r"""Vote on an open proposal; a later vote replaces an earlier one.

    \b
    Example:
      mbi gov vote 7 --approve --from bank-admin --wait
    """
    draft = Draft((VoteChange(None, ProposalId(proposal), approve),))
    store = open_store(session, keys_directory, passphrase_file)
    finish(session, store, draft, (signer,), chain_id, options)


@gov.command()
@click.option("--home", type=existing_directory(), required=True, help="Directory of the node.")
@click.option("--name", required=True, help="For people, for example gov-3.")
@click.option("--organisation", required=True, metavar="ID", help="Who runs it.")
@click.option("--node-passphrase-file", type=any_path(), help="Of the node's consensus key.")
@click.option("--out", type=any_path(), help="Write to this file instead of stdout.")
@pass_session
def validator(
    session: Session,
    home: Path,
    name: str,
    organisation: str,
    node_passphrase_file: Path | None,
    out: Path | None,
) -> None:
    """Describe a node as a validator: name, organisation, chamber and its two public keys."""
    found: Json = session.client().get(f"/v1/organisations/{organisation}")
    described = Validator(
        name,
        organisation,
        Chamber[str(found["kind"]).upper()],
        consensus_key_of(home, node_passphrase_file).public_key,
        PublicKey(node_key(home)),
    )
    text = json.dumps(to_json(described), indent=2, ensure_ascii=False) + "\n"
    if out is None:
        click.echo(text, nl=False)
        return
    create_private_file(out, text.encode())
    session.output.document({"file": str(out), **to_json(described)})
    session.output.text(f"written to {out}")


@gov.command()
@click.argument("file", type=any_path())
@click.option("--home", type=existing_directory(), required=True, help="Directory of the node.")
@click.option("--node-passphrase-file", type=any_path(), help="Of the node's consensus key.")
@click.option("--from", "signer", required=True, metavar="KEY", help="Account that sends it.")
@sender_options
@keys_option
@chain_id_option
@pass_session
def ready(
    session: Session,
    /,
    file: Path,
    home: Path,
    node_passphrase_file: Path | None,
    signer: str,
    keys_directory: Path | None,
    passphrase_file: Path | None,
    chain_id: str | None,
    **options: Any,
) -> None:
    r"""Let a joining node say on chain that it is synced and can vote.

    The node (--node) is asked first whether it is synced; its consensus key signs. A change that
    adds a validator is refused unless it said so lately.

    \b
    Example:
      mbi gov ready gov-3.json --home HOME --from treasury-admin --wait
    """
    described = validator_of(file)
    client = session.client()
    status = client.status()
    if status["syncing"]:
        raise NotReady(
            f"{session.node_url} is at height {status['height']} of {status['network_height']}: "
            "a node proves that it is ready when it is synced"
        )
    parameters: Json = client.get("/v1/governance/parameters")
    expires_ms = TimeMs(int(time.time() * 1000) + int(parameters["readiness_ms"]) // 2)
    key = consensus_key_of(home, node_passphrase_file)
    if key.public_key != described.consensus_key:
        raise UsageError(
            f"{file} names consensus key {described.consensus_key.hex()}, "
            f"{home} holds {key.public_key.hex()}"
        )
    identity = chain_id_of(session, chain_id)
    draft = Draft((sign_readiness(identity, described, expires_ms, key),))
    store = open_store(session, keys_directory, passphrase_file)
    finish(session, store, draft, (signer,), identity.hex(), options)


@gov.command()
@click.argument("file", type=click.Path(allow_dash=True))
@click.option("--from", "signer", required=True, metavar="KEY", help="Account that sends it.")
@sender_options
@keys_option
@chain_id_option
@pass_session
def evidence(
    session: Session,
    /,
    file: str,
    signer: str,
    keys_directory: Path | None,
    passphrase_file: Path | None,
    chain_id: str | None,
    **options: Any,
) -> None:
    r"""Report two votes of one validator that contradict each other.

    FILE holds {"first": {...}, "second": {...}}, as an item of /v1/evidence does.

    \b
    Example:
      curl -s $MBI_NODE/v1/evidence | jq '.items[0]' | mbi gov evidence - --from alice --wait
    """
    found = load_json(read_input(file), FILE_BYTES_MAX)
    if not isinstance(found, dict) or not {"first", "second"} <= set(found):
        raise UsageError(f"{file[:80]}: expected an object with the votes first and second")
    report = {"type": "report_evidence", "first": found["first"], "second": found["second"]}
    draft = Draft((operation_from_json(report, file[:80]),))
    store = open_store(session, keys_directory, passphrase_file)
    finish(session, store, draft, (signer,), chain_id, options)


def _row(item: Json) -> tuple[Any, ...]:
    votes = item["votes"]
    approving = [entry["organisation"] for entry in votes if entry["approve"]]
    opposing = [entry["organisation"] for entry in votes if not entry["approve"]]
    return (
        item["id"],
        item["change"]["type"],
        item["organisation"],
        item["status"],
        ", ".join(approving),
        ", ".join(opposing),
        item["expires"],
        item["reason"],
    )
