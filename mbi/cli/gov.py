"""Commands of governance: ``mbi gov``. Those that propose are in ``gov_propose``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Final

import click

from ledger.json import load_json, operation_from_json, to_json
from ledger.operations import VoteChange
from ledger.operations.governance import sign_readiness
from ledger.types import ProposalId, TimeMs
from ledger.validators import Chamber, Validator
from mbi.calls import Json, NotReady
from mbi.cli.base import MbiGroup, Session, any_path, existing_directory, pass_session
from mbi.cli.gov_act import Act, acting
from mbi.cli.gov_files import FILE_BYTES_MAX, Home, read_home, validator_of
from mbi.cli.gov_propose import propose
from mbi.cli.gov_show import list_, show, wait
from mbi.cli.gov_words import missing_words, tallies
from mbi.cli.tx_sign import chain_id_of, read_input
from mbi.errors import UsageError
from mbi.keyfiles import create_private_file

EVIDENCE_COLUMNS: Final = ("validator", "organisation", "epoch", "view", "kinds", "height", "key")
CLOCK_TOLERANCE_MS: Final = 60_000
"""Blocks may have the time of a clock that is behind this one; what reaches too far is refused."""

_home = click.option(
    "--home", type=existing_directory(), required=True, help="Directory of the node."
)
_node_passphrase = click.option(
    "--node-passphrase-file",
    type=any_path(),
    help="Of the node's consensus key (default: the one that HOME/config.toml names).",
)


@click.group(cls=MbiGroup)
def gov() -> None:
    r"""Propose and decide changes: validators, powers, parameters, features.

    Organisations that run validators decide, each with as many votes as it has validators: a
    change needs two thirds of all and more than half of each chamber. It takes effect after the
    notice period, a change of validators or parameters with the next boundary block.

    \b
    A new validator, its node running and synced as an observer:
      mbi gov validator --home HOME --organisation treasury --out gov-3.json
      mbi gov ready gov-3.json --home HOME --from treasury-admin --wait
      mbi gov propose add-validator gov-3.json --from treasury-admin --wait
      mbi gov vote 7 --approve --from bank-admin --wait
      mbi gov wait 7
    """


for _command in (list_, show, wait, propose):
    gov.add_command(_command)


@gov.command()
@click.argument("proposal", type=click.IntRange(min=1))
@click.option("--approve/--reject", default=None, help="What to say to it.")
@pass_session
@acting
def vote(session: Session, act: Act, proposal: int, approve: bool | None) -> None:
    r"""Vote on an open proposal; a later vote replaces an earlier one.

    \b
    Example:
      mbi gov vote 7 --approve --from bank-admin --wait
    """
    if approve is None:
        raise UsageError("say --approve or --reject")
    done = act.carry_out(session, VoteChange(None, ProposalId(proposal), approve))
    events = ((done or {}).get("receipt") or {}).get("events")
    if not events or session.output.is_json:
        return
    status, more = events[0]["status"], ""
    if status == "approved":
        more = f"; follow it: mbi gov wait {proposal}"
    elif status == "open":
        client = session.client()
        votes = client.get(f"/v1/governance/proposals/{proposal}")["votes"]
        more = f", missing {missing_words(tallies(votes, client.validators()))}"
    session.output.text(f"proposal {proposal} is {status}{more}")


@gov.command()
@_home
@click.option("--name", help="For people (default: node.name of the home, or as it is now).")
@click.option("--organisation", metavar="ID", help="Who runs it; known if it validates already.")
@_node_passphrase
@click.option("--out", type=any_path(), help="Write to this file instead of stdout.")
@pass_session
def validator(
    session: Session,
    home: Path,
    name: str | None,
    organisation: str | None,
    node_passphrase_file: Path | None,
    out: Path | None,
) -> None:
    r"""Describe a node as a validator: name, organisation, chamber and its two public keys.

    The consensus key is that of HOME/keys/validator-next.pem if there is one, otherwise that of
    validator.pem. The node's own HTTP interface is asked, unless --node names another.

    \b
    Examples:
      mbi gov validator --home HOME --organisation treasury --out gov-3.json
      mbi gov validator --home HOME --out gov-3.json        # new keys for a validator
    """
    described = _describe(session, read_home(home, node_passphrase_file), name, organisation)
    document = to_json(described)
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    if out is None:
        click.echo(text, nl=False)
        return
    create_private_file(out, text.encode())
    session.output.document({"file": str(out), **document})
    seat = f"{described.name} of {described.organisation}, {described.chamber.name.lower()}"
    session.output.text(f"{seat}: written to {out}")


def _describe(
    session: Session, home: Home, name: str | None, organisation: str | None
) -> Validator:
    """Return the validator that a home can be; what is not stated stays as it is now."""
    client = home.session(session).client()
    key, node_key = home.consensus_key().public_key, home.node_key()
    for member in client.validators():
        if member["node_key"] == node_key.hex():
            name, organisation = name or member["name"], organisation or member["organisation"]
    if organisation is None:
        raise UsageError("name the organisation that runs it: --organisation ID")
    found: Json = client.get(f"/v1/organisations/{organisation}")
    chamber = Chamber[str(found["kind"]).upper()]
    return Validator(name or home.name, organisation, chamber, key, node_key)


@gov.command()
@click.argument("file", type=any_path())
@_home
@_node_passphrase
@pass_session
@acting
def ready(
    session: Session, act: Act, file: Path, home: Path, node_passphrase_file: Path | None
) -> None:
    r"""Say on chain that a joining node is synced and can vote; its consensus key signs.

    The node itself is asked whether it is synced, and sends it, unless --node names another. A
    change that adds a validator or replaces its keys is refused when it would take effect, unless
    they said so lately: repeat it if it ends before. The admin account of the validator's
    organisation sends it.

    \b
    Example:
      mbi gov ready gov-3.json --home HOME --from treasury-admin --wait
    """
    described, owner = validator_of(file), read_home(home, node_passphrase_file)
    session = owner.session(session)
    key = owner.consensus_key()
    for what, stated, held in (
        ("consensus key", described.consensus_key, key.public_key),
        ("node key", described.node_key, owner.node_key()),
    ):
        if stated != held:
            raise UsageError(f"{file} names {what} {stated.hex()}, {home} holds {held.hex()}")
    client = session.client()
    status = client.status()
    if status["syncing"]:
        raise NotReady(
            f"{session.node_url} is at height {status['height']} of {status['network_height']}: "
            "a node proves that it is ready when it is synced"
        )
    parameters: Json = client.get("/v1/governance/parameters")
    longest_ms = int(parameters["readiness_ms"])
    lasts_ms = max(longest_ms - CLOCK_TOLERANCE_MS, longest_ms // 2)
    expires_ms = TimeMs(time.time_ns() // 1_000_000 + lasts_ms)
    identity = chain_id_of(session, act.chain_id)
    done = act.carry_out(session, sign_readiness(identity, described, expires_ms, key))
    if done is not None and done.get("receipt"):
        until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(expires_ms // 1000))
        session.output.text(f"{described.name} is ready until {until}")


@gov.command()
@click.argument("file", type=click.Path(allow_dash=True), required=False)
@pass_session
@acting
def evidence(session: Session, act: Act, file: str | None) -> None:
    r"""List evidence against validators; with FILE, put the evidence in it on chain.

    FILE holds {"first": {...}, "second": {...}}, as an item of /v1/evidence/pending does. Nodes
    with a reporter key do this by themselves.

    \b
    Examples:
      mbi gov evidence
      mbi gov evidence proof.json --from alice --wait
    """
    if file is None:
        _list_evidence(session)
        return
    found = load_json(read_input(file), FILE_BYTES_MAX)
    if not isinstance(found, dict) or not {"first", "second"} <= set(found):
        raise UsageError(f"{file[:80]}: expected an object with the votes first and second")
    report = {"type": "report_evidence", "first": found["first"], "second": found["second"]}
    done = act.carry_out(session, operation_from_json(report, file[:80]))
    for event in ((done or {}).get("receipt") or {}).get("events", ()):
        session.output.text(f"{event['validator']['name']}: {event['effect']}")


def _list_evidence(session: Session) -> None:
    client = session.client()
    pending = list(client.get("/v1/evidence/pending")["items"])
    items = [*client.items("/v1/evidence"), *pending]
    session.output.document({"items": items})
    if not items:
        session.output.note("none")
        return
    session.output.table(
        EVIDENCE_COLUMNS,
        (
            (
                item["validator"]["name"],
                item["validator"]["organisation"],
                item["first"]["epoch"],
                item["first"]["view"],
                f"{item['first']['kind']}, {item['second']['kind']}",
                item["height"] if item["height"] is not None else "not on chain yet",
                f"{item['validator']['consensus_key'][:16]}…",
            )
            for item in items
        ),
    )
