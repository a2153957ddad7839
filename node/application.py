"""Where block content and consensus meet: building blocks and judging those of others.

Consensus knows headers and digests. This module fills a block from the mempool and answers the
questions of ``RequestVerification`` that need transactions, a clock or execution results
(``docs/protocol-consensus.md``, rules V2, V3, V5 and V6). Its verdict has three values: valid,
never valid, not yet known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import structlog

from consensus.certificates import certificate_hash, encode_certificate
from consensus.effects import RequestProposal, RequestVerification
from consensus.inputs import Built, Verdict
from consensus.types import Certificate, Proposal
from consensus.validity import EXECUTION_LAG_MAX
from ledger.block import HEADER_VERSION, Header, block_hash
from ledger.block_rules import UsedBefore, UsedNonces, check_body, transactions_root
from ledger.encoding import encode
from ledger.errors import LedgerError
from ledger.state import State
from ledger.transaction import DecodedTransaction
from ledger.types import DIGEST_BYTES, ZERO_DIGEST, Digest, Height, TimeMs, View
from node.block_pool import BlockPool, PoolBlock, PoolFull
from node.costs import Costs
from node.epochs import Epochs, check_members, decode_members
from node.mempool import Mempool
from node.pacing import BlockPacer

TIME_AHEAD_MS_MAX: Final = 500
"""A block whose time is further ahead of our clock waits (rule V2)."""

log = structlog.get_logger("application")

RootsAt = Callable[[Height], tuple[Digest, Digest] | None]
"""State root and history root after an executed height; None if it is not executed here."""


class BodyMissing(Exception):
    """Some transactions of the block could not be had yet."""


class BodySource(Protocol):
    """Port: gets transactions that a proposal names and the mempool lacks."""

    async def transactions(
        self, request: RequestVerification, missing: Mapping[int, Digest]
    ) -> dict[Digest, DecodedTransaction]:
        """Return decoded and verified transactions for as many as can be had in time.

        ``missing``: position in the block to wire hash.
        """


class Application:
    """Builds and judges blocks."""

    def __init__(
        self,
        chain_id: Digest,
        epochs: Epochs,
        state: State,
        *,
        mempool: Mempool,
        pool: BlockPool,
        used: UsedNonces,
        roots_at: RootsAt,
        executed_height: Callable[[], Height],
        source: BodySource,
        now_ms: Callable[[], TimeMs],
        costs: Costs,
    ) -> None:
        """Take ``used`` for the executed blocks and ``pool`` for those above them."""
        self.pacer = BlockPacer(state.parameters.block_transactions_max)
        self._chain_id = chain_id
        self._epochs = epochs
        self._state = state
        self._mempool = mempool
        self._pool = pool
        self._used = used
        self._roots_at = roots_at
        self._executed_height = executed_height
        self._source = source
        self._now_ms = now_ms
        self._costs = costs

    # ------------------------------------------------------------------ building

    def build(self, request: RequestProposal) -> Built:
        """Build a block on a parent, from what the mempool offers, and keep it in the pool."""
        parent = request.parent
        parent_hash = block_hash(self._chain_id, parent)
        time_ms = TimeMs(max(self._now_ms(), parent.time_ms + 1))
        executed = Height(min(self._executed_height(), parent.height))
        roots = self._roots_at(executed)
        if executed < parent.executed_height or roots is None:
            return Built(request.view, None, b"")
        height = Height(parent.height + 1)
        epoch, next_set = self._epochs.present, self._epochs.next_set(executed)
        transactions: list[DecodedTransaction] = []
        if height - executed <= EXECUTION_LAG_MAX and next_set is None:
            transactions = self._choose(parent_hash, time_ms)
        is_wanted = next_set is not None or self._is_change_due(parent_hash, time_ms)
        if not (transactions or is_wanted or request.empty_allowed):
            return Built(request.view, None, b"")
        certificate = _encoded(request.parent_certificate)
        hashes = [transaction.wire_hash for transaction in transactions]
        header = Header(
            version=HEADER_VERSION,
            era=epoch.era,
            epoch=epoch.number,
            height=height,
            view=request.view,
            parent_hash=parent_hash,
            proposer=request.proposer,
            time_ms=time_ms,
            transactions_root=transactions_root(hashes),
            transaction_count=len(transactions),
            body_bytes=sum(len(transaction.wire) for transaction in transactions),
            parent_certificate_hash=certificate_hash(request.parent_certificate),
            validator_set_hash=epoch.validators.hash,
            executed_height=executed,
            state_root=roots[0],
            history_root=roots[1],
            next_validator_set_hash=ZERO_DIGEST if next_set is None else next_set.hash,
            previous_boundary_hash=epoch.base_hash,
        )
        members = () if next_set is None else next_set.members
        block = PoolBlock(
            block_hash(self._chain_id, header), header, certificate, transactions, members
        )
        block.is_checked = True
        try:
            self._pool.add(block)
        except PoolFull:
            return Built(request.view, None, b"")
        return Built(request.view, header, encode(members) if members else b"".join(hashes))

    def _choose(self, parent_hash: Digest, time_ms: TimeMs) -> list[DecodedTransaction]:
        ancestors = list(self._pool.ancestors(parent_hash))
        parameters = self._state.parameters
        self.pacer.allow(parameters.block_transactions_max)
        latest = time_ms + parameters.validity_window_ms
        chosen = self._mempool.select(
            self.pacer.limit,
            parameters.block_bytes_max,
            [block.hashes for block in ancestors],
        )
        used = UsedBefore(time_ms, [self._used, *(block.used for block in ancestors)])
        return [
            transaction
            for transaction in chosen
            if time_ms <= transaction.transaction.valid_until <= latest
            # Its check may have begun under larger limits than those in force now.
            and len(transaction.wire) <= parameters.transaction_bytes_max
            and transaction.pair not in used
        ]

    def _is_change_due(self, parent_hash: Digest, time_ms: TimeMs) -> bool:
        """Tell whether an empty block would bring forward what waits for a time on the agenda.

        A block above the executed head may have done so already.
        """
        due_ms = self._epochs.due_ms()
        return (
            due_ms is not None
            and due_ms <= time_ms
            and all(block.header.time_ms < due_ms for block in self._pool.ancestors(parent_hash))
        )

    def has_work(self, tip: Digest, view: View) -> bool:
        """Tell whether a block is wanted that is not there yet.

        Either transactions wait that are in no block which may still become final (``tip``, the
        highest notarized, with its ancestors, and those of this view), or the set shall change.
        """
        if self._epochs.next_set(self._executed_height()) is not None:
            return True
        if self._epochs.due_ms() is not None and self._is_change_due(tip, self._now_ms()):
            return True
        if not len(self._mempool):
            return False
        alive = {block.block_hash: block.hashes for block in self._pool.ancestors(tip)}
        for block in self._pool:
            if block.header.view >= view:
                alive[block.block_hash] = block.hashes
        return self._mempool.has_beyond(list(alive.values()))

    # ------------------------------------------------------------------ judging

    async def judge(self, request: RequestVerification) -> Verdict:
        """Answer whether a block may be voted for. Never raises for what a peer sent."""
        header = request.header
        if header.time_ms > self._now_ms() + TIME_AHEAD_MS_MAX:
            return Verdict.NOT_YET
        verdict = self._judge_claims(header)
        if verdict is Verdict.INVALID:
            return verdict
        try:
            block = self._pool.get(request.block_hash) or await self._assemble(request)
            if not block.is_checked:
                with self._costs.measure("resolve"):
                    self._check(block)
                self._pool.add(block)
        except (BodyMissing, PoolFull):
            return Verdict.NOT_YET
        except LedgerError as error:
            self._pool.discard(request.block_hash)
            log.warning("block_invalid", height=header.height, view=header.view, reason=str(error))
            return Verdict.INVALID
        # What was not executed may be now, and consensus has been told so already: it would not ask
        # again before its retry.
        return self._judge_claims(header) if verdict is Verdict.NOT_YET else verdict

    def _judge_claims(self, header: Header) -> Verdict:
        """Compare what a header says about executed blocks with what they gave here."""
        verdict = self._judge_execution(header)
        return self._judge_next_set(header) if verdict is Verdict.VALID else verdict

    def _judge_execution(self, header: Header) -> Verdict:
        roots = self._roots_at(header.executed_height)
        if roots is None:
            return Verdict.NOT_YET
        if roots == (header.state_root, header.history_root):
            return Verdict.VALID
        log.error(
            "execution_differs",
            height=header.height,
            executed_height=header.executed_height,
            theirs=header.state_root.hex(),
            ours=roots[0].hex(),
        )
        return Verdict.INVALID

    def _judge_next_set(self, header: Header) -> Verdict:
        """Rule V5: what the block certifies as executed decides whether it closes the epoch."""
        expected = self._epochs.next_set(header.executed_height)
        if header.next_validator_set_hash == (ZERO_DIGEST if expected is None else expected.hash):
            return Verdict.VALID
        log.warning(
            "next_set_differs",
            height=header.height,
            executed_height=header.executed_height,
            theirs=header.next_validator_set_hash.hex(),
            ours=None if expected is None else expected.hash.hex(),
        )
        return Verdict.INVALID

    async def _assemble(self, request: RequestVerification) -> PoolBlock:
        payload = request.payload
        if payload is None:
            raise BodyMissing
        if request.header.next_validator_set_hash != ZERO_DIGEST:
            certificate = _encoded(request.parent_certificate)
            members = decode_members(payload)
            return PoolBlock(request.block_hash, request.header, certificate, [], members)
        with self._costs.measure("resolve"):
            hashes = _split(payload)
            found, missing = self._look_up(hashes)
        if missing:
            found |= await self._source.transactions(request, missing)
            whole = self._pool.get(request.block_hash)
            if whole is not None:
                return whole  # fetched meanwhile
            if any(wire_hash not in found for wire_hash in hashes):
                raise BodyMissing
        with self._costs.measure("resolve"):
            certificate = _encoded(request.parent_certificate)
            transactions = [found[wire_hash] for wire_hash in hashes]
            return PoolBlock(request.block_hash, request.header, certificate, transactions)

    def _look_up(
        self, hashes: Sequence[Digest]
    ) -> tuple[dict[Digest, DecodedTransaction], dict[int, Digest]]:
        """Return which of these are pending here, and the positions of the others."""
        found: dict[Digest, DecodedTransaction] = {}
        missing: dict[int, Digest] = {}
        for index, wire_hash in enumerate(hashes):
            entry = self._mempool.get(wire_hash)
            if entry is None:
                missing[index] = wire_hash
            else:
                found[wire_hash] = entry.transaction
        return found, missing

    def _check(self, block: PoolBlock) -> None:
        unfinished = [above.used for above in self._pool.ancestors(block.header.parent_hash)]
        used = UsedBefore(block.header.time_ms, [self._used, *unfinished])
        check_body(block.header, block.transactions, self._state.parameters, used)
        check_members(block.header, block.next_validators)
        block.is_checked = True


def carries_its_payload(proposal: Proposal) -> bool:
    """Tell whether a proposal comes with what its header commits to.

    A boundary block that is proposed again comes without: everyone can have it by its certificate.
    That its payload is empty then is for consensus to check.
    """
    is_repeated = proposal.view > proposal.header.view
    return is_repeated or is_payload_of(proposal.payload, proposal.header)


def is_payload_of(payload: bytes, header: Header) -> bool:
    """Tell whether a proposal's payload is what its header commits to.

    That is the next validators in a boundary block, the list of transactions in others. The leader
    signs the header, not the payload: whoever passes a proposal on could change it.
    """
    if header.next_validator_set_hash != ZERO_DIGEST:
        try:
            check_members(header, decode_members(payload))
        except LedgerError:
            return False
        return True
    return transactions_root(_split(payload)) == header.transactions_root


def _split(payload: bytes) -> list[Digest]:
    return [Digest(payload[i : i + DIGEST_BYTES]) for i in range(0, len(payload), DIGEST_BYTES)]


def _encoded(certificate: Certificate | None) -> bytes:
    return b"" if certificate is None else encode_certificate(certificate)
