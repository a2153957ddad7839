"""Era change: a plan that follows the rules is followed, and every other one is refused."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from consensus.errors import InvalidPlan
from consensus.light import SetChange
from consensus.light.errors import ForeignHeader, LightError, WrongMembers
from consensus.recovery import RecoveryPlan, fence, plan_hash, report_preimage, with_signature
from ledger.types import Digest, Epoch, Era, Height, PublicKey, Signature, View
from ledger.validators import ValidatorSet
from ledger.votes import Round, VoteKind
from tests.unit.consensus.recovery_scene import (
    CHAIN_ID,
    NEW,
    SURVIVORS,
    Scene,
    council_key,
    hash_of,
)
from tests.unit.ledger.electorate import consensus_key, validator


class Lost:
    """Three final blocks, a notarized one above them; then the commercial chamber is gone."""

    def __init__(self) -> None:
        self.scene = Scene()
        for _ in range(3):
            self.scene.block()
        self.final = self.scene.headers[-1]
        self.tail = self.scene.block()
        scene = self.scene
        self.reports = [
            scene.report("gov-1", scene.finalization(self.final)),
            scene.report("gov-2", scene.finalization(self.final), scene.certificate(self.tail)),
        ]

    @property
    def plan(self) -> RecoveryPlan:
        return self.scene.plan(self.reports, self.tail)

    def change(self, plan: RecoveryPlan | None = None) -> SetChange:
        plan = self.plan if plan is None else plan
        return SetChange(self.tail, plan, plan.members)


@pytest.fixture
def lost() -> Lost:
    return Lost()


class TestFollowing:
    def test_a_plan_on_a_block_that_is_only_notarized_opens_the_era(self, lost: Lost) -> None:
        client = lost.scene.client()
        client.apply(lost.change())
        assert (client.era, client.epoch, client.base_hash) == (1, 1, hash_of(lost.tail))
        assert client.validators.hash == NEW.hash

    def test_blocks_of_the_new_era_are_verified_by_its_set(self, lost: Lost) -> None:
        client, scene = lost.scene.client(), lost.scene
        client.apply(lost.change())
        scene.open(lost.tail, NEW, era=1)
        first = scene.block()
        client.check_final(first, scene.finalization(first))

    def test_a_second_recovery_can_end_an_era_without_a_block(self, lost: Lost) -> None:
        client, scene = lost.scene.client(), lost.scene
        client.apply(lost.change())
        scene.open(lost.tail, NEW, era=1)
        members = ValidatorSet(NEW.members[1:])
        plan = scene.plan([scene.report(name) for name in SURVIVORS], lost.tail)
        again = scene.plan(plan.reports, lost.tail, members=members.members)
        client.apply(SetChange(lost.tail, again, members.members))
        assert (client.era, client.epoch, client.base_hash) == (2, 2, hash_of(lost.tail))

    def test_a_finalization_can_be_the_highest_certificate(self, lost: Lost) -> None:
        scene = lost.scene
        reports = [scene.report(name, scene.finalization(lost.tail)) for name in SURVIVORS[:2]]
        client = scene.client()
        client.apply(lost.change(scene.plan(reports, lost.tail)))
        assert client.era == 1

    def test_one_more_honest_reporter_is_needed_for_each_traitor(self, lost: Lost) -> None:
        plan = lost.scene.plan(lost.reports, lost.tail, traitors=1)
        with pytest.raises(InvalidPlan, match="2 of 3 from the government"):
            lost.scene.client().apply(lost.change(plan))
        third = lost.scene.report("gov-3")
        plan = lost.scene.plan([*lost.reports, third], lost.tail, traitors=1)
        lost.scene.client().apply(lost.change(plan))


class TestBoundary:
    """The base is a boundary block: its set is the starting point."""

    SECOND = ValidatorSet(validator(n) for n in ("gov-1", "gov-2", "gov-8", "com-1", "com-8"))

    def scene(self) -> Scene:
        scene = Scene()
        scene.block()
        scene.block(next_validator_set_hash=self.SECOND.hash)
        return scene

    def test_if_it_is_only_notarized_the_plan_is_taken_twice(self) -> None:
        scene = self.scene()
        boundary = scene.headers[-1]
        notarization = scene.certificate(boundary)
        reports = [scene.report(name, None, notarization) for name in ("gov-1", "gov-2")]
        plan = scene.plan(reports, boundary, epoch=Epoch(2))
        client = scene.client()
        client.apply(SetChange(boundary, plan, self.SECOND.members))
        assert (client.era, client.epoch) == (0, 1)
        client.apply(SetChange(boundary, plan, NEW.members))
        assert (client.era, client.epoch, client.validators.hash) == (1, 2, NEW.hash)

    def test_then_both_sets_must_have_reported(self) -> None:
        """The second set could have begun to vote without the first one's knowledge."""
        scene = self.scene()
        boundary = scene.headers[-1]
        notarization = scene.certificate(boundary)
        reports = [scene.report(name, None, notarization) for name in ("gov-2", "gov-3")]
        plan = scene.plan(reports, boundary, epoch=Epoch(2))
        client = scene.client()
        client.apply(SetChange(boundary, plan, self.SECOND.members))
        with pytest.raises(InvalidPlan, match="1 of 2 from the government"):
            client.apply(SetChange(boundary, plan, NEW.members))
        assert client.epoch == 1

    def test_the_second_set_alone_does_not_suffice(self) -> None:
        """The first one could have notarized something else above the boundary block."""
        scene = self.scene()
        boundary = scene.headers[-1]
        notarization = scene.certificate(boundary)
        reports = [scene.report(name, None, notarization) for name in ("gov-1", "gov-8")]
        plan = scene.plan(reports, boundary, epoch=Epoch(2))
        with pytest.raises(InvalidPlan, match="1 of 2 from the government"):
            scene.client().apply(SetChange(boundary, plan, self.SECOND.members))

    def test_the_first_set_need_not_report_if_the_boundary_is_final(self) -> None:
        scene = self.scene()
        boundary = scene.headers[-1]
        final = scene.finalization(boundary)
        scene.open(boundary, self.SECOND)
        reports = [scene.report(name, final) for name in ("com-1", "com-8")]
        plan = scene.plan(reports, boundary)
        for closing in (final, plan):
            client = scene.client()
            client.apply(SetChange(boundary, closing, self.SECOND.members))
            client.apply(SetChange(boundary, plan, NEW.members))
            assert (client.era, client.epoch) == (1, 2)

    def test_the_announced_set_is_demanded(self) -> None:
        scene = self.scene()
        boundary = scene.headers[-1]
        notarization = scene.certificate(boundary)
        reports = [scene.report(name, None, notarization) for name in ("gov-1", "gov-2")]
        plan = scene.plan(reports, boundary, epoch=Epoch(2))
        with pytest.raises(WrongMembers):
            scene.client().apply(SetChange(boundary, plan, NEW.members))


def without_a_council_signature(lost: Lost) -> RecoveryPlan:
    return lost.scene.plan(lost.reports, lost.tail, signed_by=("gov-a", "com-a"))


def without_a_chamber_of_the_council(lost: Lost) -> RecoveryPlan:
    return lost.scene.plan(lost.reports, lost.tail, signed_by=("gov-a", "gov-b", "stranger"))


def altered_after_signing(lost: Lost) -> RecoveryPlan:
    return msgspec.structs.replace(lost.plan, members=NEW.members[1:])


def with_another_base(lost: Lost) -> RecoveryPlan:
    return lost.scene.plan(lost.reports, lost.tail, base_hash=Digest(b"x" * 32))


def with_another_height(lost: Lost) -> RecoveryPlan:
    return lost.scene.plan(lost.reports, lost.tail, base_height=Height(9))


def that_skips_an_era(lost: Lost) -> RecoveryPlan:
    return lost.scene.plan(lost.reports, lost.tail, era=Era(2))


def that_skips_an_epoch(lost: Lost) -> RecoveryPlan:
    return lost.scene.plan(lost.reports, lost.tail, epoch=Epoch(2))


def with_too_few_reports(lost: Lost) -> RecoveryPlan:
    return lost.scene.plan(lost.reports[1:], lost.tail)


def with_reports_from_both_chambers_only_together(lost: Lost) -> RecoveryPlan:
    other = lost.scene.report("com-1", lost.scene.finalization(lost.final))
    return lost.scene.plan([lost.reports[1], other], lost.tail)


def with_a_report_twice(lost: Lost) -> RecoveryPlan:
    return lost.scene.plan([lost.reports[1], lost.reports[1]], lost.tail)


def with_a_report_of_a_stranger(lost: Lost) -> RecoveryPlan:
    return lost.scene.plan([lost.reports[1], lost.scene.report("gov-8")], lost.tail)


def with_an_unsigned_report(lost: Lost) -> RecoveryPlan:
    forged = msgspec.structs.replace(lost.reports[0], signature=Signature(bytes(64)))
    return lost.scene.plan([forged, lost.reports[1]], lost.tail)


def with_a_report_in_the_name_of_another(lost: Lost) -> RecoveryPlan:
    name = PublicKey(consensus_key("gov-3").public_key)
    forged = msgspec.structs.replace(lost.reports[0], consensus_key=name)
    return lost.scene.plan([forged, lost.reports[1]], lost.tail)


def with_a_report_of_another_era(lost: Lost) -> RecoveryPlan:
    other = Scene()
    other.era = Era(1)
    return lost.scene.plan([other.report("gov-1"), lost.reports[1]], lost.tail)


def with_a_false_certificate(lost: Lost) -> RecoveryPlan:
    true = lost.scene.certificate(lost.tail)
    forged = msgspec.structs.replace(true, signatures=bytes(len(true.signatures)))
    return lost.scene.plan(
        [lost.scene.report("gov-1", None, forged), lost.scene.report("gov-2")], lost.tail
    )


def with_a_certificate_of_no_quorum(lost: Lost) -> RecoveryPlan:
    few = lost.scene.certificate(lost.tail, voters=SURVIVORS)
    return lost.scene.plan([lost.scene.report(n, None, few) for n in SURVIVORS], lost.tail)


def with_a_finalization_for_a_notarization(lost: Lost) -> RecoveryPlan:
    wrong = lost.scene.finalization(lost.tail)
    return lost.scene.plan([lost.scene.report(n, None, wrong) for n in SURVIVORS], lost.tail)


def whose_base_is_not_the_highest(lost: Lost) -> RecoveryPlan:
    later = lost.scene.block()
    higher = lost.scene.report("gov-1", None, lost.scene.certificate(later))
    return lost.scene.plan([higher, lost.reports[1]], lost.tail)


def whose_reports_certify_nothing(lost: Lost) -> RecoveryPlan:
    return lost.scene.plan([lost.scene.report(name) for name in SURVIVORS], lost.tail)


def with_contradicting_certificates(lost: Lost) -> RecoveryPlan:
    lost.scene.headers.pop()
    twin = lost.scene.block(time_ms=lost.tail.time_ms + 1)
    other = lost.scene.report("gov-1", None, lost.scene.certificate(twin))
    return lost.scene.plan([other, lost.reports[1]], lost.tail)


def with_members_out_of_order(lost: Lost) -> RecoveryPlan:
    return lost.scene.plan(lost.reports, lost.tail, members=NEW.members[::-1])


def with_a_certificate_of_a_later_epoch(lost: Lost) -> RecoveryPlan:
    other = Scene()
    other.open(other.base, NEW)
    later = other.certificate(other.block())
    report = lost.scene.report("gov-1", None, later)
    return lost.scene.plan([report, lost.reports[1]], lost.tail)


REFUSED: list[tuple[Callable[[Lost], RecoveryPlan], str]] = [
    (without_a_council_signature, "must sign 3 times"),
    (without_a_chamber_of_the_council, "no key of the council"),
    (altered_after_signing, "does not verify"),
    (with_another_base, "expected base"),
    (with_another_height, "expected base height"),
    (that_skips_an_era, "expected era 1"),
    (that_skips_an_epoch, "expected epoch 1"),
    (with_too_few_reports, "1 of 2 from the government"),
    (with_reports_from_both_chambers_only_together, "1 of 2 from the government, 1 of 2"),
    (with_a_report_twice, "each once"),
    (with_a_report_of_a_stranger, "1 of 2 from the government"),
    (with_an_unsigned_report, "does not verify"),
    (with_a_report_in_the_name_of_another, "does not verify"),
    (with_a_report_of_another_era, "is of era 1"),
    (with_a_false_certificate, "is not valid"),
    (with_a_certificate_of_no_quorum, "no quorum"),
    (with_a_finalization_for_a_notarization, "expected a NOTARIZE"),
    (whose_base_is_not_the_highest, "highest certificate"),
    (whose_reports_certify_nothing, "no report certifies"),
    (with_contradicting_certificates, "two blocks are certified"),
    (with_members_out_of_order, "order"),
    (with_a_certificate_of_a_later_epoch, "expected era 0, epoch 0"),
]


@pytest.mark.parametrize(
    ("break_it", "problem"), REFUSED, ids=[break_it.__name__ for break_it, _ in REFUSED]
)
def test_a_plan_that_breaks_a_rule_is_refused_by_name(
    lost: Lost, break_it: Callable[[Lost], RecoveryPlan], problem: str
) -> None:
    client = lost.scene.client()
    plan = break_it(lost)
    with pytest.raises(InvalidPlan, match=problem):
        client.apply(lost.change(plan))
    assert (client.era, client.epoch) == (0, 0)


def test_other_members_than_those_of_the_plan_are_refused(lost: Lost) -> None:
    with pytest.raises(WrongMembers):
        lost.scene.client().apply(SetChange(lost.tail, lost.plan, NEW.members[1:]))


def test_a_base_of_another_chain_is_refused(lost: Lost) -> None:
    header = msgspec.structs.replace(lost.tail, proposer=5)
    plan = lost.scene.plan(lost.reports, header)
    with pytest.raises(ForeignHeader):
        lost.scene.client().apply(SetChange(header, plan, plan.members))


def test_a_client_without_a_genesis_refuses_every_plan(lost: Lost) -> None:
    trusting = lost.scene.client()
    client = type(trusting)(CHAIN_ID, trusting.base, trusting.validators)
    with pytest.raises(InvalidPlan, match="no recovery council"):
        client.apply(lost.change())


def test_a_plan_is_no_finalization(lost: Lost) -> None:
    """An ordinary hand-over needs a boundary block, whatever the council says."""
    with pytest.raises(LightError):
        lost.scene.client().advance(
            lost.tail, lost.scene.finalization(lost.tail), lost.plan.members
        )


class TestSigning:
    def test_the_hash_of_a_plan_does_not_depend_on_who_has_signed(self, lost: Lost) -> None:
        unsigned = lost.scene.plan(lost.reports, lost.tail, signed_by=())
        assert plan_hash(CHAIN_ID, unsigned) == plan_hash(CHAIN_ID, lost.plan)
        other = lost.scene.plan(lost.reports, lost.tail, traitors=1)
        assert plan_hash(CHAIN_ID, other) != plan_hash(CHAIN_ID, unsigned)

    def test_signing_twice_changes_nothing(self, lost: Lost) -> None:
        again = with_signature(CHAIN_ID, lost.plan, council_key("com-a"))
        assert again == lost.plan

    def test_a_report_of_another_network_has_another_preimage(self, lost: Lost) -> None:
        here = report_preimage(CHAIN_ID, lost.reports[0])
        assert here.startswith(b"MBI-RECO-v1\0\0\0\0\0" + CHAIN_ID)

    def test_the_fence_is_above_every_round_of_its_era_and_below_the_next(self) -> None:
        last = Round(Era(3), Epoch(2**64 - 1), View(2**64 - 1))
        assert Round(Era(3), Epoch(9), View(2**63)) < fence(Era(3)) == last
        assert fence(Era(3)) < Round(Era(4), Epoch(0), View(1))


def test_votes_of_the_same_view_make_the_finalization_the_higher_one(lost: Lost) -> None:
    scene = lost.scene
    reports = [
        scene.report("gov-1", None, scene.certificate(lost.tail)),
        scene.report("gov-2", scene.certificate(lost.tail, VoteKind.FINALIZE)),
    ]
    scene.client().apply(lost.change(scene.plan(reports, lost.tail)))
