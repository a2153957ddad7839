"""Proposals, votes and readiness: from the wish for a change to the set that votes."""

from __future__ import annotations

import msgspec
import pytest

from ledger.errors import (
    InvalidName,
    InvalidOperation,
    InvariantViolation,
    MalformedEncoding,
    WeakPublicKey,
)
from ledger.json import operation_from_json, operation_to_json
from ledger.operations import ProposeChange, ProveReadiness, SetStatus, VoteChange
from ledger.operations.governance import sign_readiness
from ledger.records import (
    PROPOSALS_PER_ORGANISATION_MAX,
    AccountStatus,
    ActivateFeature,
    AddValidator,
    AssetClass,
    Change,
    ProposalStatus,
    RemoveValidator,
    RotateKey,
    SetParameters,
    SetPowers,
)
from ledger.transaction import sign_transaction
from ledger.transition import BlockExecution, simulate_explained
from ledger.types import Digest, Epoch, Height, ProposalId, PublicKey, TimeMs
from ledger.validators import Validator, ValidatorSet
from tests.unit.ledger.builders import address, make_key
from tests.unit.ledger.electorate import (
    NOTICE_MS,
    PARAMETERS,
    Electorate,
    consensus_key,
    make_network,
    validator,
)

POWERS = SetPowers("com-8", 5, (AssetClass.E_MONEY,))
"""A change that depends on nothing else."""

NEWCOMER = validator("com-9")


@pytest.fixture
def chain() -> Electorate:
    return Electorate()


def removal(name: str, number: int = 0) -> RemoveValidator:
    return RemoveValidator(validator(name, number).consensus_key)


def reason(chain: Electorate, change: Change, by: str = "gov-1") -> str:
    """Return what simulating a proposal says."""
    transaction = chain.transaction(by, ProposeChange(None, change))
    return simulate_explained(chain.state, transaction, chain.next_time_ms)[1]


# --- Voting ---------------------------------------------------------------------------------------


def test_a_change_waits_for_votes_then_for_its_notice(chain: Electorate) -> None:
    assert chain.propose(POWERS, "gov-1").code == "ok"
    for name in ("gov-2", "com-1"):
        assert chain.proposal().status is ProposalStatus.OPEN
        assert chain.vote(name).code == "ok"
    assert chain.proposal().status is ProposalStatus.OPEN, "one of three is not half of a chamber"
    assert chain.vote("com-2").code == "ok"
    approved = chain.proposal()
    assert approved.status is ProposalStatus.APPROVED
    assert [vote.organisation for vote in approved.votes] == ["com-1", "com-2", "gov-1", "gov-2"]
    chain.execute(time_ms=approved.effective_ms - 1)
    assert chain.state.organisation("com-8").weight == 1  # type: ignore[union-attr]
    chain.execute(time_ms=approved.effective_ms)
    changed = chain.state.organisation("com-8")
    assert changed is not None
    assert (changed.weight, changed.licences) == (5, (AssetClass.E_MONEY,))
    assert chain.proposal().status is ProposalStatus.EFFECTIVE
    assert chain.state.agenda.entries == ()


def test_the_notice_counts_from_the_approval(chain: Electorate) -> None:
    chain.propose(POWERS, "gov-1")
    chain.blocks(7)
    approved = chain.approve(POWERS)
    assert approved.effective_ms == chain.next_time_ms - 1_000 + NOTICE_MS


def test_a_proposal_that_can_no_longer_win_is_rejected(chain: Electorate) -> None:
    chain.propose(POWERS, "gov-1")
    receipt = chain.vote("gov-2", approve=False)
    assert receipt.events[0].status is ProposalStatus.REJECTED  # type: ignore[union-attr]
    assert chain.vote("com-1").code == "proposal_closed"
    chain.blocks(70)
    assert chain.proposal().status is ProposalStatus.REJECTED
    assert chain.state.agenda.entries == ()


def test_an_organisation_may_change_its_mind_while_the_proposal_is_open(chain: Electorate) -> None:
    chain.propose(POWERS, "com-1")
    assert chain.vote("com-2", approve=False).code == "ok"
    assert chain.vote("com-2", approve=True).code == "ok"
    assert chain.vote("gov-1").code == "ok"
    assert len(chain.proposal().votes) == 3
    chain.vote("gov-2")
    assert chain.proposal().status is ProposalStatus.APPROVED


def test_votes_count_only_until_the_proposal_expires(chain: Electorate) -> None:
    chain.propose(POWERS, "gov-1")
    expires = chain.proposal().expires_ms
    chain.execute(time_ms=expires - 1)
    assert chain.proposal().status is ProposalStatus.OPEN
    late = chain.transaction(
        "gov-2", VoteChange(None, ProposalId(1), approve=True), valid_until=expires + 1
    )
    assert chain.execute(late, time_ms=expires).receipts[0].code == "proposal_closed"
    assert chain.proposal().status is ProposalStatus.EXPIRED


@pytest.mark.parametrize("by", ["gov-1 clerk", "com-8"])
def test_only_admins_of_organisations_with_a_validator_take_part(
    chain: Electorate, by: str
) -> None:
    assert chain.propose(POWERS, by).code == "not_voter"
    chain.propose(POWERS)
    assert chain.vote(by).code == "not_voter"


def test_an_organisation_that_lost_its_validator_has_no_vote_any_more() -> None:
    """C17: votes are tallied by the present set, also those cast before."""
    chain = Electorate(make_network(3, 3))
    chain.propose(POWERS, "gov-3")
    chain.approve(removal("gov-3"))
    chain.settle()
    assert "gov-3" not in chain.members
    assert chain.vote("gov-3", number=1).code == "not_voter"
    for name in ("gov-1", "gov-2", "com-1"):
        chain.vote(name, number=1)
    proposal = chain.proposal(1)
    assert [vote.organisation for vote in proposal.votes] == ["com-1", "gov-1", "gov-2"]
    assert proposal.status is ProposalStatus.OPEN, "3 of 5 are not two thirds"
    chain.vote("com-2", number=1)
    assert chain.proposal(1).status is ProposalStatus.APPROVED


def test_the_number_of_waiting_proposals_is_bounded(chain: Electorate) -> None:
    for _ in range(PROPOSALS_PER_ORGANISATION_MAX):
        assert chain.propose(POWERS).code == "ok"
    assert chain.propose(POWERS).code == "too_many_proposals"
    assert chain.propose(POWERS, "gov-2").code == "ok", "others are not in the way"
    chain.blocks(60)
    assert chain.propose(POWERS).code == "ok", "expired ones do not count"


def test_a_vote_needs_a_proposal(chain: Electorate) -> None:
    assert chain.vote("gov-1", number=1).code == "proposal_unknown"


def test_changes_that_are_due_together_take_effect_in_order_of_their_numbers(
    chain: Electorate,
) -> None:
    for weight in (5, 6):
        chain.propose(SetPowers("com-8", weight, ()))
    for number in (2, 1):
        votes = [
            chain.transaction(name, VoteChange(None, ProposalId(number), approve=True))
            for name in ("gov-2", "com-1", "com-2")
        ]
        chain.execute(*votes)
    assert [entry.proposal for entry in chain.state.agenda.entries] == [2, 1]
    chain.execute(time_ms=chain.next_time_ms + 60_000)
    assert chain.state.organisation("com-8").weight == 6  # type: ignore[union-attr]


# --- Sets -----------------------------------------------------------------------------------------


def test_a_ready_validator_joins_with_the_next_epoch(chain: Electorate) -> None:
    chain.approve(AddValidator(NEWCOMER))
    assert chain.ready(NEWCOMER, consensus_key("com-9")).code == "ok"
    chain.settle()
    assert "com-9" in chain.members
    record = chain.state.validators
    assert record.epoch == 1
    assert record.members == record.scheduled
    assert record.opened_height == chain.boundaries[0].height
    assert record.scheduled_height <= chain.boundaries[0].executed_height
    first, second = chain.state.epoch(record.epoch), chain.members_of(record.epoch)
    assert first is not None
    assert (first.opened_height, first.closed_height) == (record.opened_height, 0)
    assert NEWCOMER in second


def test_the_block_that_schedules_a_set_says_so(chain: Electorate) -> None:
    chain.approve(removal("com-3"))
    chain.settle()
    schedules = [outcome.schedule for outcome in chain.outcomes if outcome.schedule is not None]
    assert [height for height, _ in schedules] == [chain.state.validators.scheduled_height]
    assert schedules[0][1] == chain.state.validators.members


def test_a_joiner_that_never_proved_itself_is_refused_when_its_time_comes(
    chain: Electorate,
) -> None:
    """C17: besu 8425: adding an absent validator must not stop the chain."""
    chain.approve(AddValidator(NEWCOMER))
    chain.settle()
    assert chain.proposal().status is ProposalStatus.REFUSED
    refusal = chain.proposal().refusal
    assert refusal is not None
    assert refusal.code == "validator_not_ready"
    assert [item.name for item in refusal.absent] == ["com-9"]
    assert "com-9" not in chain.members
    assert chain.boundaries == []


def test_readiness_that_is_too_old_does_not_count(chain: Electorate) -> None:
    assert chain.ready(NEWCOMER, consensus_key("com-9"), lasting_ms=4_000).code == "ok"
    chain.approve(AddValidator(NEWCOMER))
    chain.settle()
    assert chain.proposal().status is ProposalStatus.REFUSED


def test_readiness_ages_even_if_its_signer_chose_a_later_end(chain: Electorate) -> None:
    assert chain.ready(NEWCOMER, consensus_key("com-9"), lasting_ms=20_000).code == "ok"
    chain.blocks(17)
    chain.approve(AddValidator(NEWCOMER))
    chain.settle()
    assert chain.proposal().status is ProposalStatus.REFUSED


def test_readiness_counts_for_exactly_the_proven_validator(chain: Electorate) -> None:
    other = msgspec.structs.replace(NEWCOMER, node_key=make_key("another node").public_key)
    assert chain.ready(NEWCOMER, consensus_key("com-9")).code == "ok"
    chain.approve(AddValidator(other))
    chain.settle()
    assert chain.proposal().status is ProposalStatus.REFUSED


def test_a_key_is_rotated_under_the_same_name(chain: Electorate) -> None:
    new = validator("gov-1", 1)
    change = RotateKey(validator("gov-1").consensus_key, new.consensus_key, new.node_key)
    chain.ready(new, consensus_key("gov-1", 1))
    chain.approve(change)
    chain.settle()
    assert new in chain.state.validators.members
    assert validator("gov-1") not in chain.state.validators.members


def test_a_rotation_without_readiness_is_refused(chain: Electorate) -> None:
    new = validator("gov-1", 1)
    chain.approve(RotateKey(validator("gov-1").consensus_key, new.consensus_key, new.node_key))
    chain.settle()
    assert chain.proposal().status is ProposalStatus.REFUSED
    assert validator("gov-1") in chain.state.validators.members


def test_two_changes_build_on_each_other(chain: Electorate) -> None:
    chain.ready(NEWCOMER, consensus_key("com-9"))
    chain.approve(AddValidator(NEWCOMER))
    chain.approve(removal("com-1"))
    chain.settle()
    chain.settle()
    assert chain.members == ["com-2", "com-3", "com-9", "gov-1", "gov-2"]


def test_a_change_scheduled_around_a_boundary_waits_for_the_next_one() -> None:
    """C17: quorum 1728: the set follows from the executed height in the header, never from lag."""
    chain = Electorate(make_network(3, 4))
    limits = msgspec.structs.replace(PARAMETERS, block_transactions_max=7)
    chain.execute(
        *(chain.transaction("gov-1", ProposeChange(None, removal(f"com-{i}"))) for i in (1, 2)),
        chain.transaction("gov-1", ProposeChange(None, SetParameters(limits))),
    )
    for name in ("gov-2", "com-3", "com-4", "gov-3"):
        votes = [VoteChange(None, ProposalId(number), approve=True) for number in (1, 2, 3)]
        chain.execute(*(chain.transaction(name, vote) for vote in votes))
    chain.vote("com-1", number=1)
    chain.execute(
        *(
            chain.transaction("com-1", VoteChange(None, ProposalId(number), approve=True))
            for number in (2, 3)
        )
    )
    while not chain.boundaries:
        chain.blocks(1)
    record = chain.state.validators
    assert len(record.members) == 6
    assert (len(record.scheduled), record.scheduled_parameters) == (5, limits)
    assert chain.state.parameters == PARAMETERS, "they were scheduled after the executed height"
    while len(chain.boundaries) < 2:
        chain.blocks(1)
    assert chain.state.parameters == limits
    scheduled = [outcome.schedule[0] for outcome in chain.outcomes if outcome.schedule is not None]
    first, second = chain.boundaries
    assert scheduled[0] <= first.executed_height < scheduled[1] <= first.height
    assert scheduled[1] <= second.executed_height
    names = [[m.name for m in chain.members_of(Epoch(epoch))] for epoch in range(3)]
    assert [sorted(set(names[0]) - set(members)) for members in names] == [
        [],
        ["com-1"],
        ["com-1", "com-2"],
    ]


def test_what_is_hopeless_is_refused_at_once_and_says_why(chain: Electorate) -> None:
    """C17: a change that leaves too few, adds a duplicate key or names nobody."""
    assert chain.propose(removal("gov-1")).code == "set_too_small"
    assert reason(chain, removal("gov-1")) == (
        "removing gov-1 would leave government with 1 validator; at least 2 are needed"
    )
    assert chain.propose(removal("com-9")).code == "validator_unknown"
    twice = msgspec.structs.replace(NEWCOMER, consensus_key=validator("com-1").node_key)
    assert chain.propose(AddValidator(twice)).code == "validator_exists"
    lost = msgspec.structs.replace(NEWCOMER, organisation="nobody")
    assert chain.propose(AddValidator(lost)).code == "organisation_unknown"
    crossed = msgspec.structs.replace(NEWCOMER, organisation="gov-8")
    assert chain.propose(AddValidator(crossed)).code == "chamber_mismatch"
    assert chain.propose(SetPowers("nobody", 1, ())).code == "organisation_unknown"
    assert chain.latest == 0


def test_a_change_that_would_lose_its_quorum_is_refused_and_names_the_absent() -> None:
    """C17: besu 8425, quorum 1728: the present members must be a quorum of the new set."""
    chain = Electorate(make_network(3, 4))
    chain.absent = {"gov-3", "com-4"}
    chain.blocks(40)
    assert chain.propose(removal("com-1")).code == "quorum_absent"
    assert reason(chain, removal("com-1")) == (
        "the new set needs 5 present validators and has 4: com-4 has not been seen since height 0, "
        "gov-3 has not been seen since height 0"
    )
    assert chain.propose(removal("com-4")).code == "ok", "the absent may go"


def test_members_that_fall_silent_during_the_notice_are_noticed() -> None:
    chain = Electorate(make_network(3, 4))
    chain.approve(removal("com-1"))
    chain.absent = {"gov-3", "com-4"}
    due = chain.proposal().effective_ms
    for _ in range(40):
        chain.execute(time_ms=chain.state.height + 1 + due - 1_000)
    chain.execute(time_ms=due)
    refusal = chain.proposal().refusal
    assert refusal is not None
    assert (refusal.code, refusal.needed, refusal.present) == ("quorum_absent", 5, 4)
    assert {item.name for item in refusal.absent} == {"gov-3", "com-4"}


def test_presence_is_proposing_or_signing(chain: Electorate) -> None:
    chain.absent = {"com-3"}
    chain.blocks(3)
    members = chain.state.validators.members
    seen = dict(zip([m.name for m in members], chain.state.presence.seen, strict=True))
    assert seen == {"com-1": 3, "com-2": 3, "com-3": 0, "gov-1": 3, "gov-2": 3}


def test_signers_of_the_closing_certificate_are_not_counted_by_the_new_indices() -> None:
    """The certificate under the first block of an epoch is by the set before."""
    chain = Electorate(make_network(2, 4))
    chain.approve(removal("com-1"))
    while not chain.boundaries:
        chain.blocks(1)
    members = chain.state.validators.members
    header = chain.next_header((), None)
    everyone = (1 << len(members)) - 1
    BlockExecution(chain.state, header, everyone).finish()
    opened = chain.boundaries[0].height
    expected = [opened] * len(members)
    expected[header.proposer] = header.height
    assert list(chain.state.presence.seen) == expected


# --- Readiness ------------------------------------------------------------------------------------


def test_readiness_is_the_joining_keys_own_word(chain: Electorate) -> None:
    """T1: proof of possession; nobody can post it for another's key."""
    assert chain.ready(NEWCOMER, make_key("thief")).code == "invalid_readiness"
    expires = TimeMs(chain.next_time_ms + 1_000)
    foreign = sign_readiness(Digest(bytes(32)), NEWCOMER, expires, consensus_key("com-9"))
    assert chain.run("com-9", foreign).code == "invalid_readiness", "of another network"
    signed = sign_readiness(chain.chain_id, NEWCOMER, expires, consensus_key("com-9"))
    later = msgspec.structs.replace(signed, expires_ms=TimeMs(expires + 1))
    assert chain.run("com-9", later).code == "invalid_readiness"


def test_readiness_is_posted_by_the_validators_own_organisation(chain: Electorate) -> None:
    operation = sign_readiness(
        chain.chain_id, NEWCOMER, TimeMs(chain.next_time_ms + 1_000), consensus_key("com-9")
    )
    assert chain.run("com-8 clerk", operation).code == "foreign_validator"
    crossed = Validator("x", "gov-9", NEWCOMER.chamber, NEWCOMER.consensus_key, NEWCOMER.node_key)
    assert chain.ready(crossed, consensus_key("com-9")).code == "chamber_mismatch"


@pytest.mark.parametrize("lasting_ms", [-1, 20_001])
def test_readiness_is_for_a_time_that_is_near(chain: Electorate, lasting_ms: int) -> None:
    code = chain.ready(NEWCOMER, consensus_key("com-9"), lasting_ms=lasting_ms).code
    assert code == "invalid_readiness"


def test_only_an_office_can_leave_records_of_readiness(chain: Electorate) -> None:
    """C11: one record for each key, for ever; a customer has as many keys as it likes."""
    expires = TimeMs(chain.next_time_ms + 1_000)
    ready = sign_readiness(chain.chain_id, NEWCOMER, expires, consensus_key("com-9"))
    assert chain.run("com-9 clerk", ready).code == "not_organisation_admin"
    assert chain.run("com-9", ready).code == "ok"


def test_each_operation_of_governance_stands_alone(chain: Electorate) -> None:
    """C11: a hundred of them in one transaction would be a hundred signature checks or tallies."""
    ready = sign_readiness(
        chain.chain_id, NEWCOMER, TimeMs(chain.next_time_ms + 1_000), consensus_key("com-9")
    )
    assert chain.run("com-9", ready, ready).code == "not_alone"
    evidence = chain.double_vote("com-1")
    assert chain.run("com-9 clerk", evidence, evidence).code == "not_alone"
    propose = ProposeChange(None, removal("com-1"))
    assert chain.run("gov-1", propose, propose).code == "not_alone"
    assert chain.latest == 0
    assert chain.propose(removal("com-1")).code == "ok"
    vote = VoteChange(None, ProposalId(1), approve=True)
    assert chain.run("gov-2", vote, vote).code == "not_alone"


# --- Parameters, features -------------------------------------------------------------------------


def test_parameters_come_into_force_with_an_epoch(chain: Electorate) -> None:
    """Bodies are judged before they are executed: limits may not change within an epoch."""
    changed = msgspec.structs.replace(PARAMETERS, block_transactions_max=7, change_notice_ms=0)
    chain.approve(SetParameters(changed))
    while chain.proposal().status is not ProposalStatus.EFFECTIVE:
        chain.blocks(1)
    assert chain.state.parameters == PARAMETERS
    assert chain.outcomes[-1].schedule is not None
    while not chain.boundaries:
        assert chain.state.parameters == PARAMETERS
        chain.blocks(1)
    assert chain.state.parameters == changed
    assert chain.state.validators.epoch == 1
    assert (
        chain.boundaries[0].next_validator_set_hash
        == ValidatorSet(chain.members_of(chain.state.validators.epoch)).hash
    )


def test_a_known_feature_begins_at_its_height(
    chain: Electorate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.agenda.KNOWN_FEATURES", frozenset({"holds"}))
    chain.approve(ActivateFeature("holds", Height(14)))
    chain.blocks(20)
    assert [(f.name, f.height) for f in chain.state.agenda.features] == [("holds", 14)]
    assert chain.propose(ActivateFeature("holds", Height(99))).code == "feature_exists"


def test_a_node_stops_before_rules_that_it_does_not_know(chain: Electorate) -> None:
    chain.approve(ActivateFeature("holds", Height(14)))
    while chain.state.height < 13:
        chain.blocks(1)
    before = chain.state.root
    for _ in range(2):
        with pytest.raises(InvariantViolation, match=r"feature holds governs .* from height 14"):
            chain.blocks(1)
    assert chain.state.root == before
    assert chain.state.height == 13


@pytest.mark.parametrize("height", [1, 2])
def test_a_feature_begins_in_the_future(chain: Electorate, height: int) -> None:
    chain.blocks(1)
    change = ActivateFeature("holds", Height(height))
    assert chain.propose(change).code == "feature_height_passed"


def test_a_feature_whose_height_passes_during_the_notice_is_refused(chain: Electorate) -> None:
    chain.approve(ActivateFeature("holds", Height(chain.state.height + 7)))
    chain.settle()
    refusal = chain.proposal().refusal
    assert refusal is not None
    assert refusal.code == "feature_height_passed"


# --- Blocks ---------------------------------------------------------------------------------------


def test_a_block_of_another_epoch_is_no_block_of_this_chain(chain: Electorate) -> None:
    header = msgspec.structs.replace(chain.next_header((), None), epoch=1)
    with pytest.raises(InvariantViolation, match="epoch"):
        BlockExecution(chain.state, header, 0)


def test_a_boundary_block_brings_the_set_of_its_header(chain: Electorate) -> None:
    header = chain.next_header((), None)
    members = chain.state.validators.members
    named = msgspec.structs.replace(header, next_validator_set_hash=ValidatorSet(members).hash)
    for bad, body in ((header, members), (named, None), (named, members[1:])):
        with pytest.raises(InvariantViolation, match="boundary block"):
            BlockExecution(chain.state, bad, 0, body)
    reverse = tuple(reversed(members))
    with pytest.raises(InvariantViolation, match="boundary block"):
        BlockExecution(chain.state, named, 0, reverse)


def test_a_restarted_node_knows_everything_of_governance(chain: Electorate) -> None:
    chain.ready(NEWCOMER, consensus_key("com-9"))
    chain.approve(AddValidator(NEWCOMER))
    chain.propose(POWERS)
    twin = chain.reopen()
    assert twin.root == chain.state.root
    assert twin.validators == chain.state.validators
    assert twin.agenda == chain.state.agenda
    assert twin.presence == chain.state.presence
    assert twin.proposal(ProposalId(1)) == chain.proposal(1)


# --- Fields ---------------------------------------------------------------------------------------

WEAK = PublicKey(bytes([1]) + bytes(31))


@pytest.mark.parametrize("name", ["Holds", "ho lds", "h", "holds\n", "holds\0"])
def test_names_of_features_are_plain(name: str) -> None:
    """T18: a line break at the end, too: two features must not look alike."""
    operation = ProposeChange(None, ActivateFeature(name, Height(5)))
    with pytest.raises(MalformedEncoding):
        sign_transaction(
            Digest(bytes(32)), address("gov-1"), 1, 1, [operation], "", [make_key("gov-1")]
        )


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        (
            ProposeChange(None, AddValidator(msgspec.structs.replace(NEWCOMER, node_key=WEAK))),
            WeakPublicKey,
        ),
        (ProposeChange(None, RotateKey(WEAK, WEAK, NEWCOMER.node_key)), WeakPublicKey),
        (
            ProposeChange(None, RotateKey(WEAK, NEWCOMER.node_key, NEWCOMER.node_key)),
            InvalidOperation,
        ),
        (
            ProposeChange(None, SetPowers("com-8", 1, (AssetClass.DEPOSIT, AssetClass.E_MONEY))),
            InvalidOperation,
        ),
        (
            ProveReadiness(
                None,
                msgspec.structs.replace(NEWCOMER, organisation="Com 9"),
                TimeMs(1),
                consensus_key("com-9").sign(b""),
            ),
            InvalidName,
        ),
        (
            ProveReadiness(
                None,
                msgspec.structs.replace(NEWCOMER, node_key=NEWCOMER.consensus_key),
                TimeMs(1),
                consensus_key("com-9").sign(b""),
            ),
            InvalidOperation,
        ),
    ],
)
def test_fields_are_checked_before_any_state(
    operation: ProposeChange | ProveReadiness, error: type[Exception]
) -> None:
    """T1: weak keys never enter, by whatever operation."""
    with pytest.raises(error):
        sign_transaction(
            Digest(bytes(32)), address("gov-1"), 1, 1, [operation], "", [make_key("gov-1")]
        )
    with pytest.raises(error):
        operation_from_json(operation_to_json(operation))


def test_a_suspended_admin_cannot_be_made(chain: Electorate) -> None:
    """Every organisation that votes keeps a working admin account."""
    suspend = SetStatus(None, address("gov-1"), AccountStatus.SUSPENDED)
    assert chain.run("gov-1", suspend).code == "admin_lockout"
