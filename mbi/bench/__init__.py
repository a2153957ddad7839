"""Throughput and latency of a network, measured so that the numbers cannot flatter.

``workload`` makes accounts and signs before the clock starts; ``load`` sends through the lean
client of ``http`` and ``connection``; ``finality`` counts what became final from finalized blocks;
``integrity`` compares all nodes afterwards; ``statistics`` and ``report`` turn it into numbers.
What was sent and never seen again counts as unknown, never as success.
"""
