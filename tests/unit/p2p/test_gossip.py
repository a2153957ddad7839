"""Batches of transactions."""

from __future__ import annotations

from consensus.inputs import PeerId
from p2p.gossip import (
    BATCH_BYTES,
    BATCH_WIRES,
    DELAY_S,
    GROUPS_MAX,
    SPACING_S,
    Batcher,
    Outgoing,
)

A, B = PeerId(b"a" * 32), PeerId(b"b" * 32)


def wires_of(batches: list[Outgoing]) -> list[bytes]:
    return [wire for _, batch in batches for wire in batch.wires]


def test_the_first_wire_waits_a_moment_for_company() -> None:
    batcher = Batcher()
    assert batcher.due_s is None
    assert batcher.add([b"1"], (A, B), 10.0) == []
    assert batcher.add([b"2"], (A, B), 10.001) == []
    assert batcher.due_s == 10.0 + DELAY_S
    [(recipients, batch)] = batcher.flush(10.0 + DELAY_S)
    assert (recipients, batch.wires) == ((A, B), (b"1", b"2"))
    assert batcher.due_s is None
    assert batcher.flush(11.0) == []


def test_a_full_batch_leaves_at_once() -> None:
    batcher = Batcher()
    full = batcher.add([bytes(1000)] * 100, (A,), 0.0)
    assert [len(batch.wires) for _, batch in full] == [66]
    assert sum(map(len, wires_of(full))) >= BATCH_BYTES
    assert len(wires_of(batcher.flush(1.0))) == 34


def test_a_batch_is_bounded_in_number_too() -> None:
    full = Batcher().add([b"x"] * (BATCH_WIRES * 2 + 1), (A,), 0.0)
    assert [len(batch.wires) for _, batch in full] == [BATCH_WIRES, BATCH_WIRES]


def test_under_load_batches_keep_their_distance() -> None:
    batcher = Batcher()
    batcher.add([b"1"], (A,), 0.0)
    batcher.flush(DELAY_S)
    batcher.add([b"2"], (A,), DELAY_S)
    assert batcher.due_s == DELAY_S + SPACING_S


def test_different_recipients_do_not_share_a_batch() -> None:
    batcher = Batcher()
    batcher.add([b"both"], (A, B), 0.0)
    batcher.add([b"only b"], (B,), 0.0)
    sent = {recipients: batch.wires for recipients, batch in batcher.flush(1.0)}
    assert sent == {(A, B): (b"both",), (B,): (b"only b",)}


def test_nobody_to_send_to_means_nothing_is_kept() -> None:
    batcher = Batcher()
    assert batcher.add([b"x"], (), 0.0) == []
    assert batcher.due_s is None


def test_many_groups_of_recipients_are_flushed_rather_than_collected() -> None:
    batcher = Batcher()
    sent = []
    for i in range(GROUPS_MAX + 1):
        sent += batcher.add([b"%d" % i], (PeerId(i.to_bytes(32, "big")),), 0.0)
    assert len(sent) == GROUPS_MAX
    assert len(wires_of(sent + batcher.flush(0.0))) == GROUPS_MAX + 1
    assert batcher.add([b"x"], (A,), 1.0) == []
    assert batcher.due_s is not None
