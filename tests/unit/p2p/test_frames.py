"""Cutting a byte stream into frames."""

from __future__ import annotations

import pytest

from p2p.errors import FrameEmpty, FrameTooLarge
from p2p.frames import FRAME_BYTES_MAX, FrameParser, encode_frame


def payloads(parser: FrameParser) -> list[bytes]:
    found = []
    while (payload := parser.next_payload()) is not None:
        found.append(payload)
    return found


def test_two_frames_in_one_chunk() -> None:
    parser = FrameParser(100)
    parser.feed(encode_frame(b"one") + encode_frame(b"two"))
    assert payloads(parser) == [b"one", b"two"]


def test_a_frame_byte_by_byte() -> None:
    parser = FrameParser(100)
    for byte in encode_frame(b"payload")[:-1]:
        parser.feed(bytes([byte]))
        assert parser.next_payload() is None
    parser.feed(b"d")
    assert parser.next_payload() == b"payload"
    assert parser.buffered_bytes == 0


def test_the_limit_is_inclusive_and_may_change_between_frames() -> None:
    parser = FrameParser(2)
    parser.feed(encode_frame(b"ab") + encode_frame(b"abc"))
    assert parser.next_payload() == b"ab"
    parser.payload_bytes_max = 3
    assert parser.next_payload() == b"abc"


@pytest.mark.parametrize("length", [101, 2**31, 2**32 - 1])
def test_a_length_beyond_the_limit_is_refused_before_the_payload(length: int) -> None:
    """P5: four bytes decide."""
    parser = FrameParser(100)
    parser.feed(length.to_bytes(4, "big"))
    with pytest.raises(FrameTooLarge, match=str(length)):
        parser.next_payload()
    assert parser.buffered_bytes == 4


def test_an_empty_frame_is_refused() -> None:
    """P5: a flood of them would cost work and carry nothing."""
    parser = FrameParser(100)
    parser.feed(bytes(4))
    with pytest.raises(FrameEmpty):
        parser.next_payload()


def test_a_payload_that_no_receiver_takes_is_not_sent() -> None:
    assert len(encode_frame(bytes(FRAME_BYTES_MAX))) == FRAME_BYTES_MAX + 4
    with pytest.raises(FrameTooLarge):
        encode_frame(bytes(FRAME_BYTES_MAX + 1))
