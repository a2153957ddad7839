"""Execution: what a finalised block does to the state.

Only finalised blocks are executed, once each, in order, so no speculative state exists. The
procedure:

- Before the first transaction, what time and the block's place bring (``ledger.agenda``).
- For each transaction, in block order (``BlockExecution.apply``):
    1. find the actors and the weight that signed for each (``ledger.authority``);
    2. for each operation, in order: enforce its requirement, then run its handler;
    3. if anything refuses, undo all of it and record a failed receipt with the error's code.
- After the last transaction (``finish``):
    1. check the invariants over the changed records;
    2. number new keys, link them, write changed leaves, compute the state root;
    3. compute the receipts root and append the block to the history.

Expiry and used nonces are not judged here: a block that breaks those rules is invalid and never
gets this far (``ledger.block_rules``). A defect in a handler fails its transaction alike on every
node and leaves the state as it was.

Invariants, checked after every block and fatal (InvariantViolation) if broken:

- ``supply``: for each asset, the change of its supply equals the sum of the changes of its
  holdings.
- ``amount_range``: every holding and supply stays within 0 and 2^63 - 1.
- ``block_order``, ``epoch``, ``next_validators``: blocks are executed in order of height, none
  twice, in the epoch that the state is in, and a boundary block's set is the one in its header.
- ``feature_unknown``: the network has not moved on to rules that this version does not know.

Normative text: ``docs/protocol.md`` section 5.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from hashlib import sha256
from typing import Final, NamedTuple

from ledger.admission import AdmissionRules
from ledger.agenda import begin_block
from ledger.authority import actors_of, enforce
from ledger.block import Header, block_hash
from ledger.encoding import encode
from ledger.era import EraStart
from ledger.errors import (
    InvariantViolation,
    LedgerError,
    StateUnreadable,
    UnexpectedFailure,
)
from ledger.events import Event
from ledger.genesis import Genesis, chain_id, genesis_block, genesis_state
from ledger.history import History, history_leaf
from ledger.merkle import dense_root
from ledger.operations import SPEC_OF
from ledger.receipt import NO_OPERATION, OK_CODE, RECEIPT_TAG, Receipt, ReceiptStatus
from ledger.records import HOLDING_ASSET_OFFSET, Asset, Holding, Record
from ledger.state import State, StateRecord, first_records
from ledger.transaction import DecodedTransaction
from ledger.types import AMOUNT_MAX, Digest, Height, TimeMs
from ledger.validators import Validator
from ledger.view import View

_SPEC_OF_TYPE: Final = {
    structure: (spec.requirement, spec.handler) for structure, spec in SPEC_OF.items()
}
_STEP_RECEIPTS: Final = 512
"""Receipts hashed between two yields: about 0.5 ms."""


_STEP_CHANGES: Final = 1024
"""Changed records checked between two yields: about 0.5 ms."""


class BlockOutcome(NamedTuple):
    """Everything that executing a block produced; one synced batch makes it durable."""

    height: Height
    receipts: list[Receipt]
    receipts_root: Digest
    state_root: Digest
    history_root: Digest
    state_writes: list[tuple[bytes, StateRecord]]
    """Changed and new records of the state."""
    history_writes: list[tuple[bytes, bytes]]
    """Pages of the history tree by page key."""
    schedule: tuple[Height, tuple[Validator, ...]] | None = None
    """This height and the next set, if the block scheduled one: the next boundary may bring it."""


class BlockExecution:
    """The execution of one block: ``apply`` each transaction, then ``finish``.

    Work may be cut between any two calls and steps; until the last step readers of the state see
    it as it was before the block.
    """

    def __init__(
        self,
        state: State,
        header: Header,
        signers: int,
        next_members: tuple[Validator, ...] | None = None,
        start: EraStart | None = None,
    ) -> None:
        """Do what the block does before its transactions.

        ``signers`` are those of the parent's certificate (a mask; 0 if there is none),
        ``next_members`` the set in a boundary block's body, ``start`` what the plan of an era says,
        for the first block of that era. Raises InvariantViolation unless the
        block is the next one, and if the network has a feature that this version does not know.
        """
        self._state = state
        self._header = header
        self._check_order()
        self._view = View(state.record, state.chain_id, header.height, header.time_ms)
        begin_block(self._view, header, signers, next_members or (), start)
        self._receipts: list[Receipt] = []

    def _check_order(self) -> None:
        if self._header.height != self._state.height + 1:
            raise InvariantViolation(
                "block_order",
                f"executed up to {self._state.height}, asked for {self._header.height}",
            )

    def apply(self, decoded: DecodedTransaction) -> Receipt:
        """Execute one transaction and record its receipt; never raises for what senders wrote."""
        receipt = _execute(decoded, self._view)
        self._receipts.append(receipt)
        return receipt

    def finish(self) -> BlockOutcome:
        """Check the invariants and make the block's changes the state, in one go."""
        steps = self.finish_steps()
        while True:
            try:
                next(steps)
            except StopIteration as done:
                outcome: BlockOutcome = done.value
                return outcome

    def finish_steps(self) -> Generator[None, None, BlockOutcome]:
        """Do the work of ``finish`` in steps of about a millisecond; the last returns the outcome.

        Raises InvariantViolation; then the node must stop before anything is stored.
        """
        self._check_order()
        state = self._state
        view = self._view
        yield from check_invariants(view)
        changed: dict[bytes, Record] = {key: view.get(key) for key in view.changed}
        update = yield from state.update_steps(changed)
        leaves: list[bytes] = []
        for number, receipt in enumerate(self._receipts, 1):
            leaves.append(sha256(RECEIPT_TAG + encode(receipt)).digest())
            if not number % _STEP_RECEIPTS:
                yield
        receipts_root = dense_root(leaves)
        digest = block_hash(state.chain_id, self._header)
        leaf = history_leaf(digest, update.root, receipts_root)
        history, pages = state.history.append(leaf)
        state.apply_update(self._header.height, update, history, pages)
        return BlockOutcome(
            self._header.height,
            self._receipts,
            receipts_root,
            update.root,
            history.root,
            update.writes,
            pages,
            _schedule_of(view),
        )


def _schedule_of(view: View) -> tuple[Height, tuple[Validator, ...]] | None:
    """Return what the block scheduled, or None."""
    record = view.validators()
    return (view.height, record.scheduled) if record.scheduled_height == view.height else None


def _unheard(_error: LedgerError) -> None:
    """Take no notice: the receipt's code is all that a block records of a refusal."""


def _execute(
    decoded: DecodedTransaction, view: View, on_refusal: Callable[[LedgerError], None] = _unheard
) -> Receipt:
    """Apply a transaction to the view, wholly or not at all."""
    transaction = decoded.transaction
    sender = transaction.sender
    events: list[Event] = []
    index = NO_OPERATION
    try:
        actors = actors_of(transaction, view)
        for index, operation in enumerate(transaction.operations):  # noqa: B007 - names the culprit
            requirement, handler = _SPEC_OF_TYPE[type(operation)]
            actor = actors[operation.source or sender]
            enforce(requirement(operation, view), actor, view)
            events.append(handler(operation, actor, transaction, view))
    except LedgerError as error:
        view.roll_back()
        on_refusal(error)
        return Receipt(decoded.id, ReceiptStatus.FAILED, error.code, index, ())
    except (InvariantViolation, StateUnreadable, MemoryError, RecursionError):
        # Of this node, not of the block: others would record something else.
        raise
    except Exception:
        # A defect must not stop every node at the same block, nor leave half a transaction behind.
        view.roll_back()
        code = UnexpectedFailure.code
        return Receipt(decoded.id, ReceiptStatus.FAILED, code, index, ())
    view.commit()
    return Receipt(decoded.id, ReceiptStatus.OK, OK_CODE, NO_OPERATION, tuple(events))


def check_invariants(view: View) -> Generator[None, None, None]:
    """Raise InvariantViolation if the block's changes break a rule that execution guarantees.

    Yields now and then, like every step of finishing a block.
    """
    balance: dict[bytes, int] = {}
    for number, (key, before) in enumerate(view.changed.items(), 1):
        if not number % _STEP_CHANGES:
            yield
        after = view.get(key)
        if type(after) is Holding:
            asset = key[HOLDING_ASSET_OFFSET:]
            amount = after.amount
            change = amount - (before.amount if type(before) is Holding else 0)
        elif type(after) is Asset:
            asset = after.id.encode()
            amount = after.supply
            change = (before.supply if type(before) is Asset else 0) - amount
        else:
            continue
        if not 0 <= amount <= AMOUNT_MAX:
            raise InvariantViolation("amount_range", f"{amount} of {asset!r} at {view.height}")
        balance[asset] = balance.get(asset, 0) + change
    for asset, difference in balance.items():
        if difference:
            raise InvariantViolation(
                "supply", f"holdings of {asset!r} grew by {difference} beyond its supply"
            )


def execute_genesis(genesis: Genesis) -> BlockOutcome:
    """Return the outcome of height 0: the first state, without transactions."""
    records = first_records(genesis_state(genesis))
    header = genesis_block(genesis)
    receipts_root = dense_root([])
    digest = block_hash(chain_id(genesis), header)
    leaf = history_leaf(digest, header.state_root, receipts_root)
    history, pages = History().append(leaf)
    return BlockOutcome(
        header.height, [], receipts_root, header.state_root, history.root, records, pages
    )


def simulate(state: State, decoded: DecodedTransaction, time_ms: TimeMs) -> Receipt:
    """Return the receipt that the next block would record at this time; changes nothing."""
    return simulate_explained(state, decoded, time_ms)[0]


def simulate_explained(
    state: State, decoded: DecodedTransaction, time_ms: TimeMs
) -> tuple[Receipt, str]:
    """Return what ``simulate`` returns, and in words why it fails; empty if it does not."""
    view = View(state.record, state.chain_id, Height(state.height + 1), time_ms)
    refusals: list[LedgerError] = []
    receipt = _execute(decoded, view, refusals.append)
    return receipt, "".join(str(error) for error in refusals)


def admission_error(
    state: State, decoded: DecodedTransaction, now_ms: TimeMs
) -> LedgerError | None:
    """Return why a transaction is not worth a signature check now, or None."""
    try:
        AdmissionRules(state, now_ms).sender_of(decoded)
    except LedgerError as error:
        return error
    return None
