"""Getting what is missing: transactions of a proposal, whole blocks, ranges of the finalised chain.

Every want has a key, exists once, and asks one peer at a time until it is met or given up, so the
number of outstanding requests is bounded by the number of wants (I10). Nothing fetched is trusted:
blocks are kept under their recomputed hash, and a range of the chain counts only if it links to
the chain here and ends in a verified finalization. Requests and answers are those of production
(:mod:`p2p.messages`), and so is the server that answers them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from consensus.types import Certificate
from ledger.block import PARENT_CERTIFICATE_BYTES_MAX, Block, block_hash
from ledger.block_rules import transactions_root
from ledger.encoding import StrictDecoder
from ledger.errors import LedgerError
from ledger.transaction import DecodedTransaction, wire_hash
from ledger.types import ZERO_DIGEST, Digest, Height
from ledger.votes import VoteKind
from node.block_pool import PoolBlock, PoolFull
from node.epochs import check_members
from p2p.messages import (
    BLOCK_WIRE_BYTES_MAX,
    Answer,
    BlockAnswer,
    ChainAnswer,
    GetBlock,
    GetChain,
    GetTransactions,
    Request,
    Transactions,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from consensus.effects import FetchBlock, FetchChain
    from tests.simulation.ledger import Ledger, Missing

RETRY_MS: Final = 250
"""Time after which the next peer is asked."""

TRIES_MAX: Final = 8
"""A want is given up after this many requests; the engine asks again if it still needs it."""

WANTS_MAX: Final = 128
"""Wants of one node at a time; more would mean that it asks for what it does not need."""

CHAIN_BLOCKS: Final = 16
"""Blocks asked for at a time; small, so that a node far behind needs several pages."""

STRETCH_BLOCKS_MAX: Final = 256
"""Blocks collected before a finalization must cover them."""

_decode_block = StrictDecoder(Block, BLOCK_WIRE_BYTES_MAX).decode
_decode_certificate = StrictDecoder(Certificate, PARENT_CERTIFICATE_BYTES_MAX).decode

WantKey = tuple[str, Digest]
"""What kind of thing is missing, and its hash."""


@dataclass(slots=True)
class Want:
    """Something missing, and whom to ask for it."""

    request: Callable[[int], Request | None]
    """Makes the next request, given its id; None once nothing is missing."""
    peers: tuple[int, ...]
    take: Callable[[int, Answer], bool]
    """Looks at an answer; True if it is what was wanted."""
    end: Callable[[], None] | None = None
    """Called once, when the want is met or given up."""
    tries: int = 0
    request_ids: list[int] = field(default_factory=list)
    """Of all requests so far: a late answer is as good as a quick one."""


class TooManyWants(Exception):
    """A node waits for more things than :data:`WANTS_MAX`."""


@dataclass(slots=True)
class Ports:
    """What the fetcher needs from the process it works for."""

    peers: tuple[int, ...]
    send: Callable[[int, Request], None]
    after: Callable[[int, Callable[..., None], object], None]
    accept_block: Callable[[PoolBlock, Certificate | None], None]
    accept_certificate: Callable[[int, Certificate], None]
    is_certificate: Callable[[Certificate], bool]
    """Whether a certificate proves what it says."""
    finalized: Callable[[], tuple[int, Digest]]
    """Height and hash of the last block that the engine declared final."""


@dataclass(slots=True)
class Stretch:
    """Blocks of a chain that no finalization covers yet."""

    first: Height
    blocks: list[PoolBlock] = field(default_factory=list)


@dataclass(slots=True)
class Fetcher:
    """One process's wants."""

    ledger: Ledger
    ports: Ports
    wants: dict[WantKey, Want] = field(default_factory=dict)
    _ids: int = 0

    # --- what may be wanted -----------------------------------------------------------------------

    def want_transactions(
        self,
        parked: Missing,
        first: tuple[int, ...],
        done: Callable[[dict[Digest, DecodedTransaction]], None],
    ) -> None:
        """Fetch transactions of a proposal; ``done`` gets those that came, some or all."""
        digest = parked.request.block_hash
        found: dict[Digest, DecodedTransaction] = {}

        def lacking() -> dict[int, Digest]:
            mempool = self.ledger.mempool
            for item in parked.missing.values():
                entry = mempool.get(item)
                if entry is not None:
                    found[item] = entry.transaction
            if self.ledger.pool.get(digest) is not None:
                return {}
            return {i: item for i, item in parked.missing.items() if item not in found}

        def request(request_id: int) -> Request | None:
            lacks = lacking()
            return GetTransactions(request_id, digest, tuple(sorted(lacks))) if lacks else None

        def take(_: int, answer: Answer) -> bool:
            if not isinstance(answer, Transactions):
                return False
            asked = set(parked.missing.values())
            for wire in answer.wires:
                item = wire_hash(wire)
                if item in asked:
                    found[item] = self.ledger.universe.decode(wire)
            return not lacking()

        want = Want(request, self._order(first), take, lambda: done(found))
        self._want(("transactions", digest), want)

    def want_block(self, effect: FetchBlock, first: tuple[int, ...]) -> None:
        """Fetch a whole block."""
        digest = effect.block_hash

        def request(request_id: int) -> Request | None:
            held = self.ledger.pool.get(digest) is not None
            return None if held else GetBlock(request_id, digest)

        def take(_: int, answer: Answer) -> bool:
            if not isinstance(answer, BlockAnswer) or answer.block is None:
                return False
            block = self._whole(answer.block)
            if block is None or block.block_hash != digest:
                return False
            self._keep(block)
            return True

        self._want(("block", digest), Want(request, self._order(first), take))

    def want_chain(self, effect: FetchChain, first_peers: tuple[int, ...]) -> None:
        """Fetch the next segment of the finalised chain."""
        first = effect.first
        stretch = Stretch(first)

        def request(request_id: int) -> Request | None:
            if self.ports.finalized()[0] >= first:
                return None
            return GetChain(request_id, first + len(stretch.blocks), CHAIN_BLOCKS)

        def take(source: int, answer: Answer) -> bool:
            return isinstance(answer, ChainAnswer) and self._take_page(stretch, source, answer)

        self._want(("chain", ZERO_DIGEST), Want(request, self._order(first_peers), take))

    # --- requests and answers ---------------------------------------------------------------------

    def on_answer(self, source: int, answer: Answer) -> None:
        """Take an answer to a request of a want."""
        asked = [key for key, want in self.wants.items() if answer.request_id in want.request_ids]
        if not asked:
            return
        key, want = asked[0], self.wants[asked[0]]
        try:
            is_met = want.take(source, answer)
        except LedgerError:
            is_met = False
        if self.wants.get(key) is want:
            if is_met:
                self._end(key)
            elif key[0] == "chain" and isinstance(answer, ChainAnswer) and answer.blocks:
                want.tries -= 1  # the next page
                self._ask(key)

    def poke_transactions(self) -> None:
        """Look again at what waits for transactions: gossip may have brought them."""
        for key, want in [item for item in self.wants.items() if item[0][0] == "transactions"]:
            if self.wants.get(key) is want and want.request(0) is None:
                self._end(key)

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
        self._ids += 1
        request = want.request(self._ids)
        if request is None or want.tries >= TRIES_MAX:
            self._end(key)
            return
        want.request_ids.append(self._ids)
        self.ports.send(want.peers[want.tries % len(want.peers)], request)
        want.tries += 1
        self.ports.after(RETRY_MS, self._ask_again, (key, want, self._ids))

    def _ask_again(self, asked: tuple[WantKey, Want, int]) -> None:
        key, want, request_id = asked
        if self.wants.get(key) is want and want.request_ids[-1] == request_id:
            self._ask(key)

    def _end(self, key: WantKey) -> None:
        want = self.wants.pop(key)
        if want.end is not None:
            want.end()

    # --- blocks -----------------------------------------------------------------------------------

    def _take_page(self, stretch: Stretch, source: int, answer: ChainAnswer) -> bool:
        """Take one page: each block links to the one before; a finalization ends the stretch."""
        height, previous = self.ports.finalized()
        if stretch.first != height + 1 or len(stretch.blocks) > STRETCH_BLOCKS_MAX:
            stretch.blocks.clear()
            return stretch.first <= height
        page = [self._whole(data) for data in answer.blocks]
        if stretch.blocks:
            previous = stretch.blocks[-1].block_hash
        for block in page:
            if block is None or block.header.parent_hash != previous:
                stretch.blocks.clear()
                return False
            stretch.blocks.append(block)
            previous = block.block_hash
        certificate = answer.certificate
        if certificate is None:
            return False
        blocks, stretch.blocks = stretch.blocks, []
        if (
            not blocks
            or certificate.kind is not VoteKind.FINALIZE
            or certificate.value.block_hash != blocks[-1].block_hash
            or not self.ports.is_certificate(certificate)
        ):
            return False
        for block in blocks:
            self._keep(block)
        self.ports.accept_certificate(source, certificate)
        return True

    def _whole(self, data: bytes) -> PoolBlock | None:
        """Return a block whose parts match its header; None if they do not."""
        try:
            block = _decode_block(data)
            check_members(block.header, block.next_validators)
        except LedgerError:
            return None
        header = block.header
        if (
            _certificate_hash(block.parent_certificate) != header.parent_certificate_hash
            or len(block.transactions) != header.transaction_count
            or transactions_root([wire_hash(w) for w in block.transactions])
            != header.transactions_root
        ):
            return None
        digest = block_hash(self.ledger.universe.chain_id, header)
        return self.ledger.pool.get(digest) or self.ledger.pool_block(digest, block)

    def _keep(self, block: PoolBlock) -> None:
        if block.header.height <= self.ledger.durable_height:
            return
        try:
            certificate = parent_certificate(block)
            self.ledger.pool.add(block)
        except (LedgerError, PoolFull):
            return
        self.ports.accept_block(block, certificate)


def _certificate_hash(data: bytes) -> Digest:
    return Digest(sha256(data).digest()) if data else ZERO_DIGEST


def parent_certificate(block: PoolBlock) -> Certificate | None:
    """Return the decoded certificate in a block.

    Raises:
        LedgerError: the bytes are none.
    """
    return _decode_certificate(block.parent_certificate) if block.parent_certificate else None
