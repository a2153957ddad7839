"""Answers to peers: bounded by a frame, whatever is asked, and never a wrong one."""

from __future__ import annotations

import pytest

from ledger.block import Block
from ledger.encoding import StrictDecoder
from ledger.types import ZERO_DIGEST, Digest, Height
from node import serving
from node.block_pool import BlockPool, PoolBlock
from node.serving import Server
from p2p.messages import BlockAnswer, ChainAnswer, GetBlock, GetChain, GetTransactions, Transactions
from tests.unit.node_api.fakes import FakeNode

decode_block = StrictDecoder(Block, 2**21).decode


async def make_chain(blocks: int = 4) -> FakeNode:
    source = FakeNode()
    for _ in range(blocks):
        await source.finalize(source.transfer(), source.transfer(), source.transfer())
    return source


def hash_at(source: FakeNode, height: int) -> Digest:
    return Digest(source.chain.require_executed(height).block_hash)


async def test_transactions_are_sent_by_position() -> None:
    source = await make_chain()
    block = source.chain.block(Height(2))
    assert block is not None
    answer = Server(BlockPool(), source.chain).answer(
        GetTransactions(7, hash_at(source, 2), (0, 2))
    )
    assert answer == Transactions(7, (block.transactions[0], block.transactions[2]))


@pytest.mark.parametrize("indexes", [(0, 0), (0,) * 4096, (2, 1), (3,), (0, 4095)])
async def test_repeated_unordered_or_absent_positions_get_nothing(
    indexes: tuple[int, ...],
) -> None:
    """P7: one small question never makes a large answer."""
    source = await make_chain()
    answer = Server(BlockPool(), source.chain).answer(
        GetTransactions(1, hash_at(source, 2), indexes)
    )
    assert answer == Transactions(1, ())


async def test_an_unknown_block_gets_nothing() -> None:
    source = await make_chain(1)
    server = Server(BlockPool(), source.chain)
    assert server.answer(GetBlock(1, ZERO_DIGEST)) == BlockAnswer(1, None)
    assert server.answer(GetTransactions(1, ZERO_DIGEST, (0,))) == Transactions(1, ())


async def test_what_does_not_fit_a_frame_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """P7: an oversized block in the pool must not end the process of whoever is asked for it."""
    source = await make_chain(1)
    server = Server(BlockPool(), source.chain)
    monkeypatch.setattr(serving, "ANSWER_BYTES_MAX", 100)
    monkeypatch.setattr(serving, "BLOCK_BYTES_MAX", 100)
    assert server.answer(GetBlock(1, hash_at(source, 1))) == BlockAnswer(1, None)
    question = GetTransactions(1, hash_at(source, 1), (0, 1, 2))
    assert server.answer(question) == Transactions(1, ())


async def test_a_stretch_ends_with_its_proof_and_within_a_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = await make_chain(5)
    server = Server(BlockPool(), source.chain)
    answer = server.answer(GetChain(1, 2, 64))
    assert isinstance(answer, ChainAnswer)
    heights = [decode_block(data).header.height for data in answer.blocks]
    assert heights == [2, 3, 4, 5]
    assert answer.certificate == source.chain.certificate(5)
    monkeypatch.setattr(serving, "ANSWER_BYTES_MAX", len(answer.blocks[0]) + 10)
    short = server.answer(GetChain(1, 2, 64))
    assert isinstance(short, ChainAnswer)
    assert len(short.blocks) == 1
    assert short.certificate == source.chain.certificate(2)


async def test_nothing_is_known_above_the_head() -> None:
    """P7, P9: a request for 10^9 blocks costs a read."""
    source = await make_chain(1)
    assert Server(BlockPool(), source.chain).answer(GetChain(1, 10**9, 64)) == ChainAnswer(
        1, (), None, 1
    )


def test_a_full_pool_forgets_what_consensus_forgot(monkeypatch: pytest.MonkeyPatch) -> None:
    """C16: memory is bounded, and yet the pool never stays full of dead blocks."""
    monkeypatch.setattr("node.block_pool.BLOCKS_MAX", 3)
    needed: set[Digest] = set()
    pool = BlockPool(lambda digest, _: digest in needed)
    header = FakeNode().chain.require_executed(0).header
    digests = [Digest(bytes([number]) * 32) for number in range(6)]
    needed.update(digests[:1])
    for digest in digests:
        pool.add(PoolBlock(digest, header, b"", []))
    assert pool.get(digests[0]) is not None
    assert pool.get(digests[1]) is None
    assert pool.get(digests[5]) is not None
    assert len(pool) <= 3
