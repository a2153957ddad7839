"""Catching up from peers of which some lie: every synced block is proven, liars are left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
import pytest

from consensus.certificates import verify_certificate
from consensus.effects import FetchBlock, FetchChain, RequestVerification
from consensus.inputs import BlockReceived, Input, PeerId, Received
from consensus.types import CertificateMessage
from ledger.block import Block, block_hash
from ledger.block_rules import UsedNonces
from ledger.crypto import verify
from ledger.encoding import StrictDecoder, encode
from ledger.types import Digest, Epoch, Era, Height, TimeMs
from node import fetch as module
from node.block_pool import BlockPool
from node.costs import Costs
from node.fetch import Fetcher
from node.intake import Intake, Lookup
from node.mempool import Mempool
from node.progress import Progress
from node.serving import Server
from node.verifier import Verifier
from p2p.errors import PeerUnavailable
from p2p.messages import Answer, BlockAnswer, ChainAnswer, GetChain, Request, Transactions
from p2p.network import Network
from tests.unit.node_api.fakes import FakeNode

HONEST = PeerId(b"h" * 32)
LIAR = PeerId(b"l" * 32)
DEADLINE_S = 10.0

Behaviour = Callable[[Request], Answer | None]

decode_block = StrictDecoder(Block, 2**21).decode


@dataclass
class Setting:
    """A node at height 0 that fetches from scripted peers; the honest one serves a real chain."""

    source: FakeNode = field(default_factory=FakeNode)
    peers: dict[PeerId, Behaviour] = field(default_factory=dict)
    posted: list[Input] = field(default_factory=list)
    penalties: list[tuple[PeerId, str]] = field(default_factory=list)
    pool: BlockPool = field(default_factory=BlockPool)
    verifier: Verifier = field(default_factory=lambda: Verifier(costs=Costs()))
    height: int = 0
    epoch: int = 0
    waited_above: list[int] = field(default_factory=list)
    fetcher: Fetcher = field(init=False)

    def __post_init__(self) -> None:
        chain_id = self.source.chain_id
        intake = Intake(
            chain_id,
            Mempool({}),
            self.verifier,
            state=lambda: self.source.state,
            lookup=Lookup(UsedNonces(), lambda _: None),
            now_ms=lambda: TimeMs(0),
            publish=lambda *_: None,
            on_admitted=lambda: None,
            penalise=lambda *_: None,
            costs=Costs(),
        )
        self.fetcher = Fetcher(
            chain_id,
            cast("Network", self),
            self.pool,
            intake,
            post=self.post,
            executed_height=lambda: Height(self.height),
            wait_executed=self.wait_executed,
            verify_certificate=lambda certificate: verify_certificate(
                certificate, chain_id, self.source.set, Era(0), Epoch(self.epoch), verify
            ),
            penalise=lambda peer, reason: self.penalties.append((peer, reason)),
            era=lambda: Era(0),
            costs=Costs(),
        )
        self.peers[HONEST] = Server(BlockPool(), self.source.chain).answer

    # the network

    def connected(self) -> list[PeerId]:
        return list(self.peers)

    async def request(self, peer: PeerId, message: Request, timeout_s: float) -> Answer:
        answer = self.peers[peer](message)
        if answer is None:
            raise PeerUnavailable("gone")
        return answer

    # the node

    def post(self, event: Input) -> None:
        """Execute a stretch as soon as its finalization is there, as a node would."""
        self.posted.append(event)
        if isinstance(event, Received):
            self.height = max([self.height, *(block.header.height for block in self.pool)])
            self.epoch += any(block.next_validators for block in self.pool)
            self.pool.executed(Height(self.height))

    async def wait_executed(self, height: Height) -> Height:
        self.waited_above.append(height)
        assert self.height > height
        return Height(self.height)

    def proven_heights(self) -> list[int]:
        return [event.header.height for event in self.posted if isinstance(event, BlockReceived)]

    async def sync(self) -> None:
        target = self.source.chain.certificate(self.source.chain.head().height)
        assert target is not None
        async with asyncio.timeout(DEADLINE_S):
            await self.fetcher.chain(FetchChain(Height(self.height + 1), target, (LIAR, HONEST)))


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    monkeypatch.setattr(module, "GOSSIP_GRACE_S", 0.0)


async def make_setting(blocks: int = 5) -> Setting:
    setting = Setting()
    for _ in range(blocks):
        await setting.source.finalize(setting.source.transfer(), setting.source.transfer())
    return setting


def edited(answer: Answer, edit: Callable[[Block], Block], position: int = 0) -> Answer:
    """Return a chain answer with one block changed."""
    assert isinstance(answer, ChainAnswer)
    blocks = list(answer.blocks)
    blocks[position] = encode(edit(decode_block(blocks[position])))
    return msgspec.structs.replace(answer, blocks=tuple(blocks))


def with_signature_flipped(block: Block) -> Block:
    wire = block.transactions[0]
    return msgspec.structs.replace(
        block, transactions=[wire[:-1] + bytes([wire[-1] ^ 1]), *block.transactions[1:]]
    )


def with_other_time(block: Block) -> Block:
    header = msgspec.structs.replace(block.header, time_ms=TimeMs(block.header.time_ms + 1))
    return msgspec.structs.replace(block, header=header)


def without_body(block: Block) -> Block:
    return msgspec.structs.replace(block, transactions=[])


async def test_an_honest_peer_brings_the_whole_chain_with_its_proof() -> None:
    setting = await make_setting()
    await setting.sync()
    assert setting.proven_heights() == [1, 2, 3, 4, 5]
    last = setting.posted[-1]
    assert isinstance(last, Received)
    assert isinstance(last.message, CertificateMessage)
    assert setting.penalties == []


@pytest.mark.parametrize("edit", [with_signature_flipped, with_other_time, without_body])
async def test_a_peer_that_changes_a_block_is_penalised_and_another_is_used(
    edit: Callable[[Block], Block],
) -> None:
    """P9: serves wrong blocks."""
    setting = await make_setting()
    honest = setting.peers[HONEST]
    setting.peers = {
        LIAR: lambda request: edited(cast("Any", honest(request)), edit, 2),
        **setting.peers,
    }
    await setting.sync()
    assert setting.penalties == [(LIAR, "bad_answer")]
    assert setting.proven_heights() == [1, 2, 3, 4, 5]


async def test_a_fork_without_a_quorum_is_never_taken() -> None:
    """P9: serves a fork: well-formed blocks with a certificate that no quorum signed."""
    setting = await make_setting()
    fork = FakeNode()
    for _ in range(7):
        await fork.finalize(fork.transfer(amount=5))

    def forged(request: Request) -> Answer:
        answer = Server(BlockPool(), fork.chain).answer(request)
        assert isinstance(answer, ChainAnswer)
        assert answer.certificate is not None
        signatures = bytes(len(answer.certificate.signatures))
        certificate = msgspec.structs.replace(answer.certificate, signatures=signatures)
        return msgspec.structs.replace(answer, certificate=certificate)

    setting.peers = {LIAR: forged, **setting.peers}
    await setting.sync()
    assert setting.penalties == [(LIAR, "bad_answer")]
    blocks = [event for event in setting.posted if isinstance(event, BlockReceived)]
    expected = [setting.source.chain.header(height) for height in range(1, 6)]
    assert [event.header for event in blocks] == expected


async def test_a_peer_that_claims_a_height_and_has_nothing_is_passed_over() -> None:
    """P9: reports height 10^9, then serves nothing; a claim never decides anything."""
    setting = await make_setting()
    boast = ChainAnswer(0, (), None, 10**9)
    setting.peers = {LIAR: lambda _: boast, **setting.peers}
    await setting.sync()
    assert setting.proven_heights() == [1, 2, 3, 4, 5]


async def test_a_peer_that_stops_half_way_is_replaced() -> None:
    """P9: stops mid-way."""
    setting = await make_setting(8)
    honest = setting.peers[HONEST]

    def half(request: Request) -> Answer | None:
        if not isinstance(request, GetChain) or request.first > 3:
            return None
        return honest(msgspec.structs.replace(request, count=3))

    setting.peers = {LIAR: half, **setting.peers}
    await setting.sync()
    assert setting.proven_heights() == list(range(1, 9))


async def test_blocks_that_never_get_a_proof_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """P9: endless pages without a finalization cost a bounded amount and are not kept."""
    monkeypatch.setattr(module, "STRETCH_BLOCKS_MAX", 4)
    setting = await make_setting(6)
    honest = setting.peers[HONEST]
    asked = 0

    def unproven(request: Request) -> Answer:
        nonlocal asked
        asked += 1
        answer = honest(msgspec.structs.replace(cast("GetChain", request), count=2))
        return msgspec.structs.replace(cast("ChainAnswer", answer), certificate=None)

    setting.peers = {LIAR: unproven}
    await setting.sync()
    assert setting.proven_heights() == []
    assert len(setting.pool) == 0
    assert asked == 2 * module.ROUNDS_MAX


async def test_a_single_block_is_kept_under_its_own_hash_only() -> None:
    """C9, P9: the wrong block under the right request is refused; the right one is still taken."""
    setting = await make_setting(2)
    wanted = setting.source.chain.require_executed(1).block_hash
    other = encode(setting.source.chain.block(Height(2)))
    setting.peers = {LIAR: lambda _: BlockAnswer(0, other), **setting.peers}
    await setting.fetcher.block(FetchBlock(wanted, (LIAR,)))
    assert setting.penalties == [(LIAR, "bad_answer")]
    (event,) = setting.posted
    assert isinstance(event, BlockReceived)
    assert block_hash(setting.source.chain_id, event.header) == wanted


async def test_a_silent_peer_does_not_hold_up_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """P9: whoever offered a block and does not answer costs a moment, not a view."""
    monkeypatch.setattr(module, "STAGGER_S", 0.01)
    setting = await make_setting(1)
    setting.peers = {LIAR: lambda _: None, **setting.peers}
    silent = asyncio.Event()
    request = setting.request

    async def slow_liar(peer: PeerId, message: Request, timeout_s: float) -> Answer:
        if peer == LIAR:
            await silent.wait()
        return await request(peer, message, timeout_s)

    monkeypatch.setattr(setting, "request", slow_liar)
    wanted = setting.source.chain.require_executed(1).block_hash
    async with asyncio.timeout(DEADLINE_S):
        await setting.fetcher.block(FetchBlock(wanted, (LIAR,)))
    assert setting.proven_heights() == [1]


async def test_a_slow_peer_is_left_for_a_faster_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """P9: a peer that feeds one block at a time does not set the pace."""
    monkeypatch.setattr(module, "SLOW_STRETCH_S", -1.0)
    setting = await make_setting(8)
    honest = setting.peers[HONEST]
    asked = 0

    def one_by_one(request: Request) -> Answer | None:
        nonlocal asked
        asked += 1
        return honest(msgspec.structs.replace(cast("GetChain", request), count=1))

    setting.peers = {LIAR: one_by_one, **setting.peers}
    await setting.sync()
    assert setting.proven_heights() == list(range(1, 9))
    assert asked == 1


# --- Over several epochs --------------------------------------------------------------------------


async def make_epochs() -> Setting:
    """Return a setting whose source closed epoch 0 with block 4 and is at block 6."""
    setting = await make_setting(3)
    setting.source.close_epoch()
    for _ in range(2):
        await setting.source.finalize(setting.source.transfer())
    return setting


async def test_each_epoch_is_proven_by_its_own_set() -> None:
    """Segments stop at boundary blocks, and what follows waits until the boundary is executed."""
    setting = await make_epochs()
    await setting.sync()
    assert setting.proven_heights() == [1, 2, 3, 4, 5, 6]
    messages = [event.message for event in setting.posted if isinstance(event, Received)]
    proofs = [cast("CertificateMessage", message).certificates[0] for message in messages]
    assert [proof.epoch for proof in proofs] == [0, 1]
    assert 3 in setting.waited_above
    assert setting.penalties == []


async def test_what_became_final_meanwhile_is_held_against_nobody() -> None:
    """The epoch may be over by the time the answer comes; its set is not the present one."""
    setting = await make_epochs()
    honest = setting.peers[HONEST]

    def late(request: Request) -> Answer | None:
        answer = honest(request)
        if setting.height == 0:
            setting.height, setting.epoch = 4, 1
        return answer

    setting.peers = {HONEST: late}
    await setting.sync()
    assert setting.penalties == []
    assert setting.proven_heights() == [5, 6]


async def test_unproven_blocks_of_heights_executed_meanwhile_cost_no_signature_checks() -> None:
    """P9: a liar that waits until its answer needs no proof could send megabytes of them."""
    setting = await make_setting(3)
    honest = setting.peers[HONEST]

    def late(request: Request) -> Answer | None:
        answer = honest(request)
        setting.height = 3
        return answer

    setting.peers = {HONEST: late}
    await setting.sync()
    assert setting.verifier.signatures_total == 0
    assert setting.proven_heights() == []


async def test_an_answer_ends_with_the_boundary_block() -> None:
    setting = await make_epochs()
    answer = setting.peers[HONEST](GetChain(0, 2, 64))
    assert isinstance(answer, ChainAnswer)
    assert [decode_block(block).header.height for block in answer.blocks] == [2, 3, 4]
    assert answer.certificate == setting.source.chain.certificate(Height(4))


async def test_a_stretch_beyond_the_boundary_is_refused() -> None:
    """P9: blocks of the next epoch cannot be proven by this one."""
    setting = await make_epochs()
    chain = setting.source.chain
    blocks = tuple(encode(block) for block in chain.blocks(1, 6))
    beyond = ChainAnswer(0, blocks, chain.certificate(Height(6)), 6)
    setting.peers = {LIAR: lambda _: beyond, **setting.peers}
    await setting.sync()
    assert setting.penalties == [(LIAR, "bad_answer")]
    assert setting.proven_heights() == [1, 2, 3, 4, 5, 6]


def without_next_set(block: Block) -> Block:
    return msgspec.structs.replace(block, next_validators=())


def with_smaller_set(block: Block) -> Block:
    return msgspec.structs.replace(block, next_validators=block.next_validators[1:])


@pytest.mark.parametrize("edit", [without_next_set, with_smaller_set])
async def test_another_next_set_than_the_header_names_is_refused(
    edit: Callable[[Block], Block],
) -> None:
    """P9: the set that follows is believed by its hash only."""
    setting = await make_epochs()
    honest = setting.peers[HONEST]

    def changed(request: Request) -> Answer | None:
        answer = honest(request)
        is_first = isinstance(request, GetChain) and request.first == 1
        return edited(cast("Any", answer), edit, 3) if is_first else answer

    setting.peers = {LIAR: changed, **setting.peers}
    await setting.sync()
    assert setting.penalties == [(LIAR, "bad_answer")]
    assert setting.proven_heights() == [1, 2, 3, 4, 5, 6]


async def test_transactions_of_a_proposal_are_taken_by_hash() -> None:
    """C9: answers with other transactions than those asked for are refused."""
    setting = await make_setting(1)
    block = setting.source.chain.block(Height(1))
    assert block is not None
    digest = setting.source.chain.require_executed(1).block_hash
    decoded = await setting.fetcher._intake.decode_verified(block.transactions)
    missing = {index: item.wire_hash for index, item in enumerate(decoded)}
    swapped = Transactions(0, tuple(block.transactions[::-1]))
    setting.peers = {LIAR: lambda _: swapped, **setting.peers}
    request = RequestVerification(digest, block.header, None, LIAR)
    found = await setting.fetcher.transactions(request, missing)
    assert {item.wire for item in found.values()} == set(block.transactions)
    assert setting.penalties == [(LIAR, "wrong_transactions")]


def test_progress_starts_at_the_stored_head() -> None:
    source = FakeNode()
    progress = Progress(source.chain)
    head = source.chain.head()
    assert progress.roots_at(Height(0)) == (head.state_root, head.history_root)
    assert progress.roots_at(Height(1)) is None
    assert progress.roots_at(Height(0)) != (Digest(bytes(32)), Digest(bytes(32)))
