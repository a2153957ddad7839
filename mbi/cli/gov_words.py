"""Governance in words: what a change does, how the votes stand, what is still missing. Pure.

Takes the JSON documents of a node. The majorities are those of ``docs/protocol.md`` section 4.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mbi.calls import Json

CHAMBERS: Final = ("government", "commercial")
KEY_SHOWN: Final = 16
"""Hex digits of a key of which no name is known: enough to tell keys apart."""

_TIME_OF: Final = {
    "open": ("open until", "expires"),
    "approved": ("approved, effective", "effective"),
    "effective": ("effective since", "effective"),
}
"""Status, and the time that matters in it."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Votes of one chamber, or of all validators."""

    name: str
    approving: int
    opposing: int
    members: int
    majority: int
    """Least number of approving votes that carries a change."""

    @property
    def missing(self) -> int:
        """How many more must approve."""
        return max(0, self.majority - self.approving)

    def to_json(self) -> Json:
        """Return it as a document."""
        return {
            "approve": self.approving,
            "oppose": self.opposing,
            "members": self.members,
            "majority": self.majority,
        }


def tallies(votes: Iterable[Json], members: Sequence[Json]) -> tuple[Tally, ...]:
    """Return the votes per chamber that has members, then those of all; by the present set."""
    said = {vote["organisation"]: bool(vote["approve"]) for vote in votes}
    found = []
    for chamber in CHAMBERS:
        inside = [member for member in members if member["chamber"] == chamber]
        if inside:
            found.append(_tally(chamber, inside, said, len(inside) // 2 + 1))
    return (*found, _tally("all", members, said, -(-2 * len(members) // 3)))


def _tally(name: str, members: Sequence[Json], said: Mapping[str, bool], majority: int) -> Tally:
    heard = [said[m["organisation"]] for m in members if m["organisation"] in said]
    return Tally(name, heard.count(True), heard.count(False), len(members), majority)


def tally_words(found: Sequence[Tally]) -> str:
    """Return who approves: ``government 1 of 2, commercial 0 of 2``."""
    return ", ".join(f"{t.name} {t.approving} of {t.members}" for t in found if t.name != "all")


def missing_words(found: Sequence[Tally]) -> str:
    """Say how many votes are missing until the change is approved; empty if none is."""
    chambers = [tally for tally in found if tally.name != "all" and tally.missing]
    inside = sum(tally.missing for tally in chambers)
    total = max(found[-1].missing, inside)
    if total == 0:
        return ""
    if not chambers:
        return f"{total} more"
    least = " and ".join(f"{tally.missing} {tally.name}" for tally in chambers)
    return f"{total} more: {least}" if total == inside else f"{total} more: at least {least}"


def votes_words(votes: Iterable[Json], *, approve: bool) -> str:
    """Return the organisations that said so."""
    return ", ".join(vote["organisation"] for vote in votes if vote["approve"] is approve)


def status_words(proposal: Json) -> str:
    """Return the status with the time that belongs to it."""
    status = str(proposal["status"])
    words, field = _TIME_OF.get(status, (status, ""))
    return f"{words} {time_words(proposal[field])}" if field and proposal.get(field) else status


def time_words(text: str) -> str:
    """Return a time of the API, to the second, easier on the eye."""
    return f"{text[:19].replace('T', ' ')} UTC"


def change_words(change: Json, names: Mapping[str, str]) -> str:
    """Say in a line what a change does; ``names`` are the present validators' by consensus key."""
    kind = change["type"]
    if kind == "add_validator":
        joining = change["validator"]
        seat = f"{joining['chamber']}, of {joining['organisation']}"
        return f"add validator {joining['name']} ({seat})"
    if kind == "remove_validator":
        return f"remove validator {_member(change['consensus_key'], names)}"
    if kind == "rotate_key":
        # Once it is in force the present set knows the member by its new key only.
        old, new = change["consensus_key"], change["new_consensus_key"]
        return f"new keys for validator {names.get(new) or _member(old, names)}"
    if kind == "set_powers":
        licences = ", ".join(change["licences"]) or "none"
        return f"{change['organisation']}: weight {change['weight']}, licences {licences}"
    if kind == "activate_feature":
        return f"activate feature {change['name']} at height {change['height']}"
    return str(kind).replace("_", " ")


def change_details(change: Json, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the line does not say: keys, and parameters.

    Of the parameters those that differ from the present ones; all if none does.
    """
    if change["type"] == "add_validator":
        joining = change["validator"]
        return {"consensus key": joining["consensus_key"], "node key": joining["node_key"]}
    if change["type"] == "remove_validator":
        return {"consensus key": change["consensus_key"]}
    if change["type"] == "rotate_key":
        return {
            "old consensus key": change["consensus_key"],
            "consensus key": change["new_consensus_key"],
            "node key": change["new_node_key"],
        }
    if change["type"] == "set_parameters":
        wanted = change["parameters"]
        moved = {
            name: f"{value} (now {parameters[name]})"
            for name, value in wanted.items()
            if value != parameters[name]
        }
        return moved or dict(wanted)
    return {}


def set_words(present: Iterable[str], scheduled: Iterable[str] | None) -> str:
    """Say who joins and who leaves with the next boundary block; empty if nothing is scheduled."""
    if scheduled is None:
        return ""
    before, after = set(present), set(scheduled)
    moves = [f"{name} joins" for name in sorted(after - before)]
    moves += [f"{name} leaves" for name in sorted(before - after)]
    return ", ".join(moves) or "a validator gets new keys"


def _member(key: str, names: Mapping[str, str]) -> str:
    return names.get(key, f"with key {key[:KEY_SHOWN]}…")
