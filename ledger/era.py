"""The first block of an era: the state takes over the set that a recovery plan names.

A plan (``ledger.recovery``) makes one block, the *base*, the last of its era. All of the state up
to the base stays; only who votes changes, and no transaction had a say in it. Normative text:
``docs/protocol-consensus.md``, Era change.
"""

from __future__ import annotations

from typing import NamedTuple

from ledger.block import Header
from ledger.errors import InvariantViolation
from ledger.records import (
    PRESENCE_KEY,
    VALIDATORS_KEY,
    EpochRecord,
    Presence,
    ValidatorsRecord,
    epoch_key,
)
from ledger.types import Digest, Epoch, Era, Height
from ledger.validators import Validator, ValidatorSet
from ledger.view import View


class EraStart(NamedTuple):
    """What executing the first block of an era needs to know of the plan that opened it."""

    era: Era
    epoch: Epoch
    base_height: Height
    base_hash: Digest
    """Of the last block of the era before."""
    members: tuple[Validator, ...]
    """The new set, ascending by consensus key."""


def change_era(view: View, header: Header, start: EraStart) -> None:
    """Close the open epoch at the base and open the first one of the new era.

    Sets that were scheduled and did not come into force are dropped: who chose them knew nothing of
    the loss. Scheduled parameters stay scheduled; the next boundary block brings them.

    Raises InvariantViolation if the block is not the first one of this era on this chain.
    """
    record, members = view.validators(), start.members
    closing: EpochRecord = view.get(epoch_key(record.epoch))
    block = (header.era, header.epoch, header.height - 1, header.parent_hash)
    is_planned = block == start[:4] and header.validator_set_hash == ValidatorSet(members).hash
    # An era may end without a block, by a further plan on the same base; so may its epoch.
    eras, epochs = header.era - closing.era, header.epoch - record.epoch
    if not is_planned or eras < 1 or epochs != eras:
        raise InvariantViolation(
            "era",
            f"block {header.height} of era {header.era}, epoch {header.epoch} does not follow the "
            f"plan for era {start.era}, epoch {start.epoch} on height {start.base_height}",
        )
    base = start.base_height
    view.put(
        epoch_key(record.epoch),
        EpochRecord(closing.era, closing.epoch, closing.members, closing.opened_height, base),
    )
    view.put(epoch_key(start.epoch), EpochRecord(start.era, start.epoch, members, base, Height(0)))
    view.put(PRESENCE_KEY, Presence((header.height,) * len(members)))
    view.put(
        VALIDATORS_KEY,
        ValidatorsRecord(
            start.epoch,
            members,
            base,
            members,
            record.scheduled_parameters,
            record.scheduled_height,
        ),
    )
