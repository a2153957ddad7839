"""Keeps the metrics of a node up to date: once per block, and before each scrape.

Nothing here runs once per transaction except the finality latency, which is made for that.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ledger.receipt import ReceiptStatus
from ledger.transition import BlockOutcome
from ledger.validators import Chamber, ValidatorSet, mask_of
from node.block_pool import PoolBlock
from node.clock import now_ms
from node.costs import STAGES
from node.home import DATA
from node.metrics import Metrics
from p2p.peers import PeerInfo

if TYPE_CHECKING:
    from node.node import Node


class Telemetry:
    """Feeds one registry from one node."""

    def __init__(self, node: Node, metrics: Metrics) -> None:
        """Register for scrapes."""
        self._node = node
        self._metrics = metrics
        self._last_block_s: float | None = None
        self._counted: dict[tuple[str, ...], float] = {}
        metrics.before_scrape(self._refresh)

    def block(self, block: PoolBlock, outcome: BlockOutcome, latencies_s: Sequence[float]) -> None:
        """Record an executed block; ``latencies_s`` of its transactions that were pending here."""
        chain = self._metrics.chain
        count = len(outcome.receipts)
        ok = sum(receipt.status is ReceiptStatus.OK for receipt in outcome.receipts)
        chain.blocks.increase()
        chain.block_transactions.observe(count)
        chain.block_bytes.increase(block.header.body_bytes)
        chain.transactions.labels("ok").inc(ok)
        chain.transactions.labels("failed").inc(count - ok)
        chain.finality_latency_seconds.observe_all(latencies_s)
        now_s = time.monotonic()
        if self._last_block_s is not None:
            chain.block_interval_seconds.observe(now_s - self._last_block_s)
        self._last_block_s = now_s

    def _refresh(self) -> None:
        node, metrics = self._node, self._metrics
        head = node.chain.head()
        metrics.chain.height.set(head.height)
        metrics.chain.finalized_height.set(node.progress.finalized_height)
        metrics.chain.head_age_seconds.set((now_ms() - head.header.time_ms) / 1000)
        self._refresh_consensus()
        pool = node.mempool
        metrics.mempool.transactions.set(len(pool))
        metrics.mempool.bytes.set(pool.bytes)
        oldest = pool.oldest(1)
        age_ms = now_ms() - oldest[0].received_ms if oldest else 0
        metrics.mempool.oldest_age_seconds.set(age_ms / 1000)
        metrics.mempool.admitted.advance_to(pool.admitted_total)
        for code, total in node.intake.refused.items():
            metrics.mempool.rejected.labels(code).inc(self._growth(("rejected", code), total))
        self._refresh_p2p()
        metrics.node.signatures_verified.advance_to(node.verifier.signatures_total)
        seconds = node.costs.seconds
        metrics.node.verification_seconds.advance_to(seconds["signature"])
        for stage in STAGES:
            growth = self._growth(("stage", stage), seconds[stage])
            metrics.node.stage_cpu_seconds.labels(stage).inc(growth)
        metrics.node.storage_writes.advance_to(node.writer.writes_total)
        metrics.node.clock_timestamp_seconds.set(now_ms() / 1000)
        metrics.node.disk_free_bytes.set(shutil.disk_usage(node.home.config.home / DATA).free)

    def _refresh_consensus(self) -> None:
        node, metrics = self._node, self._metrics.consensus
        status = node.driver.engine.status()
        metrics.epoch.set(status.epoch)
        metrics.view.set(status.view)
        for chamber in Chamber:
            size = node.validators.chamber_mask(chamber).bit_count()
            metrics.members.labels(chamber.name.lower()).set(size)
        is_silent = status.me is None or status.quarantined or status.halted is not None
        metrics.voting.set(int(not is_silent))
        metrics.validators.labels("connected").set(len(status.connected))
        metrics.validators.labels("missing").set(len(status.missing))
        metrics.spare_validators.set(spare_validators(node.validators, status.connected))
        metrics.halted.set(int(any(status.shortfall) or status.halted is not None))
        records = zip(node.validators, node.participation.records(), strict=True)
        for validator, record in records:
            key = validator.consensus_key.hex()
            growth = self._growth(("missed", key), record.missed)
            metrics.missed.labels(validator.name).inc(growth)
            metrics.views.labels("nullified").inc(growth)
            growth = self._growth(("proposed", key), record.proposed)
            metrics.views.labels("notarized").inc(growth)

    def _refresh_p2p(self) -> None:
        node, metrics = self._node, self._metrics.p2p
        peers = node.network.peers()
        metrics.certificate_expiry_timestamp_seconds.set(
            node.network.certificate_expires_at.timestamp()
        )
        metrics.peers.set(sum(peer.is_connected for peer in peers))
        highest = max([peer.height or 0 for peer in peers if peer.is_connected], default=0)
        metrics.blocks_behind.set(max(0, highest - node.progress.height))
        dropped = self._growth(("dropped", "inbox_full"), node.driver.dropped_total)
        metrics.dropped.labels("inbox_full").inc(dropped)
        for peer in peers:
            if peer.round_trip_s is not None:
                metrics.rtt_seconds.labels(peer.name).set(peer.round_trip_s)
            self._refresh_peer(peer)

    def _refresh_peer(self, peer: PeerInfo) -> None:
        metrics, statistics = self._metrics.p2p, peer.statistics
        totals = (
            ("in", statistics.messages_in, statistics.bytes_in),
            ("out", statistics.messages_out, statistics.bytes_out),
        )
        for direction, messages, size in totals:
            growth = self._growth(("messages", direction, peer.name), messages)
            metrics.messages.labels(direction).inc(growth)
            growth = self._growth(("bytes", direction, peer.name), size)
            metrics.bytes.labels(direction).inc(growth)
        for reasons in (statistics.drops, statistics.refusals):
            for reason, total in reasons.items():
                growth = self._growth(("dropped", reason, peer.name), total)
                metrics.dropped.labels(reason).inc(growth)

    def _growth(self, name: tuple[str, ...], total: float) -> float:
        """Return by how much a running total has grown since the last scrape.

        The counts of a validator that left the set begin anew when it comes back.
        """
        before = self._counted.get(name, 0.0)
        self._counted[name] = total
        return total - before if total >= before else total


def spare_validators(validators: ValidatorSet, connected: Iterable[int]) -> int:
    """Return how many of the ``connected`` members, whichever they are, a quorum can do without.

    Zero means that the chain stands when one more goes; below zero it stands already.
    """
    present = mask_of(connected)
    seats = [mask for chamber in Chamber if (mask := validators.chamber_mask(chamber))]
    return min(
        present.bit_count() - (2 * validators.size // 3 + 1),
        *((present & mask).bit_count() - (mask.bit_count() + 1) // 2 for mask in seats),
    )
