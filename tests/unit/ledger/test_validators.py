"""Quorums and validator sets (docs/protocol-consensus.md, Validators and quorum)."""

from __future__ import annotations

from itertools import combinations

import msgspec
import pytest

from ledger.errors import InvalidValidatorSet
from ledger.validators import VALIDATORS_MAX, Chamber, ValidatorSet, mask_of, members_of
from tests.unit.consensus.kit import validators


def plain_quorum(members: ValidatorSet, chosen: tuple[int, ...]) -> bool:
    """The rule of the specification, word by word, in exact integers."""
    if not 3 * len(chosen) > 2 * len(members):
        return False
    for chamber in Chamber:
        inside = [i for i, member in enumerate(members) if member.chamber is chamber]
        if inside and not 2 * len(set(inside) & set(chosen)) >= len(inside):
            return False
    return True


@pytest.mark.parametrize("government", range(11))
def test_quorum_is_the_rule_for_every_subset_of_every_set_up_to_ten(government: int) -> None:
    """C7: n = 1 to 10, every split into chambers, every subset."""
    for commercial in range(11 - government):
        if government + commercial == 0:
            continue
        members = validators(government, commercial)
        for size in range(len(members) + 1):
            for chosen in combinations(range(len(members)), size):
                assert members.is_quorum(chosen) == plain_quorum(members, chosen)


@pytest.mark.parametrize(
    ("government", "commercial", "smallest"),
    [(1, 0, 1), (1, 1, 2), (2, 1, 3), (2, 2, 3), (3, 2, 4), (3, 3, 5), (4, 3, 5), (5, 5, 7)],
)
def test_smallest_quorum(government: int, commercial: int, smallest: int) -> None:
    """C7: more than two thirds, so exactly two thirds are not enough (n = 3, 6)."""
    members = validators(government, commercial)
    sizes = {
        size
        for size in range(len(members) + 1)
        if any(members.is_quorum(c) for c in combinations(range(len(members)), size))
    }
    assert min(sizes) == smallest


def test_no_chamber_decides_alone() -> None:
    """All commercial members and too few of the government: more than 2/3, still no quorum."""
    members = validators(3, 7)
    commercial = [i for i, m in enumerate(members) if m.chamber is Chamber.COMMERCIAL]
    government = [i for i, m in enumerate(members) if m.chamber is Chamber.GOVERNMENT]
    assert not members.is_quorum([*commercial, government[0]])
    assert members.is_quorum([*commercial, *government[:2]])


def test_an_index_named_twice_counts_once() -> None:
    """C6: a signer that is listed twice is one signer."""
    assert not validators(2, 2).is_quorum([0, 1, 1, 1])


@pytest.mark.parametrize(("size", "blocking"), [(1, 1), (3, 1), (4, 2), (5, 2), (6, 2), (7, 3)])
def test_blocking_is_a_third(size: int, blocking: int) -> None:
    members = validators(size, 0)
    assert members.is_blocking(mask_of(range(blocking)))
    assert not members.is_blocking(mask_of(range(blocking - 1)))


def test_shortfall_names_chambers() -> None:
    members = validators(3, 3)
    government = members.chamber_mask(Chamber.GOVERNMENT)
    assert members.missing_for_quorum(government) == (2, 0, 2)
    assert members.missing_for_quorum((1 << 6) - 1) == (0, 0, 0)
    assert members.missing_for_quorum(0) == (5, 2, 2)


def test_shortfall_is_zero_exactly_for_quorums() -> None:
    members = validators(3, 2)
    for mask in range(1 << 5):
        assert (members.missing_for_quorum(mask).members == 0) == members.has_quorum(mask)


def test_members_are_sorted_and_found_by_their_keys() -> None:
    members = validators(2, 3)
    keys = [member.consensus_key for member in members]
    assert keys == sorted(keys)
    for index, member in enumerate(members):
        assert members.index_of_key(member.consensus_key) == index
        assert members.index_of_node(member.node_key) == index
    assert members.index_of_node(bytes(32)) is None


def test_hash_does_not_depend_on_the_order_given_but_on_every_field() -> None:
    members = validators(2, 2)
    assert ValidatorSet(reversed(members.members)).hash == members.hash
    first = members[0]
    for field, value in (
        ("chamber", Chamber(3 - first.chamber)),
        ("name", "another"),
        ("organisation", "another"),
        ("node_key", bytes(32)),
        ("consensus_key", bytes(32)),
    ):
        changed = msgspec.structs.replace(first, **{field: value})
        assert ValidatorSet([changed, *members.members[1:]]).hash != members.hash


@pytest.mark.parametrize("field", ["consensus_key", "node_key"])
def test_keys_are_unique(field: str) -> None:
    """C17: a duplicate key cannot make one validator count twice."""
    first, second = validators(1, 1)
    twin = msgspec.structs.replace(second, **{field: getattr(first, field)})
    with pytest.raises(InvalidValidatorSet, match="expected 2 different"):
        ValidatorSet([first, twin])


@pytest.mark.parametrize("size", [0, VALIDATORS_MAX + 1])
def test_size_is_bounded(size: int) -> None:
    with pytest.raises(InvalidValidatorSet, match=f"received {size}"):
        validators(size, 0)


def test_masks_and_indices_are_the_same_thing() -> None:
    assert list(members_of(mask_of([5, 0, 3]))) == [0, 3, 5]
