"""The epoch this node is in: who votes, what its boundary block must bring, who voted before.

The state says who the members are, the chain where the epoch began. Both are read again only when
an epoch opens; what is asked for every block is kept in memory.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

from consensus.replica import CLOSINGS_KEPT
from consensus.types import Certificate
from ledger.block import Header
from ledger.encoding import StrictDecoder
from ledger.errors import BodyMismatch, InvariantViolation
from ledger.records import AGENDA_KEY, Agenda, EpochRecord, epoch_key
from ledger.state import State
from ledger.transition import BlockOutcome
from ledger.types import ZERO_DIGEST, Digest, Epoch, Era, Height, TimeMs
from ledger.validators import VALIDATORS_MAX, Validator, ValidatorSet
from storage.chain_store import ChainStore
from storage.schedule_store import ScheduleStore

MEMBER_BYTES_MAX: Final = 256
"""Two keys, two texts of at most 64 and 32 bytes, and what msgpack puts around them."""

_decode_members = StrictDecoder(tuple[Validator, ...], VALIDATORS_MAX * MEMBER_BYTES_MAX).decode


@dataclass(frozen=True, slots=True)
class PresentEpoch:
    """What consensus needs to know of one epoch."""

    era: Era
    number: Epoch
    base: Header
    """The block that opened it; genesis in epoch 0."""
    base_hash: Digest
    validators: ValidatorSet


class Epochs:
    """Follows the chain from epoch to epoch."""

    def __init__(self, chain: ChainStore, schedules: ScheduleStore, state: State) -> None:
        """``state`` is that of the head of ``chain``."""
        self._chain = chain
        self._state = state
        self.present = self._read_present()
        """Of the block after the executed head."""
        above = self.present.base.executed_height
        self._scheduled = [
            (height, ValidatorSet(members)) for height, members in schedules.schedules(above)
        ]

    def _read_present(self) -> PresentEpoch:
        record = self._state.validators
        start = self._record(record.epoch)
        if start is None:
            raise InvariantViolation("state_epoch", f"the state has no epoch {record.epoch}")
        base = self._chain.require_executed(record.opened_height)
        members = ValidatorSet(record.members)
        return PresentEpoch(start.era, record.epoch, base.header, Digest(base.block_hash), members)

    def _record(self, epoch: Epoch) -> EpochRecord | None:
        record = self._state.record(epoch_key(epoch))
        return record if isinstance(record, EpochRecord) else None

    # ------------------------------------------------------------------ what is asked

    def next_set(self, executed_height: Height) -> ValidatorSet | None:
        """Return the set that a block certifying this height must bring; None if it is no boundary.

        Rule V5: the latest set scheduled above the height that the block which opened this epoch
        certified, and not above this height. The height must be executed here.
        """
        count = bisect_right(self._scheduled, executed_height, key=lambda item: item[0])
        return self._scheduled[count - 1][1] if count else None

    def validators_of(self, era: Era, epoch: Epoch) -> ValidatorSet | None:
        """Return the set of an epoch that has begun here; None for others."""
        present = self.present
        if (era, epoch) == (present.era, present.number):
            return present.validators
        if not 0 <= epoch < present.number:
            return None  # peers may write any integer; a state key holds only some
        record = self._record(epoch)
        if record is None or record.era != era:
            return None
        return ValidatorSet(record.members)

    def due_ms(self) -> TimeMs | None:
        """Return the earliest block time at which something on the agenda happens, if any."""
        agenda = self._state.record(AGENDA_KEY)
        if not isinstance(agenda, Agenda) or not agenda.entries:
            return None
        return agenda.entries[0].due_ms

    def members_ahead(self) -> dict[bytes, str]:
        """Return node key and name of every member of the present set and of later ones."""
        sets = (self.present.validators, *(validators for _, validators in self._scheduled))
        return {bytes(member.node_key): member.name for each in sets for member in each}

    def closings(self) -> tuple[Certificate, ...]:
        """Return the finalizations that closed the latest epochs before this one, oldest first.

        Raises:
            InvariantViolation: one is missing, which execution never lets happen.
        """
        found = []
        for epoch in range(max(0, self.present.number - CLOSINGS_KEPT), self.present.number):
            record = self._record(Epoch(epoch))
            closing = None if record is None else self._chain.certificate(record.closed_height)
            if closing is None:
                raise InvariantViolation("closing_kept", f"no finalization closed epoch {epoch}")
            found.append(closing)
        return tuple(found)

    # ------------------------------------------------------------------ what happens

    def executed(self, header: Header, outcome: BlockOutcome, *, is_boundary: bool) -> bool:
        """Take note of a final block that is durable; tell whether who votes, or will, changed."""
        if outcome.schedule is not None:
            height, members = outcome.schedule
            self._scheduled.append((height, ValidatorSet(members)))
        if is_boundary:
            self.present = self._read_present()
            self._scheduled = [each for each in self._scheduled if each[0] > header.executed_height]
        return is_boundary or outcome.schedule is not None


def decode_members(payload: bytes) -> tuple[Validator, ...]:
    """Decode the payload of a boundary block's proposal; raises a ``LedgerError``."""
    return _decode_members(payload)


def check_members(header: Header, members: tuple[Validator, ...]) -> None:
    """Raise a ``LedgerError`` unless these are the next validators that a header commits to."""
    if not members:
        found = ZERO_DIGEST
    else:
        validators = ValidatorSet(members)
        if validators.members != members:
            raise BodyMismatch("the next validators are not in the order of their consensus keys")
        found = validators.hash
    if found != header.next_validator_set_hash:
        raise BodyMismatch(
            f"header names the next set {header.next_validator_set_hash.hex()}, the body holds "
            f"{found.hex()}"
        )
