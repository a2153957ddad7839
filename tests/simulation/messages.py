"""Messages between simulated nodes: those of consensus, plus the application's few.

The application's messages stand for the ones of `p2p.messages`; they carry simulated transactions,
which are opaque bytes. A run with the codec on sends every message as msgpack bytes and decodes
them with types at the receiver, so that nothing travels that the wire could not carry.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from consensus.types import (
    Certificate,
    CertificateMessage,
    GetCertificates,
    GetProposal,
    Proposal,
    Status,
    StatusRequest,
)
from ledger.block import Block
from ledger.types import DigestField, Height
from ledger.votes import Vote

CHAIN_PAGE_BLOCKS: Final = 16
"""Blocks in one answer about the chain; small, so that a node far behind needs several pages."""

CHAIN_PAGE_BLOCKS_MAX: Final = 256
"""Bound of an answer whose first finalization lies further away than a page."""


class TransactionsMessage(
    Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=64
):
    """Gossip of transactions, or the answer to :class:`GetTransactions`."""

    wires: Annotated[tuple[bytes, ...], Meta(max_length=4096)]


class GetTransactions(
    Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=65
):
    """Asks for the transactions of a proposed block that the asker has not seen."""

    block_hash: DigestField
    hashes: Annotated[tuple[DigestField, ...], Meta(max_length=4096)]


class GetBlock(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=66):
    """Asks for a whole block."""

    block_hash: DigestField


class BlockAnswer(
    Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=67
):
    """Answers :class:`GetBlock`."""

    block_hash: DigestField
    block: Block | None


class GetChain(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=68):
    """Asks for finalised blocks from a height on."""

    first: Height


class ChainAnswer(
    Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=69
):
    """Answers :class:`GetChain`: blocks in order, and the finalization of the last."""

    first: Height
    blocks: Annotated[tuple[Block, ...], Meta(max_length=CHAIN_PAGE_BLOCKS_MAX)]
    finalization: Certificate | None


ApplicationMessage = (
    TransactionsMessage | GetTransactions | GetBlock | BlockAnswer | GetChain | ChainAnswer
)
ConsensusMessages = (
    Vote | Proposal | CertificateMessage | StatusRequest | Status | GetCertificates | GetProposal
)
Message = ConsensusMessages | ApplicationMessage

APPLICATION_TYPES: Final = (
    TransactionsMessage,
    GetTransactions,
    GetBlock,
    BlockAnswer,
    GetChain,
    ChainAnswer,
)

encode: Final = msgspec.msgpack.Encoder().encode
decode: Final = msgspec.msgpack.Decoder(Message).decode
