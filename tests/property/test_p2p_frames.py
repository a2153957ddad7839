"""The frame parser is a function of the stream, not of the chunks it comes in."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from p2p.errors import FrameError
from p2p.frames import FrameParser, encode_frame

LIMIT = 300
payloads = st.lists(st.binary(min_size=1, max_size=LIMIT), max_size=12)


def chunks_of(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def parse(chunks: list[bytes]) -> tuple[list[bytes], str]:
    """Return the payloads and the code of the error that ended the stream, if one did."""
    parser = FrameParser(LIMIT)
    found = []
    for chunk in chunks:
        parser.feed(chunk)
        try:
            while (payload := parser.next_payload()) is not None:
                found.append(payload)
        except FrameError as error:
            return found, error.code
    return found, ""


@given(payloads, st.lists(st.integers(0, 10_000), max_size=40))
def test_any_chunking_gives_the_payloads_that_were_sent(sent: list[bytes], cuts: list[int]) -> None:
    """P5."""
    stream = b"".join(encode_frame(payload) for payload in sent)
    assert parse(chunks_of(stream, cuts)) == (sent, "")


@given(st.binary(max_size=2000), st.lists(st.integers(0, 10_000), max_size=40))
def test_any_chunking_of_hostile_bytes_gives_the_same_end(data: bytes, cuts: list[int]) -> None:
    """P5: whole, in random pieces and byte by byte."""
    whole = parse([data])
    assert parse(chunks_of(data, cuts)) == whole
    assert parse([bytes([byte]) for byte in data]) == whole


@given(payloads, st.integers(0, 10_000))
def test_a_truncated_stream_gives_a_prefix(sent: list[bytes], cut: int) -> None:
    stream = b"".join(encode_frame(payload) for payload in sent)
    found, code = parse([stream[: cut % (len(stream) + 1)]])
    assert found == sent[: len(found)]
    assert code == ""


@given(st.binary(max_size=4000))
def test_the_parser_holds_no_more_than_it_was_given(data: bytes) -> None:
    """P5: an announced length reserves nothing."""
    parser = FrameParser(2**32)
    parser.feed(data)
    try:
        while parser.next_payload() is not None:
            pass
    except FrameError:
        pass
    assert parser.buffered_bytes <= len(data)
