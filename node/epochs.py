"""The epoch this node is in: who votes, what its boundary block must bring, who voted before.

The state says who the members are, the chain where the epoch began. Both are read again only when
an epoch opens; what is asked for every block is kept in memory.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from consensus.recovery import RecoveryPlan
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
"""Two keys, two texts of at most 128 and 32 bytes, and what msgpack puts around them."""

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

    def __init__(
        self,
        chain: ChainStore,
        schedules: ScheduleStore,
        state: State,
        plans: Sequence[RecoveryPlan] = (),
    ) -> None:
        """``state`` is that of the head of ``chain``; ``plans`` are those that were accepted."""
        self._chain = chain
        self._state = state
        plan = plan_on(plans, Digest(chain.head().block_hash))
        self.present = self._read_present() if plan is None else self._recovered(plan)
        """Of the block after the executed head."""
        above = schedules_from(self.present.base, self.present.era)
        self._scheduled = [
            (height, ValidatorSet(members)) for height, members in schedules.schedules(above)
        ]

    def _recovered(self, plan: RecoveryPlan) -> PresentEpoch:
        """Return the first epoch of an era whose base is the head: the state has no word of it."""
        head = self._chain.head()
        members = ValidatorSet(plan.members)
        return PresentEpoch(plan.era, plan.epoch, head.header, Digest(head.block_hash), members)

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
            return None
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
            if closing is not None:
                found.append(closing)
            elif record is not None and not self._is_last_of_era(record):
                raise InvariantViolation("closing_kept", f"no finalization closed epoch {epoch}")
        return tuple(found)

    def _is_last_of_era(self, record: EpochRecord) -> bool:
        """Tell whether a plan may have closed an epoch, or the one that its last block opened."""
        later = [self._record(Epoch(record.epoch + number)) for number in (1, 2)]
        eras = [self.present.era if item is None else item.era for item in later]
        return any(era != record.era for era in eras)

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


def plan_on(plans: Sequence[RecoveryPlan], block_hash: Digest) -> RecoveryPlan | None:
    """Return the plan that continues from a block; the latest, if an era ended without a block."""
    return next((plan for plan in reversed(plans) if plan.base_hash == block_hash), None)


def schedules_from(base: Header, era: Era) -> Height:
    """Return the height above which sets are scheduled that a boundary block may bring (V5).

    That is what the block which opened the epoch certified. A recovery drops everything that its
    era had scheduled, so after one it is the base.
    """
    return base.executed_height if base.era == era else base.height


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
