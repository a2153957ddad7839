"""The pure rules: who decides, and which sets may follow each other."""

from __future__ import annotations

import pytest

from ledger.errors import (
    InvalidValidatorSet,
    QuorumAbsent,
    SetTooSmall,
    ValidatorExists,
    ValidatorUnknown,
)
from ledger.governance import (
    Members,
    check_quorum,
    check_sizes,
    decide,
    ordered,
    refusal_of,
    refusal_text,
    with_member,
    with_new_keys,
    without_member,
)
from ledger.records import Absence, OrganisationVote, ProposalStatus, RotateKey
from ledger.types import Height, PublicKey
from ledger.validators import VALIDATORS_MAX, Validator
from tests.unit.ledger.electorate import names, validator

OPEN, APPROVED, REJECTED = (
    ProposalStatus.OPEN,
    ProposalStatus.APPROVED,
    ProposalStatus.REJECTED,
)


def members(government: int, commercial: int) -> Members:
    return ordered(validator(name) for name in names(government, commercial))


def votes(approving: str = "", opposing: str = "") -> list[OrganisationVote]:
    return [
        *(OrganisationVote(name, True) for name in approving.split()),
        *(OrganisationVote(name, False) for name in opposing.split()),
    ]


@pytest.mark.parametrize(
    ("government", "commercial", "approving", "opposing", "expected"),
    [
        # Two thirds of six are four, and more than half of three are two.
        (3, 3, "gov-1 gov-2 com-1", "", OPEN),
        (3, 3, "gov-1 gov-2 com-1 com-2", "", APPROVED),
        (3, 3, "gov-1 gov-2 gov-3 com-1", "", OPEN),
        (3, 3, "gov-1 gov-2 gov-3 com-1", "com-2 com-3", REJECTED),
        # Half of a chamber is not more than half.
        (2, 4, "com-1 com-2 com-3 com-4 gov-1", "", OPEN),
        (2, 4, "com-1 com-2 com-3 com-4 gov-1", "gov-2", REJECTED),
        (2, 4, "com-1 com-2 com-3 gov-1 gov-2", "com-4", APPROVED),
        # Exactly two thirds is enough, less is not.
        (2, 1, "gov-1 gov-2", "", OPEN),
        (3, 0, "gov-1 gov-2", "gov-3", APPROVED),
        (4, 0, "gov-1 gov-2", "", OPEN),
        (4, 0, "gov-1 gov-2", "gov-3 gov-4", REJECTED),
        # A chamber without members has no say; an organisation without members neither.
        (4, 0, "gov-1 gov-2 gov-3", "com-1", APPROVED),
        (2, 2, "com-8 com-9 gov-8 gov-9", "", OPEN),
        (1, 0, "gov-1", "", APPROVED),
    ],
)
def test_approval_needs_two_thirds_of_all_and_more_than_half_of_each_chamber(
    government: int, commercial: int, approving: str, opposing: str, expected: ProposalStatus
) -> None:
    assert decide(members(government, commercial), votes(approving, opposing)) is expected


def test_an_organisation_has_as_many_votes_as_validators() -> None:
    mighty = [validator(f"gov-{i}", organisation="ministry") for i in range(1, 5)]
    small = [validator("gov-5"), validator("gov-6")]
    assert decide(ordered([*mighty, *small]), votes("ministry")) is APPROVED
    assert decide(ordered([*mighty[:3], *small]), votes("ministry")) is OPEN
    assert decide(ordered([*mighty, *small]), votes("", "ministry")) is REJECTED


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ((2, 2), (2, 1), "removing x would leave 3 validators; at least 4 are needed"),
        (
            (3, 2),
            (3, 1),
            "removing x would leave commercial with 1 validator; at least 2 are needed",
        ),
        ((4, 1), (4, 0), "removing x would leave commercial with 0 validators; at least 1 are"),
        ((2, 1), (1, 1), "removing x would leave 2 validators; at least 3 are needed"),
        ((5, 0), (3, 0), "removing x would leave 3 validators; at least 4 are needed"),
    ],
)
def test_a_set_does_not_shrink_below_its_minima(
    before: tuple[int, int], after: tuple[int, int], text: str
) -> None:
    """C17: one traitor in four, and one failure in a chamber, must stay bearable."""
    with pytest.raises(SetTooSmall) as refused:
        check_sizes(members(*before), members(*after), "removing x")
    assert str(refused.value).startswith(text)


@pytest.mark.parametrize(
    ("before", "after"),
    [((3, 2), (2, 2)), ((4, 0), (4, 1)), ((2, 1), (2, 1)), ((1, 0), (1, 1)), ((5, 1), (4, 1))],
)
def test_a_set_that_is_small_already_may_stay_or_grow(
    before: tuple[int, int], after: tuple[int, int]
) -> None:
    check_sizes(members(*before), members(*after), "removing x")


def away(**seen: int | None) -> dict[PublicKey, Absence]:
    """Return absences by names like ``gov_3``, with the height at which each was seen."""
    members = {name.replace("_", "-"): height for name, height in seen.items()}
    return {
        validator(name).consensus_key: Absence(name, None if height is None else Height(height))
        for name, height in members.items()
    }


def test_a_set_is_allowed_whose_present_members_are_a_quorum() -> None:
    check_quorum(members(3, 4), away(gov_3=120, com_4=None))


def test_the_refusal_of_a_set_without_quorum_names_who_is_missing() -> None:
    """C17: besu 8425: a change that adds or keeps too many absent members would stop the chain."""
    with pytest.raises(QuorumAbsent) as refused:
        check_quorum(members(3, 4), away(gov_3=120, com_4=None, com_1=7))
    text = (
        "the new set needs 5 present validators and has 4: com-1 has not been seen since height 7, "
        "com-4 is not ready, gov-3 has not been seen since height 120"
    )
    assert str(refused.value) == text
    recorded = refusal_of(refused.value)
    assert (recorded.code, recorded.needed, recorded.present) == ("quorum_absent", 5, 4)
    assert [item.name for item in recorded.absent] == ["com-1", "com-4", "gov-3"]
    assert refusal_text(recorded) == text


def test_a_chamber_that_is_away_is_missed_even_if_two_thirds_are_present() -> None:
    with pytest.raises(QuorumAbsent, match=r"needs 9 present validators and has 8: gov-1 "):
        check_quorum(members(2, 8), away(gov_1=1, gov_2=1))


def test_a_long_refusal_names_a_few_and_counts_the_rest() -> None:
    after = members(0, 9)
    absences = {member.consensus_key: Absence(member.name, Height(3)) for member in after}
    with pytest.raises(QuorumAbsent, match=r"com-5 has not .* height 3, and 4 more$"):
        check_quorum(after, absences)


NEWCOMER = validator("com-9")


@pytest.mark.parametrize(
    "clashing",
    [
        validator("com-1"),
        Validator(
            "com-1",
            NEWCOMER.organisation,
            NEWCOMER.chamber,
            NEWCOMER.consensus_key,
            NEWCOMER.node_key,
        ),
        Validator(
            "x",
            NEWCOMER.organisation,
            NEWCOMER.chamber,
            validator("gov-1").node_key,
            NEWCOMER.node_key,
        ),
        Validator(
            "x",
            NEWCOMER.organisation,
            NEWCOMER.chamber,
            NEWCOMER.consensus_key,
            validator("gov-1").consensus_key,
        ),
        Validator(
            "x",
            NEWCOMER.organisation,
            NEWCOMER.chamber,
            NEWCOMER.consensus_key,
            NEWCOMER.consensus_key,
        ),
    ],
)
def test_names_and_keys_of_a_set_are_distinct(clashing: Validator) -> None:
    """C17: a duplicate key would count one signature twice; one key has one purpose."""
    with pytest.raises(ValidatorExists):
        with_member(members(2, 2), clashing)


def test_a_set_has_a_greatest_size() -> None:
    full = members(64, VALIDATORS_MAX - 64)
    with pytest.raises(InvalidValidatorSet):
        with_member(full, validator("com-999"))


def test_members_come_and_go_in_the_order_of_their_keys() -> None:
    before = members(3, 3)
    more = with_member(before, NEWCOMER)
    assert [m.consensus_key for m in more] == sorted(m.consensus_key for m in more)
    assert without_member(more, NEWCOMER.consensus_key) == before


def test_a_rotation_keeps_everything_but_the_keys() -> None:
    before = members(2, 2)
    new = validator("gov-1", 1)
    change = RotateKey(validator("gov-1").consensus_key, new.consensus_key, new.node_key)
    after = with_new_keys(before, change)
    assert new in after
    assert validator("gov-1") not in after
    assert len(after) == len(before)


def test_a_rotation_may_keep_one_of_the_two_keys() -> None:
    before = members(2, 2)
    old, new = validator("gov-1"), validator("gov-1", 1)
    for keys in ((old.consensus_key, new.node_key), (new.consensus_key, old.node_key)):
        assert len(with_new_keys(before, RotateKey(old.consensus_key, *keys))) == 4
    with pytest.raises(ValidatorExists):
        with_new_keys(before, RotateKey(old.consensus_key, old.consensus_key, old.node_key))


@pytest.mark.parametrize("key", [NEWCOMER.consensus_key, validator("gov-1").node_key])
def test_only_a_consensus_key_names_a_member(key: PublicKey) -> None:
    with pytest.raises(ValidatorUnknown):
        without_member(members(3, 3), key)
