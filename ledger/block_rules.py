"""Which bodies a block may have, whatever the state is.

The answer is the same on every node and for ever, because validators vote on it before execution:
sizes, counts, root, validity windows, and that no (sender, nonce) pair is used twice. Everything
that depends on the state is decided at execution as a recorded failure; failing uses the pair up,
too. Signatures are verified elsewhere, once, in bulk. Normative text: ``docs/protocol.md``
section 5.

A pair is *used* at a block time t if an ancestor contains it in a transaction whose
``valid_until`` lies in the same minute as t or in a later one. The rule is exact and does not
depend on when a node forgets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ledger.block import Header
from ledger.errors import BlockTooLarge, BodyMismatch, NonceUsed, OutsideValidity
from ledger.merkle import dense_root
from ledger.records import Parameters
from ledger.transaction import DecodedTransaction
from ledger.types import Digest, TimeMs

NONCE_PERIOD_MS: Final = 60_000
"""Used pairs are forgotten by the minute: a window of ten minutes is eleven sets, dropped whole."""


def transactions_root(hashes: Sequence[Digest]) -> Digest:
    """Return the root over the wire hashes of a block's transactions, in order."""
    return dense_root(hashes)


class UsedNonces:
    """The (sender, nonce) pairs of a run of blocks, by the minute in which their validity ends.

    28 bytes per pair in one set per minute: about 110 bytes of memory each, freed by the minute.
    """

    __slots__ = ("_periods",)

    def __init__(self, transactions: Iterable[DecodedTransaction] = ()) -> None:
        self._periods: dict[int, set[bytes]] = {}
        self._add(transactions)

    def _add(self, transactions: Iterable[DecodedTransaction]) -> None:
        periods = self._periods
        for decoded in transactions:
            period = decoded.transaction.valid_until // NONCE_PERIOD_MS
            pairs = periods.get(period)
            if pairs is None:
                pairs = periods[period] = set()
            pairs.add(decoded.pair)

    def add_block(self, time_ms: TimeMs, transactions: Iterable[DecodedTransaction]) -> None:
        """Add the pairs of the next block; forget those that no later block can conflict with."""
        self._add(transactions)
        oldest = time_ms // NONCE_PERIOD_MS
        for period in [period for period in self._periods if period < oldest]:
            del self._periods[period]

    def conflicting(self, time_ms: TimeMs) -> list[set[bytes]]:
        """Return the sets of pairs that a block at ``time_ms`` must not contain."""
        oldest = time_ms // NONCE_PERIOD_MS
        return [pairs for period, pairs in self._periods.items() if period >= oldest]

    def __contains__(self, pair: object) -> bool:
        """Tell whether the pair is still remembered, at whatever time."""
        for pairs in self._periods.values():  # noqa: SIM110 - asked twice for every transaction
            if pair in pairs:
                return True
        return False

    def __len__(self) -> int:
        return sum(len(pairs) for pairs in self._periods.values())


class UsedBefore:
    """The pairs that a block at one time must not contain: those of all its ancestors."""

    __slots__ = ("_sets",)

    def __init__(self, time_ms: TimeMs, ancestors: Sequence[UsedNonces]) -> None:
        """``ancestors`` cover the final blocks of the window and the unfinalised ones above."""
        self._sets = [pairs for used in ancestors for pairs in used.conflicting(time_ms)]

    def __contains__(self, pair: object) -> bool:
        for pairs in self._sets:  # noqa: SIM110 - a generator doubles the cost of a transaction's check
            if pair in pairs:
                return True
        return False

    def isdisjoint(self, pairs: set[bytes]) -> bool:
        """Tell whether a block with these pairs repeats none of its ancestors'."""
        return all(pairs.isdisjoint(used) for used in self._sets)


def check_body(
    header: Header,
    transactions: Sequence[DecodedTransaction],
    parameters: Parameters,
    used: UsedBefore,
) -> None:
    """Raise BlockError unless the transactions are a valid body for the header.

    ``used`` has the pairs that ancestors used at the header's time.
    """
    count = len(transactions)
    if count > parameters.block_transactions_max:
        raise BlockTooLarge(
            f"expected at most {parameters.block_transactions_max} transactions, got {count}"
        )
    sizes = [len(decoded.wire) for decoded in transactions]
    size = sum(sizes)
    if size > parameters.block_bytes_max:
        raise BlockTooLarge(f"expected at most {parameters.block_bytes_max} bytes, got {size}")
    if sizes and max(sizes) > parameters.transaction_bytes_max:
        raise BlockTooLarge(
            f"expected transactions of at most {parameters.transaction_bytes_max} bytes, "
            f"got {max(sizes)}"
        )
    if (header.transaction_count, header.body_bytes) != (count, size):
        raise BodyMismatch(
            f"header says {header.transaction_count} transactions and {header.body_bytes} bytes, "
            f"the body has {count} and {size}"
        )
    if (
        transactions_root([decoded.wire_hash for decoded in transactions])
        != header.transactions_root
    ):
        raise BodyMismatch("the transactions do not have the header's root")
    _check_validity(header.time_ms, transactions, parameters)
    _check_pairs(transactions, used)


def _check_validity(
    time_ms: TimeMs, transactions: Sequence[DecodedTransaction], parameters: Parameters
) -> None:
    latest = time_ms + parameters.validity_window_ms
    for decoded in transactions:
        if not time_ms <= decoded.transaction.valid_until <= latest:
            raise OutsideValidity(
                f"transaction {decoded.id.hex()}: expected valid_until from {time_ms} to {latest}, "
                f"got {decoded.transaction.valid_until}"
            )


def _check_pairs(transactions: Sequence[DecodedTransaction], used: UsedBefore) -> None:
    pairs = {decoded.pair for decoded in transactions}
    if len(pairs) == len(transactions) and used.isdisjoint(pairs):
        return
    seen: set[bytes] = set()
    for decoded in transactions:
        pair = decoded.pair
        if pair in seen or pair in used:
            where = "this block" if pair in seen else "an ancestor"
            raise NonceUsed(f"transaction {decoded.id.hex()}: {where} used its sender's nonce")
        seen.add(pair)
