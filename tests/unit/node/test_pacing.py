"""Block sizes follow the time that agreeing on blocks takes."""

from __future__ import annotations

import msgspec
import pytest

from consensus.effects import Broadcast, Effect, Finalize, RequestVerification
from consensus.types import Certificate, Proposal
from ledger.block import Header
from ledger.types import ZERO_DIGEST, Digest, Epoch, Era, Signature, View
from ledger.votes import Value, Vote, VoteKind
from node.metrics import Metrics
from node.pacing import (
    QUICK_SECONDS,
    SLOW_SECONDS,
    TRANSACTIONS_FIRST,
    TRANSACTIONS_MIN,
    BlockPacer,
)
from node.stages import StageClock
from tests.unit.ledger.builders import make_header

SLOW = SLOW_SECONDS + 0.1
QUICK = QUICK_SECONDS / 2


def test_slow_blocks_make_blocks_smaller_down_to_a_floor() -> None:
    pacer = BlockPacer(4096)
    pacer.observe(SLOW, pacer.limit)
    assert pacer.limit == TRANSACTIONS_FIRST // 2
    for _ in range(20):
        pacer.observe(SLOW, 0)
    assert pacer.limit == TRANSACTIONS_MIN


def test_quick_full_blocks_let_them_grow_to_the_limit_of_the_genesis() -> None:
    pacer = BlockPacer(4096)
    sizes = [pacer.limit]
    while pacer.limit < 4096:
        pacer.observe(QUICK, pacer.limit)
        assert pacer.limit > sizes[-1]
        sizes.append(pacer.limit)
    pacer.observe(QUICK, 4096)
    assert pacer.limit == 4096


def test_quick_small_blocks_say_nothing_about_large_ones() -> None:
    """A burst after hours of little traffic must not begin with blocks that nobody has tried."""
    pacer = BlockPacer(4096)
    for _ in range(1000):
        pacer.observe(QUICK, pacer.limit // 2)
    assert pacer.limit == TRANSACTIONS_FIRST


def test_between_quick_and_slow_nothing_changes() -> None:
    pacer = BlockPacer(1000)
    pacer.observe((QUICK_SECONDS + SLOW_SECONDS) / 2, 1000)
    assert pacer.limit == 1000


def test_a_genesis_with_tiny_blocks_keeps_them() -> None:
    pacer = BlockPacer(10)
    pacer.observe(10.0, 10)
    assert pacer.limit == 10


def _proposal(header: Header) -> Proposal:
    value = Value(View(0), ZERO_DIGEST)
    view = header.view
    vote = Vote(VoteKind.NOTARIZE, Era(0), Epoch(0), view, value, 0, Signature(bytes(64)))
    return Proposal(Era(0), Epoch(0), view, value, header, b"", None, (), None, vote)


@pytest.mark.parametrize("is_own", [True, False])
def test_the_clock_of_a_view_starts_with_its_proposal(is_own: bool) -> None:
    clock = StageClock(Metrics().consensus)
    assert clock.watch([], View(1)) is None
    assert clock.watch([], View(2)) is None
    header = msgspec.structs.replace(make_header(2), transaction_count=7)
    received = RequestVerification(ZERO_DIGEST, header, b"", None)
    started: Effect = Broadcast(_proposal(header)) if is_own else received
    assert clock.watch([started], View(2)) is None
    left = clock.watch([], View(3))
    assert left is not None
    seconds, transactions = left
    assert 0 <= seconds < 5
    assert transactions == 7
    value = Value(View(1), Digest(bytes(31) + b"1"))
    certificate = Certificate(
        VoteKind.FINALIZE, Era(0), Epoch(0), View(2), value, b"\x07", bytes(192)
    )
    assert clock.watch([Finalize((ZERO_DIGEST,), certificate)], View(3)) is None
