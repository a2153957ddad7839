"""The metrics object: names, units, the fast histogram, totals kept elsewhere."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.parser import text_string_to_metric_families

from node.metrics import LATENCY_SECONDS, LatencyHistogram, Metrics

FAMILIES = ("chain", "consensus", "mempool", "p2p", "http", "node", "process")


def test_every_metric_has_the_prefix_and_a_family() -> None:
    families = list(text_string_to_metric_families(Metrics().exposition().decode()))
    assert len(families) > 30
    pattern = re.compile(rf"mbi_({'|'.join(FAMILIES)})_[a-z_]+")
    assert [family.name for family in families if not pattern.fullmatch(family.name)] == []
    assert all(family.documentation for family in families)


def test_two_nodes_in_one_process_do_not_share_values() -> None:
    first, second = Metrics(), Metrics()
    first.chain.height.set(7)
    assert first.registry.get_sample_value("mbi_chain_height") == 7
    assert second.registry.get_sample_value("mbi_chain_height") == 0


@given(st.lists(st.sampled_from([*LATENCY_SECONDS, 0.0, 0.0049, 0.0051, 29.0, 31.0, 1000.0])))
def test_fast_histogram_counts_like_the_library(values: list[float]) -> None:
    fast, plain = CollectorRegistry(), CollectorRegistry()
    LatencyHistogram(fast, "x", "x", LATENCY_SECONDS).observe_all(values)
    histogram = Histogram("x", "x", registry=plain, buckets=LATENCY_SECONDS)
    for value in values:
        histogram.observe(value)

    def samples(
        registry: CollectorRegistry,
    ) -> list[tuple[str, tuple[tuple[str, str], ...], float]]:
        return [
            (sample.name, tuple(sample.labels.items()), sample.value)
            for family in registry.collect()
            for sample in family.samples
            if not sample.name.endswith("_created")
        ]

    assert samples(fast) == samples(plain)


def test_total_follows_a_counter_kept_elsewhere() -> None:
    metrics = Metrics()
    metrics.node.signatures_verified.advance_to(5)
    metrics.node.signatures_verified.advance_to(12)
    metrics.node.signatures_verified.increase()
    name = "mbi_node_signatures_verified_total"
    assert metrics.registry.get_sample_value(name) == 13


def test_refreshers_run_before_each_exposition() -> None:
    metrics = Metrics()
    calls: list[int] = []

    def refresh() -> None:
        calls.append(1)
        metrics.mempool.transactions.set(len(calls))

    metrics.before_scrape(refresh)
    assert b"mbi_mempool_transactions 1.0" in metrics.exposition()
    assert b"mbi_mempool_transactions 2.0" in metrics.exposition()
