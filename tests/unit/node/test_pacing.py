"""Block sizes follow the time that agreeing on blocks takes."""

from __future__ import annotations

from consensus.effects import Finalize, RequestProposal
from consensus.types import Certificate
from ledger.types import ZERO_DIGEST, Digest, Epoch, Era, View
from ledger.votes import Value, VoteKind
from node.metrics import Metrics
from node.pacing import QUICK_SECONDS, SLOW_SECONDS, TRANSACTIONS_MIN, BlockPacer
from node.stages import StageClock
from tests.unit.ledger.builders import make_header


def test_slow_blocks_make_blocks_smaller_down_to_a_floor() -> None:
    pacer = BlockPacer(4096)
    pacer.observe(SLOW_SECONDS + 0.1)
    assert pacer.limit == 2048
    for _ in range(20):
        pacer.observe(SLOW_SECONDS + 0.1)
    assert pacer.limit == TRANSACTIONS_MIN


def test_quick_blocks_let_them_grow_to_the_limit_of_the_genesis() -> None:
    pacer = BlockPacer(1000)
    for _ in range(3):
        pacer.observe(10.0)
    for _ in range(50):
        pacer.observe(QUICK_SECONDS / 2)
    assert pacer.limit == 1000


def test_between_quick_and_slow_nothing_changes() -> None:
    pacer = BlockPacer(1000)
    pacer.observe((QUICK_SECONDS + SLOW_SECONDS) / 2)
    assert pacer.limit == 1000


def test_a_genesis_with_tiny_blocks_keeps_them() -> None:
    pacer = BlockPacer(10)
    pacer.observe(10.0)
    assert pacer.limit == 10


def test_the_clock_of_a_view_starts_with_its_proposal() -> None:
    clock = StageClock(Metrics().consensus)
    assert clock.watch([], View(1)) is None
    assert clock.watch([], View(2)) is None
    proposal = RequestProposal(View(2), make_header(1), None, 0, empty_allowed=False)
    assert clock.watch([proposal], View(2)) is None
    seconds = clock.watch([], View(3))
    assert seconds is not None
    assert 0 <= seconds < 5
    value = Value(View(1), Digest(bytes(31) + b"1"))
    certificate = Certificate(
        VoteKind.FINALIZE, Era(0), Epoch(0), View(2), value, b"\x07", bytes(192)
    )
    assert clock.watch([Finalize((ZERO_DIGEST,), certificate)], View(3)) is None
