"""``mbi genesis``: make and check the file that a network begins with."""

from __future__ import annotations

import json
import time
import tomllib
from pathlib import Path
from typing import Any, Final

import click

from ledger.address import address_of, format_address
from ledger.genesis import (
    DEFAULT_PARAMETERS,
    GENESIS_VERSION,
    Genesis,
    chain_id,
    genesis_json,
    parse_genesis,
)
from ledger.json import to_json
from ledger.types import PUBLIC_KEY_BYTES, PublicKey
from ledger.validators import Chamber
from mbi.cli.base import MbiGroup, Session, any_path, pass_session, read_file
from mbi.errors import UsageError
from mbi.localnet.genesis import genesis_hash
from mbi.localnet.topology import advice, quorum_text

MEMBER_EXAMPLE: Final = """\
[organisation]
id = "bank-one"
name = "Bank One"
kind = "commercial"                  # or "government"
admin_key = "<64 hex digits>"        # mbi keys show NAME
licences = ["e_money"]               # optional
weight = 1                           # optional share of throughput

[[validators]]                       # optional, any number
name = "bank-one-1"
consensus_key = "<64 hex digits>"
node_key = "<64 hex digits>"

[[council]]                          # optional: offline keys of the recovery council
name = "bank-one-chairman"
public_key = "<64 hex digits>"
"""


@click.group(cls=MbiGroup)
def genesis() -> None:
    r"""Make and check genesis files.

    Each organisation writes a member file with its public keys; one of them joins the files, and
    all compare the chain id, which `mbi genesis hash` computes from the result.

    An odd number of validators in each chamber is recommended for production: then not even a
    whole chamber that lies can finalise two conflicting blocks.
    """


@genesis.command()
@click.argument("members", nargs=-1, type=any_path(), metavar="MEMBER.toml...")
@click.option("--network", help="Name of the network, for people.")
@click.option("--out", type=any_path(), help="Write to this file instead of stdout.")
@click.option(
    "--council-threshold",
    type=click.IntRange(min=1),
    help="Signatures that a recovery plan needs; if member files appoint a council.",
)
@click.option("--example", is_flag=True, help="Print a member file to fill in.")
@pass_session
def new(
    session: Session,
    members: tuple[Path, ...],
    network: str | None,
    out: Path | None,
    council_threshold: int | None,
    example: bool,
) -> None:
    r"""Join member files into a genesis.

    \b
    Example:
      mbi genesis new --example > bank-one.toml
      mbi genesis new --network "Registry" ministry.toml bank-one.toml --out genesis.json
    """
    if example:
        click.echo(MEMBER_EXAMPLE, nl=False)
        return
    if not members or not network:
        raise UsageError("give --network NAME and at least one member file; see --example")
    made = _join(network, [_read_member(path) for path in members], council_threshold)
    content = genesis_json(made)
    if out is None:
        click.echo(content.decode(), nl=False)
    else:
        if out.exists():
            raise UsageError(f"{out} exists already; a genesis is never overwritten")
        out.write_bytes(content)
        _show(session, made)
    _advise(session, made)


@genesis.command()
@click.argument("file", type=any_path())
@pass_session
def verify(session: Session, file: Path) -> None:
    """Check every rule of a genesis file and show what it says."""
    made = _load(file)
    _show(session, made)
    _advise(session, made)


@genesis.command("hash")
@click.argument("file", type=any_path())
@pass_session
def print_hash(session: Session, file: Path) -> None:
    """Print the chain id of a genesis file."""
    made = _load(file)
    session.output.document(
        {"chain_id": chain_id(made).hex(), "genesis_hash": genesis_hash(made).hex()}
    )
    session.output.text(chain_id(made).hex())


def _load(path: Path) -> Genesis:
    return parse_genesis(read_file(path))


def _show(session: Session, made: Genesis) -> None:
    governments, commercials = _chambers(made)
    facts = {
        "network": made.network,
        "chain_id": chain_id(made).hex(),
        "genesis_hash": genesis_hash(made).hex(),
        "development": made.dev,
        "validators": len(made.validators),
        "council": _council_text(made),
        "quorum": quorum_text(governments, commercials),
        "organisations": [item.id for item in made.organisations],
        "accounts": len(made.accounts),
        "assets": [item.id for item in made.assets],
    }
    session.output.document(facts)
    session.output.fields(facts, "Genesis is valid")


def _advise(session: Session, made: Genesis) -> None:
    hint = advice(*_chambers(made))
    if hint:
        session.output.note(hint)


def _chambers(made: Genesis) -> tuple[int, int]:
    chambers = [validator.chamber for validator in made.validators]
    return chambers.count(Chamber.GOVERNMENT), chambers.count(Chamber.COMMERCIAL)


def _read_member(path: Path) -> dict[str, Any]:
    """Return a member file; which keys it needs is checked with the whole genesis."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"member file {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"member file {path} is not valid TOML: {error}") from error
    organisation = document.get("organisation")
    unknown = sorted(set(document) - {"organisation", "validators", "council"})
    if unknown or not isinstance(organisation, dict):
        raise UsageError(
            f"{path}: expected [organisation], [[validators]] and [[council]], found {unknown}"
        )
    key = organisation.pop("admin_key", None)
    if not isinstance(key, str) or len(key) != 2 * PUBLIC_KEY_BYTES:
        raise UsageError(f"{path}: organisation.admin_key: expected 64 hex digits")
    try:
        address = address_of(PublicKey(bytes.fromhex(key)))
    except ValueError as error:
        raise UsageError(f"{path}: organisation.admin_key: expected 64 hex digits") from error
    return {
        "organisation": {
            "weight": 1,
            "licences": [],
            **organisation,
            "admin": format_address(address),
        },
        "account": {
            "organisation": organisation.get("id"),
            "keys": [{"public_key": key, "weight": 1}],
            "transfer_threshold": 1,
            "admin_threshold": 1,
        },
        "validators": [
            {
                **validator,
                "organisation": organisation.get("id"),
                "chamber": organisation.get("kind"),
            }
            for validator in document.get("validators", [])
        ],
        "council": [
            {**appointee, "chamber": organisation.get("kind")}
            for appointee in document.get("council", [])
        ],
    }


def _council_text(made: Genesis) -> str:
    council = made.council
    if council is None:
        return "none: nobody could let the network go on without a chamber"
    return f"{council.threshold} of {', '.join(member.name for member in council.members)}"


def _join(network: str, members: list[dict[str, Any]], council_threshold: int | None) -> Genesis:
    council = [item for member in members for item in member["council"]]
    if bool(council) != (council_threshold is not None):
        raise UsageError("give --council-threshold if, and only if, member files appoint a council")
    document = {
        "version": GENESIS_VERSION,
        "network": network,
        "time_ms": time.time_ns() // 1_000_000,
        "dev": False,
        "faucet": None,
        "parameters": to_json(DEFAULT_PARAMETERS),
        "organisations": [member["organisation"] for member in members],
        "accounts": [member["account"] for member in members],
        "validators": [item for member in members for item in member["validators"]],
        "assets": [],
        "balances": [],
        "council": {"threshold": council_threshold, "members": council} if council else None,
    }
    return parse_genesis(json.dumps(document).encode())
