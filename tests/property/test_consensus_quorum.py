"""The arithmetic that safety rests on (docs/protocol-consensus.md, Safety)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.validators import Chamber, ValidatorSet
from tests.unit.consensus.kit import validators

SIZES = st.tuples(st.integers(0, 12), st.integers(0, 12)).filter(lambda pair: sum(pair) > 0)
SETS = {
    (government, commercial): validators(government, commercial)
    for government in range(13)
    for commercial in range(13)
    if government + commercial
}


def smallest_overlaps(government: int, commercial: int) -> tuple[int, int, int]:
    """Return the least overlap of two quorums: in all, of government, of commercial members."""
    n = government + commercial
    quorum = 2 * n // 3 + 1
    half = (government + 1) // 2, (commercial + 1) // 2
    return 2 * quorum - n, 2 * half[0] - government, 2 * half[1] - commercial


@given(SIZES, st.data())
def test_two_quorums_share_as_many_members_as_the_theorem_says(
    sizes: tuple[int, int], data: st.DataObject
) -> None:
    """Section 5 row 7: overlaps for every size and split, not only n = 3f + 1."""
    members = SETS[sizes]
    masks = [data.draw(quorums(members)) for _ in range(2)]
    both = masks[0] & masks[1]
    overlap, government, commercial = smallest_overlaps(*sizes)
    assert both.bit_count() >= overlap > len(members) / 3 - 1
    for chamber, least in ((Chamber.GOVERNMENT, government), (Chamber.COMMERCIAL, commercial)):
        assert (both & members.chamber_mask(chamber)).bit_count() >= least


@given(SIZES, st.data())
def test_more_members_never_undo_a_quorum(sizes: tuple[int, int], data: st.DataObject) -> None:
    members = SETS[sizes]
    mask = data.draw(quorums(members))
    more = mask | data.draw(st.integers(0, (1 << len(members)) - 1))
    assert members.has_quorum(more)


@given(SIZES, st.data())
def test_every_quorum_has_a_blocking_part_of_the_rest(
    sizes: tuple[int, int], data: st.DataObject
) -> None:
    """What a third of the validators wants to say, no quorum can be without."""
    members = SETS[sizes]
    mask = data.draw(st.integers(0, (1 << len(members)) - 1))
    everyone = (1 << len(members)) - 1
    if not members.is_blocking(everyone & ~mask):
        assert 3 * mask.bit_count() > 2 * len(members)


@pytest.mark.parametrize("odd", [1, 3, 5])
@pytest.mark.parametrize("other", [1, 2, 3, 4])
def test_an_honest_chamber_of_odd_size_is_in_every_overlap(odd: int, other: int) -> None:
    """Why production networks have odd chambers: a whole other chamber may lie."""
    _, government, _ = smallest_overlaps(odd, other)
    assert government == 1


def quorums(members: ValidatorSet) -> st.SearchStrategy[int]:
    """Quorums of a set, small ones included: drop members from all as long as one remains."""

    def shrink(order: list[int]) -> int:
        mask = (1 << len(members)) - 1
        for index in order:
            if members.has_quorum(mask & ~(1 << index)):
                mask &= ~(1 << index)
        return mask

    return st.permutations(range(len(members))).map(shrink)
