"""The simulator's own parts: a wrong checker, disk or network would hide every bug behind it."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import pytest

from ledger.types import Digest, View
from ledger.votes import NULL_VALUE, Value, VoteKind
from tests.simulation.checkers import Registry, Violation
from tests.simulation.disk import Disk
from tests.simulation.messages import GetBlock, TransactionsMessage
from tests.simulation.network import Link, Network
from tests.simulation.options import choose_byzantine, expand, rest_is_quorum
from tests.simulation.timeline import Timeline
from tests.simulation.trace import Trace

KEY = (0, 0, 5)
ONE = Value(View(4), Digest(b"1" * 32))
OTHER = Value(View(4), Digest(b"2" * 32))


@pytest.mark.parametrize(("government", "commercial"), [(2, 2), (3, 2), (4, 3), (4, 0), (3, 3)])
def test_registry_counts_quorums_like_the_definition(government: int, commercial: int) -> None:
    """C7: more than two thirds of all and at least half of each chamber, over all subsets."""
    total = government + commercial
    registry = Registry((1 << government) - 1, ((1 << commercial) - 1) << government, 0)
    for mask in range(1 << total):
        g = sum(mask >> i & 1 for i in range(government))
        c = sum(mask >> i & 1 for i in range(government, total))
        expected = (
            Fraction(g + c, total) > Fraction(2, 3)
            and g >= Fraction(government, 2)
            and c >= Fraction(commercial, 2)
        )
        assert registry.is_quorum(mask) == expected


@pytest.mark.parametrize(
    ("first", "second", "conflict"),
    [
        ((VoteKind.NOTARIZE, ONE), (VoteKind.NOTARIZE, OTHER), True),
        ((VoteKind.NOTARIZE, ONE), (VoteKind.FINALIZE, OTHER), True),
        ((VoteKind.NULLIFY, NULL_VALUE), (VoteKind.FINALIZE, ONE), True),
        ((VoteKind.NOTARIZE, ONE), (VoteKind.NULLIFY, NULL_VALUE), False),
        ((VoteKind.NOTARIZE, ONE), (VoteKind.FINALIZE, ONE), False),
    ],
)
def test_registry_finds_conflicting_votes_of_honest_validators_only(
    first: tuple[VoteKind, Value], second: tuple[VoteKind, Value], *, conflict: bool
) -> None:
    """I3: the pairs of CONSENSUS 3.15, in both orders; a Byzantine validator may do as it likes."""
    for one, other in ((first, second), (second, first)):
        registry = Registry(0b0011, 0b1100, byzantine=0b0001)
        registry.add(KEY, 0, one)
        registry.add(KEY, 0, other)
        registry.add(KEY, 1, one)
        if conflict:
            with pytest.raises(Violation, match="I3"):
                registry.add(KEY, 1, other)
        else:
            registry.add(KEY, 1, other)


def test_registry_finds_two_certifiable_values_in_a_view() -> None:
    """I2, L1: enough Byzantine double votes make two certificates possible."""
    registry = Registry(0b0011, 0b1100, byzantine=0b0011)
    for voter in (0, 1, 2):
        registry.add(KEY, voter, (VoteKind.NOTARIZE, ONE))
    registry.add(KEY, 0, (VoteKind.NOTARIZE, OTHER))
    registry.add(KEY, 1, (VoteKind.NOTARIZE, OTHER))
    with pytest.raises(Violation, match="L1"):
        registry.add(KEY, 3, (VoteKind.NOTARIZE, OTHER))


def test_registry_finds_nullified_and_finalized_view() -> None:
    """I2, L2."""
    registry = Registry(0b0011, 0b1100, byzantine=0b0011)
    for voter in (0, 1, 2):
        registry.add(KEY, voter, (VoteKind.NULLIFY, NULL_VALUE))
    registry.add(KEY, 0, (VoteKind.FINALIZE, ONE))
    registry.add(KEY, 1, (VoteKind.FINALIZE, ONE))
    with pytest.raises(Violation, match="L2"):
        registry.add(KEY, 3, (VoteKind.FINALIZE, ONE))


def test_disk_keeps_a_prefix_of_unsynced_writes_and_everything_synced() -> None:
    kept = set()
    for seed in range(50):
        disk = Disk(Timeline(), Random(seed))
        disk.write({("a",): 1})
        disk.sync(lambda _: None)
        for number in range(4):
            disk.write({("b", number): number})
        disk.crash()
        survivors = [number for number in range(4) if ("b", number) in disk.live]
        assert ("a",) in disk.live
        assert survivors == list(range(len(survivors)))
        kept.add(len(survivors))
    assert kept == {0, 1, 2, 3, 4}


def test_disk_slow_sync_is_not_durable_before_it_ends() -> None:
    timeline = Timeline()
    disk = Disk(timeline, Random(1))
    disk.sync_ms = 10
    synced: list[bool] = []
    disk.write({("a",): 1})
    disk.sync(synced.append)
    timeline.run_until(9)
    assert ("a",) not in disk.durable
    disk.write({("late",): 1})
    timeline.run_until(10)
    assert synced == [True]
    assert ("a",) in disk.durable
    assert ("late",) not in disk.durable


def test_disk_failed_sync_makes_nothing_durable() -> None:
    disk = Disk(Timeline(), Random(1))
    disk.sync_fails = True
    synced: list[bool] = []
    disk.write({("a",): 1})
    disk.sync(synced.append)
    assert synced == [False]
    assert not disk.durable


def test_network_cut_is_one_way_and_clog_delays_only() -> None:
    timeline = Timeline()
    net = Network(timeline, Random(1), Trace(timeline), codec=True)
    got: list[tuple[int, int]] = []
    net.attach(0, lambda source, _: got.append((source, 0)), Link())
    net.attach(1, lambda source, _: got.append((source, 1)), Link())
    message = TransactionsMessage((b"\x01",))
    net.cut([(0, 1)])
    net.clog((1, 0))
    net.send(0, 1, message)
    net.send(1, 0, message)
    timeline.run_until(1_000)
    assert got == []
    net.heal([0, 1], 20)
    timeline.run_until(2_000)
    assert got == [(1, 0)]


def test_network_codec_returns_an_equal_message() -> None:
    timeline = Timeline()
    net = Network(timeline, Random(1), Trace(timeline), codec=True)
    message = GetBlock(Digest(b"x" * 32))
    packet = net.pack(message)
    assert isinstance(packet, bytes)
    assert net.unpack(packet) == message


def test_options_leave_an_honest_quorum_unless_a_whole_chamber_is_byzantine() -> None:
    """H: otherwise nobody could ask for progress."""
    for seed in range(500):
        options = expand(seed)
        failed = [name for name, _ in options.byzantine]
        failed += [options.disk_loss] if options.disk_loss else []
        sizes = (options.government, options.commercial)
        assert options.whole_chamber or rest_is_quorum(*sizes, failed)


def test_whole_chamber_is_byzantine_only_beside_an_odd_one() -> None:
    """CONSENSUS 4.1: the overlap in an even honest chamber may be empty."""
    for seed in range(100):
        random = Random(seed)
        letters = {name[0] for name, _ in choose_byzantine(random, 4, 3, whole_chamber=True)}
        assert letters == {"g"}
