"""Gets from peers what consensus needs and this node lacks.

That is transactions of a proposal, single blocks, and stretches of the chain. Whatever arrives is
believed only after it was recomputed: a block is kept under its own hash, a stretch of the chain
counts only once a finalization certificate covers it, every signature is verified. A peer that
sends something else is penalised and the next one is asked. What a peer claims about its height
never decides anything.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Final, NamedTuple, TypeVar

import structlog

from consensus.effects import FetchBlock, FetchChain, RequestVerification
from consensus.errors import ConsensusError
from consensus.inputs import BlockReceived, Input, PeerId, Received
from consensus.types import Certificate, CertificateMessage
from ledger.block import PARENT_CERTIFICATE_BYTES_MAX, Block, block_hash
from ledger.block_rules import transactions_root
from ledger.encoding import StrictDecoder
from ledger.errors import LedgerError
from ledger.transaction import DecodedTransaction, wire_hash
from ledger.types import ZERO_DIGEST, Digest, Era, Height
from ledger.votes import VoteKind
from node.block_pool import BlockPool, PoolBlock, PoolFull
from node.costs import Costs
from node.epochs import check_members
from node.intake import Intake
from p2p.errors import RequestError
from p2p.messages import (
    BLOCK_WIRE_BYTES_MAX,
    CHAIN_BLOCKS_MAX,
    Answer,
    BlockAnswer,
    ChainAnswer,
    GetBlock,
    GetChain,
    GetTransactions,
    Request,
    Transactions,
)
from p2p.network import Network

GOSSIP_GRACE_S: Final = 0.03
"""A proposal may overtake the gossip of its transactions; asking at once would fetch them twice."""
REQUEST_TIMEOUT_S: Final = 2.0
"""The largest answer passes in this time at 5 Mbit/s."""
ROUNDS_MAX: Final = 5
"""Times every peer is asked before giving up; consensus asks again when it still matters."""
PAUSE_S: Final = 0.2
"""Between two rounds."""
STRETCH_BLOCKS_MAX: Final = 1_024
"""Blocks collected from one peer before a finalization must cover them. Only the first few can have
transactions (rule V4), so a stretch without finality is long but small."""
STRETCH_BYTES_MAX: Final = 16 * 1024 * 1024
"""Fifteen full blocks: more than can have transactions without a finalization."""
STRETCH_TIMEOUT_S: Final = 10.0
"""For all pages of one stretch; whoever needs longer is not asked again in the same catch-up."""
SLOW_STRETCH_S: Final = 2.0
"""A peer that takes longer is not waited for again in the same catch-up."""
STAGGER_S: Final = 0.15
"""The next peer is asked too when the one before has not answered for so long."""
EXECUTION_BACKLOG_MAX: Final = 64
"""Blocks fetched ahead of execution."""
BACKLOG_TIMEOUT_S: Final = 2.0
"""Execution that makes no way for so long waits for something else: stop fetching ahead."""

T = TypeVar("T")

log = structlog.get_logger("fetch")

_decode_block = StrictDecoder(Block, BLOCK_WIRE_BYTES_MAX).decode
_decode_certificate = StrictDecoder(Certificate, PARENT_CERTIFICATE_BYTES_MAX).decode


class _Whole(NamedTuple):
    """A block whose parts match its header; the transactions are not decoded yet."""

    block_hash: Digest
    block: Block


class BadAnswer(Exception):
    """A peer answered with something that does not match what was asked for."""


class Fetcher:
    """Asks peers, waiting little for each, until something verifiable arrives."""

    def __init__(
        self,
        chain_id: Digest,
        network: Network,
        pool: BlockPool,
        intake: Intake,
        *,
        post: Callable[[Input], None],
        executed_height: Callable[[], Height],
        wait_executed: Callable[[Height], Awaitable[Height]],
        verify_certificate: Callable[[Certificate], None],
        penalise: Callable[[PeerId, str], None],
        era: Callable[[], Era],
        costs: Costs,
    ) -> None:
        """``post`` hands results to consensus; ``wait_executed(h)`` waits for a height above h."""
        self._era = era
        self._chain_id = chain_id
        self._network = network
        self._pool = pool
        self._intake = intake
        self._post = post
        self._executed_height = executed_height
        self._wait_executed = wait_executed
        self._verify_certificate = verify_certificate
        self._penalise = penalise
        self._costs = costs
        self._boundary = Height(0)
        """Latest boundary block that was fetched."""

    # ------------------------------------------------------------------ transactions of a proposal

    async def transactions(
        self, request: RequestVerification, missing: Mapping[int, Digest]
    ) -> dict[Digest, DecodedTransaction]:
        """Return as many of the missing transactions as can be had (port ``BodySource``)."""
        await self._intake.hurry(missing.values())
        await self._intake.arrival(missing.values(), GOSSIP_GRACE_S)
        found: dict[Digest, DecodedTransaction] = {}
        wanted = self._take_pending(missing, found)
        if wanted:
            suggested = () if request.source is None else (request.source,)
            wires = await self._first_right(
                suggested, lambda peer: self._ask_transactions(peer, request.block_hash, wanted)
            )
            # A malformed one makes the block invalid, whoever sent it: the block names its hash.
            for transaction in await self._intake.decode_verified(wires or ()):
                found[transaction.wire_hash] = transaction
        return found

    async def _ask_transactions(
        self, peer: PeerId, block: Digest, wanted: Mapping[int, Digest]
    ) -> Sequence[bytes] | None:
        indexes = tuple(sorted(wanted))
        answer = await self._ask(peer, GetTransactions(0, block, indexes))
        if not isinstance(answer, Transactions) or not answer.wires:
            return None
        if [wire_hash(wire) for wire in answer.wires] != [wanted[index] for index in indexes]:
            self._penalise(peer, "wrong_transactions")
            return None
        return answer.wires

    def _take_pending(
        self, missing: Mapping[int, Digest], found: dict[Digest, DecodedTransaction]
    ) -> dict[int, Digest]:
        wanted = {}
        for index, digest in missing.items():
            transaction = self._intake.pending(digest)
            if transaction is None:
                wanted[index] = digest
            else:
                found[digest] = transaction
        return wanted

    # ------------------------------------------------------------------ one block

    async def block(self, request: FetchBlock) -> None:
        """Get one block by hash, put it into the pool and tell consensus."""
        block = self._pool.get(request.block_hash)
        for _ in range(ROUNDS_MAX):
            if block is not None:
                break
            block = await self._first_right(
                request.peers, lambda peer: self._ask_block(peer, request.block_hash)
            )
            if block is None:
                await asyncio.sleep(PAUSE_S)
        if block is not None:
            with suppress(PoolFull):
                self._keep(block)

    async def _ask_block(self, peer: PeerId, digest: Digest) -> PoolBlock | None:
        answer = await self._ask(peer, GetBlock(0, digest))
        if not isinstance(answer, BlockAnswer) or answer.block is None:
            return None
        try:
            whole = self._check_header(answer.block)
            if whole.block_hash != digest:
                raise BadAnswer("another block than the one asked for")
            return await self._check_body(whole)
        except (BadAnswer, LedgerError) as error:
            self._blame(peer, error)
            return None

    # ------------------------------------------------------------------ the chain

    async def chain(self, request: FetchChain) -> None:
        """Get final blocks from ``request.first`` on, as far as peers can prove them.

        Peers take turns, one stretch each; one that was slow or wrong is not asked again now.
        """
        first = request.first
        peers = self._candidates(request.peers)
        for _ in range(ROUNDS_MAX):
            is_moving = True
            while is_moving:
                is_moving = False
                for peer in list(peers):
                    started = time.monotonic()
                    taken = await self._take_stretch(peer, first)
                    is_moving = is_moving or (taken or first) > first
                    first = taken or first
                    is_slow = time.monotonic() - started > SLOW_STRETCH_S
                    if taken is None or (is_slow and len(peers) > 1):
                        peers.remove(peer)
            if first > request.first:
                return
            await asyncio.sleep(PAUSE_S)
            peers = self._candidates(request.peers)

    async def _take_stretch(self, peer: PeerId, first: Height) -> Height | None:
        """Take one proven stretch from a peer; return the next missing height, None if it lied."""
        try:
            if not await self._has_room(first):
                return first
            async with asyncio.timeout(STRETCH_TIMEOUT_S):
                blocks, certificate = await self._stretch(peer, first)
            if certificate is None:
                return first
            for block in blocks:
                if block.block.header.height <= self._executed_height():
                    continue  # nothing proves it, and nothing needs it
                self._keep(await self._check_body(block))
                if block.block.next_validators:
                    self._boundary = block.block.header.height
            self._post(Received(peer, CertificateMessage((certificate,))))
            return Height(first + len(blocks))
        except (BadAnswer, LedgerError) as error:
            self._blame(peer, error)
            return None
        except (TimeoutError, PoolFull):
            return first

    async def _has_room(self, first: Height) -> bool:
        """Wait until execution is near ``first``; False if it does not come near in time.

        What follows a boundary block is proven by the set that it opens, so it has to be executed.
        """
        near = max(first - EXECUTION_BACKLOG_MAX, self._boundary)
        try:
            async with asyncio.timeout(BACKLOG_TIMEOUT_S):
                await self._wait_executed(Height(near - 1))
        except TimeoutError:
            return False
        return True

    async def _stretch(
        self, peer: PeerId, first: Height
    ) -> tuple[list[_Whole], Certificate | None]:
        """Collect pages until one ends with a finalization; prove it before looking at any body."""
        blocks: list[_Whole] = []
        size = 0
        while len(blocks) < STRETCH_BLOCKS_MAX and size < STRETCH_BYTES_MAX:
            start = Height(first + len(blocks))
            answer = await self._ask(peer, GetChain(0, start, CHAIN_BLOCKS_MAX))
            if not isinstance(answer, ChainAnswer) or not answer.blocks:
                return [], None
            for data in answer.blocks:
                size += len(data)
                block = self._check_header(data)
                height = block.block.header.height
                if block.block.header.era > self._era():
                    return [], None  # proven by a plan only, which this node may lack
                if height != first + len(blocks):
                    raise BadAnswer(f"height {height}, expected {first + len(blocks)}")
                if blocks and blocks[-1].block.next_validators:
                    raise BadAnswer(f"block {height} lies beyond the end of the epoch")
                if blocks and block.block.header.parent_hash != blocks[-1].block_hash:
                    raise BadAnswer(f"block {height} does not extend the one before it")
                blocks.append(block)
            certificate = answer.certificate
            if certificate is not None:
                # What was executed meanwhile may be of an epoch that is over; it needs no proof.
                if blocks[-1].block.header.height > self._executed_height():
                    self._check_finalization(certificate, blocks[-1].block_hash)
                return blocks, certificate
        raise BadAnswer(f"no finalization within {len(blocks)} blocks of {size} bytes")

    def _check_finalization(self, certificate: Certificate, digest: Digest) -> None:
        if certificate.kind is not VoteKind.FINALIZE or certificate.value.block_hash != digest:
            raise BadAnswer("the certificate is not a finalization of the last block")
        try:
            self._verify_certificate(certificate)
        except ConsensusError as error:
            raise BadAnswer(str(error)) from error

    # ------------------------------------------------------------------ steps

    def _check_header(self, data: bytes) -> _Whole:
        """Recompute everything that the header commits to."""
        with self._costs.measure("resolve"):
            return self._recompute(data)

    def _recompute(self, data: bytes) -> _Whole:
        block = _decode_block(data)
        header = block.header
        check_members(header, block.next_validators)
        certificate_hash = ZERO_DIGEST
        if block.parent_certificate:
            certificate_hash = Digest(sha256(block.parent_certificate).digest())
        if certificate_hash != header.parent_certificate_hash:
            raise BadAnswer("parent certificate does not match the header")
        if len(block.transactions) != header.transaction_count:
            raise BadAnswer("number of transactions does not match the header")
        root = transactions_root([wire_hash(wire) for wire in block.transactions])
        if root != header.transactions_root:
            raise BadAnswer("transactions do not match the header")
        return _Whole(block_hash(self._chain_id, header), block)

    async def _check_body(self, whole: _Whole) -> PoolBlock:
        """Decode the transactions and verify every signature not verified before."""
        known = self._pool.get(whole.block_hash)
        if known is not None:
            return known
        block = whole.block
        transactions = await self._intake.decode_verified(block.transactions)
        return PoolBlock(
            whole.block_hash,
            block.header,
            block.parent_certificate,
            transactions,
            block.next_validators,
        )

    def _keep(self, block: PoolBlock) -> None:
        if block.header.height <= self._executed_height():
            return
        certificate = None
        if block.parent_certificate:
            certificate = _decode_certificate(block.parent_certificate)
        self._pool.add(block)
        self._post(BlockReceived(block.header, certificate))

    async def _first_right(
        self, suggested: Sequence[PeerId], ask: Callable[[PeerId], Awaitable[T | None]]
    ) -> T | None:
        """Ask one peer after the other, not waiting long for any; return the first right answer."""
        waiting: set[asyncio.Task[T | None]] = set()
        candidates = iter(self._candidates(suggested))
        try:
            while True:
                peer = next(candidates, None)
                if peer is not None:
                    waiting.add(asyncio.ensure_future(ask(peer)))
                if not waiting:
                    return None
                done, waiting = await asyncio.wait(
                    waiting,
                    timeout=None if peer is None else STAGGER_S,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    answer = task.result()
                    if answer is not None:
                        return answer
        finally:
            for task in waiting:
                task.cancel()

    async def _ask(self, peer: PeerId, question: Request) -> Answer | None:
        try:
            return await self._network.request(peer, question, REQUEST_TIMEOUT_S)
        except RequestError as error:
            log.debug("request_failed", peer=peer.hex(), reason=str(error))
            return None

    def _candidates(self, first: Sequence[PeerId]) -> list[PeerId]:
        """Return the connected peers, the suggested ones before the others."""
        connected = self._network.connected()
        suggested = [peer for peer in first if peer in connected]
        return suggested + [peer for peer in connected if peer not in suggested]

    def _blame(self, peer: PeerId, error: Exception) -> None:
        log.warning("peer_answer_refused", peer=peer.hex(), reason=str(error))
        self._penalise(peer, "bad_answer")
