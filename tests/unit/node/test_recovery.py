"""An era change on a node's own disk: fence, report, acceptance, and what follows from them."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from copy import copy
from pathlib import Path

import msgspec
import pytest

from consensus.effects import Store
from consensus.errors import InvalidPlan
from consensus.guard import Guard
from consensus.light.proofs import check_proof
from consensus.recovery import fence, with_signature
from ledger.block import Block, block_hash
from ledger.errors import InvariantViolation
from ledger.history import History
from ledger.operations import VoteChange
from ledger.records import AddValidator, RemoveValidator, SetPowers
from ledger.state import State
from ledger.types import Digest, Epoch, Era, Height, ProposalId, View
from ledger.validators import ValidatorSet
from ledger.votes import Round, Value, VoteKind
from mbi.errors import UsageError
from mbi.recovery import (
    CheckedPlan,
    PlanFile,
    ReportFile,
    assess,
    check_before_signing,
    check_plan_file,
    make_plan,
    new_members,
    parse_plan,
    parse_report,
    plan_json,
    report_json,
    with_plan,
)
from node.audit import audit_home
from node.epochs import Epochs
from node.errors import HomeError
from node.home import DATA
from node.proofs import Prover
from node.recovery import (
    RecoveryRefused,
    Reporter,
    accept_plan,
    finish_eras,
    is_fenced,
    make_report,
    renew_fence,
    start_for,
    tail_of,
    write_fence,
    write_fence_file,
)
from storage.chain_store import ChainStore
from storage.leveldb import LevelDBStore
from storage.recovery_store import RecoveryStore
from storage.schedule_store import ScheduleStore
from storage.state_store import StateStore
from storage.vote_store import VoteStore
from tests.unit.consensus.recovery_scene import COUNCIL, council_key
from tests.unit.ledger.electorate import consensus_key, validator
from tests.unit.node.stored_chain import StoredChain

LOST = ("com-1", "com-2")
TRAITORS = 0


class Survivor:
    """The disk of one node of the stored chain."""

    def __init__(self, home: Path, chain_id: Digest) -> None:
        self.chain_id = chain_id
        self.store = LevelDBStore.open(home / DATA)
        self.chain = ChainStore(self.store, chain_id)
        self.votes = VoteStore(self.store, self.chain)
        self.plans = RecoveryStore(self.store)
        self.schedules = ScheduleStore(self.store)

    @property
    def state(self) -> State:
        reader = StateStore(self.store)
        history = History.load(self.chain.head().height + 1, reader.history_page)
        return State.load(self.chain_id, reader, reader.records(), history)

    def report(self, name: str) -> ReportFile:
        epoch = self.state.validators.epoch
        write_fence(self.store, self.votes, Era(0))
        seat = Reporter(Era(0), epoch, consensus_key(name))
        return make_report(self.chain_id, self.chain, self.votes, self.plans, seat)

    def accept(self, checked: CheckedPlan) -> None:
        accept_plan(checked, self.store, self.chain, self.votes, self.plans)

    def finish(self) -> State:
        state = self.state
        plans = tuple(self.plans.plans())
        finish_eras(plans, self.store, self.chain, self.schedules, state)
        return state


class Halted:
    """A chain with a set change that halts above a notarized block which nobody has executed."""

    def __init__(
        self, directory: Path, *, at_boundary: bool = False, is_scheduled: bool = False
    ) -> None:
        self.directory = directory
        self.stored = StoredChain(directory / "gov-1", COUNCIL)
        self.stored.blocks(3)
        self.stored.approve(RemoveValidator(consensus_key("com-3").public_key))
        self.stored.blocks(2)
        if at_boundary or is_scheduled:
            self.stored.ready(validator("gov-8"), consensus_key("gov-8"))
            self.stored.request(AddValidator(validator("gov-8")))
        while is_scheduled and len(self.stored.state.validators.scheduled) == len(
            self.stored.members
        ):
            self.stored.blocks(1)
        while at_boundary and not self.stored.due():
            self.stored.blocks(1)
        self.genesis = self.stored.genesis
        head = self.stored.chain.head()
        self.tail = self.stored.next_block((), self.stored.due())
        self.tail_hash = block_hash(self.stored.chain_id, self.tail.header)
        self.notarization = self.stored.certify(self.tail.header, VoteKind.NOTARIZE)
        self.final_height = head.height
        self.members = self.stored.members
        self.wire = self.stored.wire("gov-1", VoteChange(None, ProposalId(1), approve=True))
        self.stored.store.close()
        shutil.copytree(directory / "gov-1", directory / "gov-2")
        shutil.copytree(directory / "gov-1", directory / "laggard")
        with self.at("gov-1") as survivor:
            self.keep(survivor, self.tail)

    def keep(self, survivor: Survivor, block: Block) -> None:
        """Let a survivor hold a block and its notarization, as one that voted for it does."""
        batch = survivor.store.batch()
        survivor.chain.add_block(batch, self.tail_hash, block)
        survivor.votes.store(batch, Store((self.notarization,)))
        survivor.store.write(batch, sync=True)

    def at(self, name: str) -> _Open:
        return _Open(self.directory / name, self.stored.chain_id)

    def reports(self) -> list[ReportFile]:
        found = []
        for name in ("gov-1", "gov-2"):
            with self.at(name) as survivor:
                found.append(survivor.report(name))
        return found

    def plan(self, *signers: str, members: ValidatorSet | None = None) -> PlanFile:
        situation = assess(self.genesis, self.reports())
        chosen = members or new_members(situation.members, LOST, [validator("com-8")])
        file = make_plan(situation, chosen, TRAITORS)
        plan = file.plan
        for name in signers or ("gov-a", "gov-b", "com-a"):
            plan = with_signature(self.stored.chain_id, plan, council_key(name))
        return with_plan(file, plan)

    def checked(self, **choice: ValidatorSet) -> CheckedPlan:
        return check_plan_file(self.plan(**choice), self.genesis)


class _Open:
    """A survivor's disk, open while the block runs."""

    def __init__(self, home: Path, chain_id: Digest) -> None:
        self._home, self._chain_id = home, chain_id

    def __enter__(self) -> Survivor:
        self._survivor = Survivor(self._home, self._chain_id)
        return self._survivor

    def __exit__(self, *_: object) -> None:
        self._survivor.store.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Halted:
    return Halted(tmp_path_factory.mktemp("era"))


@pytest.fixture
def halted(made: Halted, tmp_path: Path) -> Iterator[Halted]:
    """The halted network, on disks of the test's own."""
    original = made.directory
    made.directory = Path(shutil.copytree(original, tmp_path / "disks"))
    yield made
    made.directory = original


# --- Fence and reports ----------------------------------------------------------------------------


def test_the_fence_outlives_the_process_and_forbids_the_era_only(halted: Halted) -> None:
    with halted.at("gov-1") as survivor:
        assert not is_fenced(survivor.votes, Era(0))
        write_fence(survivor.store, survivor.votes, Era(0))
    with halted.at("gov-1") as survivor:
        floor = survivor.votes.restore(nonce=bytes(16)).sign_floor
        assert is_fenced(survivor.votes, Era(0))
        assert not is_fenced(survivor.votes, Era(1))
    key, value = consensus_key("gov-1"), Value(View(0), halted.tail_hash)
    for era, may_vote in ((0, False), (1, True)):
        guard = Guard(halted.stored.chain_id, Era(era), Epoch(9), 0, key.sign, floor, ())
        vote = guard.cast(VoteKind.NOTARIZE, View(2**40), value)
        assert (vote is not None) is may_vote


def test_a_later_block_does_not_lower_the_fence(halted: Halted) -> None:
    with halted.at("gov-1") as survivor:
        write_fence(survivor.store, survivor.votes, Era(0))
        batch = survivor.store.batch()
        survivor.votes.prune(batch, Round(Era(0), Epoch(1), View(7)))
        survivor.store.write(batch, sync=True)
        assert survivor.votes.sign_floor() == fence(Era(0))


def test_a_database_that_was_made_anew_is_fenced_again(halted: Halted, tmp_path: Path) -> None:
    path = tmp_path / "fence.json"
    with halted.at("laggard") as survivor:
        renew_fence(path, survivor.store, survivor.votes)
        assert not is_fenced(survivor.votes, Era(0))
        write_fence_file(path, Era(0))
        renew_fence(path, survivor.store, survivor.votes)
        assert is_fenced(survivor.votes, Era(0))
        write_fence_file(path, Era(1))
        renew_fence(path, survivor.store, survivor.votes)
        assert is_fenced(survivor.votes, Era(1))
        path.write_text("{}")
        with pytest.raises(HomeError, match=r"fence\.json"):
            renew_fence(path, survivor.store, survivor.votes)


def test_nobody_reports_without_a_fence(halted: Halted) -> None:
    with halted.at("gov-1") as survivor:
        seat = Reporter(Era(0), Epoch(1), consensus_key("gov-1"))
        with pytest.raises(RecoveryRefused, match="not fenced"):
            make_report(
                halted.stored.chain_id, survivor.chain, survivor.votes, survivor.plans, seat
            )


def test_a_report_says_the_most_that_the_node_has_seen(halted: Halted) -> None:
    first, second = halted.reports()
    assert first.report.notarization == halted.notarization
    assert first.report.finalization is not None
    assert first.report.finalization.value.block_hash == halted.tail.header.parent_hash
    assert second.report.notarization is None
    assert first.blocks[-1] == halted.tail
    assert len(first.changes) == 1


# --- Files ----------------------------------------------------------------------------------------


def test_files_are_read_back_as_they_were_written(halted: Halted) -> None:
    (report, _), plan = halted.reports(), halted.plan()
    assert parse_report(report_json(report), "report") == report
    assert parse_plan(plan_json(plan), "plan") == plan


@pytest.mark.parametrize(
    ("field", "value"),
    [("base", {"height": 1, "hash": "00" * 32}), ("plan", "00" * 32), ("validators", [])],
)
def test_a_file_that_tells_people_something_else_is_refused(
    halted: Halted, field: str, value: object
) -> None:
    document = json.loads(plan_json(halted.plan()))
    document[field] = value
    with pytest.raises(UsageError, match="what is written for people"):
        parse_plan(json.dumps(document).encode(), "plan.json")


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"kind": "mbi recovery plan", "content": "zz"}', b"\xff"]
)
def test_other_bytes_are_no_plan(data: bytes) -> None:
    with pytest.raises(UsageError, match=r"plan\.json"):
        parse_plan(data, "plan.json")


# --- Plans ----------------------------------------------------------------------------------------


def test_the_base_is_the_notarized_block_and_the_plan_carries_it(halted: Halted) -> None:
    checked = halted.checked()
    plan = checked.file.plan
    assert (plan.base_height, plan.base_hash) == (halted.final_height + 1, halted.tail_hash)
    assert (plan.era, plan.epoch) == (1, 2)
    assert checked.file.tail[-1] == halted.tail
    assert sorted(member.name for member in plan.members) == ["com-8", "gov-1", "gov-2"]


def test_everything_but_the_signatures_is_checked_before_signing(halted: Halted) -> None:
    unsigned = with_plan(halted.plan(), msgspec.structs.replace(halted.plan().plan, signatures=()))
    check_before_signing(unsigned, halted.genesis)
    with pytest.raises(InvalidPlan, match="must sign 3 times"):
        check_plan_file(unsigned, halted.genesis)
    wrong = msgspec.structs.replace(unsigned.plan, traitors=1)
    with pytest.raises(InvalidPlan, match="2 of 3"):
        check_before_signing(with_plan(unsigned, wrong), halted.genesis)


def test_a_plan_without_the_blocks_up_to_its_base_is_refused(halted: Halted) -> None:
    plan = halted.plan()
    with pytest.raises(InvalidPlan, match="are missing"):
        check_plan_file(msgspec.structs.replace(plan, tail=()), halted.genesis)
    with pytest.raises(InvalidPlan, match="do not lead to its base"):
        check_plan_file(msgspec.structs.replace(plan, tail=plan.tail[:-1]), halted.genesis)
    gap = (*plan.tail[:-2], plan.tail[-1])
    with pytest.raises(InvalidPlan, match="does not extend"):
        check_plan_file(msgspec.structs.replace(plan, tail=gap), halted.genesis)


def test_a_base_that_no_report_holds_names_who_may_have_it(halted: Halted) -> None:
    reports = [msgspec.structs.replace(report, blocks=()) for report in halted.reports()]
    with pytest.raises(UsageError, match="com-1"):
        assess(halted.genesis, reports)


def test_an_unknown_member_cannot_be_removed() -> None:
    members = ValidatorSet([validator("gov-1"), validator("com-1")])
    with pytest.raises(UsageError, match="there are: com-1, gov-1"):
        new_members(members, ["com-3"], [])


# --- Acceptance -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gov-1", "laggard"])
def test_the_block_that_the_plan_makes_final_is_executed_at_the_next_start(
    halted: Halted, name: str
) -> None:
    checked = halted.checked()
    with halted.at(name) as survivor:
        survivor.accept(checked)
        assert is_fenced(survivor.votes, Era(0))
        state = survivor.finish()
        head = survivor.chain.head()
        assert (head.block_hash, state.height) == (halted.tail_hash, halted.final_height + 1)
        plans = tuple(survivor.plans.plans())
        present = Epochs(survivor.chain, survivor.schedules, state, plans).present
        assert (present.era, present.number, present.base_hash) == (1, 2, halted.tail_hash)
        assert present.validators.members == checked.file.plan.members
        survivor.finish()
        assert survivor.chain.head().height == halted.final_height + 1


def test_the_new_era_is_audited_proved_and_followed(halted: Halted) -> None:
    checked = halted.checked()
    home = halted.directory / "gov-1"
    with halted.at("gov-1") as survivor:
        survivor.accept(checked)
        survivor.finish()
    report = audit_home(home, io.StringIO())
    assert (report.problem, report.epoch) == (None, 2)
    with halted.at("gov-1") as survivor:
        stored = copy(halted.stored)
        stored.store, stored.chain, stored.home = survivor.store, survivor.chain, home
        stored.schedules, stored.state = survivor.schedules, survivor.state
        stored.change_era(checked.file.plan.start)
        stored.blocks(5)
        stored.request(SetPowers("gov-1", 2, ()))
        stored.blocks(4)
        plans = tuple(survivor.plans.plans())
        epochs = Epochs(survivor.chain, survivor.schedules, stored.state, plans)
        assert (epochs.present.era, epochs.present.number) == (1, 2)
        assert len(epochs.closings()) == 1
        prover = Prover(survivor.chain, stored.chain_id, plans)
        client = checked.client
        follower = type(client).from_genesis(halted.genesis)
        for change in prover.changes():
            follower.apply(change)
        assert (follower.era, follower.epoch) == (1, 2)
        assert [opening.epoch for opening in prover.openings()] == [0, 1, 2]
        proof = prover.transaction(stored.state, stored.ids[-1])
        assert proof is not None
        proven = check_proof(proof, type(follower).from_genesis(halted.genesis))
        assert proven.certified_header.era == 1
    report = audit_home(home, io.StringIO())
    assert (report.problem, report.epoch) == (None, 2)


def test_a_boundary_block_that_is_only_notarized_opens_its_epoch_and_the_era(
    tmp_path: Path,
) -> None:
    """Its set is the starting point, though that set has never voted."""
    halted = Halted(tmp_path / "era", at_boundary=True)
    checked = halted.checked()
    assert len(checked.changes) == 2
    assert (checked.file.plan.era, checked.file.plan.epoch) == (1, 3)
    assert sorted(member.name for member in checked.file.plan.members) == [
        *("com-8", "gov-1", "gov-2", "gov-8")
    ]
    unsigned = msgspec.structs.replace(checked.file.plan, signatures=())
    check_before_signing(with_plan(checked.file, unsigned), halted.genesis)
    with halted.at("laggard") as survivor:
        survivor.accept(checked)
        state = survivor.finish()
        assert state.validators.epoch == 2
        plans = tuple(survivor.plans.plans())
        epochs = Epochs(survivor.chain, survivor.schedules, state, plans)
        assert (epochs.present.era, epochs.present.number) == (1, 3)
        assert len(epochs.closings()) == 1
        stored = copy(halted.stored)
        stored.store, stored.chain, stored.state = survivor.store, survivor.chain, state
        stored.schedules = survivor.schedules
        stored.change_era(checked.file.plan.start)
        stored.blocks(4)
        epochs = Epochs(survivor.chain, survivor.schedules, stored.state, plans)
        assert (epochs.present.era, epochs.present.number) == (1, 3)
        assert len(epochs.closings()) == 1
        follower = type(checked.client).from_genesis(halted.genesis)
        for change in Prover(survivor.chain, stored.chain_id, plans).changes():
            follower.apply(change)
        assert (follower.era, follower.epoch) == (1, 3)
    report = audit_home(halted.directory / "laggard", io.StringIO())
    assert (report.problem, report.epoch) == (None, 3)


def test_a_set_that_the_old_era_had_scheduled_never_comes(tmp_path: Path) -> None:
    halted = Halted(tmp_path / "era", is_scheduled=True)
    checked = halted.checked()
    with halted.at("laggard") as survivor:
        survivor.accept(checked)
        state = survivor.finish()
        plans = tuple(survivor.plans.plans())
        (last,) = survivor.schedules.schedules(halted.final_height - 1)
        assert len(last[1]) == 5
        epochs = Epochs(survivor.chain, survivor.schedules, state, plans)
        assert epochs.next_set(Height(halted.final_height + 9)) is None
        stored = copy(halted.stored)
        stored.store, stored.chain, stored.state = survivor.store, survivor.chain, state
        stored.schedules = survivor.schedules
        stored.change_era(checked.file.plan.start)
        stored.blocks(5)
        assert stored.state.validators.members == checked.file.plan.members
        epochs = Epochs(survivor.chain, survivor.schedules, stored.state, plans)
        assert epochs.next_set(Height(halted.final_height + 9)) is None
    report = audit_home(halted.directory / "laggard", io.StringIO())
    assert report.problem is None


def test_without_its_plan_a_chain_through_an_era_change_is_not_intact(halted: Halted) -> None:
    checked = halted.checked()
    with halted.at("gov-1") as survivor:
        survivor.accept(checked)
        survivor.finish()
        batch = survivor.store.batch()
        batch.delete(b"e" + (1).to_bytes(4, "big"))
        survivor.store.write(batch, sync=True)
    report = audit_home(halted.directory / "gov-1", io.StringIO())
    assert report.problem is not None


def test_a_second_plan_for_the_same_era_is_refused(halted: Halted) -> None:
    first = halted.checked()
    other = halted.checked(members=ValidatorSet([validator("gov-1"), validator("com-9")]))
    assert first.hash != other.hash
    with halted.at("gov-1") as survivor:
        survivor.accept(first)
        survivor.accept(first)
        with pytest.raises(RecoveryRefused, match="there can be only one"):
            survivor.accept(other)
        assert survivor.plans.latest() == first.file.plan


def test_a_plan_that_would_undo_a_final_block_is_refused(halted: Halted) -> None:
    """The reports came from too few: this node knows of a final block above their base."""
    checked, (_, second) = halted.checked(), halted.reports()
    file = make_plan(assess(halted.genesis, [second]), halted.members, TRAITORS)
    assert file.plan.base_height == halted.final_height
    later = with_plan(file, msgspec.structs.replace(file.plan, era=Era(2)))
    with halted.at("gov-1") as survivor:
        survivor.accept(checked)
        survivor.finish()
        with pytest.raises(RecoveryRefused, match="would undo final blocks"):
            survivor.accept(checked._replace(file=later))


def test_a_finalization_above_the_base_is_a_reason_to_refuse(halted: Halted) -> None:
    checked = halted.checked()
    value = Value(halted.tail.header.view, Digest(b"x" * 32))
    later = msgspec.structs.replace(
        halted.notarization,
        kind=VoteKind.FINALIZE,
        view=View(halted.tail.header.view + 1),
        value=value,
    )
    with halted.at("gov-2") as survivor:
        batch = survivor.store.batch()
        survivor.votes.store(batch, Store((later,)))
        survivor.store.write(batch, sync=True)
        with pytest.raises(RecoveryRefused, match="make a new plan"):
            survivor.accept(checked)
        assert survivor.plans.latest() is None
        assert survivor.chain.block(halted.tail_hash) is None


def test_a_block_with_another_body_than_its_header_is_refused(halted: Halted) -> None:
    checked = halted.checked()
    forged = msgspec.structs.replace(halted.tail, transactions=[halted.wire])
    file = msgspec.structs.replace(checked.file, tail=(*checked.file.tail[:-1], forged))
    with halted.at("laggard") as survivor:
        with pytest.raises(RecoveryRefused, match="another body"):
            survivor.accept(checked._replace(file=file))
        assert survivor.plans.latest() is None


def test_a_node_that_lacks_blocks_waits_for_them(halted: Halted) -> None:
    checked = halted.checked()
    bare = msgspec.structs.replace(checked.file, tail=())
    plan = checked.file.plan
    with halted.at("laggard") as survivor:
        survivor.accept(checked._replace(file=bare))
        assert tail_of(plan, survivor.chain) is None
        before = survivor.chain.head().height
        survivor.finish()
        assert survivor.chain.head().height == before
        halted.keep(survivor, halted.tail)
        assert tail_of(plan, survivor.chain) == [halted.tail]


def test_a_chain_that_contradicts_an_accepted_plan_is_fatal(halted: Halted) -> None:
    plan = msgspec.structs.replace(halted.checked().file.plan, base_height=Height(2))
    with halted.at("gov-1") as survivor, pytest.raises(InvariantViolation, match="undo"):
        tail_of(plan, survivor.chain)


def test_only_the_first_block_of_an_era_is_executed_with_its_plan(halted: Halted) -> None:
    plan, header = halted.checked().file.plan, halted.tail.header
    first = msgspec.structs.replace(header, era=Era(1), height=Height(header.height + 1))
    assert start_for(first, [plan]) == plan.start
    for other in (
        header,
        msgspec.structs.replace(first, era=Era(0)),
        msgspec.structs.replace(first, height=Height(first.height + 1)),
    ):
        assert start_for(other, [plan]) is None
