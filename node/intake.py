"""The way of a transaction into the mempool, from the HTTP API and from peers.

Cheap checks come first: is it known, is it well formed, may its sender act, is there room. Only
then is the signature verified, in chunks and once per node. What came in over HTTP or from an
observer is passed on to every peer; what a validator sent has been passed on by it, so a
transaction crosses each link once. Nothing is dropped silently: every refusal is counted by its
code, and can be queried by id unless anybody could have caused it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

from consensus.inputs import PeerId
from ledger.block_rules import UsedNonces
from ledger.errors import InvalidSignature, LedgerError
from ledger.state import State
from ledger.transaction import DecodedTransaction, decode_transaction, wire_hash
from ledger.transition import admission_error
from ledger.types import Digest, Height, TimeMs
from node.api.ports import SubmitResult
from node.costs import Costs
from node.errors import SubmissionRefused
from node.mempool import Dropped, Mempool
from node.verifier import SignatureItem, Verifier

GOSSIP_QUEUE_MAX: Final = 8_192
"""Transactions of peers waiting for their check; more are dropped, and fetched if proposed."""
BACKLOG_MAX: Final = 4_096
"""Transactions waiting for their check, own and peers', above which nothing new comes in here: a
quarter of a second of one core's signature checks, and half of what the queue of peers' holds."""
GOSSIP_CHUNK: Final = 128
"""Transactions checked and admitted together."""
ADMIT_SLICE: Final = 128
"""Transactions examined between two turns of the loop."""
WASTED_MAX: Final = 1_000
"""Refused transactions of a peer that cost it a penalty: each costs us some ten microseconds, and
an honest peer passes on a handful, when its state is ahead of ours."""
RETRY_AFTER_S: Final = 1
"""Some blocks later there is room again."""

Publish = Callable[[Sequence[bytes], PeerId | None], None]
"""Pass transactions on to the peers that need them; the second value is where they came from."""


class _Heard(NamedTuple):
    """A peer's transaction that waits for its signature check."""

    peer: PeerId
    transaction: DecodedTransaction
    organisation: str


@dataclass(frozen=True, slots=True)
class Lookup:
    """Where the final chain can be asked about a transaction."""

    used: UsedNonces
    height_of: Callable[[Digest], Height | None]


class Intake:
    """Checks transactions and puts them into the mempool."""

    def __init__(
        self,
        chain_id: Digest,
        mempool: Mempool,
        verifier: Verifier,
        *,
        state: Callable[[], State],
        lookup: Lookup,
        now_ms: Callable[[], TimeMs],
        publish: Publish,
        on_admitted: Callable[[], None],
        penalise: Callable[[PeerId, str], None],
        costs: Costs,
    ) -> None:
        """``on_admitted`` is called once for each group that brought something new."""
        self.refused: Counter[str] = Counter()
        """Refusals since start, by code."""
        self._chain_id = chain_id
        self._mempool = mempool
        self._verifier = verifier
        self._state = state
        self._lookup = lookup
        self._now_ms = now_ms
        self._publish = publish
        self._on_admitted = on_admitted
        self._penalise = penalise
        self._costs = costs
        self._gossip: OrderedDict[Digest, tuple[PeerId, bytes]] = OrderedDict()
        self._wasted: Counter[PeerId] = Counter()
        self._submitting = 0
        self._checking: set[Digest] = set()
        self._wake = asyncio.Event()
        self._awaited: dict[Digest, list[asyncio.Future[None]]] = {}

    # ------------------------------------------------------------------ over HTTP

    async def submit(self, wires: Sequence[bytes]) -> list[SubmitResult]:
        """Check and admit transactions; one result per item, in order."""
        results: list[SubmitResult | None] = [None] * len(wires)
        candidates: list[tuple[int, DecodedTransaction, str]] = []
        self._submitting += len(wires)
        try:
            for index, wire in enumerate(wires):
                examined = self._examine(wire)
                if isinstance(examined, SubmitResult):
                    results[index] = examined
                else:
                    candidates.append((index, *examined))
                if index % ADMIT_SLICE == ADMIT_SLICE - 1:
                    await asyncio.sleep(0)
            verdicts = await self._verify([transaction for _, transaction, _ in candidates])
        finally:
            self._submitting -= len(wires)
        admitted = []
        for (index, transaction, organisation), holds in zip(candidates, verdicts, strict=True):
            result = self._admit(transaction, organisation, holds)
            results[index] = result
            if result.status == "accepted":
                admitted.append(transaction)
        self._announce(admitted, None)
        return [result for result in results if result is not None]

    # ------------------------------------------------------------------ from peers

    def receive(self, peer: PeerId, wires: Sequence[bytes]) -> None:
        """Queue a peer's transactions for checking; called on every gossip message."""
        for wire in wires:
            digest = wire_hash(wire)
            if digest in self._gossip or digest in self._checking:
                continue
            if self._mempool.get(digest) is not None:
                continue
            if len(self._gossip) >= GOSSIP_QUEUE_MAX:
                self.refused["gossip_queue_full"] += 1
                continue
            self._gossip[digest] = peer, wire
        self._wake.set()

    async def run(self) -> None:
        """Check and admit queued transactions of peers until cancelled."""
        while True:
            await self._wake.wait()
            while self._gossip:
                size = min(len(self._gossip), GOSSIP_CHUNK)
                await self._check_group([self._gossip.popitem(last=False)[1] for _ in range(size)])
                await asyncio.sleep(0)
            self._wake.clear()

    def _examine_heard(self, peer: PeerId, wire: bytes) -> _Heard | None:
        """Examine a peer's transaction; what no honest peer passes on, or too much of, costs it."""
        examined = self._examine(wire, from_peer=True)
        if not isinstance(examined, SubmitResult):
            return _Heard(peer, *examined)
        if examined.id is None:
            self._penalise(peer, examined.code or "malformed")
        elif examined.status == "rejected" and examined.retry_after_s is None:
            self._wasted[peer] += 1
            if self._wasted[peer] >= WASTED_MAX:
                del self._wasted[peer]
                self._penalise(peer, "refused_transactions")
        return None

    async def _check_group(
        self, queued: Sequence[tuple[PeerId, bytes]], *, urgent: bool = False
    ) -> None:
        """Check transactions taken from the queue, admit the good ones, blame for the others."""
        examined = [self._examine_heard(peer, wire) for peer, wire in queued]
        group = [heard for heard in examined if heard is not None]
        hashes = [heard.transaction.wire_hash for heard in group]
        self._checking.update(hashes)
        try:
            transactions = [heard.transaction for heard in group]
            verdicts = await self._verify(transactions, urgent=urgent)
        finally:
            self._checking.difference_update(hashes)
        admitted: dict[PeerId, list[DecodedTransaction]] = {}
        for heard, holds in zip(group, verdicts, strict=True):
            if not holds:
                self._penalise(heard.peer, InvalidSignature.code)
            result = self._admit(heard.transaction, heard.organisation, holds, from_peer=True)
            if result.status == "accepted":
                admitted.setdefault(heard.peer, []).append(heard.transaction)
        for peer, transactions in admitted.items():
            self._announce(transactions, peer)

    # ------------------------------------------------------------------ for proposals

    async def hurry(self, hashes: Iterable[Digest]) -> None:
        """Check those of these transactions that wait in the queue now: a proposal needs them."""
        wanted = [self._gossip.pop(digest) for digest in hashes if digest in self._gossip]
        for start in range(0, len(wanted), GOSSIP_CHUNK):
            await self._check_group(wanted[start : start + GOSSIP_CHUNK], urgent=True)

    async def arrival(self, hashes: Iterable[Digest], timeout_s: float) -> None:
        """Wait until all of these are pending, or the time is up: gossip may be on its way.

        The time does not run while some of them are being checked.
        """
        loop = asyncio.get_running_loop()
        waiting = []
        for wanted in hashes:
            if self._mempool.get(wanted) is None:
                future: asyncio.Future[None] = loop.create_future()
                self._awaited.setdefault(wanted, []).append(future)
                waiting.append((wanted, future))
        if not waiting:
            return
        try:
            futures_left = {future for _, future in waiting}
            while futures_left:
                done, futures_left = await asyncio.wait(futures_left, timeout=timeout_s)
                if not done and self._checking.isdisjoint(wanted for wanted, _ in waiting):
                    break
        finally:
            for wanted, future in waiting:
                futures = self._awaited.get(wanted)
                if futures is not None:
                    futures.remove(future)
                    if not futures:
                        del self._awaited[wanted]

    def pending(self, digest: Digest) -> DecodedTransaction | None:
        """Return the pending transaction with this wire hash."""
        entry = self._mempool.get(digest)
        return None if entry is None else entry.transaction

    async def decode_verified(self, wires: Sequence[bytes]) -> list[DecodedTransaction]:
        """Decode transactions of a block and verify those signatures that were not verified before.

        Raises:
            LedgerError: one is malformed or badly signed; the block is invalid.
        """
        decoded: list[DecodedTransaction] = []
        unverified: list[DecodedTransaction] = []
        for index, wire in enumerate(wires):
            entry = self._mempool.get(wire_hash(wire))
            if entry is not None:
                decoded.append(entry.transaction)
                continue
            transaction = decode_transaction(self._chain_id, wire)
            decoded.append(transaction)
            unverified.append(transaction)
            if index % ADMIT_SLICE == ADMIT_SLICE - 1:
                await asyncio.sleep(0)
        verdicts = await self._verify(unverified, urgent=True)
        for transaction, holds in zip(unverified, verdicts, strict=True):
            if not holds:
                raise InvalidSignature(
                    f"transaction {transaction.id.hex()}: a signature is not valid"
                )
        return decoded

    # ------------------------------------------------------------------ steps

    def _examine(
        self, wire: bytes, *, from_peer: bool = False
    ) -> SubmitResult | tuple[DecodedTransaction, str]:
        """Do every check that costs less than a signature."""
        now_ms = self._now_ms()
        try:
            transaction = decode_transaction(self._chain_id, wire)
        except LedgerError as error:
            return self._refuse(None, error.code, str(error))
        pending = self._mempool.get_by_id(transaction.id)
        if pending is not None:
            return SubmitResult(transaction.id, "known")
        settled = self._settled(transaction)
        if settled is not None:
            return settled
        state = self._state()
        refused = admission_error(state, transaction, now_ms)
        if refused is not None:
            return self._refuse(transaction.id, refused.code, str(refused))
        sender = state.account(transaction.transaction.sender)
        organisation = "" if sender is None else sender.organisation
        try:
            if not from_peer:
                self._check_backlog()
            self._mempool.check_room(transaction, organisation, from_peer=from_peer)
        except SubmissionRefused as refusal:
            return self._refuse_for_now(transaction.id, refusal)
        return transaction, organisation

    def _check_backlog(self) -> None:
        waiting = len(self._gossip) + self._submitting
        if waiting > BACKLOG_MAX:
            raise SubmissionRefused(
                "mempool_full",
                f"{waiting} transactions wait for their signature check, the limit is "
                f"{BACKLOG_MAX}; send again later",
            )

    def _settled(self, transaction: DecodedTransaction) -> SubmitResult | None:
        """Tell where the transaction, or another one with its nonce, is final; None if nowhere."""
        if transaction.pair not in self._lookup.used:
            return None
        height = self._lookup.height_of(transaction.id)
        if height is not None:
            return SubmitResult(transaction.id, "finalized", height=height)
        detail = "the sender used this nonce in a final transaction; choose another nonce"
        return self._refuse(transaction.id, "nonce_used", detail)

    async def _verify(
        self, transactions: Sequence[DecodedTransaction], *, urgent: bool = False
    ) -> list[bool]:
        """Tell for each transaction whether all its signatures hold."""
        items: list[SignatureItem] = []
        counts = []
        for transaction in transactions:
            own = transaction.signature_items()
            items += own
            counts.append(len(own))
        if not items:
            return []
        verdicts = await self._verifier.verify(items, urgent=urgent)
        if len(verdicts) == len(transactions):
            return verdicts
        position = iter(verdicts)
        return [all(tuple(islice(position, count))) for count in counts]

    def _admit(
        self,
        transaction: DecodedTransaction,
        organisation: str,
        holds: bool,
        *,
        from_peer: bool = False,
    ) -> SubmitResult:
        if not holds:
            detail = (
                "a signature does not verify under the strict Ed25519 rule; sign the body again"
            )
            self.refused[InvalidSignature.code] += 1
            # Not noted: anyone can post bad signatures under the id of somebody else's transaction.
            return SubmitResult(transaction.id, "rejected", InvalidSignature.code, detail)
        # Its block may have become final while the signature was checked.
        settled = self._settled(transaction)
        if settled is not None:
            return settled
        try:
            now_ms = self._now_ms()
            is_new = self._mempool.add(transaction, organisation, now_ms, from_peer=from_peer)
        except SubmissionRefused as refusal:
            return self._refuse_for_now(transaction.id, refusal)
        if not is_new:
            return SubmitResult(transaction.id, "known")
        if self._awaited:
            for future in self._awaited.get(transaction.wire_hash, ()):
                if not future.done():
                    future.set_result(None)
        return SubmitResult(transaction.id, "accepted")

    def _announce(self, transactions: Sequence[DecodedTransaction], source: PeerId | None) -> None:
        if transactions:
            self._publish([transaction.wire for transaction in transactions], source)
            self._on_admitted()

    def _refuse(self, transaction_id: Digest | None, code: str, detail: str) -> SubmitResult:
        self.refused[code] += 1
        if transaction_id is not None:
            self._mempool.note(transaction_id, Dropped("rejected", code, detail, self._now_ms()))
        return SubmitResult(transaction_id, "rejected", code, detail)

    def _refuse_for_now(self, transaction_id: Digest, refusal: SubmissionRefused) -> SubmitResult:
        self.refused[refusal.refusal] += 1
        outcome = Dropped("rejected", refusal.refusal, refusal.detail, self._now_ms())
        self._mempool.note(transaction_id, outcome)
        return SubmitResult(
            transaction_id, "rejected", refusal.refusal, refusal.detail, None, RETRY_AFTER_S
        )
