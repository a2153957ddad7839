"""The way of a transaction into the mempool, from the HTTP API and from peers.

Cheap checks come first: is it known, is it well formed, may its sender act, is there room. Only
then is the signature verified, in chunks and once per node. What came in over HTTP or from an
observer is passed on to every peer; what a validator sent has been passed on by it, so a
transaction crosses each link once. Nothing is dropped silently: every refusal is counted by its
code, and can be queried by id unless anybody could have caused it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from consensus.inputs import PeerId
from ledger.admission import AdmissionRules
from ledger.block_rules import UsedNonces
from ledger.errors import InvalidSignature, LedgerError
from ledger.state import State
from ledger.transaction import DecodedTransaction, decode_transaction, wire_hash
from ledger.types import Digest, Height, TimeMs
from node.api.ports import SubmitResult
from node.costs import Costs
from node.door import Door
from node.errors import SubmissionRefused
from node.mempool import Dropped, Mempool
from node.verifier import SignatureItem, Verifier

GOSSIP_QUEUE_MAX: Final = 8_192
"""Transactions of peers waiting for their check; more are dropped, and fetched if proposed."""
GROUP_TRANSACTIONS: Final = 128
"""Transactions examined between two turns of the loop, and, of own ones and of peers', checked
together."""
OVERTAKEN_MAX: Final = 15
"""Transactions of peers that go before each own one while both wait: the share of one validator of
sixteen. Without a limit a flood of gossip would keep own ones out for ever."""
WASTED_MAX: Final = 1_000
"""Refused transactions of a peer that cost it a penalty: each costs us some ten microseconds, and
an honest peer passes on a handful, when its state is ahead of ours."""
RETRY_AFTER_S: Final = 1
"""Some blocks later there is room again."""

Publish = Callable[[Sequence[bytes], PeerId | None], None]
"""Pass transactions on to the peers that need them; the second value is where they came from."""


class _Batch:
    """Transactions that were handed in together, and what has become of each."""

    __slots__ = ("_done", "_left", "_results")

    def __init__(self, size: int) -> None:
        self._results: list[SubmitResult | None] = [None] * size
        self._left = size
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def put(self, index: int, result: SubmitResult) -> None:
        self._results[index] = result
        self._left -= 1
        if not self._left and not self._done.done():
            self._done.set_result(None)

    async def results(self) -> list[SubmitResult]:
        if self._left:
            await self._done
        return [result for result in self._results if result is not None]


class _Lot:
    """Examined transactions of one origin, in line for the check of their signatures."""

    __slots__ = ("batch", "indexes", "organisations", "since_ms", "source", "transactions")

    def __init__(self, source: PeerId | None, batch: _Batch | None, since_ms: TimeMs) -> None:
        self.source = source
        self.batch = batch
        """Of whoever waits for the results; None for what peers sent."""
        self.since_ms = since_ms
        self.indexes: list[int] = []
        """Places in the batch."""
        self.transactions: list[DecodedTransaction] = []
        self.organisations: list[str] = []


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
        self._door = Door(mempool)
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
        self._own: deque[_Lot] = deque()
        self._overtaken = 0
        """Transactions of peers that have gone before the first own lot."""
        self._checking: set[Digest] = set()
        """Examined, signatures not checked yet."""
        self._wake = asyncio.Event()
        self._awaited: dict[Digest, list[asyncio.Future[None]]] = {}

    # ------------------------------------------------------------------ over HTTP

    async def submit(self, wires: Sequence[bytes]) -> list[SubmitResult]:
        """Check and admit transactions; one result per item, in order."""
        batch = _Batch(len(wires))
        for start in range(0, len(wires), GROUP_TRANSACTIONS):
            if start:
                await asyncio.sleep(0)
            self._take_own(batch, start, wires[start : start + GROUP_TRANSACTIONS])
        return await batch.results()

    def _take_own(self, batch: _Batch, start: int, wires: Sequence[bytes]) -> None:
        """Examine a part of a batch and put what passes in line."""
        now_ms = self._now_ms()
        with self._costs.measure("checks"):
            kept, reason = self._door.let_in(
                wires,
                self._state(),
                backlog=len(self._gossip) + len(self._checking),
                waited_ms=now_ms - self._own[0].since_ms if self._own else 0,
            )
            if len(kept) < len(wires):
                self._turn_away(batch, start, set(range(len(wires))).difference(kept), reason)
        lot = _Lot(None, batch, now_ms)
        examined = self._examine([wires[index] for index in kept])
        for index, passed in zip(kept, examined, strict=True):
            if isinstance(passed, SubmitResult):
                batch.put(start + index, passed)
            else:
                lot.indexes.append(start + index)
                lot.transactions.append(passed[0])
                lot.organisations.append(passed[1])
        if lot.transactions:
            self._checking.update(_hashes([lot]))
            self._door.entered(lot.organisations)
            self._own.append(lot)
            self._wake.set()

    def _turn_away(self, batch: _Batch, start: int, indexes: Iterable[int], reason: str) -> None:
        """Answer for what was not let in. It was not decoded, so it has no id to be noted under."""
        refusal = SubmitResult(None, "rejected", "mempool_full", reason, None, RETRY_AFTER_S)
        for index in indexes:
            batch.put(start + index, refusal)
            self.refused["mempool_full"] += 1

    # ------------------------------------------------------------------ from peers

    def receive(self, peer: PeerId, wires: Sequence[bytes]) -> None:
        """Queue a peer's transactions for checking; called on every gossip message."""
        with self._costs.measure("gossip"):
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

    def _hear(self, queued: Sequence[tuple[Digest, tuple[PeerId, bytes]]]) -> list[_Lot]:
        """Examine what was taken from the queue of peers'; return what passes, by peer."""
        lots: dict[PeerId, _Lot] = {}
        results = self._examine(
            [wire for _, (_, wire) in queued], [digest for digest, _ in queued], from_peer=True
        )
        for (_, (peer, _)), examined in zip(queued, results, strict=True):
            if isinstance(examined, SubmitResult):
                self._blame(peer, examined)
                continue
            lot = lots.get(peer)
            if lot is None:
                lot = lots[peer] = _Lot(peer, None, self._now_ms())
            lot.transactions.append(examined[0])
            lot.organisations.append(examined[1])
        heard = list(lots.values())
        self._checking.update(_hashes(heard))
        return heard

    def _blame(self, peer: PeerId, refusal: SubmitResult) -> None:
        """Charge a peer for what no honest one passes on, or passes on in such numbers."""
        if refusal.id is None:
            self._penalise(peer, refusal.code or "malformed")
        elif refusal.status == "rejected" and refusal.retry_after_s is None:
            self._wasted[peer] += 1
            if self._wasted[peer] >= WASTED_MAX:
                del self._wasted[peer]
                self._penalise(peer, "refused_transactions")

    # ------------------------------------------------------------------ the line

    async def run(self) -> None:
        """Check and admit what is in line until cancelled."""
        while True:
            await self._wake.wait()
            while self._own or self._gossip:
                await self._check(self._next_lots())
                await asyncio.sleep(0)
            self._wake.clear()

    def _next_lots(self) -> list[_Lot]:
        """Take the next group from the line: peers' transactions first, own ones if there is room.

        Another node has admitted what it passes on and will propose it: who has not checked it by
        then holds up its block. Were own ones not the last in line, every node would let in more
        than its peers can check, and nobody would tell their senders.
        """
        count = min(len(self._gossip), GROUP_TRANSACTIONS)
        lots = self._hear([self._gossip.popitem(last=False) for _ in range(count)])
        self._overtaken = self._overtaken + count if self._own else 0
        while self._own and (
            count < GROUP_TRANSACTIONS
            or self._overtaken >= OVERTAKEN_MAX * len(self._own[0].transactions)
        ):
            lots.append(self._own.popleft())
            count += len(lots[-1].transactions)
            self._overtaken = 0
        return lots

    async def _check(self, lots: Sequence[_Lot], *, urgent: bool = False) -> None:
        """Verify the signatures of a group, admit what holds, tell everyone concerned."""
        transactions = [transaction for lot in lots for transaction in lot.transactions]
        try:
            verdicts = await self._verify(transactions, urgent=urgent)
        finally:
            self._checking.difference_update(_hashes(lots))
            for lot in lots:
                if lot.source is None:
                    self._door.left(lot.organisations)
        verdict_of_next = iter(verdicts)
        now_ms = self._now_ms()
        admitted: dict[PeerId | None, list[bytes]] = {}
        with self._costs.measure("checks"):
            for lot in lots:
                new = self._admit_lot(lot, verdict_of_next, now_ms)
                if new:
                    admitted.setdefault(lot.source, []).extend(new)
        for source, wires in admitted.items():
            self._publish(wires, source)
        if admitted:
            self._on_admitted()

    def _admit_lot(self, lot: _Lot, verdicts: Iterator[bool], now_ms: TimeMs) -> list[bytes]:
        """Admit the transactions of a lot; return the wire bytes of those that are new."""
        admitted = []
        source, batch = lot.source, lot.batch
        for place, transaction in enumerate(lot.transactions):
            holds = next(verdicts)
            result = self._admit(transaction, lot.organisations[place], holds, now_ms)
            if result.status == "accepted":
                admitted.append(transaction.wire)
            if batch is not None:
                batch.put(lot.indexes[place], result)
            elif source is not None and not holds:
                self._penalise(source, InvalidSignature.code)
        return admitted

    # ------------------------------------------------------------------ for proposals

    async def hurry(self, hashes: Iterable[Digest]) -> None:
        """Check those of these transactions that are in line now: a proposal needs them.

        Own ones come with their whole lot. They are the last in line, and a client may well have
        sent the same transaction to whoever proposes it.
        """
        wanted = dict.fromkeys(hashes)
        lots = [lot for lot in self._own if not wanted.keys().isdisjoint(_hashes([lot]))]
        for lot in lots:
            self._own.remove(lot)
        heard = [(digest, self._gossip.pop(digest)) for digest in wanted if digest in self._gossip]
        for start in range(0, len(heard), GROUP_TRANSACTIONS):
            if start:
                await asyncio.sleep(0)
            lots += self._hear(heard[start : start + GROUP_TRANSACTIONS])
        await self._check(lots, urgent=True)

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
            digest = wire_hash(wire)
            entry = self._mempool.get(digest)
            if entry is not None:
                decoded.append(entry.transaction)
                continue
            transaction = decode_transaction(self._chain_id, wire, wire_hash=digest)
            decoded.append(transaction)
            unverified.append(transaction)
            if index % GROUP_TRANSACTIONS == GROUP_TRANSACTIONS - 1:
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
        self,
        wires: Sequence[bytes],
        hashes: Sequence[Digest | None] | None = None,
        *,
        from_peer: bool = False,
    ) -> list[SubmitResult | tuple[DecodedTransaction, str]]:
        """Do every check that costs less than a signature; return refusals, or with organisation.

        ``hashes`` of the wire bytes, where the caller knows them.
        """
        with self._costs.measure("decode"):
            decoded = self._decode(wires, hashes or [None] * len(wires))
        examined: list[SubmitResult | tuple[DecodedTransaction, str]] = []
        with self._costs.measure("checks"):
            rules = AdmissionRules(self._state(), self._now_ms())
            for transaction in decoded:
                if isinstance(transaction, SubmitResult):
                    examined.append(transaction)
                    continue
                passed = self._examine_one(transaction, rules, from_peer=from_peer)
                examined.append((transaction, passed) if isinstance(passed, str) else passed)
        return examined

    def _decode(
        self, wires: Sequence[bytes], hashes: Sequence[Digest | None]
    ) -> list[DecodedTransaction | SubmitResult]:
        chain_id = self._chain_id
        decoded: list[DecodedTransaction | SubmitResult] = []
        for wire, digest in zip(wires, hashes, strict=True):
            try:
                decoded.append(decode_transaction(chain_id, wire, wire_hash=digest))
            except LedgerError as error:
                decoded.append(self._refuse(None, error.code, str(error)))
        return decoded

    def _examine_one(
        self, transaction: DecodedTransaction, rules: AdmissionRules, *, from_peer: bool
    ) -> SubmitResult | str:
        """Return why a transaction is not worth a signature check, or its organisation."""
        if self._mempool.get_by_id(transaction.id) is not None:
            return SubmitResult(transaction.id, "known")
        settled = self._settled(transaction)
        if settled is not None:
            return settled
        try:
            organisation = rules.sender_of(transaction).organisation
            self._mempool.check_room(transaction, organisation, from_peer=from_peer)
        except LedgerError as error:
            return self._refuse(transaction.id, error.code, str(error))
        except SubmissionRefused as refusal:
            return self._refuse_for_now(transaction.id, refusal)
        return organisation

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
        for transaction in transactions:
            items += transaction.signature_items()
        if not items:
            return []
        verdicts = await self._verifier.verify(items, urgent=urgent)
        if len(verdicts) == len(transactions):
            return verdicts
        position = iter(verdicts)
        return [
            all(tuple(islice(position, len(transaction.transaction.signatures))))
            for transaction in transactions
        ]

    def _admit(
        self,
        transaction: DecodedTransaction,
        organisation: str,
        holds: bool,
        now_ms: TimeMs,
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
            is_new = self._mempool.add(transaction, organisation, now_ms)
        except SubmissionRefused as refusal:
            return self._refuse_for_now(transaction.id, refusal)
        if not is_new:
            return SubmitResult(transaction.id, "known")
        if self._awaited:
            for future in self._awaited.get(transaction.wire_hash, ()):
                if not future.done():
                    future.set_result(None)
        return SubmitResult(transaction.id, "accepted")

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


def _hashes(lots: Iterable[_Lot]) -> list[Digest]:
    return [transaction.wire_hash for lot in lots for transaction in lot.transactions]
