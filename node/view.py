"""What the HTTP API sees of a node: implements the port ``node.api.ports.NodeView``.

Reads only; the one thing it changes is handing transactions to the intake.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from consensus.engine import EngineStatus
from ledger.errors import InvalidSignature, InvariantViolation
from ledger.genesis import Genesis
from ledger.receipt import Receipt, ReceiptStatus
from ledger.state import State
from ledger.transaction import decode_transaction
from ledger.transition import admission_error, simulate_explained
from ledger.types import Address, Amount, Digest, Height, TimeMs
from ledger.validators import Validator, ValidatorSet
from node import mempool as limits
from node.api.ports import (
    Check,
    MempoolStatus,
    NodeStatus,
    Participation,
    StageTimes,
    SubmitResult,
    TransactionStatus,
)
from node.clock import now_ms
from node.faucet import Faucet
from node.node import Node
from node.proofs import Prover
from p2p.peers import PeerInfo
from storage.chain_store import ChainStore
from storage.evidence_store import Evidence

BLOCKS_BEHIND_MAX: Final = 16
"""A node further behind the highest peer is syncing, not ready."""


class View:
    """A running node as the API sees it."""

    def __init__(self, node: Node, version: str, faucet: Faucet | None) -> None:
        """``faucet`` on development networks only."""
        self._node = node
        self._version = version
        self._faucet = faucet
        self._started_ms = now_ms()
        self._prover = Prover(node.chain, node.chain_id, node.home.plans)

    @property
    def genesis(self) -> Genesis:
        """Genesis of the network."""
        return self._node.genesis

    @property
    def chain_id(self) -> Digest:
        """Hash of the canonical genesis."""
        return self._node.chain_id

    @property
    def chain(self) -> ChainStore:
        """Blocks, receipts and indexes up to the executed head."""
        return self._node.chain

    @property
    def state(self) -> State:
        """State after the executed head."""
        return self._node.executor.state

    @property
    def prover(self) -> Prover:
        """Makes proof files from chain and state."""
        return self._prover

    # ------------------------------------------------------------------ status

    def status(self) -> NodeStatus:
        """Return who this node is and where it stands."""
        node = self._node
        head = node.chain.head()
        network_height = self._network_height()
        return NodeStatus(
            name=node.home.config.name,
            role="observer" if node.driver.engine.config.me is None else "validator",
            version=self._version,
            started_ms=self._started_ms,
            executed_height=head.height,
            executed_hash=Digest(head.block_hash),
            executed_time_ms=head.header.time_ms,
            state_root=Digest(head.state_root),
            history_root=Digest(head.history_root),
            finalized_height=node.progress.finalized_height,
            network_height=network_height,
            is_syncing=network_height > head.height + BLOCKS_BEHIND_MAX,
        )

    def _network_height(self) -> Height:
        peers = self._node.network.peers()
        heights = [peer.height or 0 for peer in peers if peer.is_connected]
        return Height(max([self._node.progress.height, *heights]))

    def readiness(self) -> Sequence[Check]:
        """Return every condition of readiness, with who or what is missing."""
        node = self._node
        consensus = self.consensus()
        names = [validator.name for validator in self.validators()]
        missing = ", ".join(sorted(names[index] for index in consensus.missing))
        behind = max(0, self._network_height() - node.progress.height)
        quorum = self.validators().missing_for_quorum(0).members
        shortfall = consensus.shortfall
        lacking = (
            f"missing: {missing}; a quorum needs {shortfall.members} more "
            f"({shortfall.government} government, {shortfall.commercial} commercial)"
        )
        return [
            Check(
                "quorum",
                not any(shortfall),
                len(consensus.connected),
                quorum,
                lacking if any(shortfall) else "",
            ),
            Check(
                "synced",
                behind <= BLOCKS_BEHIND_MAX,
                behind,
                BLOCKS_BEHIND_MAX,
                "" if behind <= BLOCKS_BEHIND_MAX else "blocks behind the highest peer",
            ),
            Check(
                "consensus",
                consensus.halted is None,
                consensus.halted or "running",
                "running",
                consensus.halted or "",
            ),
            self._voting(consensus.quarantined),
        ]

    def _voting(self, is_quarantined: bool) -> Check:
        fence = self._node.fence
        if fence is not None:
            return Check("voting", False, "fenced", "allowed", fence)
        if is_quarantined:
            reason = "own votes may be forgotten; waiting for a quorum of fresh answers"
            return Check("voting", False, "quarantined", "allowed", reason)
        return Check("voting", True, "allowed", "allowed", "")

    def consensus(self) -> EngineStatus:
        """Return the engine's own report."""
        return self._node.driver.engine.status()

    def validators(self) -> ValidatorSet:
        """Return the validator set that the engine's report speaks of."""
        return self._node.driver.engine.config.validators

    def participation(self) -> Sequence[Participation]:
        """Return what each validator did since this node started."""
        return self._node.participation.records()

    def mempool(self) -> MempoolStatus:
        """Return statistics of the pending transactions."""
        pool = self._node.mempool
        oldest = pool.oldest(1)
        return MempoolStatus(
            transactions=len(pool),
            bytes=pool.bytes,
            transactions_max=limits.TRANSACTIONS_MAX,
            bytes_max=limits.BYTES_MAX,
            oldest_age_ms=now_ms() - oldest[0].received_ms if oldest else None,
            by_organisation=pool.by_organisation(),
            dropped=dict(self._node.intake.refused),
        )

    def peers(self) -> Sequence[PeerInfo]:
        """Return the configured and connected peers."""
        return self._node.network.peers()

    # ------------------------------------------------------------------ transactions

    async def submit(self, wires: Sequence[bytes]) -> Sequence[SubmitResult]:
        """Check and admit transactions; one result per item, in order."""
        return await self._node.intake.submit(wires)

    def unreported_evidence(self) -> Sequence[tuple[Evidence, Validator]]:
        """Return proof of faults that is not on chain yet, with the accused."""
        return self._node.evidence.unreported()

    async def simulate(self, wire: bytes) -> tuple[Receipt, str]:
        """Execute a transaction against the present state without changing it.

        Returns the receipt, and in words why it would fail.

        Raises:
            LedgerError: it would not be admitted.
        """
        transaction = decode_transaction(self.chain_id, wire)
        verdicts = await self._node.verifier.verify(transaction.signature_items())
        if not all(verdicts):
            raise InvalidSignature(
                f"transaction {transaction.id.hex()}: a signature is not valid; sign the body again"
            )
        time_ms = now_ms()
        error = admission_error(self.state, transaction, time_ms)
        if error is not None:
            raise error
        return simulate_explained(self.state, transaction, time_ms)

    def transaction_status(self, transaction_id: Digest) -> TransactionStatus:
        """Return what is known about a transaction."""
        location = self.chain.transaction(transaction_id)
        if location is not None:
            return self._final_status(transaction_id, location.height, location.index)
        pending = self._node.mempool.get_by_id(transaction_id)
        if pending is not None:
            times = StageTimes(received_ms=pending.received_ms)
            return TransactionStatus(
                transaction_id, "pending", wire=pending.transaction.wire, times=times
            )
        dropped = self._node.mempool.outcome(transaction_id)
        if dropped is None:
            return TransactionStatus(transaction_id, "unknown")
        return TransactionStatus(
            transaction_id, dropped.stage, code=dropped.code, detail=dropped.detail
        )

    def _final_status(
        self, transaction_id: Digest, height: Height, index: int
    ) -> TransactionStatus:
        receipt = self.chain.receipt(height, index)
        block = self.chain.block(height)
        if receipt is None or block is None:
            raise InvariantViolation("chain_index", f"height {height} has no body or no receipts")
        is_ok = receipt.status is ReceiptStatus.OK
        times = self._node.progress.times_of(height)
        return TransactionStatus(
            transaction_id,
            "finalized" if is_ok else "failed",
            height=height,
            index=index,
            receipt=receipt,
            code=None if is_ok else receipt.code,
            wire=block.transactions[index],
            times=StageTimes(
                proposed_ms=block.header.time_ms,
                finalized_ms=None if times is None else times.finalized_ms,
                executed_ms=None if times is None else times.executed_ms,
            ),
        )

    async def wait_finalized(self, transaction_id: Digest, timeout_s: float) -> TransactionStatus:
        """Return the status once it is not pending, or as it stands after the timeout."""
        status = self.transaction_status(transaction_id)
        if status.stage != "pending":
            return status
        await self._node.progress.wait_transaction(transaction_id, timeout_s)
        return self.transaction_status(transaction_id)

    async def wait_executed(self, above: Height) -> Height:
        """Wait until the executed height is greater than ``above``; return it."""
        return await self._node.progress.wait_above(above)

    async def faucet(self, address: Address, asset: str, amount: Amount) -> SubmitResult | None:
        """Send development funds; None if this node has no faucet."""
        if self._faucet is None:
            return None
        wire = self._faucet.transfer(address, asset, amount, TimeMs(now_ms()))
        return (await self._node.intake.submit([wire]))[0]
