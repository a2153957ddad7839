"""Counting votes and evidence (docs/protocol-consensus.md, Votes and Evidence)."""

from __future__ import annotations

from itertools import product
from typing import Any

import msgspec
import pytest

from consensus.certificates import verify_certificate
from consensus.tally import Tally
from ledger.errors import InvalidEvidence
from ledger.evidence import are_conflicting, verify_evidence
from ledger.types import UINT64_MAX, Digest, Signature, View
from ledger.votes import NULL_VALUE, Value, Vote, VoteKind, check_vote, verify_vote
from tests.unit.consensus.kit import CHAIN_ID, EPOCH, ERA, Net, verify

NET = Net()
A = NET.block(5)
B = NET.block(5, time_ms=7_777)
BAD = Signature(bytes(64))


class Counter:
    """A tally that counts how many signatures it checks."""

    def __init__(self) -> None:
        self.checks = 0
        self.tally = Tally(NET.validators, self._check)

    def _check(self, vote: Vote) -> bool:
        self.checks += 1
        return verify_vote(vote, CHAIN_ID, NET.validators, verify)


def notarize(voter: int, value: Value = A.value, **changes: object) -> Vote:
    return NET.vote(VoteKind.NOTARIZE, voter, 5, value, **changes)


def test_the_vote_that_completes_a_quorum_forms_a_valid_certificate() -> None:
    """CE1."""
    counter = Counter()
    for voter in (0, 1):
        assert (
            counter.tally.count(notarize(voter), verified=False, certify=True).certificate is None
        )
    formed = counter.tally.count(notarize(2), verified=False, certify=True).certificate
    assert formed is not None
    verify_certificate(formed, CHAIN_ID, NET.validators, ERA, EPOCH, verify)


def test_signatures_are_checked_only_when_a_quorum_is_reached() -> None:
    counter = Counter()
    for voter in (0, 1):
        counter.tally.count(notarize(voter), verified=False, certify=True)
    assert counter.checks == 0
    counter.tally.count(notarize(2), verified=True, certify=True)
    assert counter.checks == 2


def test_a_bad_signature_is_found_at_the_quorum_and_its_voter_named() -> None:
    """Section 5 row 13: an unverified vote never gets into a certificate."""
    counter = Counter()
    counter.tally.count(notarize(0, signature=BAD), verified=False, certify=True)
    counter.tally.count(notarize(1), verified=False, certify=True)
    outcome = counter.tally.count(notarize(2), verified=False, certify=True)
    assert outcome.certificate is None
    assert outcome.forgers == [0]
    assert counter.tally.count(notarize(0), verified=False, certify=True).certificate is not None


def test_a_good_vote_is_not_overwritten_by_a_bad_copy() -> None:
    """Section 5 row 13: a Byzantine voter sends the same vote again with a bad signature."""
    tally = Counter().tally
    tally.count(notarize(0), verified=True, certify=True)
    tally.count(notarize(0, signature=BAD), verified=False, certify=True)
    tally.count(notarize(1), verified=True, certify=True)
    formed = tally.count(notarize(2), verified=True, certify=True).certificate
    assert formed is not None
    verify_certificate(formed, CHAIN_ID, NET.validators, ERA, EPOCH, verify)


def test_a_vote_counted_again_looks_for_the_quorum_again() -> None:
    """Section 5 row 1: after a restart the own vote may be the one that completes the quorum."""
    tally = Counter().tally
    for voter in (0, 1, 2):
        tally.count(notarize(voter), verified=True, certify=False)
    assert tally.count(notarize(0), verified=True, certify=True).certificate is not None


def test_votes_for_different_values_do_not_add_up() -> None:
    tally = Counter().tally
    for voter, value in ((0, A.value), (1, B.value), (2, A.value)):
        outcome = tally.count(notarize(voter, value), verified=True, certify=True)
        assert outcome.certificate is None


def test_evidence_is_reported_once_and_the_second_vote_is_not_counted() -> None:
    """C1, C2: counted once; evidence made once."""
    tally = Counter().tally
    tally.count(notarize(0), verified=False, certify=True)
    outcome = tally.count(notarize(0, B.value), verified=False, certify=True)
    assert outcome.evidence == (notarize(0), notarize(0, B.value))
    third = NET.block(5, time_ms=8_888).value
    for value in (B.value, third, A.value):
        again = tally.count(notarize(0, value), verified=False, certify=True)
        assert again.evidence is None
    assert len(tally) == 1


def test_a_forged_second_vote_is_no_evidence() -> None:
    """C18: nobody is accused by a signature that is not his."""
    tally = Counter().tally
    tally.count(notarize(0), verified=False, certify=True)
    outcome = tally.count(notarize(0, B.value, signature=BAD), verified=False, certify=True)
    assert outcome.evidence is None
    assert outcome.forgers == [0]


def test_a_bad_first_vote_gives_way_to_a_good_one() -> None:
    tally = Counter().tally
    tally.count(notarize(0, B.value, signature=BAD), verified=False, certify=True)
    outcome = tally.count(notarize(0), verified=False, certify=True)
    assert outcome.evidence is None
    assert outcome.forgers == [0]
    assert tally.mask(View(5), VoteKind.NOTARIZE) == 1


def test_memory_is_bounded_under_many_values() -> None:
    """C2, C16, section 5 row 41: one validator signs 10^5 values in one view."""
    counter = Counter()
    for i in range(100_000):
        value = Value(View(0), Digest(i.to_bytes(32, "big"))) if i else A.value
        counter.tally.count(notarize(0, value), verified=True, certify=True)
    assert len(counter.tally) == 1
    assert counter.checks == 0


def test_views_are_forgotten() -> None:
    tally = Counter().tally
    tally.count(notarize(0), verified=True, certify=True)
    tally.forget(View(5))
    assert len(tally) == 0


KINDS_AND_VALUES = [
    (VoteKind.NOTARIZE, A.value),
    (VoteKind.NOTARIZE, B.value),
    (VoteKind.FINALIZE, A.value),
    (VoteKind.FINALIZE, B.value),
    (VoteKind.NULLIFY, NULL_VALUE),
]


@pytest.mark.parametrize(("one", "two"), list(product(KINDS_AND_VALUES, repeat=2)), ids=str)
def test_conflict_is_two_values_or_nullify_with_finalize(
    one: tuple[VoteKind, Value], two: tuple[VoteKind, Value]
) -> None:
    """EV1: NOTARIZE with NULLIFY is legal, everything else of two values is not."""
    a, b = NET.vote(one[0], 1, 5, one[1]), NET.vote(two[0], 1, 5, two[1])
    kinds = {one[0], two[0]}
    if VoteKind.NULLIFY in kinds:
        expected = kinds == {VoteKind.NULLIFY, VoteKind.FINALIZE}
    else:
        expected = one[1] != two[1]
    assert are_conflicting(a, b) == expected
    if expected:
        verify_evidence(a, b, CHAIN_ID, NET.validators, verify)


@pytest.mark.parametrize(
    "changes", [{"voter": 2}, {"view": 6}, {"era": 1}, {"epoch": 1}, {"signature": BAD}], ids=str
)
def test_votes_of_others_views_or_with_bad_signatures_prove_nothing(
    changes: dict[str, Any],
) -> None:
    """C18: evidence is a pure function of two votes and the set."""
    changed = msgspec.structs.replace(notarize(1, B.value), **changes)
    with pytest.raises(InvalidEvidence):
        verify_evidence(notarize(1), changed, CHAIN_ID, NET.validators, verify)


def test_two_signatures_of_one_statement_are_no_evidence() -> None:
    """Section 5 rows 8 and 39: honest re-signing is not a fault."""
    assert not are_conflicting(notarize(1), notarize(1, signature=BAD))


@pytest.mark.parametrize(
    "changes",
    [
        {"voter": 4},
        {"voter": -1},
        {"view": 0},
        {"view": -5},
        {"view": UINT64_MAX + 1},
        {"value": NULL_VALUE},
        {"value": Value(View(5), A.hash)},
        {"value": Value(View(-1), A.hash)},
        {"kind": VoteKind.NULLIFY},
    ],
    ids=str,
)
def test_ill_formed_votes_are_recognised_without_signatures(changes: dict[str, Any]) -> None:
    """C5: out of range, unknown signer, view 2^63 and beyond, values that mean nothing."""
    assert check_vote(notarize(1), 4) is None
    assert check_vote(msgspec.structs.replace(notarize(1), **changes), 4) is not None
