"""The pending set: verified transactions that wait for a block.

A transaction enters once its form, its sender's authority and its signatures are checked, and
leaves when a block with it is final or when it expires; a transaction that cannot enter or must
leave gets a reason that can be queried. Space and block room are shared fairly between
organisations by their weight, so that none starves the others. The set is bounded in number and
bytes, in total and per sender. Pure: no clock, no I/O.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, Literal, NamedTuple

from msgspec import Struct

from ledger.errors import TooLarge, ValidUntilTooFar
from ledger.records import Parameters
from ledger.transaction import DecodedTransaction
from ledger.types import Digest, TimeMs
from node.backpressure import FinalRate
from node.errors import SubmissionRefused

TRANSACTIONS_MAX: Final = 20_000
"""Bounds memory. What comes in at this node's own door is bounded by the time it would wait
(``node.backpressure``), which is less; peers' transactions may fill the rest."""
BYTES_MAX: Final = 32 * 1024 * 1024
"""Wire bytes: nine times what that many transfers take, so only large transactions reach it."""
SENDER_TRANSACTIONS_MAX: Final = 2_048
"""One account may fill half a block; none of its transactions waits for another one."""
OUTCOMES_MAX: Final = 100_000
"""Remembered reasons for dropped transactions; the oldest are forgotten first."""
FREE_SHARE_DIVISOR: Final = 2
"""While less than 1/2 of the space is used, an organisation may use more than its share."""
PEER_ROOM_DIVISOR: Final = 4
"""Transactions that a peer has admitted find 1/4 more room than those that come in here."""
TURN_TRANSACTIONS: Final = 16
"""Transactions an organisation of weight 1 puts into a block before the next one's turn."""


class Dropped(NamedTuple):
    """Why a transaction is not pending any more, or never was."""

    stage: Literal["rejected", "expired"]
    code: str
    detail: str
    at_ms: TimeMs


class Entry(Struct, frozen=True, gc=False):
    """A pending transaction with what the mempool knows about it."""

    transaction: DecodedTransaction
    organisation: str
    received_ms: TimeMs


class Mempool:
    """Pending transactions: first in, first out in an organisation, weighted-fair between them."""

    def __init__(self, weights: Mapping[str, int]) -> None:
        """``weights``: throughput weight of each organisation; one not named here has weight 1."""
        self.set_weights(weights)
        self._by_hash: dict[Digest, Entry] = {}
        self._by_id: dict[Digest, Entry] = {}
        self._by_pair: dict[bytes, Digest] = {}
        self._queues: dict[str, dict[Digest, Entry]] = {}
        self._per_sender: dict[bytes, int] = {}
        self._outcomes: OrderedDict[Digest, Dropped] = OrderedDict()
        self._first_turn: deque[str] = deque()
        self._final_rate = FinalRate()
        self.bytes = 0
        """Wire bytes of all pending transactions."""
        self.admitted_total = 0
        """Transactions that ever entered."""

    def set_weights(self, weights: Mapping[str, int]) -> None:
        """Take over other weights; what is pending stays, whatever its organisation's share."""
        self._weights = weights
        self._weight_total = max(1, sum(weights.values()))

    def __len__(self) -> int:
        return len(self._by_hash)

    def get(self, wire_hash: Digest) -> Entry | None:
        """Return the pending transaction with exactly these wire bytes."""
        return self._by_hash.get(wire_hash)

    def get_by_id(self, transaction_id: Digest) -> Entry | None:
        """Return the pending transaction with this id, whatever its signatures."""
        return self._by_id.get(transaction_id)

    def outcome(self, transaction_id: Digest) -> Dropped | None:
        """Return why a transaction was dropped, if that is still remembered."""
        return self._outcomes.get(transaction_id)

    def entries(self) -> Iterator[Entry]:
        """Iterate over all pending transactions, oldest first within an organisation."""
        return iter(self._by_hash.values())

    def oldest(self, count: int) -> list[Entry]:
        """Return up to ``count`` transactions that have waited longest."""
        return list(islice(self._by_hash.values(), count))

    def check_room(
        self, transaction: DecodedTransaction, organisation: str, *, from_peer: bool = False
    ) -> None:
        """Refuse what cannot enter, before anything expensive is done for it.

        What a peer has admitted gets a quarter more room than what comes in here: if the others
        refused it, its block would have to be fetched when they can least afford it.

        Raises:
            SubmissionRefused: ``mempool_full`` or ``sender_quota``, both temporary, or
                ``nonce_reserved``: another pending transaction uses the sender's nonce.
        """
        self._check_nonce(transaction)
        most, bytes_most, of_sender_most = TRANSACTIONS_MAX, BYTES_MAX, SENDER_TRANSACTIONS_MAX
        if from_peer:
            most += most // PEER_ROOM_DIVISOR
            bytes_most += bytes_most // PEER_ROOM_DIVISOR
            of_sender_most += of_sender_most // PEER_ROOM_DIVISOR
        pending = len(self._by_hash)
        if pending >= most or self.bytes + len(transaction.wire) > bytes_most:
            raise SubmissionRefused(
                "mempool_full",
                f"{pending} transactions are pending, the limit is {TRANSACTIONS_MAX}; send again "
                "later",
            )
        if self._per_sender.get(transaction.transaction.sender, 0) >= of_sender_most:
            raise SubmissionRefused(
                "sender_quota",
                f"this account has {SENDER_TRANSACTIONS_MAX} pending transactions; try later",
            )
        if pending * FREE_SHARE_DIVISOR >= TRANSACTIONS_MAX:
            self._check_share(organisation, from_peer=from_peer)

    def _check_nonce(self, transaction: DecodedTransaction) -> None:
        holder = self._by_pair.get(transaction.pair)
        if holder is not None and holder != transaction.id:
            raise SubmissionRefused(
                "nonce_reserved",
                f"nonce {transaction.transaction.nonce} of this sender is used by pending "
                f"transaction {holder.hex()}; choose another nonce",
            )

    def _check_share(self, organisation: str, *, from_peer: bool) -> None:
        """Refuse an organisation that has its share of a pool which is filling up."""
        pending, share = self.pending_of(organisation), self.share(organisation, TRANSACTIONS_MAX)
        if pending >= (share + share // PEER_ROOM_DIVISOR if from_peer else share):
            raise SubmissionRefused(
                "mempool_full",
                f"organisation {organisation} has {pending} pending transactions; its share of "
                f"a mempool more than half full is {share}; send again later",
            )

    def share(self, organisation: str, places: int) -> int:
        """Return how many of so many places are an organisation's by its weight, one at least."""
        return max(1, places * self._weights.get(organisation, 1) // self._weight_total)

    @property
    def waiting_max(self) -> int:
        """How many may be pending before this node lets in no more at its own door."""
        return min(TRANSACTIONS_MAX, self._final_rate.waiting_max())

    def pending_of(self, organisation: str) -> int:
        """Return how many transactions of an organisation are pending."""
        return len(self._queues.get(organisation, ()))

    def add(self, transaction: DecodedTransaction, organisation: str, now_ms: TimeMs) -> bool:
        """Put a checked transaction into the set; False if its id is pending already.

        Whether there is room was asked before its signature was checked, and is not asked again:
        the bounds may be exceeded by what is being checked at a time.

        Raises:
            SubmissionRefused: ``nonce_reserved``, by one that has come in meanwhile.
        """
        if transaction.id in self._by_id:
            return False
        self._check_nonce(transaction)
        entry = Entry(transaction, organisation, now_ms)
        self._by_hash[transaction.wire_hash] = entry
        self._by_id[transaction.id] = entry
        self._by_pair[transaction.pair] = transaction.id
        queue = self._queues.get(organisation)
        if queue is None:
            queue = self._queues[organisation] = {}
            self._first_turn.append(organisation)
        queue[transaction.wire_hash] = entry
        sender = transaction.transaction.sender
        self._per_sender[sender] = self._per_sender.get(sender, 0) + 1
        self.bytes += len(transaction.wire)
        self.admitted_total += 1
        return True

    def remove(self, wire_hash: Digest) -> Entry | None:
        """Take one transaction out, for instance because it is final."""
        entry = self._by_hash.pop(wire_hash, None)
        if entry is None:
            return None
        transaction = entry.transaction
        del self._by_id[transaction.id]
        del self._by_pair[transaction.pair]
        del self._queues[entry.organisation][wire_hash]
        sender = transaction.transaction.sender
        left = self._per_sender[sender] - 1
        if left:
            self._per_sender[sender] = left
        else:
            del self._per_sender[sender]
        self.bytes -= len(transaction.wire)
        return entry

    def finalized(self, transactions: Sequence[DecodedTransaction], now_ms: TimeMs) -> list[float]:
        """Drop what a final block has made final, and what it has made impossible.

        Returns for how many seconds each of those that were pending here had been.
        """
        waits: list[float] = []
        for transaction in transactions:
            entry = self.remove(transaction.wire_hash)
            if entry is not None:
                waits.append((now_ms - entry.received_ms) / 1000)
                continue
            rival = self._by_pair.get(transaction.pair)
            if rival is None:
                continue
            self.remove(self._by_id[rival].transaction.wire_hash)
            if rival != transaction.id:
                detail = f"transaction {transaction.id.hex()} used the sender's nonce first"
                self.note(rival, Dropped("rejected", "nonce_used", detail, now_ms))
        self._final_rate.note(len(transactions), now_ms)
        return waits

    def expire(self, now_ms: TimeMs) -> int:
        """Drop transactions whose ``valid_until`` has passed; return how many.

        Looks at all of them, a tenth of a microsecond each: cheaper than keeping them in order.
        """
        self._final_rate.note(0, now_ms)
        expired = [
            entry.transaction
            for entry in self._by_hash.values()
            if entry.transaction.transaction.valid_until < now_ms
        ]
        for transaction in expired:
            self.remove(transaction.wire_hash)
            until = transaction.transaction.valid_until
            detail = f"valid until {until} ms, now is {now_ms} ms; sign again with a later time"
            self.note(transaction.id, Dropped("expired", "expired", detail, now_ms))
        return len(expired)

    def enforce(self, parameters: Parameters, now_ms: TimeMs) -> None:
        """Drop what no block may hold under new parameters, or it would be proposed in vain."""
        size_max = min(parameters.transaction_bytes_max, parameters.block_bytes_max)
        latest = now_ms + parameters.validity_window_ms
        for wire_hash, entry in list(self._by_hash.items()):
            size, until = len(entry.transaction.wire), entry.transaction.transaction.valid_until
            if size > size_max:
                code = TooLarge.code
                detail = f"expected at most {size_max} bytes since the limits changed, got {size}"
            elif until > latest:
                code = ValidUntilTooFar.code
                detail = f"expected at most {latest} ms since the limits changed, got {until} ms"
            else:
                continue
            self.remove(wire_hash)
            self.note(entry.transaction.id, Dropped("rejected", code, detail, now_ms))

    def note(self, transaction_id: Digest, outcome: Dropped) -> None:
        """Remember why a transaction was dropped or refused."""
        self._outcomes[transaction_id] = outcome
        self._outcomes.move_to_end(transaction_id)
        if len(self._outcomes) > OUTCOMES_MAX:
            self._outcomes.popitem(last=False)

    def select(
        self, transactions_max: int, bytes_max: int, taken: Iterable[set[Digest]]
    ) -> list[DecodedTransaction]:
        """Choose the content of a block, fairly, skipping what is in one of the ``taken`` sets.

        Organisations take turns; in a turn each gives up to ``weight * TURN_TRANSACTIONS``,
        oldest first.
        The organisation that begins moves on with every call.
        """
        in_flight: set[Digest] = set().union(*taken)
        self._first_turn.rotate(-1)
        waiting = [
            (self._weights.get(name, 1) * TURN_TRANSACTIONS, iter(self._queues[name].values()))
            for name in self._first_turn
            if self._queues[name]
        ]
        chosen: list[DecodedTransaction] = []
        room = bytes_max
        while waiting:
            unfinished = []
            for turn, queue in waiting:
                given = 0
                for entry in queue:
                    transaction = entry.transaction
                    if transaction.wire_hash in in_flight:
                        continue
                    room -= len(transaction.wire)
                    if room < 0 or len(chosen) == transactions_max:
                        return chosen
                    chosen.append(transaction)
                    given += 1
                    if given == turn:
                        unfinished.append((turn, queue))
                        break
            waiting = unfinished
        return chosen

    def has_beyond(self, taken: Iterable[set[Digest]]) -> bool:
        """Tell whether some transaction is pending that is in none of the ``taken`` sets."""
        in_flight = sum(len(hashes) for hashes in taken)
        if len(self._by_hash) > in_flight:
            return True
        sets = list(taken)
        # Newest first: what has just come in is hardly ever in a block yet, so this ends at once.
        newest_first = reversed(self._by_hash)
        return any(all(wire_hash not in hashes for hashes in sets) for wire_hash in newest_first)

    def by_organisation(self) -> dict[str, int]:
        """Return the number of pending transactions of each organisation that has any."""
        return {name: len(queue) for name, queue in sorted(self._queues.items()) if queue}
