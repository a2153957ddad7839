"""The node's metrics, exposed as Prometheus text at ``/metrics``.

One registry per :class:`Metrics` object, so that several nodes can live in one test process. Base
units (seconds, bytes), ``_total`` on counters, prefix ``mbi_``. Every label has few values:
validators and peers are bounded by the network's membership, codes by the documented list. Nothing
here is updated once per transaction except :class:`LatencyHistogram`, which is made for that.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

PREFIX: Final = "mbi"

LATENCY_SECONDS: Final = (
    0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0,
)  # fmt: skip
"""Buckets around the targets: 50 ms on an idle network, 250 ms at half load, seconds in a fault."""

SHORT_SECONDS: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)
"""Buckets for one local action: a disk write, one turn of the event loop, one HTTP request."""

TRANSACTION_COUNTS: Final = (0, 1, 10, 50, 100, 250, 500, 1000, 2000, 4096)
"""Buckets for the transactions of a block, up to the largest block."""


class LatencyHistogram(Collector):
    """Histogram without labels for one observation per transaction: 0.2 us instead of 2 us."""

    def __init__(
        self, registry: CollectorRegistry, name: str, documentation: str, bounds: Sequence[float]
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0
        registry.register(self)

    def observe_all(self, seconds: Iterable[float]) -> None:
        """Count every value of a batch."""
        bounds, counts = self._bounds, self._counts
        for value in seconds:
            counts[bisect_left(bounds, value)] += 1
            self._sum += value

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """Yield the family with cumulative buckets."""
        labels = [*(str(bound) for bound in self._bounds), "+Inf"]
        buckets = list(zip(labels, accumulate(self._counts), strict=True))
        yield HistogramMetricFamily(
            self._name, self._documentation, buckets=buckets, sum_value=self._sum
        )


class Total:
    """Counter that may also be set from a running total which somebody else keeps."""

    def __init__(self, registry: CollectorRegistry, name: str, documentation: str) -> None:
        self._counter = Counter(name, documentation, registry=registry)
        self._seen = 0.0

    def increase(self, amount: float = 1) -> None:
        """Add to the counter."""
        self._counter.inc(amount)

    def advance_to(self, total: float) -> None:
        """Raise the counter by what `total` has grown since the last call."""
        self._counter.inc(total - self._seen)
        self._seen = total


class _Family:
    """Makes the metrics of one family with its prefix."""

    def __init__(self, registry: CollectorRegistry, family: str) -> None:
        self._registry = registry
        self._prefix = f"{PREFIX}_{family}_"

    def gauge(self, name: str, documentation: str, *labels: str) -> Gauge:
        return Gauge(self._prefix + name, documentation, labels, registry=self._registry)

    def counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(self._prefix + name, documentation, labels, registry=self._registry)

    def total(self, name: str, documentation: str) -> Total:
        return Total(self._registry, self._prefix + name, documentation)

    def histogram(
        self, name: str, documentation: str, buckets: Sequence[float], *labels: str
    ) -> Histogram:
        return Histogram(
            self._prefix + name, documentation, labels, registry=self._registry, buckets=buckets
        )

    def latency(self, name: str, documentation: str, buckets: Sequence[float]) -> LatencyHistogram:
        return LatencyHistogram(self._registry, self._prefix + name, documentation, buckets)


class ChainMetrics:
    """Blocks and transactions that are final."""

    def __init__(self, registry: CollectorRegistry) -> None:
        make = _Family(registry, "chain")
        self.height = make.gauge("height", "Executed height")
        self.finalized_height = make.gauge("finalized_height", "Highest height known to be final")
        self.head_age_seconds = make.gauge("head_age_seconds", "Clock minus time of the head")
        self.blocks = make.total("blocks", "Blocks executed since the start")
        self.block_interval_seconds = make.histogram(
            "block_interval_seconds", "Time between successive blocks", LATENCY_SECONDS
        )
        self.block_transactions = make.histogram(
            "block_transactions", "Transactions per block", TRANSACTION_COUNTS
        )
        self.block_bytes = make.total("block_bytes", "Bytes of transactions in executed blocks")
        self.transactions = make.counter("transactions", "Executed, by receipt status", "status")
        """Label: ``ok`` or ``failed``."""
        self.finality_latency_seconds = make.latency(
            "finality_latency_seconds",
            "From admission on this node to execution of the block",
            LATENCY_SECONDS,
        )


class ConsensusMetrics:
    """Views, votes and who takes part."""

    def __init__(self, registry: CollectorRegistry) -> None:
        make = _Family(registry, "consensus")
        self.epoch = make.gauge("epoch", "Present epoch")
        self.view = make.gauge("view", "Present view")
        self.views = make.counter("views", "Views below final blocks, by how they ended", "reason")
        """Label: ``notarized`` or ``nullified``."""
        self.stage_seconds = make.histogram(
            "stage_seconds", "Duration of a stage of a view", LATENCY_SECONDS, "stage"
        )
        """Label: ``notarization`` or ``finalization``, since the proposal (``node.stages``)."""
        self.votes = make.counter("votes", "Votes received, by kind", "kind")
        self.validators = make.gauge(
            "validators", "Members of the validator set, by state", "state"
        )
        """Label: ``connected`` or ``missing``."""
        self.members = make.gauge("members", "Members of the validator set, by chamber", "chamber")
        """Label: ``government`` or ``commercial``."""
        self.voting = make.gauge("voting", "1 if this node is a member and may vote")
        self.spare_validators = make.gauge(
            "spare_validators",
            "Validators that may still go missing before there is no quorum; negative without one",
        )
        self.missed = make.counter("missed", "Views skipped, by the validator to lead", "validator")
        self.evidence = make.counter(
            "evidence", "Proven equivocations, by kind of the second vote", "kind"
        )
        self.halted = make.gauge("halted", "1 if no quorum is connected or voting has stopped")


class MempoolMetrics:
    """Pending transactions."""

    def __init__(self, registry: CollectorRegistry) -> None:
        make = _Family(registry, "mempool")
        self.transactions = make.gauge("transactions", "Pending transactions")
        self.bytes = make.gauge("bytes", "Wire bytes of the pending transactions")
        self.oldest_age_seconds = make.gauge("oldest_age_seconds", "Age of the oldest; 0 if empty")
        self.admitted = make.total("admitted", "Transactions admitted")
        self.rejected = make.counter("rejected", "Refused or dropped, by error code", "code")


class P2pMetrics:
    """Channels to other nodes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        make = _Family(registry, "p2p")
        self.peers = make.gauge("peers", "Connected peers")
        self.messages = make.counter("messages", "Messages", "direction")
        """Label: ``in`` or ``out``."""
        self.bytes = make.counter("bytes", "Frame bytes", "direction")
        self.rtt_seconds = make.gauge("rtt_seconds", "Round-trip time", "peer")
        self.certificate_expiry_timestamp_seconds = make.gauge(
            "certificate_expiry_timestamp_seconds",
            "When the own channel certificate expires, Unix time",
        )
        self.dropped = make.counter("dropped", "Messages and peers dropped", "reason")
        self.blocks_behind = make.gauge("blocks_behind", "Highest peer's height minus own")


class HttpMetrics:
    """Requests to the API."""

    def __init__(self, registry: CollectorRegistry) -> None:
        make = _Family(registry, "http")
        self.requests = make.counter("requests", "Requests answered", "route", "status")
        """Labels: pattern of the route (``none`` if there is no such route), status code."""
        self.request_seconds = make.latency(
            "request_seconds", "Time to answer, without streams and waits", SHORT_SECONDS
        )
        self.connections = make.gauge("connections", "Open connections")
        self.refused = make.counter("refused", "Connections refused or cut, by reason", "reason")
        self.streams = make.gauge("streams", "Open event streams, by kind", "kind")
        """Label: ``sse`` or ``websocket``."""
        self.waiters = make.gauge("waiters", "Requests waiting for a transaction to be final")


class NodeMetrics:
    """The process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        make = _Family(registry, "node")
        self.signatures_verified = make.total("signatures_verified", "Signatures checked")
        self.verification_seconds = make.total(
            "verification_seconds", "Processor time the verifier thread spent on signatures"
        )
        self.stage_cpu_seconds = make.counter(
            "stage_cpu_seconds", "Processor time of the stages of the work", "stage"
        )
        """Label: the stages of ``node.costs``. What no stage covers is in the process's own
        counter, ``mbi_process_cpu_seconds_total``."""
        self.storage_writes = make.total("storage_writes", "Batches written")
        self.storage_write_seconds = make.histogram(
            "storage_write_seconds", "Time of one batch write", SHORT_SECONDS
        )
        self.loop_lag_seconds = make.histogram(
            "loop_lag_seconds", "Delay of a timer on the event loop", SHORT_SECONDS
        )
        self.clock_timestamp_seconds = make.gauge(
            "clock_timestamp_seconds", "The clock of this machine, Unix time"
        )
        self.disk_free_bytes = make.gauge("disk_free_bytes", "Free space where the database lies")
        self.build_info = make.gauge(
            "build_info", "Always 1; labels say what runs", "version", "python", "loop"
        )


class Metrics:
    """All families of one node, in one registry."""

    def __init__(self) -> None:
        # When each series was created doubles the page and tells nothing about a node.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.chain = ChainMetrics(self.registry)
        self.consensus = ConsensusMetrics(self.registry)
        self.mempool = MempoolMetrics(self.registry)
        self.p2p = P2pMetrics(self.registry)
        self.http = HttpMetrics(self.registry)
        self.node = NodeMetrics(self.registry)
        ProcessCollector(namespace=PREFIX, registry=self.registry)
        self._refreshers: list[Callable[[], None]] = []

    def before_scrape(self, refresh: Callable[[], None]) -> None:
        """Call `refresh` before each exposition: the place for ages, sizes and outside totals."""
        self._refreshers.append(refresh)

    def exposition(self) -> bytes:
        """Return the Prometheus text format, version 0.0.4."""
        for refresh in self._refreshers:
            refresh()
        return generate_latest(self.registry)
