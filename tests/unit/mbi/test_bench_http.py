"""The lean HTTP client: any cut of the bytes gives the same answers."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbi.bench.connection import Pool
from mbi.bench.http import (
    BODY_BYTES_MAX,
    HEAD_BYTES_MAX,
    Answer,
    AnswerParser,
    BadAnswer,
    request_bytes,
)
from mbi.errors import Unreachable
from tests.unit.mbi.fake_node import FakeNode, serving

answers = st.lists(
    st.builds(
        Answer,
        st.integers(100, 599),
        st.binary(max_size=200),
        st.booleans(),
        st.none() | st.integers(0, 999),
    ),
    min_size=1,
    max_size=5,
)


def encode(answer: Answer) -> bytes:
    head = f"HTTP/1.1 {answer.status} Whatever\r\nContent-Length: {len(answer.body)}\r\n"
    head += "content-type: application/json; charset=utf-8\r\n"
    if answer.closes:
        head += "Connection: close\r\n"
    if answer.retry_after_s is not None:
        head += f"Retry-After: {answer.retry_after_s}\r\n"
    return head.encode() + b"\r\n" + answer.body


@given(answers, st.lists(st.integers(0, 2000), max_size=30))
def test_any_cut_gives_the_same_answers(sent: list[Answer], cuts: list[int]) -> None:
    data = b"".join(map(encode, sent))
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    parser = AnswerParser()
    received = [a for start, end in pairwise(places) for a in parser.feed(data[start:end])]
    assert received == sent
    assert parser.is_idle


@given(st.binary(max_size=300))
def test_arbitrary_bytes_end_in_answers_or_a_refusal(data: bytes) -> None:
    parser = AnswerParser()
    try:
        parser.feed(data + b"\r\n\r\n")
    except BadAnswer:
        return


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1e3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + str(BODY_BYTES_MAX + 1).encode() + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"HTTP/2 200\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
        b"x" * (HEAD_BYTES_MAX + 1),
    ],
)
def test_what_no_node_sends_is_refused(head: bytes) -> None:
    with pytest.raises(BadAnswer):
        AnswerParser().feed(head)


def test_request_states_the_length_of_its_body() -> None:
    data = request_bytes("http://h:1", "POST", "/p", b"abc", accept="a/b", content_type="c/d")
    assert data == (
        b"POST /p HTTP/1.1\r\nHost: h:1\r\nAccept: a/b\r\n"
        b"Content-Type: c/d\r\nContent-Length: 3\r\n\r\nabc"
    )


async def test_connections_are_kept_and_reused() -> None:
    async with serving(FakeNode()) as node:
        pool = Pool(node.url, 2)
        request = request_bytes(node.url, "GET", "/v1/status", accept="application/json")
        try:
            async with asyncio.timeout(10):
                found = [await pool.request(request) for _ in range(5)]
                many = await asyncio.gather(*(pool.request(request) for _ in range(20)))
        finally:
            pool.close()
    assert {answer.status for answer in (*found, *many)} == {200}


async def test_silence_of_a_closed_connection_is_an_error_not_a_hang() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    pool = Pool(url, 1)
    try:
        async with asyncio.timeout(10):
            with pytest.raises(Unreachable):
                await pool.request(request_bytes(url, "GET", "/", accept="*/*"))
    finally:
        pool.close()
        server.close()
        await server.wait_closed()
