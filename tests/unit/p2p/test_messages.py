"""Strict decoding of messages, their limits, and the encodings other programs rely on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import get_args

import msgspec
import pytest
from msgspec import Struct

from consensus.recovery import RecoveryPlan
from consensus.types import (
    Certificate,
    CertificateMessage,
    GetCertificates,
    GetProposal,
    Status,
    StatusRequest,
)
from ledger.block import Block
from ledger.transaction import Transaction
from ledger.types import Digest, Epoch, Era, Height, PublicKey, Signature, View
from ledger.votes import NULL_VALUE, Value, Vote, VoteKind
from p2p.errors import MalformedMessage, MessageError, NonCanonicalMessage, UnknownMessage
from p2p.frames import FRAME_BYTES_MAX, HELLO_BYTES_MAX
from p2p.messages import (
    AGENT_CHARACTERS_MAX,
    ANSWER_OF,
    BLOCK_WIRE_BYTES_MAX,
    CHAIN_BLOCKS_MAX,
    KNOWN_TAGS,
    TRANSACTION_BYTES_MAX,
    BlockAnswer,
    ChainAnswer,
    EraMessage,
    EvidenceMessage,
    GetBlock,
    GetChain,
    GetTransactions,
    Goodbye,
    Hello,
    Message,
    Ping,
    Pong,
    Request,
    TransactionBatch,
    Transactions,
    decode_message,
    encode_message,
    goodbye,
)

DIGEST = Digest(bytes(range(32)))
KEY = PublicKey(bytes(range(32, 64)))
VOTE = Vote(VoteKind.NULLIFY, Era(0), Epoch(1), View(7), NULL_VALUE, 3, Signature(bytes(range(64))))
CERTIFICATE = Certificate(
    VoteKind.NULLIFY, Era(0), Epoch(1), View(7), NULL_VALUE, b"\x07", bytes(192)
)
EXAMPLES: list[Message] = [
    VOTE,
    CertificateMessage((CERTIFICATE,)),
    StatusRequest(bytes(16)),
    Status(b"", Era(0), Epoch(1), View(8), Height(5), CERTIFICATE, None, None),
    GetCertificates(Epoch(1), View(2), View(9)),
    GetProposal(Epoch(1), View(2)),
    Hello(1, 1, DIGEST, KEY, 9, "mbi/0.1.0"),
    Goodbye("wrong_genesis", "expected another"),
    Ping(1, 9),
    Pong(1),
    TransactionBatch((b"one", b"two")),
    GetTransactions(2, DIGEST, (0, 7)),
    Transactions(2, (b"one",)),
    GetBlock(3, DIGEST),
    BlockAnswer(3, b"block"),
    BlockAnswer(3, None),
    GetChain(4, 1, 64),
    ChainAnswer(4, (b"one", b"two"), CERTIFICATE, 2),
    EvidenceMessage(VOTE, VOTE),
    EraMessage(1, Digest(bytes(32))),
]
ENCODINGS_HASH = "7466d8b5"
"""First bytes of the hash over all examples: a change here is a change of the protocol."""


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_every_message_survives_the_wire(message: Message) -> None:
    assert decode_message(encode_message(message)) == message


def test_the_examples_show_every_message_but_the_proposal() -> None:
    shown = {type(message).__name__ for message in EXAMPLES}
    assert {kind.__name__ for kind in get_args(Message)} - shown == {"Proposal"}


def test_encodings_are_frozen() -> None:
    encodings = b"".join(encode_message(message) for message in EXAMPLES)
    assert sha256(encodings).hexdigest()[:8] == ENCODINGS_HASH


def test_tags_do_not_collide_and_leave_consensus_its_own() -> None:
    tags = [kind.__struct_config__.tag for kind in get_args(Message) if issubclass(kind, Struct)]
    assert len(tags) == len(set(tags)) == len(KNOWN_TAGS)
    ours = {Hello, Goodbye, Ping, Pong, TransactionBatch, EvidenceMessage, EraMessage}
    ours |= {*ANSWER_OF, *ANSWER_OF.values()}
    assert all((kind.__struct_config__.tag >= 32) == (kind in ours) for kind in get_args(Message))


def test_every_request_has_its_own_answer() -> None:
    assert set(ANSWER_OF) == set(get_args(Request))
    assert len(set(ANSWER_OF.values())) == len(ANSWER_OF)


@pytest.mark.parametrize(
    "message",
    [
        [32, 1, 1, DIGEST, KEY, 9, "x" * (AGENT_CHARACTERS_MAX + 1)],
        [32, 1, 1, DIGEST, KEY, 9, "line\nfeed"],
        [32, 1, 1, DIGEST, KEY, 9, "mbi\n"],
        [33, "banned", "x\n"],
        [32, 1, 1, DIGEST, KEY, 9, "mbi", "extra"],
        [32, 1, 1, DIGEST, KEY, 9],
        [32, 0, 1, DIGEST, KEY, 9, "mbi"],
        [32, 1, 1, DIGEST[:31], KEY, 9, "mbi"],
        [32, 1, 1, DIGEST, KEY, -1, "mbi"],
        [33, "Upper", "x"],
        [34, 2**32, 0],
        [34, True, 0],
        [34, 1.0, 0],
        [34, "1", 0],
        [36, []],
        [36, [b""]],
        [36, [bytes(TRANSACTION_BYTES_MAX + 1)]],
        [36, [b"x"] * 4097],
        [36, ["text"]],
        [37, 1, DIGEST, [4096]],
        [37, 1, DIGEST, []],
        [37, 1, DIGEST, [0] * 4097],
        [40, 1, bytes(BLOCK_WIRE_BYTES_MAX + 1)],
        [41, 1, 1, 0],
        [41, 1, 1, CHAIN_BLOCKS_MAX + 1],
        [41, 1, 1, 10**9],
        [41, 1, 0, 1],
        [42, 1, [b"x"] * (CHAIN_BLOCKS_MAX + 1), None, 1],
        [],
        {},
        7,
        None,
    ],
    ids=lambda m: repr(m)[:40],
)
def test_a_message_outside_the_limits_is_refused(message: object) -> None:
    """P7, P12: counts of 0 and 10^9, extra fields, wrong types."""
    with pytest.raises(MalformedMessage):
        decode_message(msgspec.msgpack.encode(message))


@pytest.mark.parametrize(
    "vote",
    [
        msgspec.structs.replace(VOTE, kind=VoteKind.FINALIZE, value=Value(View(-2), DIGEST)),
        msgspec.structs.replace(VOTE, era=Era(-1)),
        msgspec.structs.replace(VOTE, era=Era(2**32)),
        msgspec.structs.replace(VOTE, epoch=Epoch(-1)),
        msgspec.structs.replace(VOTE, view=View(-(2**63))),
        msgspec.structs.replace(VOTE, voter=-1),
        msgspec.structs.replace(VOTE, voter=128),
    ],
)
def test_a_number_that_no_vote_can_sign_is_refused_where_it_is_decoded(vote: Vote) -> None:
    """T7: whoever lays such a number out in bytes would fail; nobody gets to see it."""
    with pytest.raises(MalformedMessage):
        decode_message(encode_message(vote))


def test_every_integer_that_a_peer_writes_has_a_lower_bound() -> None:
    """T7: of messages, and of the blocks, transactions and plans that travel as bytes in them."""
    roots = (Message, Block, Transaction, RecoveryPlan)
    integers = dict(_integers(msgspec.inspect.multi_type_info(roots), "", set()))
    assert {"Value.parent_view", "Header.height", "Transaction.nonce"} <= integers.keys()
    assert [name for name, kind in integers.items() if kind.ge is None and kind.gt is None] == []


def _integers(
    kinds: Iterable[msgspec.inspect.Type], name: str, seen: set[type]
) -> Iterator[tuple[str, msgspec.inspect.IntType]]:
    """Yield every integer inside these types, named by the structure and field it is in."""
    for kind in kinds:
        match kind:
            case msgspec.inspect.IntType():
                yield name, kind
            case (
                msgspec.inspect.UnionType(types=inner) | msgspec.inspect.TupleType(item_types=inner)
            ):
                yield from _integers(inner, name, seen)
            case (
                msgspec.inspect.VarTupleType(item_type=item)
                | msgspec.inspect.ListType(item_type=item)
            ):
                yield from _integers((item,), name, seen)
            case msgspec.inspect.StructType(cls=cls, fields=fields) if cls not in seen:
                seen.add(cls)
                for field in fields:
                    yield from _integers((field.type,), f"{cls.__name__}.{field.name}", seen)


@pytest.mark.parametrize("tag", [0, 10, 19, 31, 45, 99, 127])
def test_an_unknown_tag_is_told_from_a_malformed_message(tag: int) -> None:
    """P12: a newer peer is not as bad as a broken one."""
    with pytest.raises(UnknownMessage):
        decode_message(msgspec.msgpack.encode([tag, 1, 2]))
    assert 0 < UnknownMessage.points < MalformedMessage.points


@pytest.mark.parametrize(
    "payload",
    [
        b"\x93\x22\xcc\x01\x00",  # number 1 in two bytes
        b"\x93\x22\xcd\x00\x01\x00",  # in three
        b"\x92\x23\xce\x00\x00\x00\x01",  # in five
        b"\x92\x24\xdc\x00\x01\xc4\x01x",  # array16 of one
        b"\x92\x24\x91\xc5\x00\x01x",  # bin16 of one
        b"\x93\x21\xd9\x01a\xa1b",  # str8 of one
    ],
    ids=bytes.hex,
)
def test_a_second_encoding_of_a_message_is_refused(payload: bytes) -> None:
    """T9 for the network: one value, one encoding."""
    with pytest.raises(NonCanonicalMessage):
        decode_message(payload)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x92",
        b"\xdc\x00\x02\x23\x01",  # array16 on top
        b"\x92\xcc\x23\x01",  # tag in two bytes
        b"\x92\x23\x01\x00",  # trailing byte
        b"\x92\x23",  # cut
        b"\x93\x21\xa1\xff\xa1b",  # invalid UTF-8
        b"\x92\x24\xdd\xff\xff\xff\xff",  # 2^32-1 wires announced
        b"\x92\x24\x91\xc6\xff\xff\xff\xff",  # 2^32-1 bytes announced
        b"\x92\x24" + b"\x91" * 5000,  # deep
        b"\xd4\x01\x01",
        b"\xc1",
    ],
    ids=lambda p: p[:8].hex(),
)
def test_hostile_bytes_are_refused_with_a_typed_error(payload: bytes) -> None:
    """T11, T12, T14 for the network: depth, announced lengths, trailing bytes, extensions."""
    with pytest.raises(MessageError):
        decode_message(payload)


def test_what_must_fit_into_a_frame_fits() -> None:
    largest = Certificate(
        VoteKind.FINALIZE, Era(0), Epoch(0), View(2**40), NULL_VALUE, bytes(16), bytes(64 * 128)
    )
    answer = ChainAnswer(1, (bytes(BLOCK_WIRE_BYTES_MAX),), largest, 2**40)
    assert len(encode_message(answer)) <= FRAME_BYTES_MAX
    page = CertificateMessage((largest,) * 64)
    assert len(encode_message(page)) <= FRAME_BYTES_MAX
    hello = Hello(65_535, 65_535, DIGEST, KEY, 2**63, "x" * AGENT_CHARACTERS_MAX)
    assert len(encode_message(hello)) <= HELLO_BYTES_MAX


@pytest.mark.parametrize("detail", ["", "x" * 1000, "tab\tnul\0 ünï‮code"])
def test_any_text_makes_a_valid_goodbye(detail: str) -> None:
    """P13, T15: what a peer wrote into an error cannot break the log of another."""
    message = goodbye("slow_peer", detail)
    assert decode_message(encode_message(message)) == message
