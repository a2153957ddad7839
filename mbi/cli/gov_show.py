"""``mbi gov list``, ``show`` and ``wait``: where proposals stand, for people and scripts."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final

import click

from mbi.calls import HTTP_NOT_FOUND, Json
from mbi.cli.base import MbiCommand, Session, pass_session
from mbi.cli.gov_words import (
    change_details,
    change_words,
    missing_words,
    status_words,
    tallies,
    tally_words,
    time_words,
    votes_words,
)
from mbi.errors import ApiProblem, OperationFailed, OutcomeUnknown
from mbi.sync_client import Client

LIST_DEFAULT: Final = 20
STATUSES: Final = ("open", "approved", "effective", "rejected", "expired", "refused")
COLUMNS: Final = ("id", "change", "proposed by", "status", "approve", "missing or reason")
WAIT_S: Final = 60.0
POLL_S: Final = 0.5
"""Between two questions for a proposal, which no route waits for; it takes a block or a notice."""
_SCHEDULED: Final = ("add_validator", "remove_validator", "rotate_key", "set_parameters")
"""Changes that come into force with the next boundary block."""

_proposal = click.argument("proposal", type=click.IntRange(min=1))


@click.command("list", cls=MbiCommand)
@click.option("--status", type=click.Choice(STATUSES), help="Only these.")
@click.option("--limit", type=click.IntRange(min=1), default=LIST_DEFAULT, show_default=True)
@pass_session
def list_(session: Session, status: str | None, limit: int) -> None:
    """List the latest proposals, newest first: what they change and how many votes are missing."""
    client = session.client()
    items: list[Json] = []
    for item in client.items("/v1/governance/proposals", order="desc"):
        if status in (None, item["status"]):
            items.append(item)
        if len(items) == limit:
            break
    session.output.document({"items": items})
    if session.output.is_json:
        return
    if not items:
        session.output.note("none")
        return
    members = client.validators()
    names = _names(item["change"]["validator"] for item in items if _adds(item)) | _names(members)
    session.output.table(COLUMNS, (_row(item, members, names) for item in items))


def _row(item: Json, members: list[Json], names: dict[str, str]) -> tuple[Any, ...]:
    tally = tallies(item["votes"], members)
    is_open = item["status"] == "open"
    return (
        item["id"],
        change_words(item["change"], names),
        item["organisation"],
        status_words(item),
        tally_words(tally) if is_open else votes_words(item["votes"], approve=True),
        missing_words(tally) if is_open else item["reason"],
    )


@click.command(cls=MbiCommand)
@_proposal
@pass_session
def show(session: Session, proposal: int) -> None:
    """Show a proposal: what it changes, who voted how, and what has become of it."""
    client = session.client()
    found = _find(client, proposal)
    members = client.validators()
    tally = tallies(found["votes"], members)
    if session.output.is_json:
        counts = {item.name: item.to_json() for item in tally}
        session.output.document({**found, "tally": counts})
        return
    change = found["change"]
    facts = {
        "change": change_words(change, _names(members)),
        **change_details(change, client.get("/v1/governance/parameters")),
        "proposed": f"by {found['organisation']}, {time_words(found['created'])}",
        "status": status_words(found),
        "reason": found["reason"],
        "approve": votes_words(found["votes"], approve=True),
        "oppose": votes_words(found["votes"], approve=False),
    }
    if found["status"] == "open":
        facts["votes"] = tally_words(tally)
        facts["missing"] = missing_words(tally)
    session.output.fields(facts, f"Proposal {proposal}")


@click.command(cls=MbiCommand)
@_proposal
@pass_session
def wait(session: Session, proposal: int) -> None:
    r"""Wait until a proposal is in force (see --timeout; default 60 s).

    Exit code 1 with the reason if it is rejected, expired or refused, 4 if the time ran out.

    \b
    Example:
      mbi gov wait 7 --timeout 3600
    """
    patience_s = session.wait_s(WAIT_S)
    deadline = time.monotonic() + patience_s
    # --timeout is for the proposal; a node that does not answer is noticed as early as ever.
    client = Client(session.node_url)
    found, told = _find(client, proposal), ""
    # Now, because who leaves has no name in the set afterwards.
    words = change_words(found["change"], _names(client.validators()))
    while not _has_ended(client, found):
        if status_words(found) != told:
            told = status_words(found)
            session.output.note(f"proposal {proposal}: {told}")
        if time.monotonic() >= deadline:
            raise OutcomeUnknown(f"proposal {proposal} is {told} after {patience_s:g} s")
        time.sleep(POLL_S)
        found = _find(client, proposal)
    if found["status"] != "effective":
        reason = f": {found['reason']}" if found["reason"] else ""
        raise OperationFailed(f"proposal {proposal} is {found['status']}{reason}")
    epoch = client.consensus()["epoch"]
    session.output.document({**found, "epoch": epoch})
    when = f" in epoch {epoch}" if found["change"]["type"] in _SCHEDULED else ""
    session.output.text(f"in force{when}: {words}")


def _has_ended(client: Client, proposal: Json) -> bool:
    """Tell whether a proposal is in force, or never will be."""
    if proposal["status"] == "effective":
        return _is_in_force(client, proposal)
    return proposal["status"] not in ("open", "approved")


def _is_in_force(client: Client, proposal: Json) -> bool:
    """Tell whether the epoch has begun that brings an effective change."""
    if proposal["change"]["type"] not in _SCHEDULED:
        return True
    # A boundary block brings what was scheduled up to the block that its maker had executed.
    try:
        opening = client.block(client.consensus()["epoch_base_height"])
        executed = client.block(opening["header"]["executed_height"])
    except ApiProblem as problem:
        if problem.status != HTTP_NOT_FOUND:
            raise
        # The state has passed the boundary block, which is about to be shown.
        return False
    return int(executed["header"]["time_ms"]) >= int(proposal["effective_ms"])


def _find(client: Client, proposal: int) -> Json:
    found: Json = client.get(f"/v1/governance/proposals/{proposal}")
    return found


def _adds(proposal: Json) -> bool:
    return bool(proposal["change"]["type"] == "add_validator")


def _names(members: Iterable[Json]) -> dict[str, str]:
    return {member["consensus_key"]: member["name"] for member in members}
