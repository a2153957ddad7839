"""Scheduled sets and evidence come back as they were written, from every kind of store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from consensus.recovery import RecoveryPlan, RecoveryReport
from ledger.crypto import sha256
from ledger.types import ZERO_DIGEST, Epoch, Era, Height, PublicKey, Signature, View
from ledger.validators import Chamber, Validator
from ledger.votes import Value, Vote, VoteKind
from storage.errors import StoreCorrupt
from storage.evidence_store import Evidence, EvidenceStore
from storage.recovery_store import RecoveryStore
from storage.schedule_store import ScheduleStore
from storage.schema import SCHEDULE, encode_height, evidence_key, plan_key
from tests.unit.storage.builders import Chain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storage.kv import KeyValueStore
    from tests.unit.storage.disks import Disk


@pytest.fixture
def store(disk: Disk) -> Iterator[KeyValueStore]:
    """A new store."""
    made = disk.create()
    yield made
    made.close()


def key(label: str) -> PublicKey:
    """Return a made-up key."""
    return PublicKey(sha256(label.encode()))


def members(count: int) -> tuple[Validator, ...]:
    """Return a made-up set."""
    return tuple(
        Validator(f"v{n}", "org", Chamber(1 + n % 2), key(f"c{n}"), key(f"n{n}"))
        for n in range(count)
    )


def schedule(store: KeyValueStore, height: int, count: int) -> None:
    """Write a block's schedule of so many members."""
    outcome = Chain().steps[0].outcome._replace(schedule=(Height(height), members(count)))
    batch = store.batch()
    ScheduleStore(store).add(batch, outcome)
    store.write(batch, sync=True)


def test_nothing_is_scheduled_on_a_new_chain(store: KeyValueStore) -> None:
    batch = store.batch()
    ScheduleStore(store).add(batch, Chain().steps[0].outcome)
    store.write(batch, sync=True)
    assert ScheduleStore(store).schedule_at(2**63) is None
    assert list(ScheduleStore(store).schedules(0)) == []


@pytest.mark.parametrize(
    ("height", "expected"), [(4, None), (5, 5), (6, 5), (255, 5), (256, 256), (2**64, 256)]
)
def test_the_latest_schedule_up_to_a_height_counts(
    store: KeyValueStore, height: int, expected: int | None
) -> None:
    schedule(store, 5, 4)
    schedule(store, 256, 7)
    found = ScheduleStore(store).schedule_at(height)
    assert (found and found[0]) == expected
    if found is not None:
        assert found[1] == members(4 if expected == 5 else 7)


def test_schedules_above_a_height_come_in_its_order(store: KeyValueStore) -> None:
    for height in (300, 5, 256):
        schedule(store, height, 4)
    assert [height for height, _ in ScheduleStore(store).schedules(5)] == [256, 300]


def test_a_schedule_that_cannot_be_read_is_not_skipped(store: KeyValueStore) -> None:
    """S2: damage is reported."""
    batch = store.batch()
    batch.put(SCHEDULE + encode_height(3), b"\x93")
    store.write(batch, sync=True)
    with pytest.raises(StoreCorrupt, match="a scheduled set"):
        ScheduleStore(store).schedule_at(3)


def proof(voter: int, epoch: int = 0, view: int = 1) -> Evidence:
    """Return two votes for different blocks."""

    def vote(content: bytes) -> Vote:
        value = Value(View(0), sha256(content))
        place = (VoteKind.NOTARIZE, Era(0), Epoch(epoch), View(view), value)
        return Vote(*place, voter, Signature(bytes(64)))

    return Evidence(vote(b"one"), vote(b"two"))


def test_evidence_comes_back_by_epoch_and_voter(store: KeyValueStore) -> None:
    kept = EvidenceStore(store)
    batch = store.batch()
    for each in (proof(7), proof(1, epoch=2), proof(1)):
        kept.add(batch, each)
    store.write(batch, sync=True)
    assert list(kept.all()) == [proof(1), proof(7), proof(1, epoch=2)]


def test_one_proof_is_kept_of_a_voter_in_an_epoch(store: KeyValueStore) -> None:
    """C18: whoever signs against itself in every view costs others one record."""
    kept = EvidenceStore(store)
    for view in range(1, 50):
        batch = store.batch()
        kept.add(batch, proof(3, view=view))
        store.write(batch, sync=True)
    assert list(kept.all()) == [proof(3, view=49)]


def test_evidence_that_cannot_be_read_is_not_skipped(store: KeyValueStore) -> None:
    """S2: damage is reported."""
    batch = store.batch()
    batch.put(evidence_key(0, 0, 1), ZERO_DIGEST)
    store.write(batch, sync=True)
    with pytest.raises(StoreCorrupt, match="evidence"):
        list(EvidenceStore(store).all())


def plan(era: int) -> RecoveryPlan:
    """Return a made-up plan for an era."""
    report = RecoveryReport(Era(era - 1), Epoch(3), key("c0"), None, None, Signature(bytes(64)))
    base = (Height(7), ZERO_DIGEST)
    return RecoveryPlan(Era(era), Epoch(4), *base, members(3), 0, (report,), ())


def test_accepted_plans_come_back_by_era(store: KeyValueStore) -> None:
    plans = RecoveryStore(store)
    assert plans.latest() is None
    batch = store.batch()
    for era in (256, 1, 2):
        plans.add(batch, plan(era))
    store.write(batch, sync=True)
    assert [found.era for found in plans.plans()] == [1, 2, 256]
    assert plans.latest() == plan(256)
    assert plans.plan(Era(2)) == plan(2)
    assert plans.plan(Era(3)) is None


def test_a_plan_that_is_something_else_is_reported(store: KeyValueStore) -> None:
    batch = store.batch()
    batch.put(plan_key(1), b"\x93")
    store.write(batch, sync=True)
    with pytest.raises(StoreCorrupt, match="a recovery plan"):
        RecoveryStore(store).latest()
