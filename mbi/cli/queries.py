"""Commands that ask a node: account, asset, block, validators."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

import click

from mbi.calls import Json
from mbi.cli.base import MbiCommand, MbiGroup, Session, pass_session

LIST_DEFAULT: Final = 20
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
    balances = found.pop("balances", [])
    session.output.fields(found, "Account")
    if isinstance(balances, dict):
        balances = [{"asset": name, "balance": value} for name, value in balances.items()]
    _table(session, balances)


@account.command("history")
@click.argument("address")
@_limit
@pass_session
def account_history(session: Session, address: str, limit: int) -> None:
    """List the latest transactions that touched an account."""
    path = f"/v1/accounts/{address}/transactions"
    _list(session, session.client().items(path, limit=limit), limit)


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
    _list(session, session.client().items("/v1/assets", limit=limit), limit)


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
        _list(session, client.items(f"{path}/transactions"), None)
    else:
        found = client.block(reference)
        session.output.document(found)
        session.output.fields(found, f"Block {found.get('height', reference)}")


@block.command("list")
@_limit
@pass_session
def block_list(session: Session, limit: int) -> None:
    """List the latest blocks, newest first."""
    _list(session, session.client().items("/v1/blocks", limit=limit, order="desc"), limit)


@click.command(cls=MbiCommand)
@pass_session
def validators(session: Session) -> None:
    """List the validators: chamber, organisation, blocks proposed, signed and missed."""
    _list(session, session.client().items("/v1/validators"), None)


def _list(session: Session, items: Any, limit: int | None) -> None:
    found = list(islice(items, limit))
    session.output.document({"items": found})
    _table(session, found)


def _table(session: Session, items: list[Json]) -> None:
    """Show the plain values of a list of objects; nested ones are in ``--json``."""
    columns = list(
        dict.fromkeys(
            name
            for item in items
            for name, value in item.items()
            if not isinstance(value, dict | list)
        )
    )
    if not items:
        session.output.note("none")
        return
    session.output.table(columns, ([item.get(name) for name in columns] for item in items))
