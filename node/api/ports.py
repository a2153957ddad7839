"""What the HTTP API needs of a node: the port that it declares and ``node.view`` implements.

Reads of blocks, receipts and accounts go to the chain store and the ledger's state directly,
through two attributes of :class:`NodeView`. Everything else is a method that returns a small frozen
record. Synchronous methods answer from memory and never block; ``async`` ones may wait. All of them
are called on the event loop only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from msgspec import Struct

from ledger.types import Digest, Height

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from consensus.engine import EngineStatus
    from ledger.genesis import Genesis
    from ledger.receipt import Receipt
    from ledger.state import State
    from ledger.types import Address, Amount, TimeMs
    from ledger.validators import Validator, ValidatorSet
    from node.proofs import Prover
    from p2p.peers import PeerInfo
    from storage.chain_store import ChainStore
    from storage.evidence_store import Evidence

SubmitStatus = Literal["accepted", "known", "finalized", "rejected"]
"""Outcome of handing in one transaction. ``known``: already pending. ``finalized``: already
executed, with or without success; ask :meth:`NodeView.transaction_status` for which."""

TransactionStage = Literal["pending", "finalized", "failed", "rejected", "expired", "unknown"]
"""Where a transaction is. ``failed``: final, but its operations had no effect (see its receipt).
``rejected``: refused or dropped by this node before it was in a block. ``expired``: its
``valid_until`` passed before it was in a block."""


class SubmitResult(Struct, array_like=True, frozen=True, gc=False):
    """Answer for one submitted transaction. A msgpack client receives it as this array of six."""

    id: Digest | None
    """None if the bytes are no transaction, or were refused for want of room before they were
    decoded."""
    status: SubmitStatus
    code: str | None = None
    """Stable error code if rejected."""
    detail: str | None = None
    """What was expected and what was found, if rejected."""
    height: Height | None = None
    """Block that contains it, if finalized."""
    retry_after_s: int | None = None
    """Set if the refusal is temporary (mempool full, quota used): try the same bytes again then."""


@dataclass(frozen=True, slots=True)
class StageTimes:
    """When this node saw a transaction reach each stage, ms since the epoch; None: not seen."""

    received_ms: TimeMs | None = None
    """Admitted to this node's mempool."""
    proposed_ms: TimeMs | None = None
    """Time in the header of its block."""
    finalized_ms: TimeMs | None = None
    """This node held the finalization of its block."""
    executed_ms: TimeMs | None = None
    """This node had executed and stored its block."""


@dataclass(frozen=True, slots=True)
class TransactionStatus:
    """Everything a node knows about one transaction id."""

    id: Digest
    stage: TransactionStage
    height: Height | None = None
    """Block that contains it, for ``finalized`` and ``failed``."""
    index: int | None = None
    """Position in that block, from 0."""
    receipt: Receipt | None = None
    code: str | None = None
    """Error code for ``failed``, ``rejected`` and ``expired``."""
    detail: str | None = None
    wire: bytes | None = None
    """The transaction itself, while the node still has it."""
    times: StageTimes = field(default_factory=StageTimes)


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """Who this node is and where it stands."""

    name: str
    role: Literal["validator", "observer"]
    version: str
    """Version of the software."""
    started_ms: TimeMs
    executed_height: Height
    """Latest block that is executed and stored: what every query sees."""
    executed_hash: Digest
    executed_time_ms: TimeMs
    state_root: Digest
    history_root: Digest
    finalized_height: Height
    """Latest block known to be final; at most a few ahead of the executed one unless syncing."""
    network_height: Height
    """Highest height that any peer reports; own height without peers."""
    is_syncing: bool


@dataclass(frozen=True, slots=True)
class MempoolStatus:
    """Statistics of the pending transactions."""

    transactions: int
    bytes: int
    transactions_max: int
    bytes_max: int
    oldest_age_ms: int | None
    """None if empty."""
    by_organisation: Mapping[str, int]
    """Pending transactions per sponsoring organisation."""
    dropped: Mapping[str, int]
    """Transactions refused or dropped since the start, by error code."""


@dataclass(frozen=True, slots=True)
class Check:
    """One condition of readiness, with the value found and the limit it is held against."""

    name: str
    ok: bool
    value: str | int | float
    limit: str | int | float
    detail: str = ""
    """Who or what is missing, if not ok."""


@dataclass(frozen=True, slots=True)
class Participation:
    """What one validator did since this node started, as far as this node saw it."""

    proposed: int
    """Finalised blocks it led."""
    signed: int
    """Certificates on finalised blocks that carry its vote."""
    missed: int
    """Views it should have led that were skipped."""


class NodeView(Protocol):
    """A running node as the API sees it."""

    @property
    def genesis(self) -> Genesis:
        """Genesis of the network."""

    @property
    def chain_id(self) -> Digest:
        """Hash of the canonical genesis."""

    @property
    def chain(self) -> ChainStore:
        """Blocks, receipts and indexes up to the executed head."""

    @property
    def state(self) -> State:
        """State after the executed head."""

    @property
    def prover(self) -> Prover:
        """Makes proof files from chain and state."""

    def status(self) -> NodeStatus:
        """Return who this node is and where it stands."""

    def readiness(self) -> Sequence[Check]:
        """Return every condition of readiness; the node is ready if all are ok."""

    def consensus(self) -> EngineStatus:
        """Return the engine's own report: view, votes seen, who is missing, why it is halted."""

    def validators(self) -> ValidatorSet:
        """Return the validator set of the present epoch."""

    def participation(self) -> Sequence[Participation]:
        """Return one record per member of :meth:`validators`, in its order."""

    def mempool(self) -> MempoolStatus:
        """Return statistics of the pending transactions."""

    def peers(self) -> Sequence[PeerInfo]:
        """Return the configured and connected peers."""

    async def submit(self, wires: Sequence[bytes]) -> Sequence[SubmitResult]:
        """Check and admit transactions; one result per item, in order. Never raises for bad bytes.

        The API may stop waiting for the answer; what was admitted stays admitted.
        """

    def unreported_evidence(self) -> Sequence[tuple[Evidence, Validator]]:
        """Return proof of faults that this node holds and the chain does not, with the accused."""

    async def simulate(self, wire: bytes) -> tuple[Receipt, str]:
        """Execute a transaction on a copy of the present state and return what would happen.

        The text says why it would fail; it is empty if it would not.
        Signatures are verified like those of a submitted one. Changes nothing.

        Raises:
            LedgerError: the transaction would not be admitted at all.
        """

    def transaction_status(self, transaction_id: Digest) -> TransactionStatus:
        """Return what is known about a transaction; stage ``unknown`` if nothing is."""

    async def wait_finalized(self, transaction_id: Digest, timeout_s: float) -> TransactionStatus:
        """Return the status as soon as it is not ``pending``, or as it stands after the timeout.

        May be cancelled: the client has gone away.
        """

    async def wait_executed(self, above: Height) -> Height:
        """Wait until the executed height is greater than `above`; return it.

        This one signal drives every event stream: the streams read the events from the chain store,
        so a slow client costs no memory here. May be cancelled.
        """

    async def faucet(self, address: Address, asset: str, amount: Amount) -> SubmitResult | None:
        """Send development funds to an account; None if this node has no faucet.

        Only a node of a network with ``genesis.dev`` that holds the faucet's key has one.
        """
