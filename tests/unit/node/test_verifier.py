"""Signature checks off the loop: right verdicts, in order, and proposals before the rest."""

from __future__ import annotations

import asyncio

from ledger.crypto import SigningKey
from node.verifier import CHUNK_SIGNATURES, SignatureItem, Verifier

KEY = SigningKey.from_seed(bytes(32))
GOOD: SignatureItem = (KEY.public_key, b"message", KEY.sign(b"message"))
BAD: SignatureItem = (KEY.public_key, b"another message", GOOD[2])


async def test_verdicts_are_in_the_order_of_the_items_over_several_chunks() -> None:
    verifier = Verifier()
    items = [BAD if index % 100 == 7 else GOOD for index in range(2 * CHUNK_SIGNATURES + 5)]
    assert await verifier.verify(items) == [item is GOOD for item in items]
    assert verifier.signatures_total == len(items)
    verifier.close()


async def test_an_urgent_check_waits_for_two_chunks_at_most() -> None:
    """However many requests wait, a proposal is checked next but one."""
    verifier = Verifier()
    order: list[str] = []

    async def check(name: str, *, urgent: bool) -> None:
        await verifier.verify([GOOD], urgent=urgent)
        order.append(name)

    waiting = [asyncio.create_task(check("gossip", urgent=False)) for _ in range(20)]
    await asyncio.sleep(0)
    await check("proposal", urgent=True)
    assert order.index("proposal") <= 2
    await asyncio.gather(*waiting)
    assert len(order) == 21
    verifier.close()
