"""Getting what is missing: transactions of a proposal, whole blocks, ranges of the finalised chain.

Every want has a key, exists once, and asks one peer at a time until it is met or given up, so the
number of outstanding requests is bounded by the number of wants (I10). Nothing fetched is trusted:
blocks are stored under their recomputed hash, and a range of the chain counts only if it links to
the chain here and ends in a verified finalization.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from consensus.types import Certificate
from ledger.block import Block, block_hash
from ledger.types import Digest, Height
from ledger.votes import VoteKind
from tests.simulation.application import matches_header
from tests.simulation.messages import (
    CHAIN_PAGE_BLOCKS,
    CHAIN_PAGE_BLOCKS_MAX,
    BlockAnswer,
    ChainAnswer,
    GetBlock,
    GetChain,
    GetTransactions,
    Message,
    TransactionsMessage,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from consensus.effects import FetchBlock, FetchChain
    from tests.simulation.application import Application

RETRY_MS: Final = 250
"""Time after which the next peer is asked."""

TRIES_MAX: Final = 8
"""A want is given up after this many requests; the engine asks again if it still needs it."""

WANTS_MAX: Final = 128
"""Wants of one node at a time; more would mean that it asks for what it does not need."""

_decode_certificate = msgspec.msgpack.Decoder(Certificate).decode


WantKey = tuple[str, bytes]
"""What kind of thing is missing, and its hash."""


@dataclass(slots=True)
class Want:
    """Something missing, and whom to ask for it."""

    request: Callable[[], Message | None]
    """Makes the next request; None once nothing is missing."""
    peers: tuple[int, ...]
    given_up: Callable[[], None] | None = None
    tries: int = 0


class TooManyWants(Exception):
    """A node waits for more things than :data:`WANTS_MAX`."""


@dataclass(slots=True)
class Ports:
    """What the fetcher needs from the process it works for."""

    peers: tuple[int, ...]
    send: Callable[[int, Message], None]
    after: Callable[[int, Callable[..., None], object], None]
    accept_block: Callable[[Block], None]
    accept_certificate: Callable[[int, Certificate], None]
    is_certificate: Callable[[Certificate], bool]
    """Whether a certificate proves what it says."""
    finalization: Callable[[int], Certificate | None]
    """Stored finalization of a height."""
    finalized: Callable[[], tuple[int, Digest]]
    """Height and hash of the last block that the engine declared final."""


@dataclass(slots=True)
class Fetcher:
    """One process's wants, and the answers it gives to the wants of others."""

    application: Application
    ports: Ports
    wants: dict[WantKey, Want] = field(default_factory=dict)

    def want_transactions(
        self, digest: Digest, payload: bytes, first: tuple[int, ...], given_up: Callable[[], None]
    ) -> None:
        """Fetch the transactions of a proposal that are not here."""

        def request() -> Message | None:
            hashes = self.application.missing(payload)
            if any(len(item) != 32 for item in hashes):
                return None
            return GetTransactions(digest, tuple(hashes)) if hashes else None

        self._want(("transactions", digest), Want(request, self._order(first), given_up))

    def want_block(self, effect: FetchBlock, first: tuple[int, ...]) -> None:
        """Fetch a whole block."""
        digest = effect.block_hash

        def request() -> Message | None:
            return None if digest in self.application.blocks else GetBlock(digest)

        self._want(("block", digest), Want(request, self._order(first)))

    def want_chain(self, effect: FetchChain, first_peers: tuple[int, ...]) -> None:
        """Fetch the next segment of the finalised chain."""
        first = effect.first

        def request() -> Message | None:
            return GetChain(first) if self.ports.finalized()[0] < first else None

        self._want(("chain", b"%d" % first), Want(request, self._order(first_peers)))

    def on_message(self, source: int, message: object) -> None:
        """Answer a request, or take an answer."""
        if isinstance(message, GetTransactions):
            wires = self.application.wires
            found = tuple(wires[item] for item in message.hashes if item in wires)
            if found:
                self.ports.send(source, TransactionsMessage(found))
        elif isinstance(message, GetBlock):
            block = self.application.blocks.get(message.block_hash)
            self.ports.send(source, BlockAnswer(message.block_hash, block))
        elif isinstance(message, GetChain):
            self.ports.send(source, self._serve_chain(int(message.first)))
        elif isinstance(message, BlockAnswer):
            self._on_block(message)
        elif isinstance(message, ChainAnswer):
            self._on_chain(source, message)

    def _order(self, first: tuple[int, ...]) -> tuple[int, ...]:
        known = tuple(peer for peer in first if peer in self.ports.peers)
        return known + tuple(peer for peer in self.ports.peers if peer not in known)

    def _want(self, key: WantKey, want: Want) -> None:
        if key in self.wants:
            return
        if len(self.wants) >= WANTS_MAX:
            raise TooManyWants(f"{len(self.wants)} wants, such as {key[0]} {key[1].hex()}")
        self.wants[key] = want
        self._ask(key)

    def _ask(self, key: WantKey) -> None:
        want = self.wants[key]
        request = want.request()
        if request is None or want.tries >= TRIES_MAX:
            del self.wants[key]
            if request is not None and want.given_up is not None:
                want.given_up()
            return
        self.ports.send(want.peers[want.tries % len(want.peers)], request)
        want.tries += 1
        self.ports.after(RETRY_MS, self._ask_again, (key, want, want.tries))

    def _ask_again(self, asked: tuple[WantKey, Want, int]) -> None:
        key, want, tries = asked
        if self.wants.get(key) is want and want.tries == tries:
            self._ask(key)

    def _on_block(self, answer: BlockAnswer) -> None:
        block = answer.block
        if block is None or ("block", answer.block_hash) not in self.wants:
            return
        if self._digest(block) == answer.block_hash and matches_header(block):
            del self.wants["block", answer.block_hash]
            self.ports.accept_block(block)

    def _on_chain(self, source: int, answer: ChainAnswer) -> None:
        """Take a segment: the finalization of its last block first, then the links to it."""
        height, previous = self.ports.finalized()
        finalization = answer.finalization
        wanted = [key for key in self.wants if key[0] == "chain"]
        if (
            not wanted
            or not answer.blocks
            or finalization is None
            or answer.first != height + 1
            or finalization.kind is not VoteKind.FINALIZE
            or finalization.value.block_hash != self._digest(answer.blocks[-1])
            or not self.ports.is_certificate(finalization)
        ):
            return
        for block in answer.blocks:
            if block.header.parent_hash != previous or not matches_header(block):
                return
            previous = self._digest(block)
        for key in wanted:
            del self.wants[key]
        for block in answer.blocks:
            self.ports.accept_block(block)
        self.ports.accept_certificate(source, finalization)

    def _serve_chain(self, first: int) -> ChainAnswer:
        head = int(self.application.head)
        finalization = None
        last = first - 1
        for height in range(first, min(head, first + CHAIN_PAGE_BLOCKS_MAX - 1) + 1):
            stored = self.ports.finalization(height)
            if stored is not None:
                last, finalization = height, stored
            if finalization is not None and height >= first + CHAIN_PAGE_BLOCKS - 1:
                break
        blocks = tuple(
            self.application.blocks[digest] for digest in self.application.chain[first : last + 1]
        )
        return ChainAnswer(Height(first), blocks, finalization)

    def _digest(self, block: Block) -> Digest:
        return block_hash(self.application.network.chain_id, block.header)


def parent_certificate(block: Block) -> Certificate | None:
    """Return the decoded certificate in a block; raises ``msgspec.MsgspecError`` on bad bytes."""
    return _decode_certificate(block.parent_certificate) if block.parent_certificate else None
