"""Continuous load from outside, and a record of every transaction that a node called final."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.cluster.api import Api
from tests.cluster.cluster import Cluster, Node
from tests.cluster.waiting import wait_until

RATE: Final = 500
"""Transactions per second of every test that runs under load."""
BATCH: Final = 50
ANSWER_TIMEOUT_S: Final = 2.0
"""A paused node answers nobody; the next one is asked then."""
FOLLOW_INTERVAL_S: Final = 0.05
SENDERS: Final = ("alice", "bob", "carol", "dave")


class Load:
    """Sends transfers at a stated rate to all reachable nodes in turn, from two threads.

    One thread signs and submits, the other reads the ids of every new block, from one node after
    the other: what stands there was answered as final and must never be lost.
    """

    def __init__(self, cluster: Cluster, rate: int = RATE) -> None:
        """``rate``: transactions per second."""
        self.finalized: dict[str, int] = {}
        """Height at which a node called each transaction final."""
        self.accepted: set[str] = set()
        self.results: Counter[str] = Counter()
        """Results of submissions by status or code."""
        self.unreachable: Counter[str] = Counter()
        """Submissions without an answer, by node."""
        self.growth: list[tuple[float, int]] = []
        """When each greater height was first seen."""
        self.paused: set[str] = set()
        """Names of nodes to leave alone."""
        self._cluster = cluster
        self._rate = rate
        self._wallets = [cluster.wallet(name) for name in SENDERS]
        self._addresses = [cluster.address(name) for name in SENDERS]
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), daemon=True)
            for work in (self._send, self._follow)
        ]

    @contextmanager
    def running(self) -> Iterator[Load]:
        """Send for as long as the block runs; it begins when the first transactions are final."""
        for thread in self._threads:
            thread.start()
        try:
            wait_until("first transactions final", 15.0, lambda: len(self.finalized) >= BATCH)
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(30.0)
        assert not self._errors, f"the load generator failed: {self._errors[0]!r}"

    def wait_more(self, transactions: int, deadline_s: float = 20.0) -> None:
        """Wait until so many more are final than now."""
        goal = len(self.finalized) + transactions
        wait_until(f"{transactions} more final", deadline_s, lambda: len(self.finalized) >= goal)

    def longest_gap_s(self, since: float) -> float:
        """Return the longest time without a new block after ``since`` (monotonic), until now."""
        times = [since, *(at for at, _ in self.growth if at > since), time.monotonic()]
        return max(later - earlier for earlier, later in itertools.pairwise(times))

    # ------------------------------------------------------------------ threads

    def _guarded(self, work: object) -> None:
        try:
            assert callable(work)
            work()
        except BaseException as error:
            self._errors.append(error)

    def _targets(self, apis: dict[str, Api]) -> Iterator[tuple[Node, Api]]:
        """Yield the nodes in turn, for ever, without those that cannot answer."""
        for node in itertools.cycle(self._cluster.nodes):
            if self._stop.is_set():
                return
            if node.is_running and node.name not in self.paused:
                yield node, apis[node.name]
            else:
                self._stop.wait(0.001)

    def _apis(self) -> dict[str, Api]:
        return {node.name: Api(node.entry.http, ANSWER_TIMEOUT_S) for node in self._cluster.nodes}

    def _send(self) -> None:
        apis = self._apis()
        due = time.monotonic()
        for number, (node, api) in enumerate(self._targets(apis)):
            self._stop.wait(max(0.0, due - time.monotonic()))
            # After a stall the rate is kept from now on: no burst makes up for lost time.
            due = max(due, time.monotonic() - 1.0) + BATCH / self._rate
            sender = number % len(SENDERS)
            to = self._addresses[(sender + 1) % len(SENDERS)]
            signed = [
                self._wallets[sender].transfer(self._cluster.asset, to, 1) for _ in range(BATCH)
            ]
            try:
                results = api.submit_batch([item.wire for item in signed])
            except OSError:
                self.unreachable[node.name] += 1
                continue
            for item, result in zip(signed, results, strict=True):
                self.results[result["code"] or result["status"]] += 1
                if result["status"] in ("accepted", "known", "finalized"):
                    self.accepted.add(item.id)
        for api in apis.values():
            api.close()

    def _follow(self) -> None:
        apis = self._apis()
        seen = 0
        for _, api in self._targets(apis):
            try:
                height = api.height()
                for missing in range(seen + 1, height + 1):
                    ids = api.block_ids(missing)
                    for identifier in ids:
                        self.finalized.setdefault(identifier, missing)
                    seen = missing
                    self.growth.append((time.monotonic(), missing))
            except OSError:
                continue
            self._stop.wait(FOLLOW_INTERVAL_S)
        for api in apis.values():
            api.close()
