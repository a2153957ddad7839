"""Commands that ask a node: account, asset, block, validators."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import click

from mbi.calls import PAGE_MAX, Json
from mbi.cli.base import MbiCommand, MbiGroup, Session, pass_session
from mbi.cli.gov_words import change_words, set_words, time_words

LIST_DEFAULT: Final = 20
HASH_LENGTH: Final = 64
SHOWN_LENGTH: Final = 16
"""Hex digits of a hash in a table: enough to tell hashes apart."""

BLOCK_COLUMNS: Final = ("height", "time", "transaction_count", "body_bytes", "view", "hash")
TRANSACTION_COLUMNS: Final = ("id", "height", "index", "status", "code", "sender", "time")
ASSET_COLUMNS: Final = ("id", "name", "asset_class", "decimals", "supply", "issuer")
VALIDATOR_COLUMNS: Final = (
    "name",
    "chamber",
    "organisation",
    "connected",
    "proposed",
    "signed",
    "missed",
)

_limit = click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=LIST_DEFAULT,
    show_default=True,
    help="How many to show.",
)


@click.group(cls=MbiGroup)
def account() -> None:
    """Show accounts and what they did."""


@account.command("show")
@click.argument("address")
@pass_session
def account_show(session: Session, address: str) -> None:
    r"""Show an account: sponsor, keys, thresholds and balances.

    \b
    Example:
      mbi account show mbi1...
    """
    found = session.client().account(address)
    session.output.document(found)
    balances = found.pop("balances")
    session.output.fields(found, "Account")
    _table(session, balances, ("asset", "amount"))


@account.command("history")
@click.argument("address")
@_limit
@pass_session
def account_history(session: Session, address: str, limit: int) -> None:
    """List the latest transactions that touched an account."""
    path = f"/v1/accounts/{address}/transactions"
    _list(session, session.client().items(path, limit=limit), TRANSACTION_COLUMNS)


@click.group(cls=MbiGroup)
def asset() -> None:
    """Show assets."""


@asset.command("show")
@click.argument("asset_id", metavar="ORGANISATION/CODE")
@pass_session
def asset_show(session: Session, asset_id: str) -> None:
    r"""Show an asset: issuer, class, decimals, flags and supply.

    \b
    Example:
      mbi asset show issuer/MYR
    """
    found = session.client().asset(asset_id)
    session.output.document(found)
    session.output.fields(found, "Asset")


@asset.command("list")
@_limit
@pass_session
def asset_list(session: Session, limit: int) -> None:
    """List the assets of the network."""
    _list(session, session.client().items("/v1/assets", limit=limit), ASSET_COLUMNS)


@click.group(cls=MbiGroup)
def block() -> None:
    """Show blocks."""


@block.command("show")
@click.argument("reference", default="latest")
@click.option("--certificate", is_flag=True, help="Show the certificate that makes it final.")
@click.option("--transactions", is_flag=True, help="List its transactions.")
@pass_session
def block_show(session: Session, reference: str, certificate: bool, transactions: bool) -> None:
    r"""Show one block by height, hash or "latest".

    \b
    Examples:
      mbi block show
      mbi block show 12 --transactions
    """
    client = session.client()
    path = f"/v1/blocks/{reference}"
    if certificate:
        found: Json = client.get(f"{path}/certificate")
        session.output.document(found)
        session.output.fields(found, f"Certificate of block {reference}")
    elif transactions:
        _list(session, client.items(f"{path}/transactions"), TRANSACTION_COLUMNS)
    else:
        found = client.block(reference)
        session.output.document(found)
        session.output.fields(found, f"Block {found.get('height', reference)}")


@block.command("list")
@_limit
@pass_session
def block_list(session: Session, limit: int) -> None:
    """List the latest blocks, newest first."""
    items = session.client().items("/v1/blocks", limit=limit, order="desc")
    _list(session, items, BLOCK_COLUMNS)


@click.command(cls=MbiCommand)
@pass_session
def validators(session: Session) -> None:
    """List the validators of this epoch, what they did, and who is about to join or leave."""
    client = session.client()
    items, consensus = client.validators(), client.consensus()
    scheduled = consensus["scheduled"]
    approved = [
        proposal
        for proposal in client.items("/v1/governance/proposals", limit=PAGE_MAX, order="desc")
        if proposal["status"] == "approved"
    ]
    epoch = {name: consensus[name] for name in ("era", "epoch", "epoch_base_height", "scheduled")}
    session.output.document({"items": items, **epoch, "approved": approved})
    base = epoch["epoch_base_height"]
    session.output.text(f"epoch {epoch['epoch']}, since block {base}", "bold")
    _table(session, items, VALIDATOR_COLUMNS)
    moves = set_words([item["name"] for item in items], scheduled)
    if moves:
        session.output.text(f"with the next boundary block: {moves}")
    names = {item["consensus_key"]: item["name"] for item in items}
    for proposal in reversed(approved):
        when = time_words(proposal["effective"])
        words = change_words(proposal["change"], names)
        session.output.text(f"approved, from {when}: {words} (proposal {proposal['id']})")


def _list(session: Session, items: Iterable[Json], columns: Sequence[str]) -> None:
    found = list(items)
    session.output.document({"items": found})
    _table(session, found, columns)


def _table(session: Session, items: list[Json], columns: Sequence[str]) -> None:
    """Show some columns, hashes shortened; everything is in ``--json``."""
    if not items:
        session.output.note("none")
        return
    shown = [name for name in columns if any(name in item for item in items)]
    session.output.table(shown, ([_short(item.get(name)) for name in shown] for item in items))


def _short(value: Any) -> Any:
    is_hash = isinstance(value, str) and len(value) == HASH_LENGTH
    return f"{value[:SHOWN_LENGTH]}…" if is_hash else value
