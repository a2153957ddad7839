"""Every key of the database, in one place.

====  ==============================  =====================  ====================================
Key   Followed by                     Value                  Meaning
====  ==============================  =====================  ====================================
m     name                            by name                metadata, see the constants below
b     height 8, block hash 32         Block                  a whole block, final or voted for
n     block hash 32                   height 8               where the block of this hash is
h     height 8                        ExecutedBlock          header and roots of a final block
c     height 8                        Certificate            finalization of the block, if held
r     height 8                        [Receipt, ...]         outcomes, in order of transactions
t     transaction id 32               height 8, index 2      where a final transaction is
x     kind 1, length 1, topic,        [offset 1, index 2]... transactions that touch the topic, in
      first height of span 8                                 the span of heights; ascending
s     state key                       StateRecord            authenticated state at the head
p     page key                        digests                page of the tree over the history
v     era 4, epoch 8, view 8, kind 1  Vote                   own vote, on disk before it is sent
q     era 4, epoch 8, view 8, kind 1  Certificate            certificate of a recent view
o     era 4, epoch 8, view 8          Proposal               own proposal, repeated after a restart
u     height 8                        [Validator, ...]       set that this block scheduled
d     era 4, epoch 8, voter 2         [Vote, Vote]           proof against a validator
e     era 4                           RecoveryPlan           plan that opens the era, accepted here
====  ==============================  =====================  ====================================

Integers are big-endian and unsigned, so the order of keys is the order of numbers. Values are
canonical msgpack arrays except where a width in bytes is given. Blocks are keyed by height first
because LevelDB moves ascending keys without rewriting them, and a body is most of what a block
costs; keyed by hash alone it would be written some ten times over.

A change of anything here is *storage-breaking* and raises :data:`SCHEMA_VERSION`.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct as BinaryLayout
from typing import Final, NamedTuple

from msgspec import Struct

from ledger.block import BLOCK_TRANSACTIONS_MAX
from ledger.types import UINT64_MAX, Address, Digest, Epoch, Era, Height, View
from ledger.votes import Round, VoteKind
from storage.kv import prefix_end

SCHEMA_VERSION: Final = 2
"""Layout of keys and values; a database with another one is refused."""

IDENTITY_KEY: Final = b"m/identity"
"""Which chain this is and which database: ``storage.metadata.Identity``."""
QUARANTINE_KEY: Final = b"m/quarantine"
"""Why this node must not vote yet, as text; absent if it may."""
HEAD_KEY: Final = b"m/head"
"""Height of the last executed block, 8 bytes."""
SIGN_FLOOR_KEY: Final = b"m/sign-floor"
"""Round at or below which this node never signs again: era 4, epoch 8, view 8."""

BLOCK: Final = b"b"
BLOCK_HEIGHT: Final = b"n"
EXECUTED: Final = b"h"
CERTIFICATE: Final = b"c"
RECEIPTS: Final = b"r"
TRANSACTION: Final = b"t"
TOPIC: Final = b"x"
STATE: Final = b"s"
HISTORY_PAGE: Final = b"p"
VOTE: Final = b"v"
VIEW_CERTIFICATE: Final = b"q"
PROPOSAL: Final = b"o"
SCHEDULE: Final = b"u"
EVIDENCE: Final = b"d"
PLAN: Final = b"e"

SPAN_HEIGHTS: Final = 32
"""Heights that share one entry per topic. Twice as many would save a tenth of the entries of a
chain with 100,000 accounts, and double memory (10 MB at 1,000 transactions a block) and work at
start."""

PLACE_BYTES: Final = 3
"""Offset in the span, and position in the block."""

_HEIGHT = BinaryLayout(">Q")
_LOCATION = BinaryLayout(">QH")
_ROUND = BinaryLayout(">IQQ")
_CULPRIT = BinaryLayout(">IQH")
_ERA = BinaryLayout(">I")
_INDEX_BYTES: Final = 2

INDEX: Final = tuple(index.to_bytes(_INDEX_BYTES, "big") for index in range(BLOCK_TRANSACTIONS_MAX))
"""Encoding of each position in a block: a table is four times as fast as converting."""


class TopicKind(IntEnum):
    """What an event can be looked up by."""

    ACCOUNT = 1
    """An account that it touches; the topic is the address."""
    OBJECT = 2
    """An object that it touches (asset, organisation, title); the topic is its id."""
    TYPE = 3
    """Its type; the topic is the name."""


class Topic(NamedTuple):
    """One account, object or type of event."""

    kind: TopicKind
    value: bytes

    @classmethod
    def account(cls, address: Address) -> Topic:
        """Return the topic of an account."""
        return cls(TopicKind.ACCOUNT, address)

    @classmethod
    def object(cls, name: str) -> Topic:
        """Return the topic of an object."""
        return cls(TopicKind.OBJECT, name.encode())

    @classmethod
    def type(cls, name: str) -> Topic:
        """Return the topic of a type of event."""
        return cls(TopicKind.TYPE, name.encode())


class Location(Struct, array_like=True, frozen=True, order=True, gc=False):
    """Place of a final transaction."""

    height: Height
    index: int
    """Position in the block, from 0."""


def encode_height(height: int) -> bytes:
    """Return 8 bytes in the order of heights; a number no height can reach is taken as the last."""
    return _HEIGHT.pack(min(height, UINT64_MAX))


def decode_height(data: bytes) -> Height:
    """Read what :func:`encode_height` wrote."""
    return Height(_HEIGHT.unpack(data)[0])


def block_key(height: int, block_hash: Digest) -> bytes:
    """Return the key of a whole block."""
    return BLOCK + encode_height(height) + block_hash


def decode_block_key(key: bytes) -> tuple[Height, Digest]:
    """Return height and hash of the block that a key of :func:`block_key` names."""
    split = len(BLOCK) + _HEIGHT.size
    return decode_height(key[len(BLOCK) : split]), Digest(key[split:])


def at_height(prefix: bytes, height: int) -> bytes:
    """Return the key of one of the records that exist once per height."""
    return prefix + encode_height(height)


def decode_location(data: bytes) -> Location:
    """Read an entry of the transaction index: an encoded height and one of :data:`INDEX`."""
    height, index = _LOCATION.unpack(data)
    return Location(Height(height), index)


def encode_place(offset: int, index: int) -> bytes:
    """Return the 3 bytes of one transaction in a topic's entry."""
    return bytes((offset,)) + INDEX[index]


def decode_place(entry: bytes | bytearray, number: int) -> tuple[int, int]:
    """Read the n-th transaction of a topic's entry: offset in the span, position in the block."""
    at = number * PLACE_BYTES
    return entry[at], int.from_bytes(entry[at + 1 : at + PLACE_BYTES], "big")


def topic_key(kind: int, value: bytes) -> bytes:
    """Return the key of a topic, to which the height is added."""
    return TOPIC + bytes((kind, len(value))) + value


def encode_round(at: Round) -> bytes:
    """Return 20 bytes in the order of rounds."""
    return _ROUND.pack(*at)


def decode_round(data: bytes) -> Round:
    """Read what :func:`encode_round` wrote."""
    era, epoch, view = _ROUND.unpack(data)
    return Round(Era(era), Epoch(epoch), View(view))


def round_key(prefix: bytes, at: Round, kind: VoteKind | None = None) -> bytes:
    """Return the key of a vote or certificate, or, without ``kind``, of a proposal."""
    return prefix + encode_round(at) + (b"" if kind is None else bytes((kind,)))


def evidence_key(era: int, epoch: int, voter: int) -> bytes:
    """Return the key of the proof against a validator of an epoch."""
    return EVIDENCE + _CULPRIT.pack(era, epoch, voter)


def plan_key(era: int) -> bytes:
    """Return the key of the plan that opens an era."""
    return PLAN + _ERA.pack(era)


def whole(prefix: bytes) -> tuple[bytes, bytes]:
    """Return first and last (exclusive) key of everything with a prefix."""
    return prefix, prefix_end(prefix)
