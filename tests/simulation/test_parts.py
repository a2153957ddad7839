"""The simulator's own parts: a wrong checker, disk or network would hide every bug behind it."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING
from zlib import crc32

import msgspec
import pytest

from ledger.types import Digest, View
from ledger.votes import NULL_VALUE, Value, VoteKind
from p2p.messages import GetBlock, TransactionBatch, encode_message
from storage.errors import StoreCorrupt
from tests.simulation.disk import Disk, read_log
from tests.simulation.invariants.registry import Electorate, Registry, Violation
from tests.simulation.network import Link, Network
from tests.simulation.options import choose_byzantine, expand, rest_is_quorum
from tests.simulation.timeline import Timeline
from tests.simulation.trace import Trace

if TYPE_CHECKING:
    from storage.kv import Batch

KEY = (0, 0, 5)
ONE = Value(View(4), Digest(b"1" * 32))
OTHER = Value(View(4), Digest(b"2" * 32))


def registry_of(government: int, commercial: int, byzantine: int) -> Registry:
    """Return a registry of one epoch; members of the chambers and traitors as masks."""
    registry = Registry()
    chambers = tuple(mask for mask in (government, commercial) if mask)
    registry.epochs[0, 0] = Electorate(government | commercial, chambers, byzantine)
    return registry


def batch_of(disk: Disk, key: bytes, value: bytes = b"1") -> Batch:
    """Return a batch with one record."""
    batch = disk.batch()
    batch.put(key, value)
    return batch


@pytest.mark.parametrize(("government", "commercial"), [(2, 2), (3, 2), (4, 3), (4, 0), (3, 3)])
def test_registry_counts_quorums_like_the_definition(government: int, commercial: int) -> None:
    """C7: more than two thirds of all and at least half of each chamber, over all subsets."""
    total = government + commercial
    registry = registry_of((1 << government) - 1, ((1 << commercial) - 1) << government, 0)
    for mask in range(1 << total):
        g = sum(mask >> i & 1 for i in range(government))
        c = sum(mask >> i & 1 for i in range(government, total))
        expected = (
            Fraction(g + c, total) > Fraction(2, 3)
            and g >= Fraction(government, 2)
            and c >= Fraction(commercial, 2)
        )
        assert registry.is_quorum((0, 0), mask) == expected


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
        registry = registry_of(0b0011, 0b1100, byzantine=0b0001)
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
    registry = registry_of(0b0011, 0b1100, byzantine=0b0011)
    for voter in (0, 1, 2):
        registry.add(KEY, voter, (VoteKind.NOTARIZE, ONE))
    registry.add(KEY, 0, (VoteKind.NOTARIZE, OTHER))
    registry.add(KEY, 1, (VoteKind.NOTARIZE, OTHER))
    with pytest.raises(Violation, match="L1"):
        registry.add(KEY, 3, (VoteKind.NOTARIZE, OTHER))


def test_registry_finds_nullified_and_finalized_view() -> None:
    """I2, L2."""
    registry = registry_of(0b0011, 0b1100, byzantine=0b0011)
    for voter in (0, 1, 2):
        registry.add(KEY, voter, (VoteKind.NULLIFY, NULL_VALUE))
    registry.add(KEY, 0, (VoteKind.FINALIZE, ONE))
    registry.add(KEY, 1, (VoteKind.FINALIZE, ONE))
    with pytest.raises(Violation, match="L2"):
        registry.add(KEY, 3, (VoteKind.FINALIZE, ONE))


def test_disk_keeps_a_prefix_of_unsynced_writes_and_everything_synced() -> None:
    """S1, S6: whole batches, in order; nothing that was synced is lost."""
    kept = set()
    for seed in range(80):
        disk = Disk(Timeline(), Random(seed), Counter())
        disk.write(batch_of(disk, b"a"))
        disk.sync(lambda _: None)
        for number in range(4):
            disk.write(batch_of(disk, b"b%d" % number))
        disk.crash()
        survivors = [number for number in range(4) if disk.get(b"b%d" % number) is not None]
        assert disk.get(b"a") == b"1"
        assert survivors == list(range(len(survivors)))
        assert [key for key, _ in disk.iterate(b"b", b"c")] == [b"b%d" % n for n in survivors]
        kept.add(len(survivors))
    assert kept == {0, 1, 2, 3, 4}


def test_log_ends_at_the_first_batch_that_is_not_whole() -> None:
    """S1, S2: cut at every byte, and with every bit flipped once."""
    bodies = [msgspec.msgpack.encode({b"k%d" % n: b"v" * n}) for n in range(3)]
    frames = [len(b).to_bytes(4, "big") + crc32(b).to_bytes(4, "big") + b for b in bodies]
    log = b"".join(frames)
    ends = [0, *accumulate(map(len, frames))]
    for cut in range(len(log) + 1):
        whole = sum(end <= cut for end in ends[1:])
        assert len(read_log(log[:cut])) == whole
    for position in range(len(log)):
        damaged = bytearray(log)
        damaged[position] ^= 0x10
        whole = sum(end <= position for end in ends[1:])
        assert len(read_log(bytes(damaged))) == whole


def test_disk_slow_sync_is_not_durable_before_it_ends() -> None:
    """S9."""
    timeline = Timeline()
    disk = Disk(timeline, Random(1), Counter())
    disk.sync_ms = 10
    synced: list[bool] = []
    disk.write(batch_of(disk, b"a"))
    disk.sync(synced.append)
    timeline.run_until(9)
    assert b"a" not in disk.durable
    disk.write(batch_of(disk, b"late"))
    timeline.run_until(10)
    assert synced == [True]
    assert b"a" in disk.durable
    assert b"late" not in disk.durable


def test_disk_failed_sync_makes_nothing_durable() -> None:
    """S5."""
    disk = Disk(Timeline(), Random(1), Counter())
    disk.sync_fails = True
    synced: list[bool] = []
    disk.write(batch_of(disk, b"a"))
    disk.sync(synced.append)
    assert synced == [False]
    assert not disk.durable


def test_disk_never_returns_a_damaged_record() -> None:
    """S2: reading it raises, alone and in a range, until it is written again."""
    disk = Disk(Timeline(), Random(1), Counter())
    disk.write(batch_of(disk, b"a"), sync=True)
    disk.damage()
    with pytest.raises(StoreCorrupt):
        disk.get(b"a")
    with pytest.raises(StoreCorrupt):
        disk.iterate(b"a", b"b")
    disk.write(batch_of(disk, b"a", b"2"))
    assert disk.get(b"a") == b"2"


def test_network_cut_is_one_way_and_clog_delays_only() -> None:
    timeline = Timeline()
    net = Network(timeline, Random(1), Trace(timeline))
    got: list[tuple[int, int]] = []
    net.attach(0, lambda source, _: got.append((source, 0)), Link())
    net.attach(1, lambda source, _: got.append((source, 1)), Link())
    message = TransactionBatch((b"\x01",))
    net.cut([(0, 1)])
    net.clog((1, 0))
    net.send(0, 1, message)
    net.send(1, 0, message)
    timeline.run_until(1_000)
    assert got == []
    net.heal([0, 1], 20)
    timeline.run_until(2_000)
    assert got == [(1, 0)]


def test_network_carries_canonical_bytes_only() -> None:
    """P5: what is decoded once for all receivers is what each would have decoded."""
    timeline = Timeline()
    net = Network(timeline, Random(1), Trace(timeline))
    message = GetBlock(7, Digest(b"x" * 32))
    packet = encode_message(message)
    assert net.unpack(packet) == net.unpack(bytes(bytearray(packet))) == message
    assert net.unpack(packet[:-1]) is None
    assert net.faults["malformed message refused"] == 1


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
