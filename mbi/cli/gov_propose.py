"""``mbi gov propose``: one command for each kind of change."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from ledger.agenda import KNOWN_FEATURES
from ledger.operations import ProposeChange
from ledger.records import (
    WEIGHT_MAX,
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
from mbi.cli.gov_act import Act, acting
from mbi.cli.gov_files import member_key, structure_of, validator_of
from mbi.errors import UsageError

PARAMETERS: Final = Parameters.__struct_fields__


@click.group(cls=MbiGroup)
def propose() -> None:
    """Propose a change, and approve it for the own organisation.

    What would fail is not sent; the reason is told. --dry-run only asks.
    """


def _proposes(function: Callable[..., Change]) -> Callable[..., None]:
    """Turn a function that returns a change into one that proposes it."""

    @functools.wraps(function)
    def command(session: Session, act: Act, **fields: Any) -> None:
        done = act.carry_out(session, ProposeChange(None, function(session, **fields)))
        if done is None:
            return
        events = (done.get("receipt") or {}).get("events") or [{}]
        number = events[0].get("proposal")
        if number is None:
            session.output.note("its number will be in: mbi gov list (--wait tells it at once)")
        elif events[0].get("status") == "open":
            session.output.text(f"proposal {number}; others vote: mbi gov vote {number} --approve")
        else:
            session.output.text(f"proposal {number} is {events[0].get('status')}")

    return command


@propose.command("add-validator")
@click.argument("file", type=any_path())
@pass_session
@acting
@_proposes
def add_validator(session: Session, file: Path) -> Change:
    r"""Add the validator that FILE describes (mbi gov validator).

    Its node must say that it is ready before the change takes effect: mbi gov ready.

    \b
    Example:
      mbi gov propose add-validator gov-3.json --from treasury-admin --wait
    """
    return AddValidator(validator_of(file))


@propose.command("remove-validator")
@click.argument("validator", metavar="NAME|KEY")
@pass_session
@acting
@_proposes
def remove_validator(session: Session, validator: str) -> Change:
    r"""Take a validator out of the set.

    \b
    Example:
      mbi gov propose remove-validator com-2 --from bank-admin --wait
    """
    return RemoveValidator(member_key(session, validator))


@propose.command("rotate-key")
@click.argument("file", type=any_path())
@pass_session
@acting
@_proposes
def rotate_key(session: Session, file: Path) -> Change:
    r"""Give the validator that FILE names the keys in FILE (mbi gov validator).

    They must say that they are ready before the change takes effect: mbi gov ready.

    \b
    Example:
      mbi gov propose rotate-key com-2.json --from bank-admin --wait
    """
    new = validator_of(file)
    return RotateKey(member_key(session, new.name), new.consensus_key, new.node_key)


@propose.command("set-powers")
@click.argument("organisation")
@click.option("--weight", type=click.IntRange(1, WEIGHT_MAX), help="Share of throughput.")
@click.option(
    "--licence",
    "licences",
    multiple=True,
    type=click.Choice([member.name.lower() for member in AssetClass]),
    help="A licence that it keeps or gets; repeatable. What is not named is lost.",
)
@click.option("--no-licences", is_flag=True, help="It keeps no licence.")
@pass_session
@acting
@_proposes
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
    if weight is None and not licences and not no_licences:
        raise UsageError("say what changes: --weight, --licence or --no-licences")
    present: Json = session.client().get(f"/v1/organisations/{organisation}")
    names = () if no_licences else licences or tuple(present["licences"])
    return SetPowers(
        organisation,
        weight or int(present["weight"]),
        tuple(sorted({AssetClass[name.upper()] for name in names})),
    )


@propose.command("set-parameters")
@click.option(
    "--set",
    "settings",
    multiple=True,
    required=True,
    metavar="NAME=NUMBER",
    help=f"One of {', '.join(PARAMETERS)}; repeatable.",
)
@pass_session
@acting
@_proposes
def set_parameters(session: Session, settings: tuple[str, ...]) -> Change:
    r"""Replace limits of the network; what is not named stays. In force from the next epoch on.

    \b
    Example:
      mbi gov propose set-parameters --set change_notice_ms=604800000 --from regulator-admin --wait
    """
    present: Json = dict(session.client().get("/v1/governance/parameters"))
    for setting in settings:
        name, equals, number = setting.partition("=")
        if name not in PARAMETERS or not equals or not (number.isascii() and number.isdigit()):
            raise UsageError(
                f"--set {setting[:80]!r}: expected NAME=NUMBER, NAME one of {', '.join(PARAMETERS)}"
            )
        present[name] = int(number)
    return SetParameters(structure_of(Parameters, present, "--set"))


@propose.command("activate-feature")
@click.argument("name")
@click.option("--height", type=click.IntRange(min=1), required=True, help="First height of it.")
@click.option("--newer", is_flag=True, help="Other versions than this one know the feature.")
@pass_session
@acting
@_proposes
def activate_feature(session: Session, name: str, height: int, newer: bool) -> Change:
    r"""Change the rules from a height on. Nodes that do not know the feature stop there.

    \b
    Example:
      mbi gov propose activate-feature settlement-2 --height 250000 --from regulator-admin --wait
    """
    if name not in KNOWN_FEATURES and not newer:
        known = ", ".join(sorted(KNOWN_FEATURES)) or "none"
        raise UsageError(
            f"this version knows no feature {name!r} (it knows: {known}) and its nodes would stop "
            f"at height {height}; if all nodes run a newer version that does, add --newer"
        )
    return ActivateFeature(name, Height(height))
