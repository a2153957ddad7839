"""Everything two nodes say to each other: one tagged union, strictly decoded.

A message is a msgpack array whose first element is an integer tag: 1 to 19 are the consensus
messages of :mod:`consensus.types`, 32 and up are defined here. Sizes and counts are bounded by the
types, so the decoder refuses an absurd length before it allocates, and bytes that are not the
canonical encoding of what they decode to are refused. Transactions and blocks travel as opaque
bytes: whoever uses them decodes them. Normative text: ``docs/network.md``, Messages.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final, get_args

import msgspec
from msgspec import Meta, Struct

from consensus.types import Certificate, ConsensusMessage
from ledger.block import BLOCK_BYTES_MAX, BLOCK_TRANSACTIONS_MAX
from ledger.records import TRANSACTION_BYTES_MAX
from ledger.types import ERA_MAX, DigestField, PublicKeyField
from ledger.votes import Vote
from p2p.errors import MalformedMessage, NonCanonicalMessage, UnknownMessage

PROTOCOL_VERSION: Final = 1
"""Version of this message set; the hello carries the range a node speaks."""

BLOCK_WIRE_BYTES_MAX: Final = BLOCK_BYTES_MAX + 48 * 1024
"""Largest encoded block: transactions, 5 bytes around each of 4096, a 16 KiB certificate, the
header."""

CHAIN_BLOCKS_MAX: Final = 64
"""Most blocks in one answer; an answer also ends at :data:`BLOCK_WIRE_BYTES_MAX` bytes of
blocks."""

REQUEST_ID_MAX: Final = 2**32 - 1
AGENT_CHARACTERS_MAX: Final = 64
GOODBYE_CODE_CHARACTERS_MAX: Final = 64
GOODBYE_DETAIL_CHARACTERS_MAX: Final = 200

RequestId = Annotated[int, Meta(ge=0, le=REQUEST_ID_MAX)]
ClaimedHeight = Annotated[int, Meta(ge=0)]
Version = Annotated[int, Meta(ge=1, le=65_535)]
TransactionWire = Annotated[bytes, Meta(min_length=1, max_length=TRANSACTION_BYTES_MAX)]
BlockWire = Annotated[bytes, Meta(max_length=BLOCK_WIRE_BYTES_MAX)]


class Priority(IntEnum):
    """Who goes first on a connection; lower is earlier."""

    CONSENSUS = 0
    """Votes, certificates, proposals, heartbeats and requests: small and urgent."""
    FETCH = 1
    """Answers with blocks and transactions that a peer asked for."""
    TRANSACTIONS = 2
    """Gossip."""


class Hello(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=32):
    """First message in both directions. Its layout is the same in every version of the protocol."""

    version_min: Version
    version_max: Version
    genesis_hash: DigestField
    """Chain id: nodes of different networks part here."""
    node_id: PublicKeyField
    """Must equal the key in the sender's certificate."""
    height: ClaimedHeight
    """Executed height; for display, nothing depends on it."""
    agent: Annotated[str, Meta(max_length=AGENT_CHARACTERS_MAX, pattern=r"^[ -~]*\Z")]
    """Software name and version, printable ASCII; for display."""


class Goodbye(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=33):
    """Last message before a deliberate close: why."""

    reason: Annotated[
        str, Meta(min_length=1, max_length=GOODBYE_CODE_CHARACTERS_MAX, pattern=r"^[a-z_]+\Z")
    ]
    """Code of a :class:`p2p.errors.ChannelError`."""
    detail: Annotated[str, Meta(max_length=GOODBYE_DETAIL_CHARACTERS_MAX, pattern=r"^[ -~]*\Z")]


class Ping(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=34):
    """Heartbeat; answered by a Pong with the same number."""

    number: RequestId
    height: ClaimedHeight
    """Executed height of the sender; for display."""


class Pong(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=35):
    """Answer to a Ping."""

    number: RequestId


class TransactionBatch(
    Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=36
):
    """Gossiped transactions, as the exact bytes their senders signed."""

    wires: Annotated[
        tuple[TransactionWire, ...], Meta(min_length=1, max_length=BLOCK_TRANSACTIONS_MAX)
    ]


class GetTransactions(
    Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=37
):
    """Asks for transactions of a proposed block by their positions in it, in ascending order."""

    request_id: RequestId
    block_hash: DigestField
    indexes: Annotated[
        tuple[Annotated[int, Meta(ge=0, lt=BLOCK_TRANSACTIONS_MAX)], ...],
        Meta(min_length=1, max_length=BLOCK_TRANSACTIONS_MAX),
    ]


class Transactions(
    Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=38
):
    """Answer to GetTransactions, in the order asked; empty if it cannot be given whole."""

    request_id: RequestId
    wires: Annotated[tuple[TransactionWire, ...], Meta(max_length=BLOCK_TRANSACTIONS_MAX)]


class GetBlock(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=39):
    """Asks for one whole block by hash."""

    request_id: RequestId
    block_hash: DigestField


class BlockAnswer(
    Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=40
):
    """Answer to GetBlock: the encoded block, nil if it is not held."""

    request_id: RequestId
    block: BlockWire | None


class GetChain(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=41):
    """Asks for consecutive finalised blocks from a height on."""

    request_id: RequestId
    first: Annotated[int, Meta(ge=1)]
    count: Annotated[int, Meta(ge=1, le=CHAIN_BLOCKS_MAX)]


class ChainAnswer(
    Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=42
):
    """Answer to GetChain: encoded blocks in order, as many as fit, and what proves them final."""

    request_id: RequestId
    blocks: Annotated[tuple[BlockWire, ...], Meta(max_length=CHAIN_BLOCKS_MAX)]
    certificate: Certificate | None
    """Finalization of the last block; None if no block of the answer has one of its own."""
    head: ClaimedHeight
    """Executed height of the sender; a hint how much is left, never a reason to believe
    anything."""


class EvidenceMessage(
    Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=43
):
    """Gossips proof that a validator signed against itself; verified before it is believed."""

    first: Vote
    second: Vote


class EraMessage(
    Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=44
):
    """Tells a peer that has just connected in which era the sender is, and by which plan.

    Nothing is done about it but to tell the operator: whoever lacks the plan must get it by hand.
    """

    era: Annotated[int, Meta(ge=1, le=ERA_MAX)]
    plan_hash: DigestField


Request = GetTransactions | GetBlock | GetChain
Answer = Transactions | BlockAnswer | ChainAnswer
Message = (
    ConsensusMessage
    | Hello
    | Goodbye
    | Ping
    | Pong
    | TransactionBatch
    | Request
    | Answer
    | EvidenceMessage
    | EraMessage
)

ANSWER_OF: Final[dict[type[Request], type[Answer]]] = {
    GetTransactions: Transactions,
    GetBlock: BlockAnswer,
    GetChain: ChainAnswer,
}
"""Which answer each request expects."""

KNOWN_TAGS: Final = frozenset(
    kind.__struct_config__.tag for kind in get_args(Message) if issubclass(kind, Struct)
)

_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_FIXARRAY = 0x90


def encode_message(message: Message) -> bytes:
    """Return the canonical bytes of a message."""
    return _encode(message)


def decode_message(payload: bytes) -> Message:
    """Decode the payload of one frame; the frame's length has been checked already.

    Raises:
        UnknownMessage: the tag is not one of ours.
        MalformedMessage: wrong shape, wrong type or a limit exceeded.
        NonCanonicalMessage: the bytes differ from the encoding of what they decode to.
    """
    if len(payload) < 2 or payload[0] & 0xF0 != _FIXARRAY:
        raise MalformedMessage("expected an array that starts with a tag")
    if payload[1] not in KNOWN_TAGS:
        raise UnknownMessage(f"expected a known message tag, received byte {payload[1]:#04x}")
    try:
        message = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedMessage(f"tag {payload[1]}: {error}") from error
    if _encode(message) != payload:
        raise NonCanonicalMessage(f"tag {payload[1]}: bytes differ from their re-encoding")
    return message


def goodbye(reason: str, detail: str) -> Goodbye:
    """Return a Goodbye whose detail fits the limits, whatever text it is made of."""
    printable = "".join(c if " " <= c <= "~" else "?" for c in detail)
    return Goodbye(reason, printable[:GOODBYE_DETAIL_CHARACTERS_MAX])


__all__ = [
    "ANSWER_OF",
    "BLOCK_WIRE_BYTES_MAX",
    "CHAIN_BLOCKS_MAX",
    "KNOWN_TAGS",
    "PROTOCOL_VERSION",
    "TRANSACTION_BYTES_MAX",
    "Answer",
    "BlockAnswer",
    "ChainAnswer",
    "EraMessage",
    "EvidenceMessage",
    "GetBlock",
    "GetChain",
    "GetTransactions",
    "Goodbye",
    "Hello",
    "Message",
    "Ping",
    "Pong",
    "Priority",
    "Request",
    "TransactionBatch",
    "Transactions",
    "decode_message",
    "encode_message",
    "goodbye",
]
