"""Token buckets, scores and back-off: the arithmetic of patience."""

from __future__ import annotations

import pytest

from p2p.dialler import Backoff
from p2p.rates import TokenBucket
from p2p.scores import BAN_POINTS, BAN_S, Score


def test_a_bucket_allows_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(rate=10, burst=5)
    for _ in range(5):
        bucket.take(1, 0.0)
    assert bucket.wait_s(0.0) == 0
    bucket.take(1, 0.0)
    assert bucket.wait_s(0.0) == pytest.approx(0.1)
    assert bucket.wait_s(0.1) == pytest.approx(0)


def test_a_large_message_passes_and_is_paid_for_afterwards() -> None:
    bucket = TokenBucket(rate=10, burst=5)
    bucket.take(105, 0.0)
    assert bucket.wait_s(0.0) == pytest.approx(10)
    assert bucket.wait_s(9.0) == pytest.approx(1)


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    bucket = TokenBucket(rate=10, burst=5)
    bucket.take(1, 0.0)
    bucket.take(6, 1000.0)
    assert bucket.wait_s(1000.0) == pytest.approx(0.1)


def test_a_clock_that_steps_back_gives_no_tokens() -> None:
    bucket = TokenBucket(rate=10, burst=1)
    bucket.take(2, 100.0)
    bucket.take(0, 50.0)
    assert bucket.wait_s(50.0) == pytest.approx(0.1)


def test_points_fade() -> None:
    score = Score()
    assert not score.add(60, 0.0)
    assert score.points(30.0) == 30
    assert not score.add(60, 30.0)
    assert score.points(1000.0) == 0


def test_enough_points_ban_for_a_while_and_start_anew_afterwards() -> None:
    score = Score()
    assert not score.add(BAN_POINTS - 1, 0.0)
    assert score.add(1, 0.0)
    assert score.banned_for_s(BAN_S - 1) == pytest.approx(1)
    assert score.banned_for_s(BAN_S) == 0
    assert score.points(BAN_S) == 0
    assert not score.add(BAN_POINTS - 1, BAN_S)


def test_back_off_doubles_up_to_its_maximum_and_is_spread() -> None:
    earliest = Backoff(1.0, 4.0, lambda: 0.0)
    assert [earliest.next_s() for _ in range(4)] == [0.5, 1.0, 2.0, 2.0]
    latest = Backoff(1.0, 4.0, lambda: 1.0)
    assert [latest.next_s() for _ in range(4)] == [1.0, 2.0, 4.0, 4.0]
    latest.reset()
    assert latest.next_s() == 1.0
