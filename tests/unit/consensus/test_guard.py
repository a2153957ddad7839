"""The signing guard (docs/protocol-consensus.md, Signing guard).

Exhaustive: every history of up to three casts over three kinds and two values, in one view.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import pytest

from consensus.guard import Guard
from ledger.types import Digest, View
from ledger.votes import NULL_VALUE, Round, Value, Vote, VoteKind
from tests.unit.consensus.kit import CHAIN_ID, EPOCH, ERA, Net, sign

A = Value(View(0), Digest(b"a" * 32))
B = Value(View(0), Digest(b"b" * 32))
NET = Net()
ME = 1
CASTS = [
    (VoteKind.NOTARIZE, A),
    (VoteKind.NOTARIZE, B),
    (VoteKind.FINALIZE, A),
    (VoteKind.FINALIZE, B),
    (VoteKind.NULLIFY, NULL_VALUE),
]


def make_guard(votes: Iterable[Vote] = (), floor: int = 0) -> Guard:
    key = NET.validators[ME].consensus_key
    round_ = Round(ERA, EPOCH, View(floor))
    return Guard(CHAIN_ID, ERA, EPOCH, ME, lambda m: sign(key, m), round_, votes)


def is_legal(history: list[tuple[VoteKind, Value]]) -> bool:
    """The promise: one value over NOTARIZE and FINALIZE, never NULLIFY with FINALIZE."""
    values = {value for kind, value in history if kind is not VoteKind.NULLIFY}
    kinds = {kind for kind, _ in history}
    return len(values) <= 1 and not {VoteKind.NULLIFY, VoteKind.FINALIZE} <= kinds


@pytest.mark.parametrize("history", list(product(CASTS, repeat=3)), ids=str)
def test_cast_allows_exactly_what_keeps_the_promise(
    history: tuple[tuple[VoteKind, Value], ...],
) -> None:
    """Section 5 row 9: the rule is the guard's alone, whatever order the engine asks in."""
    guard = make_guard()
    made: list[tuple[VoteKind, Value]] = []
    for kind, value in history:
        vote = guard.cast(kind, View(1), value)
        # NOTARIZE after NULLIFY breaks no promise to others, but the view has been given up.
        given_up = (VoteKind.NULLIFY, NULL_VALUE) in made and kind is VoteKind.NOTARIZE
        assert (vote is not None) == (is_legal([*made, (kind, value)]) and not given_up)
        if vote is not None:
            made.append((kind, value))
            assert vote == NET.vote(kind, ME, 1, value)


@pytest.mark.parametrize("history", list(product(CASTS, repeat=2)), ids=str)
def test_a_restored_guard_decides_like_the_one_before(
    history: tuple[tuple[VoteKind, Value], ...],
) -> None:
    """C3, section 5 row 24: after a restart the stored votes bind as before."""
    first, second = history
    before = make_guard()
    votes = [v for v in (before.cast(first[0], View(1), first[1]),) if v is not None]
    after = make_guard(votes)
    assert before.cast(second[0], View(1), second[1]) == after.cast(second[0], View(1), second[1])


def test_the_same_vote_is_returned_byte_for_byte() -> None:
    """Section 5 row 21: re-sent votes are the signed bytes of the first time."""
    guard = make_guard()
    assert guard.cast(VoteKind.NOTARIZE, View(1), A) is guard.cast(VoteKind.NOTARIZE, View(1), A)


@pytest.mark.parametrize(("view", "allowed"), [(4, False), (5, False), (6, True)])
def test_nothing_is_signed_at_or_below_the_floor(view: int, allowed: bool) -> None:
    """C3: refuses to sign at or below the last signed round."""
    guard = make_guard(floor=5)
    assert (guard.cast(VoteKind.NULLIFY, View(view), NULL_VALUE) is not None) == allowed


def test_the_floor_of_a_later_epoch_or_era_covers_all_views() -> None:
    for later in (Round(ERA, type(EPOCH)(1), View(0)), Round(type(ERA)(1), EPOCH, View(0))):
        guard = make_guard()
        guard.raise_floor(later)
        assert guard.cast(VoteKind.NULLIFY, View(9), NULL_VALUE) is None


def test_the_floor_never_sinks() -> None:
    guard = make_guard(floor=5)
    guard.raise_floor(Round(ERA, EPOCH, View(3)))
    assert guard.floor.view == 5


def test_forgotten_votes_leave_a_floor_behind() -> None:
    """P5: records may go only where the floor protects instead."""
    guard = make_guard()
    guard.cast(VoteKind.NOTARIZE, View(3), A)
    guard.forget(View(3))
    assert guard.votes(View(3)) == ()
    assert guard.cast(VoteKind.NOTARIZE, View(3), B) is None


def test_a_silent_guard_and_an_observer_sign_nothing() -> None:
    guard = make_guard()
    guard.silent = True
    observer = Guard(CHAIN_ID, ERA, EPOCH, None, None, Round(ERA, EPOCH, View(0)), ())
    for mute in (guard, observer):
        for kind, value in CASTS:
            assert mute.cast(kind, View(1), value) is None


def test_nullify_has_no_value() -> None:
    assert make_guard().cast(VoteKind.NULLIFY, View(1), A) is None


def test_votes_of_others_and_of_other_epochs_do_not_bind() -> None:
    """Section 5 row 16: records of an old epoch are not replayed into the new one."""
    foreign = [
        NET.vote(VoteKind.NOTARIZE, 2, 1, B),
        NET.vote(VoteKind.NOTARIZE, ME, 1, B, epoch=EPOCH + 1),
        NET.vote(VoteKind.NOTARIZE, ME, 1, B, era=ERA + 1),
    ]
    assert make_guard(foreign).cast(VoteKind.NOTARIZE, View(1), A) is not None
