"""What the metrics say about a quorum at risk."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ledger.types import PublicKey
from ledger.validators import Chamber, Validator, ValidatorSet, mask_of
from node.telemetry import spare_validators


def validator_set(governments: int, commercials: int) -> ValidatorSet:
    """Return a set with keys that are only different from each other."""
    chambers = [Chamber.GOVERNMENT] * governments + [Chamber.COMMERCIAL] * commercials
    return ValidatorSet(
        Validator(
            name=f"node-{index}",
            organisation=f"node-{index}",
            chamber=chamber,
            consensus_key=PublicKey(bytes([index]) * 32),
            node_key=PublicKey(bytes([100 + index]) * 32),
        )
        for index, chamber in enumerate(chambers)
    )


def test_four_validators_can_spare_one() -> None:
    members = validator_set(2, 2)
    assert spare_validators(members, range(4)) == 1
    assert spare_validators(members, (0, 1, 2)) == 0
    assert spare_validators(members, (0, 2)) == -1


def test_half_of_a_chamber_is_the_limit_where_it_is_reached_first() -> None:
    """Six of seven stand, but one of two commercial ones is all that its chamber can lose."""
    members = validator_set(5, 2)
    assert spare_validators(members, range(7)) == 1
    assert spare_validators(members, range(6)) == 0


@given(
    st.integers(1, 5).flatmap(lambda g: st.tuples(st.just(g), st.integers(0, 5))),
    st.integers(min_value=0, max_value=2**10 - 1),
)
def test_spare_is_not_negative_exactly_with_a_quorum(sizes: tuple[int, int], mask: int) -> None:
    members = validator_set(*sizes)
    connected = [index for index in range(len(members)) if mask >> index & 1]
    spare = spare_validators(members, connected)
    assert (spare >= 0) == members.has_quorum(mask_of(connected))
