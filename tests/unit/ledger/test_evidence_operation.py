"""Evidence on the chain: what counts, what it does, and that nobody else is hurt."""

from __future__ import annotations

import msgspec
import pytest

from ledger.encoding import encode
from ledger.errors import MalformedEncoding
from ledger.events import EvidenceEffect, EvidenceReported
from ledger.operations import ReportEvidence
from ledger.operations import governance as operations
from ledger.receipt import RECEIPT_DECODER, Receipt
from ledger.records import AddValidator, RotateKey
from ledger.transition import simulate_explained
from ledger.types import ERA_MAX, UINT64_MAX, Epoch, Era, Signature, TimeMs, View
from ledger.validators import VALIDATORS_MAX
from ledger.votes import VoteKind
from tests.unit.ledger.electorate import (
    Electorate,
    consensus_key,
    make_network,
    validator,
)
from tests.unit.ledger.test_era import execute, first_header, start_after

REPORTER = "gov-1 clerk"


@pytest.fixture
def chain() -> Electorate:
    return Electorate(make_network(3, 3))


def event(receipt: Receipt) -> EvidenceReported:
    """Return the event of a report that took effect."""
    assert receipt.code == "ok", receipt.code
    found = RECEIPT_DECODER.decode(encode(receipt)).events[0]
    assert isinstance(found, EvidenceReported)
    return found


def test_a_double_vote_takes_the_validator_out_at_the_next_boundary(chain: Electorate) -> None:
    """C2: the key that signed twice is out for good, everybody else stays."""
    reported = event(chain.run(REPORTER, chain.double_vote("com-2")))
    assert reported.effect is EvidenceEffect.SUSPENDED
    assert (reported.organisation, reported.validator) == ("com-2", validator("com-2"))
    assert "com-2" in chain.members, "until the boundary"
    assert chain.outcomes[-1].schedule is not None
    chain.settle()
    assert chain.members == ["com-1", "com-3", "gov-1", "gov-2", "gov-3"]


def test_any_account_may_report(chain: Electorate) -> None:
    assert chain.run("com-9 clerk", chain.double_vote("com-2")).code == "ok"


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        ((VoteKind.NOTARIZE, b"a"), (VoteKind.NOTARIZE, b"b"), "ok"),
        ((VoteKind.NOTARIZE, b"a"), (VoteKind.FINALIZE, b"b"), "ok"),
        ((VoteKind.NULLIFY, b"0"), (VoteKind.FINALIZE, b"a"), "ok"),
        ((VoteKind.FINALIZE, b"a"), (VoteKind.NULLIFY, b"0"), "ok"),
        ((VoteKind.NOTARIZE, b"a"), (VoteKind.NULLIFY, b"0"), "invalid_evidence"),
        ((VoteKind.NOTARIZE, b"a"), (VoteKind.FINALIZE, b"a"), "invalid_evidence"),
        ((VoteKind.NOTARIZE, b"a"), (VoteKind.NOTARIZE, b"a"), "invalid_evidence"),
    ],
)
def test_only_votes_that_contradict_each_other_count(
    chain: Electorate, first: tuple[VoteKind, bytes], second: tuple[VoteKind, bytes], code: str
) -> None:
    """C18: tendermint 5560: honest votes and honest re-sending are no evidence."""
    votes = [chain.signed_vote("com-2", kind, block * 32) for kind, block in (first, second)]
    assert chain.run(REPORTER, ReportEvidence(None, votes[0], votes[1])).code == code


def test_evidence_is_recorded_once_in_whatever_order_it_comes(chain: Electorate) -> None:
    """C18: tendermint 5560: a duplicate is a failed transaction, not an invalid block."""
    report = chain.double_vote("com-2")
    permuted = ReportEvidence(None, report.second, report.first)
    receipts = chain.execute(
        chain.transaction(REPORTER, report),
        chain.transaction("gov-2 clerk", permuted),
        chain.transaction("gov-3 clerk", chain.double_vote("com-2", view=9)),
    ).receipts
    assert [receipt.code for receipt in receipts] == ["ok", "evidence_known", "evidence_known"]
    record = chain.state.evidence(validator("com-2").consensus_key)
    assert record is not None
    assert (record.first, record.second) == (report.first, report.second)
    assert chain.run(REPORTER, permuted).code == "evidence_known"


def test_votes_of_different_views_or_voters_are_no_evidence(chain: Electorate) -> None:
    vote = chain.signed_vote("com-2")
    for other in (chain.signed_vote("com-2", block=b"b" * 32, view=8), chain.signed_vote("com-1")):
        assert chain.run(REPORTER, ReportEvidence(None, vote, other)).code == "invalid_evidence"


def test_nobody_is_accused_by_signatures_of_others(chain: Electorate) -> None:
    """C18: forged evidence: every field is under the accused's own signature."""
    report = chain.double_vote("com-2")
    innocent = chain.signed_vote("com-1")
    for forged in (
        msgspec.structs.replace(
            report,
            first=msgspec.structs.replace(report.first, voter=innocent.voter),
            second=msgspec.structs.replace(report.second, voter=innocent.voter),
        ),
        msgspec.structs.replace(
            report, second=msgspec.structs.replace(report.second, signature=Signature(bytes(64)))
        ),
        msgspec.structs.replace(
            report,
            first=msgspec.structs.replace(report.first, view=View(8)),
            second=msgspec.structs.replace(report.second, view=View(8)),
        ),
    ):
        assert chain.run(REPORTER, forged).code == "invalid_evidence"
    assert chain.state.evidence(validator("com-1").consensus_key) is None
    assert chain.run(REPORTER, report).code == "ok"


@pytest.mark.parametrize(
    "field",
    [
        {"voter": 6},
        {"voter": VALIDATORS_MAX - 1},
        {"epoch": Epoch(1)},
        {"epoch": Epoch(UINT64_MAX)},
        {"era": Era(1)},
        {"era": Era(ERA_MAX)},
        {"view": View(0)},
    ],
)
def test_votes_of_no_one_and_nowhere_are_refused(chain: Electorate, field: dict[str, int]) -> None:
    """C5: numbers that name nothing are a typed refusal, never a defect of the handler."""
    assert chain.run(REPORTER, _about(chain, field)).code == "invalid_evidence"


@pytest.mark.parametrize(
    "field",
    [
        {"voter": -1},
        {"voter": VALIDATORS_MAX},
        {"epoch": Epoch(-1)},
        {"era": Era(-1)},
        {"era": Era(ERA_MAX + 1)},
        {"view": View(-5)},
    ],
)
def test_votes_with_numbers_out_of_range_are_no_transaction(
    chain: Electorate, field: dict[str, int]
) -> None:
    """C5: the decoder refuses them; no handler computes with them."""
    with pytest.raises(MalformedEncoding):
        chain.transaction(REPORTER, _about(chain, field))


def _about(chain: Electorate, field: dict[str, int]) -> ReportEvidence:
    """Return a report of two contradicting votes with another number in one field."""
    report = chain.double_vote("com-2")
    return ReportEvidence(
        None,
        msgspec.structs.replace(report.first, **field),
        msgspec.structs.replace(report.second, **field),
    )


def test_votes_of_an_old_epoch_are_judged_by_its_set(chain: Electorate) -> None:
    """C18: a validator that has left answers for what it signed while it was there."""
    chain.approve(chain.removal("com-2"))
    chain.settle()
    assert "com-2" not in chain.members
    votes = [chain.signed_vote("com-2", block=block * 32, epoch=0) for block in (b"a", b"b")]
    reported = event(chain.run(REPORTER, ReportEvidence(None, votes[0], votes[1])))
    assert reported.effect is EvidenceEffect.GONE
    assert chain.outcomes[-1].schedule is None
    chain.ready(validator("com-2"), consensus_key("com-2"))
    assert chain.propose(AddValidator(validator("com-2"))).code == "key_accused"


def test_evidence_expires_by_height_after_its_epoch_ended(
    chain: Electorate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C18: old evidence is refused; that of the present epoch never is."""
    monkeypatch.setattr(operations, "EVIDENCE_HEIGHTS_MAX", 5)
    chain.blocks(20)
    old = [chain.signed_vote("com-1", block=block * 32) for block in (b"a", b"b")]
    assert chain.run(REPORTER, chain.double_vote("com-3")).code == "ok"
    while not chain.boundaries:
        chain.blocks(1)
    closed = chain.boundaries[0].height
    report = ReportEvidence(None, old[0], old[1])
    chain.blocks(closed + 5 - chain.state.height)
    assert chain.run(REPORTER, report).code == "evidence_expired"
    monkeypatch.setattr(operations, "EVIDENCE_HEIGHTS_MAX", chain.state.height + 1 - closed)
    assert chain.run(REPORTER, report).code == "ok", "the last height that counts"


def test_a_set_that_may_not_shrink_keeps_the_accused_and_says_so() -> None:
    """C18: four validators less one would tolerate no traitor at all: people must decide."""
    chain = Electorate(make_network(2, 2))
    reported = event(chain.run(REPORTER, chain.double_vote("com-2")))
    assert (reported.effect, reported.code) == (EvidenceEffect.RETAINED, "set_too_small")
    chain.settle()
    assert "com-2" in chain.members
    assert chain.boundaries == []
    new = validator("com-2", 1)
    chain.ready(new, consensus_key("com-2", 1))
    chain.approve(
        RotateKey(validator("com-2").consensus_key, new.consensus_key, new.node_key),
        ["gov-1", "gov-2", "com-1", "com-2"],
    )
    chain.settle()
    assert new in chain.state.validators.members, "a new key makes it good again"


def test_an_accused_member_stays_while_its_departure_would_stop_the_chain() -> None:
    chain = Electorate(make_network(3, 4))
    chain.absent = {"gov-3", "com-4"}
    chain.blocks(40)
    reported = event(chain.run(REPORTER, chain.double_vote("com-2")))
    assert (reported.effect, reported.code) == (EvidenceEffect.RETAINED, "quorum_absent")


def test_an_accused_key_cannot_join_or_prove_itself(chain: Electorate) -> None:
    chain.run(REPORTER, chain.double_vote("com-2"))
    chain.settle()
    assert chain.ready(validator("com-2"), consensus_key("com-2")).code == "key_accused"
    assert chain.propose(AddValidator(validator("com-2"))).code == "key_accused"
    old = validator("com-1").consensus_key
    back = RotateKey(old, validator("com-2").consensus_key, validator("com-1", 1).node_key)
    assert chain.propose(back).code == "key_accused"


def test_a_joiner_accused_during_the_notice_is_refused(chain: Electorate) -> None:
    chain.approve(chain.removal("com-3"))
    chain.settle()
    votes = [chain.signed_vote("com-3", block=block * 32, epoch=0) for block in (b"a", b"b")]
    chain.ready(validator("com-3"), consensus_key("com-3"))
    chain.approve(AddValidator(validator("com-3")))
    assert chain.run(REPORTER, ReportEvidence(None, votes[0], votes[1])).code == "ok"
    chain.settle()
    refusal = chain.proposal().refusal
    assert refusal is not None
    assert refusal.code == "key_accused"
    assert "com-3" not in chain.members


def test_evidence_against_a_key_that_is_being_rotated_hurts_the_old_key_only() -> None:
    chain = Electorate(make_network(3, 3))
    new = validator("com-1", 1)
    chain.ready(new, consensus_key("com-1", 1))
    chain.approve(RotateKey(validator("com-1").consensus_key, new.consensus_key, new.node_key))
    while chain.state.validators.scheduled_height == 0:
        chain.blocks(1)
    reported = event(chain.run(REPORTER, chain.double_vote("com-1")))
    assert reported.effect is EvidenceEffect.GONE, "the old key leaves anyway"
    chain.settle()
    assert new in chain.state.validators.members


def test_an_epoch_that_never_began_has_no_voters() -> None:
    """C18: an era may end before its first block, and its epoch with it; no record tells of it."""
    chain = Electorate()
    chain.blocks(1)
    start = start_after(chain)._replace(era=Era(2), epoch=Epoch(2))
    execute(chain, first_header(chain, start), start)
    evidence = chain.double_vote("gov-1")
    skipped = [
        msgspec.structs.replace(vote, era=Era(1), epoch=Epoch(1))
        for vote in (evidence.first, evidence.second)
    ]
    report = chain.transaction("gov-1 clerk", ReportEvidence(None, *skipped))
    receipt, reason = simulate_explained(chain.state, report, TimeMs(chain.next_time_ms))
    assert receipt.code == "invalid_evidence"
    assert "nobody voted in epoch 1" in reason
