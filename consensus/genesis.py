"""The first validator set, as the genesis names it."""

from __future__ import annotations

from consensus.validators import Chamber, Validator, ValidatorSet
from ledger.genesis import Genesis


def validator_set_of(genesis: Genesis) -> ValidatorSet:
    """Return the validator set of epoch 0.

    Raises:
        InvalidValidatorSet: the keys do not make a set.
    """
    return ValidatorSet(
        Validator(
            consensus_key=member.consensus_key,
            chamber=Chamber(member.chamber),
            node_key=member.node_key,
            name=member.name,
            organisation=member.organisation,
        )
        for member in genesis.validators
    )
