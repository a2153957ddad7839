"""The bounded queue of one peer."""

from __future__ import annotations

from collections import Counter

import pytest

from p2p.errors import SlowPeer
from p2p.messages import Priority
from p2p.queues import QUEUE_BOUNDS, Overflow, QueueBound, SendQueue

BOUNDS = {
    Priority.CONSENSUS: QueueBound(3, 100, Overflow.DISCONNECT),
    Priority.FETCH: QueueBound(3, 100, Overflow.REFUSE),
    Priority.TRANSACTIONS: QueueBound(3, 100, Overflow.DROP_OLDEST),
}


def make_queue() -> tuple[SendQueue, Counter[str]]:
    drops: Counter[str] = Counter()
    return SendQueue(BOUNDS, drops), drops


def test_consensus_leaves_first_then_fetches_then_transactions() -> None:
    """P6: whatever came first."""
    queue, _ = make_queue()
    for frame, priority in [
        (b"t1", Priority.TRANSACTIONS),
        (b"f1", Priority.FETCH),
        (b"c1", Priority.CONSENSUS),
        (b"t2", Priority.TRANSACTIONS),
        (b"c2", Priority.CONSENSUS),
    ]:
        assert queue.put(frame, priority)
    assert queue.take(1000) == (b"c1c2f1t1t2", 5)
    assert not queue
    assert queue.take(1000) == (b"", 0)


def test_one_take_is_bounded_in_size() -> None:
    queue, _ = make_queue()
    for _ in range(3):
        queue.put(bytes(30), Priority.FETCH)
    assert queue.take(40)[1] == 2
    assert queue.bytes_waiting == 30
    assert queue


@pytest.mark.parametrize("size", [1, 40])
def test_full_of_transactions_the_oldest_is_dropped(size: int) -> None:
    """P6: bounded in number (1-byte frames) and in bytes (40-byte frames), each drop counted."""
    queue, drops = make_queue()
    frames = [bytes([i]) * size for i in range(5)]
    assert all(queue.put(frame, Priority.TRANSACTIONS) for frame in frames)
    kept = 3 if size == 1 else 2
    assert queue.take(1000) == (b"".join(frames[-kept:]), kept)
    assert drops == {"transactions_queue_full": 5 - kept}


def test_full_of_answers_the_newest_is_refused() -> None:
    queue, drops = make_queue()
    assert [queue.put(bytes([i]) * 40, Priority.FETCH) for i in range(3)] == [True, True, False]
    assert queue.take(1000)[0][:1] == b"\0"
    assert drops == {"fetch_queue_full": 1}


def test_full_of_consensus_the_peer_is_given_up() -> None:
    queue, drops = make_queue()
    for _ in range(3):
        queue.put(b"c", Priority.CONSENSUS)
    with pytest.raises(SlowPeer):
        queue.put(b"c", Priority.CONSENSUS)
    assert drops == {"consensus_queue_full": 1}


def test_a_full_class_does_not_touch_the_others() -> None:
    queue, _ = make_queue()
    for _ in range(5):
        queue.put(bytes(40), Priority.TRANSACTIONS)
    assert queue.put(b"c", Priority.CONSENSUS)
    assert queue.put(b"f", Priority.FETCH)
    assert queue.bytes_waiting == 82


def test_an_empty_class_takes_one_frame_of_any_size() -> None:
    queue, _ = make_queue()
    assert queue.put(bytes(500), Priority.FETCH)


def test_every_class_has_a_bound() -> None:
    assert list(QUEUE_BOUNDS) == list(Priority)
