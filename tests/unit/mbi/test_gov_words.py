"""Governance in words: the majorities are those of the ledger."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.governance import decide
from ledger.records import OrganisationVote, ProposalStatus
from ledger.types import PublicKey
from ledger.validators import Chamber, Validator
from mbi.cli.gov_words import change_words, missing_words, set_words, tallies, tally_words

ORGANISATIONS = ("a", "b", "c", "d", "e")
SAID = dict.fromkeys(ORGANISATIONS, st.booleans())
KEY = "0f" * 32


@st.composite
def _sets(draw: st.DrawFn) -> tuple[Validator, ...]:
    chamber = {name: draw(st.sampled_from(list(Chamber))) for name in ORGANISATIONS}
    sizes = draw(st.tuples(*[st.integers(0, 3)] * len(ORGANISATIONS)).filter(any))
    owners = [name for name, size in zip(ORGANISATIONS, sizes, strict=True) for _ in range(size)]
    return tuple(
        Validator(
            f"v{index}",
            owner,
            chamber[owner],
            PublicKey(bytes([1, index]) * 16),
            PublicKey(bytes([2, index]) * 16),
        )
        for index, owner in enumerate(owners)
    )


@settings(max_examples=500, deadline=None)
@given(_sets(), st.fixed_dictionaries({"guest": st.booleans()}, optional=SAID))
def test_nothing_is_missing_exactly_if_the_ledger_approves(
    members: tuple[Validator, ...], said: dict[str, bool]
) -> None:
    votes = tuple(OrganisationVote(name, said[name]) for name in sorted(said))
    documents = [{"organisation": name, "approve": yes} for name, yes in said.items()]
    listed = [
        {"organisation": member.organisation, "chamber": member.chamber.name.lower()}
        for member in members
    ]
    is_approved = decide(members, votes) is ProposalStatus.APPROVED
    assert (missing_words(tallies(documents, listed)) == "") is is_approved


def test_votes_of_an_organisation_count_as_often_as_it_has_validators() -> None:
    members = [
        *({"organisation": "a", "chamber": "government"},) * 3,
        *({"organisation": "b", "chamber": "commercial"},) * 5,
        {"organisation": "c", "chamber": "commercial"},
    ]
    found = tallies([{"organisation": "b", "approve": True}], members)
    assert tally_words(found) == "government 0 of 3, commercial 5 of 6"
    assert missing_words(found) == "2 more: 2 government"
    none = tallies([], members)
    assert missing_words(none) == "6 more: 2 government and 4 commercial"
    first = tallies([{"organisation": "a", "approve": True}], members)
    assert missing_words(first) == "4 more: 4 commercial"


def test_more_may_be_missing_than_the_chambers_need() -> None:
    members = [{"organisation": str(index), "chamber": "government"} for index in range(9)]
    approving = [{"organisation": str(index), "approve": True} for index in range(5)]
    assert missing_words(tallies(approving, members)) == "1 more"
    assert missing_words(tallies(approving[:3], members)) == "3 more: at least 2 government"


def test_members_are_named_where_a_name_is_known() -> None:
    removal = {"type": "remove_validator", "consensus_key": KEY}
    assert change_words(removal, {KEY: "gov-2"}) == "remove validator gov-2"
    assert change_words(removal, {}) == "remove validator with key 0f0f0f0f0f0f0f0f…"
    rotation = {"type": "rotate_key", "consensus_key": KEY, "new_consensus_key": "aa" * 32}
    assert change_words(rotation, {KEY: "gov-2"}) == "new keys for validator gov-2"
    assert change_words(rotation, {"aa" * 32: "gov-2"}) == "new keys for validator gov-2"


def test_the_scheduled_set_is_said_as_moves() -> None:
    assert set_words(["a", "b"], None) == ""
    assert set_words(["a", "b"], ["b", "c"]) == "c joins, a leaves"
    assert set_words(["a", "b"], ["b", "a"]) == "a validator gets new keys"
