"""``mbi gov propose``: one command for each kind of change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from ledger.operations import ProposeChange
from ledger.records import (
    ActivateFeature,
    AddValidator,
    AssetClass,
    Change,
    Parameters,
    RemoveValidator,
    RotateKey,
    SetParameters,
    SetPowers,
)
from ledger.types import Height
from mbi.calls import Json
from mbi.cli.base import MbiGroup, Session, any_path, pass_session
from mbi.cli.gov_files import member_key, structure_of, validator_of
from mbi.cli.secret_input import keys_option, open_store
from mbi.cli.tx_sign import chain_id_option, finish, sender_options
from mbi.drafts import Draft
from mbi.errors import UsageError

PARAMETERS: Final = Parameters.__struct_fields__


@click.group(cls=MbiGroup)
def propose() -> None:
    """Propose a change, and approve it for the own organisation.

    What cannot be right is refused at once, with the reason: try --dry-run.
    """


def _sends(function: Callable[..., Change]) -> Callable[..., None]:
    """Turn a function that returns a change into a command that proposes it."""

    @click.option(
        "--from", "signer", required=True, metavar="KEY", help="Admin of an organisation."
    )
    @sender_options
    @keys_option
    @chain_id_option
    @pass_session
    def command(
        session: Session,
        /,
        signer: str,
        keys_directory: Path | None,
        passphrase_file: Path | None,
        chain_id: str | None,
        sender: str | None,
        nonce: int | None,
        memo: str,
        valid_for: float,
        wait: bool,
        dry_run: bool,
        **fields: Any,
    ) -> None:
        options = {
            "sender": sender,
            "nonce": nonce,
            "memo": memo,
            "valid_for": valid_for,
            "wait": wait,
            "dry_run": dry_run,
        }
        draft = Draft((ProposeChange(None, function(session, **fields)),))
        store = open_store(session, keys_directory, passphrase_file)
        finish(session, store, draft, (signer,), chain_id, options)

    command.__doc__ = function.__doc__
    vars(command)["__click_params__"] += vars(function).get("__click_params__", [])
    return command


@propose.command("add-validator")
@_sends
@click.argument("file", type=any_path())
def add_validator(session: Session, file: Path) -> Change:
    r"""Add the validator that FILE of ``mbi gov validator`` describes.

    Its node must have said that it is ready: mbi gov ready.

    \b
    Example:
      mbi gov propose add-validator gov-3.json --from treasury-admin --wait
    """
    return AddValidator(validator_of(file))


@propose.command("remove-validator")
@_sends
@click.argument("validator", metavar="NAME|KEY")
def remove_validator(session: Session, validator: str) -> Change:
    r"""Take a validator out of the set.

    \b
    Example:
      mbi gov propose remove-validator com-2 --from bank-admin --wait
    """
    return RemoveValidator(member_key(session, validator))


@propose.command("rotate-key")
@_sends
@click.argument("validator", metavar="NAME|KEY")
@click.argument("file", type=any_path())
def rotate_key(session: Session, validator: str, file: Path) -> Change:
    r"""Replace both keys of a validator by those that FILE of ``mbi gov validator`` names.

    \b
    Example:
      mbi gov propose rotate-key com-2 com-2-new.json --from bank-admin --wait
    """
    new = validator_of(file)
    return RotateKey(member_key(session, validator), new.consensus_key, new.node_key)


@propose.command("set-powers")
@_sends
@click.argument("organisation")
@click.option("--weight", type=click.IntRange(min=1), help="Share of throughput.")
@click.option(
    "--licence",
    "licences",
    multiple=True,
    type=click.Choice([member.name.lower() for member in AssetClass]),
    help="A licence that it keeps or gets; repeatable. What is not named is lost.",
)
@click.option("--no-licences", is_flag=True, help="It keeps no licence.")
def set_powers(
    session: Session,
    organisation: str,
    weight: int | None,
    licences: tuple[str, ...],
    no_licences: bool,
) -> Change:
    r"""Replace an organisation's share of throughput and its licences; what is not given stays.

    \b
    Example:
      mbi gov propose set-powers bank --weight 5 --licence deposit --from regulator-admin --wait
    """
    if licences and no_licences:
        raise UsageError("give either --licence or --no-licences")
    present: Json = session.client().get(f"/v1/organisations/{organisation}")
    names = () if no_licences else licences or tuple(present["licences"])
    return SetPowers(
        organisation,
        weight or int(present["weight"]),
        tuple(sorted(AssetClass[name.upper()] for name in names)),
    )


@propose.command("set-parameters")
@_sends
@click.option(
    "--set",
    "settings",
    multiple=True,
    required=True,
    metavar="NAME=NUMBER",
    help=f"One of {', '.join(PARAMETERS)}; repeatable.",
)
def set_parameters(session: Session, settings: tuple[str, ...]) -> Change:
    r"""Replace limits of the network; what is not named stays. In force from the next epoch on.

    \b
    Example:
      mbi gov propose set-parameters --set change_notice_ms=604800000 --from regulator-admin --wait
    """
    present: Json = dict(session.client().get("/v1/governance/parameters"))
    for setting in settings:
        name, equals, number = setting.partition("=")
        if name not in PARAMETERS or not equals or not number.isdecimal():
            raise UsageError(
                f"--set {setting!r}: expected NAME=NUMBER with a name of {', '.join(PARAMETERS)}"
            )
        present[name] = int(number)
    return SetParameters(structure_of(Parameters, present, "--set"))


@propose.command("activate-feature")
@_sends
@click.argument("name")
@click.option("--height", type=click.IntRange(min=1), required=True, help="First height of it.")
def activate_feature(session: Session, name: str, height: int) -> Change:
    r"""Change the rules from a height on. Nodes that do not know the feature stop there.

    \b
    Example:
      mbi gov propose activate-feature settlement-2 --height 250000 --from regulator-admin --wait
    """
    return ActivateFeature(name, Height(height))
