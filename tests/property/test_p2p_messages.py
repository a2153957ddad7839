"""Messages: decode(encode(x)) == x, one encoding per value, no escape for hostile bytes."""

from __future__ import annotations

from typing import Any

import msgpack
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.types import Digest, PublicKey
from p2p.errors import MessageError
from p2p.messages import (
    KNOWN_TAGS,
    BlockAnswer,
    ChainAnswer,
    GetBlock,
    GetChain,
    GetTransactions,
    Goodbye,
    Hello,
    Message,
    Ping,
    Pong,
    TransactionBatch,
    Transactions,
    decode_message,
    encode_message,
)

ids = st.integers(0, 2**32 - 1)
heights = st.integers(0, 2**63)
digests = st.binary(min_size=32, max_size=32).map(Digest)
wires = st.lists(st.binary(min_size=1, max_size=200), max_size=20).map(tuple)
printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=64)
blocks = st.lists(st.binary(max_size=200), max_size=5).map(tuple)
indexes = st.lists(st.integers(0, 4095), min_size=1, max_size=20).map(tuple)
versions = st.integers(1, 65_535)

messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Hello, versions, versions, digests, digests.map(PublicKey), heights, printable),
    st.builds(Goodbye, st.sampled_from(["slow_peer", "wrong_genesis"]), printable),
    st.builds(Ping, ids, heights),
    st.builds(Pong, ids),
    st.builds(TransactionBatch, wires.filter(bool)),
    st.builds(GetTransactions, ids, digests, indexes),
    st.builds(Transactions, ids, wires),
    st.builds(GetBlock, ids, digests),
    st.builds(BlockAnswer, ids, st.none() | st.binary(max_size=500)),
    st.builds(GetChain, ids, st.integers(1, 2**63), st.integers(1, 64)),
    st.builds(ChainAnswer, ids, blocks, st.none(), heights),
)
values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text()
    | st.binary(max_size=80),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


def decode_or_refuse(payload: bytes) -> None:
    """Either the payload is the encoding of its message, or it is refused with a typed error."""
    try:
        message = decode_message(payload)
    except MessageError:
        return
    assert encode_message(message) == payload


@given(messages)
def test_every_message_survives_the_wire(message: Message) -> None:
    assert decode_message(encode_message(message)) == message


@given(messages)
def test_another_msgpack_library_writes_the_same_bytes(message: Message) -> None:
    payload = encode_message(message)
    untyped = msgpack.unpackb(payload, strict_map_key=False)
    assert msgpack.packb(untyped) == payload


@given(st.binary(max_size=200))
@example(b"\x93\x21\xa1\xff\xa0")
def test_random_bytes_raise_nothing_else(payload: bytes) -> None:
    """P5, T14: no error of a library escapes."""
    decode_or_refuse(payload)


@given(messages, st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=3))
def test_mutated_messages_raise_nothing_else(
    message: Message, changes: list[tuple[int, int]]
) -> None:
    payload = bytearray(encode_message(message))
    for position, byte in changes:
        payload[position % len(payload)] = byte
    decode_or_refuse(bytes(payload))


@given(messages, st.integers(0, 5000), st.binary(max_size=3))
def test_cut_and_lengthened_messages_raise_nothing_else(
    message: Message, cut: int, tail: bytes
) -> None:
    payload = encode_message(message)
    decode_or_refuse(payload[: cut % (len(payload) + 1)] + tail)


@given(st.sampled_from(sorted(KNOWN_TAGS, key=str)), st.lists(values, max_size=11))
def test_any_fields_behind_a_known_tag_raise_nothing_else(tag: Any, fields: list[Any]) -> None:
    """T7, T10, T14 for the network: floats, booleans and maps where integers belong."""
    decode_or_refuse(msgpack.packb([tag, *fields]))
