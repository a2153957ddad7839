"""Signature checks off the loop: right verdicts, in order, and proposals before the rest."""

from __future__ import annotations

import asyncio
import time

from ledger.crypto import SigningKey
from node.costs import Costs
from node.verifier import CHUNK_SIGNATURES, SignatureItem, Verifier

KEY = SigningKey.from_seed(bytes(32))
GOOD: SignatureItem = (KEY.public_key, b"message", KEY.sign(b"message"))
BAD: SignatureItem = (KEY.public_key, b"another message", GOOD[2])


async def test_verdicts_are_in_the_order_of_the_items_over_several_chunks() -> None:
    verifier = Verifier(costs=Costs())
    items = [BAD if index % 100 == 7 else GOOD for index in range(2 * CHUNK_SIGNATURES + 5)]
    assert await verifier.verify(items) == [item is GOOD for item in items]
    assert verifier.signatures_total == len(items)
    verifier.close()


async def test_an_urgent_check_waits_for_one_chunk_at_most() -> None:
    """However many requests wait and however large a proposal is, it is checked next."""
    verifier = Verifier(costs=Costs())
    order: list[str] = []

    async def check(name: str, count: int, *, urgent: bool) -> None:
        await verifier.verify([GOOD] * count, urgent=urgent)
        order.append(name)

    waiting = [asyncio.create_task(check("gossip", 1, urgent=False)) for _ in range(20)]
    await asyncio.sleep(0)
    await check("proposal", 2 * CHUNK_SIGNATURES + 1, urgent=True)
    assert order == ["gossip", "proposal"]
    await asyncio.gather(*waiting)
    assert len(order) == 21
    verifier.close()


async def test_who_stops_waiting_does_not_hold_up_the_others() -> None:
    """A client that goes away takes its checks with it, before and after their turn has come."""
    verifier = Verifier(costs=Costs())
    checks = [asyncio.create_task(verifier.verify([GOOD])) for _ in range(4)]
    await asyncio.sleep(0)
    checks[1].cancel()
    await checks[0]
    checks[2].cancel()
    async with asyncio.timeout(10):
        assert await checks[3] == [True]
        assert await verifier.verify([BAD]) == [False]
    verifier.close()


async def test_the_thread_counts_its_own_processor_time() -> None:
    """The loop's thread may be busy or asleep meanwhile: neither is the price of a signature."""
    costs = Costs()
    verifier = Verifier(costs=costs)
    idle_before = time.thread_time()
    await verifier.verify([GOOD] * (3 * CHUNK_SIGNATURES))
    here = time.thread_time() - idle_before
    verifier.close()
    # No machine checks an Ed25519 signature in 5 us, and the loop did nothing but wait.
    assert costs.seconds["signature"] > 3 * CHUNK_SIGNATURES * 5e-6
    assert costs.seconds["signature"] > here
    assert sum(costs.seconds.values()) == costs.seconds["signature"]
