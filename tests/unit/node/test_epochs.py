"""Which set votes, which follows, and which voted before: live and after a restart alike."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.block import Header
from ledger.encoding import encode
from ledger.errors import BodyMismatch, LedgerError, NonCanonicalEncoding
from ledger.transition import BlockOutcome, execute_genesis
from ledger.types import ZERO_DIGEST, Epoch, Era, Height
from ledger.validators import Validator, ValidatorSet
from node.epochs import Epochs, check_members, decode_members
from storage.memory import MemoryStore
from storage.schedule_store import ScheduleStore
from tests.unit.node_api.fakes import FakeNode

ERA = Era(0)


@dataclass
class Follower:
    """A chain in which sets are scheduled and epochs closed, and who follows it."""

    node: FakeNode = field(default_factory=FakeNode)
    store: MemoryStore = field(default_factory=MemoryStore)
    epochs: Epochs = field(init=False)

    def __post_init__(self) -> None:
        self.epochs = self.restarted()

    def restarted(self) -> Epochs:
        """Return what a process that starts now knows."""
        return Epochs(self.node.chain, ScheduleStore(self.store), self.node.state)

    def subset(self, count: int) -> ValidatorSet:
        """Return a set that differs from the first one in its size only."""
        return ValidatorSet(self.node.set.members[:count])

    def schedule(self, height: int, validators: ValidatorSet) -> bool:
        """Let a block of this height schedule a set."""
        outcome = self._outcome()._replace(schedule=(Height(height), validators.members))
        batch = self.store.batch()
        ScheduleStore(self.store).add(batch, outcome)
        self.store.write(batch, sync=True)
        header = self.node.chain.require_executed(0).header
        return self.epochs.executed(header, outcome, is_boundary=False)

    def close(self) -> Header:
        """Execute a boundary block."""
        header = self.node.close_epoch()
        assert self.epochs.executed(header, self._outcome(), is_boundary=True)
        return header

    def _outcome(self) -> BlockOutcome:
        return execute_genesis(self.node.genesis)


def sizes(epochs: Epochs, heights: range) -> list[int | None]:
    """Return how large a set blocks that certify these heights must bring."""
    found = [epochs.next_set(Height(height)) for height in heights]
    return [None if each is None else each.size for each in found]


def place(epochs: Epochs) -> tuple[object, ...]:
    """Return what identifies the present epoch."""
    present = epochs.present
    return (present.era, present.number, present.base, present.validators.hash)


def test_the_first_epoch_begins_with_genesis() -> None:
    follower = Follower()
    present = follower.epochs.present
    assert (present.era, present.number, present.base.height) == (0, 0, 0)
    assert present.validators.hash == follower.node.set.hash
    assert follower.epochs.closings() == ()
    assert sizes(follower.epochs, range(3)) == [None, None, None]


def test_a_set_counts_from_the_height_that_scheduled_it() -> None:
    """C17, V5: what a block certifies as executed decides, not where the chain stands."""
    follower = Follower()
    assert follower.schedule(3, follower.subset(3))
    assert follower.schedule(5, follower.subset(2))
    assert sizes(follower.epochs, range(7)) == [None, None, None, 3, 3, 2, 2]


async def test_a_boundary_block_opens_the_next_epoch_and_settles_what_it_certified() -> None:
    """V5: the interval is half open; what came after it waits for the next boundary."""
    follower = Follower()
    for _ in range(4):
        await follower.node.finalize()
    follower.schedule(3, follower.subset(3))
    follower.schedule(6, follower.subset(2))
    header = follower.close()
    assert header.executed_height == 4
    assert sizes(follower.epochs, range(3, 8)) == [None, None, None, 2, 2]
    present = follower.epochs.present
    assert (present.number, present.base) == (1, header)
    assert present.base_hash == follower.node.chain.require_executed(5).block_hash


def test_the_same_set_again_is_a_boundary_too() -> None:
    """Other parameters come into force with an epoch of the same members."""
    follower = Follower()
    follower.schedule(1, follower.node.set)
    found = follower.epochs.next_set(Height(1))
    assert found is not None
    assert found.hash == follower.node.set.hash


async def test_a_closed_epoch_keeps_its_set_and_its_closing_finalization() -> None:
    follower = Follower()
    await follower.node.finalize()
    header = follower.close()
    follower.close()
    assert [closing.epoch for closing in follower.epochs.closings()] == [0, 1]
    first = follower.epochs.closings()[0]
    assert first == follower.node.chain.certificate(header.height)
    for epoch in range(3):
        found = follower.epochs.validators_of(ERA, Epoch(epoch))
        assert found is not None
        assert found.hash == follower.node.set.hash
    assert follower.epochs.validators_of(ERA, Epoch(3)) is None
    assert follower.epochs.validators_of(Era(1), Epoch(0)) is None


@given(st.lists(st.sampled_from(["schedule", "block", "close"]), max_size=8))
def test_a_restart_at_any_point_knows_the_same(steps: list[str]) -> None:
    """C19: before, at and after a boundary, memory and disk tell the same story."""
    follower = Follower()
    for number, step in enumerate(steps):
        height = follower.node.state.height + 1
        if step == "close":
            follower.close()
        else:
            follower.node._add_block(())
            if step == "schedule":
                follower.schedule(height, follower.subset(2 + number % 3))
        again = follower.restarted()
        assert place(again) == place(follower.epochs)
        heights = range(height + 2)
        assert sizes(again, heights) == sizes(follower.epochs, heights)
        assert again.closings() == follower.epochs.closings()
        assert again.members_ahead() == follower.epochs.members_ahead()


def test_members_of_scheduled_sets_may_connect() -> None:
    """P2: who joins is met before it votes, on the word of the chain."""
    follower = Follower()
    one = follower.node.set[0]
    other = Validator("new", "bank", one.chamber, one.node_key, one.consensus_key)
    follower.schedule(1, ValidatorSet([other]))
    names = follower.epochs.members_ahead()
    assert names[bytes(other.node_key)] == "new"
    assert set(names.values()) == {"new", *(member.name for member in follower.node.set)}


# --- The body of a boundary block -----------------------------------------------------------------


def boundary_header(validators: ValidatorSet) -> Header:
    """Return a header that names a next set."""
    header = FakeNode().chain.require_executed(0).header
    return msgspec.structs.replace(header, next_validator_set_hash=validators.hash)


def test_a_body_holds_the_set_that_the_header_names() -> None:
    """C8: one mutation at a time."""
    validators = FakeNode().set
    header = boundary_header(validators)
    check_members(header, validators.members)
    for wrong in ((), validators.members[:-1], validators.members[::-1]):
        with pytest.raises(BodyMismatch):
            check_members(header, wrong)
    plain = msgspec.structs.replace(header, next_validator_set_hash=ZERO_DIGEST)
    check_members(plain, ())
    with pytest.raises(BodyMismatch):
        check_members(plain, validators.members)


def test_a_set_with_a_key_twice_is_refused() -> None:
    member = FakeNode().set[0]
    with pytest.raises(LedgerError):
        check_members(boundary_header(FakeNode().set), (member, member))


def test_members_are_decoded_strictly() -> None:
    """R4: one encoding only."""
    members = FakeNode().set.members
    payload = encode(members)
    assert decode_members(payload) == members
    for wrong in (payload + b"\0", payload[:-1], b"", b"\xc0"):
        with pytest.raises(LedgerError):
            decode_members(wrong)
    with pytest.raises(NonCanonicalEncoding):
        decode_members(b"\xdc\x00" + bytes([len(members)]) + payload[1:])
