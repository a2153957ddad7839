"""Which transactions are worth a signature check: protects a node's work and decides nothing.

A block is judged by other rules (``ledger.block_rules``), at its own time.
"""

from __future__ import annotations

from ledger.authority import actors_of
from ledger.errors import Expired, LedgerError, TooLarge, ValidUntilTooFar
from ledger.records import Account
from ledger.state import State
from ledger.transaction import DecodedTransaction
from ledger.types import TimeMs


class AdmissionRules:
    """What is asked of transactions at one moment; made once for those that come together.

    Judges size by the limits in force, expiry by the caller's clock and authority by the latest
    state. All of them may differ when a block includes the transaction.
    """

    __slots__ = ("_latest_ms", "_now_ms", "_size_max", "_state")

    def __init__(self, state: State, now_ms: TimeMs) -> None:
        parameters = state.parameters
        self._state = state
        self._now_ms = now_ms
        self._latest_ms = now_ms + parameters.validity_window_ms
        # Above either limit no block may hold it: a leader that took it would never be voted for.
        self._size_max = min(parameters.transaction_bytes_max, parameters.block_bytes_max)

    def sender_of(self, decoded: DecodedTransaction) -> Account:
        """Return the account of the sender of a transaction that is worth a check.

        Raises TooLarge, Expired, ValidUntilTooFar, or what ``actors_of`` raises.
        """
        transaction = decoded.transaction
        is_in_time = self._now_ms <= transaction.valid_until <= self._latest_ms
        if not is_in_time or len(decoded.wire) > self._size_max:
            raise self._out_of_bounds(len(decoded.wire), transaction.valid_until)
        return actors_of(transaction, self._state)[transaction.sender].account

    def _out_of_bounds(self, size: int, until: TimeMs) -> LedgerError:
        if size > self._size_max:
            return TooLarge(
                f"transaction: expected at most {self._size_max} bytes on this network, got {size}"
            )
        if until < self._now_ms:
            return Expired(f"valid until {until} ms, it is {self._now_ms} ms")
        return ValidUntilTooFar(f"expected at most {self._latest_ms} ms, got {until} ms")
