"""Era change: the first block of an era, and the rules of a plan that need no certificates."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from ledger.block import Header
from ledger.crypto import verify
from ledger.era import EraStart
from ledger.errors import InvariantViolation
from ledger.genesis import CouncilMember, RecoveryCouncil
from ledger.recovery import (
    CouncilSignature,
    RecoveryRules,
    problem_of_reporters,
    reporters_needed,
)
from ledger.transition import BlockExecution
from ledger.types import Digest, Epoch, Era, Height
from ledger.validators import Chamber, Validator, ValidatorSet
from tests.unit.ledger.builders import make_key
from tests.unit.ledger.electorate import (
    Electorate,
    consensus_key,
    make_network,
    names,
    validator,
)

SURVIVORS = ValidatorSet([validator("gov-1"), validator("gov-2"), validator("com-8")]).members
BASE_HASH = Digest(b"b" * 32)


def start_after(chain: Electorate, members: tuple[Validator, ...] = SURVIVORS) -> EraStart:
    epoch = chain.state.validators.epoch
    return EraStart(Era(1), Epoch(epoch + 1), chain.state.height, BASE_HASH, members)


def first_header(chain: Electorate, start: EraStart) -> Header:
    return msgspec.structs.replace(
        chain.next_header((), None),
        era=start.era,
        epoch=start.epoch,
        parent_hash=start.base_hash,
        validator_set_hash=ValidatorSet(start.members).hash,
        proposer=0,
    )


def execute(chain: Electorate, header: Header, start: EraStart | None) -> None:
    outcome = BlockExecution(chain.state, header, 0, None, start).finish()
    assert outcome.schedule is None
    chain.reader.write(outcome)
    chain.state.stored(outcome.height)


class TestFirstBlock:
    def test_the_set_of_the_plan_votes_and_the_old_epoch_ends_at_the_base(self) -> None:
        chain = Electorate()
        chain.blocks(3)
        before = chain.state.validators
        start = start_after(chain)
        execute(chain, first_header(chain, start), start)
        record = chain.state.validators
        assert (record.epoch, record.members, record.opened_height) == (1, SURVIVORS, 3)
        assert record.scheduled == SURVIVORS
        closed, opened = chain.state.epoch(Epoch(0)), chain.state.epoch(Epoch(1))
        assert closed is not None
        assert opened is not None
        assert (closed.era, closed.members, closed.closed_height) == (0, before.members, 3)
        assert (opened.era, opened.members, opened.opened_height) == (1, SURVIVORS, 3)
        assert opened.closed_height == 0

    def test_a_set_that_was_scheduled_is_dropped(self) -> None:
        chain = Electorate()
        chain.approve(chain.removal("com-3"))
        while chain.state.validators.scheduled == chain.state.validators.members:
            chain.blocks(1)
        start = start_after(chain)
        execute(chain, first_header(chain, start), start)
        assert chain.state.validators.scheduled == SURVIVORS

    def test_the_set_can_be_changed_in_the_new_era(self) -> None:
        chain = Electorate()
        chain.blocks(2)
        members = ValidatorSet(validator(name) for name in names(2, 2)).members
        start = start_after(chain, members)
        execute(chain, first_header(chain, start), start)
        header = first_header(chain, start)
        following = ValidatorSet(members[:3])
        boundary = msgspec.structs.replace(
            header, parent_hash=Digest(bytes(32)), next_validator_set_hash=following.hash
        )
        BlockExecution(chain.state, boundary, 0, following.members).finish()
        opened = chain.state.epoch(Epoch(2))
        assert opened is not None
        assert (opened.era, opened.members) == (1, following.members)

    @pytest.mark.parametrize(
        "change",
        [
            lambda header: msgspec.structs.replace(header, era=Era(2)),
            lambda header: msgspec.structs.replace(header, epoch=Epoch(2)),
            lambda header: msgspec.structs.replace(header, parent_hash=Digest(b"x" * 32)),
            lambda header: msgspec.structs.replace(header, validator_set_hash=Digest(b"x" * 32)),
        ],
    )
    def test_a_block_that_does_not_follow_the_plan_is_fatal(
        self, change: Callable[[Header], Header]
    ) -> None:
        chain = Electorate()
        chain.blocks(1)
        start = start_after(chain)
        with pytest.raises(InvariantViolation, match="era"):
            BlockExecution(chain.state, change(first_header(chain, start)), 0, None, start)

    def test_an_era_may_have_ended_without_a_block(self) -> None:
        chain = Electorate()
        chain.blocks(1)
        start = start_after(chain)._replace(era=Era(2), epoch=Epoch(2))
        execute(chain, first_header(chain, start), start)
        opened = chain.state.epoch(Epoch(2))
        assert opened is not None
        assert (opened.era, opened.opened_height) == (2, 1)
        assert chain.state.epoch(Epoch(1)) is None

    @pytest.mark.parametrize(("era", "epoch"), [(2, 1), (1, 2), (0, 0)])
    def test_a_plan_of_another_era_or_epoch_is_fatal(self, era: int, epoch: int) -> None:
        chain = Electorate()
        chain.blocks(1)
        start = start_after(chain)._replace(era=Era(era), epoch=Epoch(epoch))
        with pytest.raises(InvariantViolation, match="era"):
            BlockExecution(chain.state, first_header(chain, start), 0, None, start)

    def test_a_block_of_a_new_era_without_a_plan_is_fatal(self) -> None:
        chain = Electorate()
        chain.blocks(1)
        header = msgspec.structs.replace(chain.next_header((), None), era=Era(1))
        with pytest.raises(InvariantViolation, match="epoch"):
            BlockExecution(chain.state, header, 0)

    def test_a_plan_on_another_height_is_fatal(self) -> None:
        chain = Electorate()
        chain.blocks(2)
        start = start_after(chain)._replace(base_height=Height(1))
        with pytest.raises(InvariantViolation, match="era"):
            BlockExecution(chain.state, first_header(chain, start), 0, None, start)


# --- Who must report ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("government", "commercial", "traitors", "needed"),
    [(3, 3, 0, (2, 2)), (2, 2, 0, (2, 2)), (5, 4, 1, (4, 4)), (4, 0, 0, (3, None))],
)
def test_more_than_half_of_a_chamber_must_report_and_one_more_for_each_traitor(
    government: int, commercial: int, traitors: int, needed: tuple[int, int | None]
) -> None:
    members = ValidatorSet(validator(name) for name in names(government, commercial))
    found = tuple(reporters_needed(members, chamber, traitors) for chamber in Chamber)
    assert found == needed


@pytest.mark.parametrize(
    ("reporters", "traitors", "suffices"),
    [
        (("gov-1", "gov-2"), 0, True),
        (("com-1", "com-3"), 0, True),
        (("gov-1", "com-1"), 0, False),
        (("gov-1", "gov-2"), 1, False),
        (("gov-1", "gov-2", "gov-3"), 1, True),
        (("gov-1", "gov-9", "com-9"), 0, False),
        ((), 0, False),
    ],
)
def test_reports_of_one_chamber_suffice_and_strangers_do_not_count(
    reporters: tuple[str, ...], traitors: int, suffices: bool
) -> None:
    members = ValidatorSet(validator(name) for name in names(3, 3))
    keys = [consensus_key(name).public_key for name in reporters]
    problem = problem_of_reporters(members, keys, traitors)
    assert (problem is None) is suffices
    if problem is not None:
        assert "from the government" in problem


# --- The council ----------------------------------------------------------------------------------

COUNCIL = RecoveryCouncil(
    2,
    tuple(
        CouncilMember(name, chamber, make_key(f"council {name}").public_key)
        for name, chamber in (
            ("g1", Chamber.GOVERNMENT),
            ("g2", Chamber.GOVERNMENT),
            ("c1", Chamber.COMMERCIAL),
        )
    ),
)
RULES = RecoveryRules.of(msgspec.structs.replace(make_network(), council=COUNCIL))
MESSAGE = b"a plan"


def signatures(*members: str, message: bytes = MESSAGE) -> list[CouncilSignature]:
    keys = [make_key(f"council {name}") for name in members]
    return sorted(
        (CouncilSignature(key.public_key, key.sign(message)) for key in keys),
        key=lambda item: item.public_key,
    )


@pytest.mark.parametrize("members", [("g1", "c1"), ("g2", "c1"), ("g1", "g2", "c1")])
def test_the_council_decides_with_its_threshold_and_both_chambers(members: tuple[str, ...]) -> None:
    assert RULES.problem_of_council(MESSAGE, signatures(*members), verify) is None


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (signatures("c1"), "must sign 2 times"),
        (signatures("g1", "g2"), "no appointee of the commercial"),
        (signatures("g1", "stranger"), "no key of the council"),
        (signatures("g1", "c1", message=b"another plan"), "does not verify"),
        (signatures("g1", "c1")[::-1], "order"),
        ([*signatures("c1"), *signatures("c1")], "order"),
        ([], "must sign 2 times"),
    ],
)
def test_anything_less_is_not_the_council(given: list[CouncilSignature], problem: str) -> None:
    assert problem in (RULES.problem_of_council(MESSAGE, given, verify) or "")


def test_without_a_council_in_genesis_nobody_may_change_the_era() -> None:
    rules = RecoveryRules.of(make_network())
    problem = rules.problem_of_council(MESSAGE, signatures("g1", "c1"), verify)
    assert "no recovery council" in (problem or "")


# --- The new set ----------------------------------------------------------------------------------


def test_members_of_known_organisations_are_a_set() -> None:
    assert RULES.problem_of_members(SURVIVORS) is None


def changed(**fields: object) -> tuple[Validator, ...]:
    odd = msgspec.structs.replace(validator("com-9"), **fields)
    return ValidatorSet([validator("gov-1"), odd]).members


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ((), "1 to 128"),
        (SURVIVORS[::-1], "order"),
        (changed(name="gov-1"), "name occurs twice"),
        (changed(node_key=consensus_key("gov-1").public_key), "key occurs twice"),
        (changed(node_key=make_key("council g1").public_key), "key of the council"),
        (changed(organisation="nobody"), "nobody"),
        (changed(chamber=Chamber.GOVERNMENT), "not one of the government"),
        (changed(consensus_key=bytes(32)), "no Ed25519 point"),
    ],
)
def test_anything_else_is_no_set_for_a_new_era(
    members: tuple[Validator, ...], problem: str
) -> None:
    assert problem in (RULES.problem_of_members(members) or "")
