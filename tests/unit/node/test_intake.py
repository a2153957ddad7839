"""The intake: cheap checks before the signature, one result per item, nothing lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from unittest.mock import ANY

import pytest
import pytest_asyncio

from consensus.inputs import PeerId
from ledger.block_rules import UsedNonces
from ledger.errors import LedgerError
from ledger.operations.assets import Transfer
from ledger.transaction import wire_hash
from ledger.types import Amount, Digest, Height, TimeMs
from node import intake as module
from node.api.ports import SubmitResult
from node.costs import Costs
from node.door import LATE_PLACES, LINE_MS_MAX
from node.intake import Intake, Lookup
from node.mempool import Mempool
from node.verifier import SignatureItem, Verifier
from tests.unit.ledger.builders import GENESIS_TIME_MS, MYR, Chain, address

PEER = PeerId(b"p" * 32)
DEADLINE_S = 5.0


@dataclass
class Desk:
    """An intake with its surroundings recorded."""

    chain: Chain = field(default_factory=Chain)
    mempool: Mempool = field(default_factory=lambda: Mempool({}))
    verifier: Verifier = field(default_factory=lambda: Verifier(costs=Costs()))
    used: UsedNonces = field(default_factory=UsedNonces)
    heights: dict[Digest, Height] = field(default_factory=dict)
    published: list[tuple[list[bytes], PeerId | None]] = field(default_factory=list)
    penalties: list[str] = field(default_factory=list)
    admitted: int = 0
    now_ms: int = GENESIS_TIME_MS
    intake: Intake = field(init=False)

    def __post_init__(self) -> None:
        def on_admitted() -> None:
            self.admitted += 1

        self.intake = Intake(
            self.chain.chain_id,
            self.mempool,
            self.verifier,
            state=lambda: self.chain.state,
            lookup=Lookup(self.used, self.heights.get),
            now_ms=lambda: TimeMs(self.now_ms),
            publish=lambda wires, source: self.published.append((list(wires), source)),
            on_admitted=on_admitted,
            penalise=lambda _, reason: self.penalties.append(reason),
            costs=Costs(),
        )

    def wire(self, sender: str = "alice", *, nonce: int | None = None) -> bytes:
        operation = Transfer(None, address("bob"), MYR, Amount(1))
        return self.chain.wire(sender, operation, nonce=nonce)

    async def submit_one(self, wire: bytes) -> SubmitResult:
        (result,) = await self.intake.submit([wire])
        return result


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    task = asyncio.create_task(desk.intake.run())
    yield desk
    task.cancel()
    desk.verifier.close()


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop turns until the condition holds."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - gives turns, does not wait for time
            await asyncio.sleep(0)


def damaged(wire: bytes) -> bytes:
    """Flip a bit of the signature's S that keeps it below the group order."""
    return wire[:-32] + bytes([wire[-32] ^ 1]) + wire[-31:]


async def test_a_good_transaction_is_accepted_published_and_announced(desk: Desk) -> None:
    wire = desk.wire()
    result = await desk.submit_one(wire)
    assert result.status == "accepted"
    assert desk.published == [([wire], None)]
    assert desk.admitted == 1
    assert len(desk.mempool) == 1


async def test_posting_the_same_bytes_again_is_known(desk: Desk) -> None:
    wire = desk.wire()
    first = await desk.submit_one(wire)
    again = await desk.submit_one(wire)
    assert (again.status, again.id) == ("known", first.id)
    assert len(desk.published) == 1


async def test_a_batch_has_one_result_per_item_in_order(desk: Desk) -> None:
    good = desk.wire()
    results = await desk.intake.submit([good, b"\x90", damaged(desk.wire()), good, desk.wire()])
    assert [(result.status, result.code) for result in results] == [
        ("accepted", None),
        ("rejected", "malformed_encoding"),
        ("rejected", "invalid_signature"),
        ("known", None),
        ("accepted", None),
    ]


async def test_a_bad_signature_is_refused_and_not_remembered_against_the_sender(
    desk: Desk,
) -> None:
    """T3: anybody can post a bad signature under the id of another's transaction."""
    wire = desk.wire()
    result = await desk.submit_one(damaged(wire))
    assert result.code == "invalid_signature"
    assert result.id is not None
    assert desk.mempool.outcome(result.id) is None
    assert (await desk.submit_one(wire)).status == "accepted"


async def test_an_unregistered_sender_is_refused_before_the_signature_is_checked(
    desk: Desk,
) -> None:
    result = await desk.submit_one(damaged(desk.wire("mallory")))
    assert result.code == "account_unknown"
    assert desk.verifier.signatures_total == 0


async def test_a_final_transaction_is_reported_with_its_height(desk: Desk) -> None:
    """T6: replaying a finalised transaction changes nothing and says where it is."""
    operation = Transfer(None, address("bob"), MYR, Amount(1))
    transaction = desk.chain.transaction("alice", operation)
    desk.used.add_block(TimeMs(GENESIS_TIME_MS), [transaction])
    desk.heights[transaction.id] = Height(9)
    result = await desk.submit_one(transaction.wire)
    assert (result.status, result.height) == ("finalized", 9)


async def test_a_used_nonce_is_refused(desk: Desk) -> None:
    """T6: same nonce, two bodies: the second is refused once the first is final."""
    operation = Transfer(None, address("bob"), MYR, Amount(2))
    transaction = desk.chain.transaction("alice", operation, nonce=5)
    desk.used.add_block(TimeMs(GENESIS_TIME_MS), [transaction])
    result = await desk.submit_one(desk.wire(nonce=5))
    assert result.code == "nonce_used"


async def test_a_transaction_that_becomes_final_during_its_check_does_not_wait_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T6: a node that wakes up late must not offer final transactions as pending ones."""
    operation = Transfer(None, address("bob"), MYR, Amount(1))
    transaction = desk.chain.transaction("alice", operation)
    verify = desk.verifier.verify

    async def slow(items: Sequence[SignatureItem], *, urgent: bool = False) -> list[bool]:
        desk.used.add_block(TimeMs(GENESIS_TIME_MS), [transaction])
        desk.heights[transaction.id] = Height(4)
        return await verify(items, urgent=urgent)

    monkeypatch.setattr(desk.verifier, "verify", slow)
    result = await desk.submit_one(transaction.wire)
    assert (result.status, result.height) == ("finalized", 4)
    assert len(desk.mempool) == 0


async def test_an_expired_transaction_is_refused_with_its_time(desk: Desk) -> None:
    operation = Transfer(None, address("bob"), MYR, Amount(1))
    wire = desk.chain.wire("alice", operation, valid_until=GENESIS_TIME_MS - 1)
    result = await desk.submit_one(wire)
    assert result.code == "expired"
    assert str(GENESIS_TIME_MS - 1) in (result.detail or "")


async def test_a_temporary_refusal_says_when_to_try_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.mempool.TRANSACTIONS_MAX", 0)
    result = await desk.submit_one(desk.wire())
    assert (result.code, result.retry_after_s) == ("mempool_full", module.RETRY_AFTER_S)
    assert desk.intake.refused["mempool_full"] == 1


async def test_overload_is_refused_before_signatures_pile_up(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.door.BACKLOG_MAX", 3)
    desk.intake.receive(PEER, [desk.wire() for _ in range(4)])
    result = await desk.submit_one(desk.wire())
    assert (result.code, result.retry_after_s) == ("mempool_full", module.RETRY_AFTER_S)
    await until(lambda: len(desk.mempool) == 4)
    assert (await desk.submit_one(desk.wire())).status == "accepted"


async def test_what_is_not_let_in_is_not_even_decoded(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overload must not be paid with the time that what was let in needs."""
    monkeypatch.setattr("node.backpressure.WAITING_MIN", 2)
    desk.mempool.set_weights({"bank": 1, "regulator": 1})
    results = await desk.intake.submit([desk.wire(), desk.wire(), desk.wire(), b"\x90"])
    full = SubmitResult(None, "rejected", "mempool_full", ANY, None, module.RETRY_AFTER_S)
    assert [result.status for result in results[:2]] == ["accepted", "accepted"]
    assert results[2:] == [full, full]
    assert desk.intake.refused == {"mempool_full": 2}
    assert desk.verifier.signatures_total == 2


async def test_peers_are_not_kept_out_by_the_door(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validators that refuse each other's transactions must fetch them for every block."""
    monkeypatch.setattr("node.backpressure.WAITING_MIN", 2)
    desk.intake.receive(PEER, [desk.wire() for _ in range(5)])
    await until(lambda: len(desk.mempool) == 5)


async def test_a_line_that_takes_too_long_lets_nobody_in(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that cannot keep up with the checks says so instead of keeping its clients waiting."""
    verify, free = desk.verifier.verify, asyncio.Event()

    async def slow(items: Sequence[SignatureItem], *, urgent: bool = False) -> list[bool]:
        await free.wait()
        return await verify(items, urgent=urgent)

    monkeypatch.setattr(desk.verifier, "verify", slow)
    desk.mempool.set_weights({"bank": 1, "regulator": LATE_PLACES})
    in_check = asyncio.create_task(desk.submit_one(desk.wire()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    in_line = asyncio.create_task(desk.submit_one(desk.wire()))
    await asyncio.sleep(0)
    desk.now_ms += LINE_MS_MAX + 1
    assert (await desk.submit_one(desk.wire())).code == "mempool_full"
    modest = asyncio.create_task(desk.submit_one(desk.wire("regulator")))
    await asyncio.sleep(0)
    free.set()
    for waiting in (in_check, in_line, modest):
        assert (await waiting).status == "accepted"
    assert (await desk.submit_one(desk.wire())).status == "accepted"


async def test_an_organisation_below_its_share_is_let_in_at_any_time(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F11: whoever fills the mempool keeps nobody out who wants a fair part of it."""
    monkeypatch.setattr("node.backpressure.WAITING_MIN", 4)
    desk.mempool.set_weights({"bank": 1, "regulator": 1})
    await desk.intake.submit([desk.wire() for _ in range(4)])
    assert (await desk.submit_one(desk.wire())).code == "mempool_full"
    for _ in range(2):
        assert (await desk.submit_one(desk.wire("regulator"))).status == "accepted"
    assert (await desk.submit_one(desk.wire("regulator"))).code == "mempool_full"
    assert (await desk.submit_one(desk.wire("mallory"))).code == "mempool_full"


async def test_temporary_refusals_cost_a_peer_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overload must not make honest validators ban each other."""
    monkeypatch.setattr(module, "WASTED_MAX", 2)
    monkeypatch.setattr("node.mempool.TRANSACTIONS_MAX", 0)
    desk.intake.receive(PEER, [desk.wire() for _ in range(9)])
    await until(lambda: desk.intake.refused["mempool_full"] == 9)
    assert desk.penalties == []


async def test_gossip_is_verified_admitted_and_passed_on_with_its_source(desk: Desk) -> None:
    wires = [desk.wire() for _ in range(3)]
    desk.intake.receive(PEER, wires)
    await until(lambda: len(desk.mempool) == 3)
    assert desk.published == [(wires, PEER)]


async def test_a_peer_that_sends_rubbish_is_penalised(desk: Desk) -> None:
    desk.intake.receive(PEER, [b"\xc1", damaged(desk.wire())])
    await until(lambda: len(desk.penalties) == 2)
    assert desk.penalties == ["malformed_encoding", "invalid_signature"]
    assert len(desk.mempool) == 0


async def test_a_copy_in_the_queue_is_not_verified_twice(desk: Desk) -> None:
    wire = desk.wire()
    desk.intake.receive(PEER, [wire, wire])
    desk.intake.receive(PEER, [wire])
    await until(lambda: len(desk.mempool) == 1)
    assert desk.verifier.signatures_total == 1


async def test_what_a_proposal_needs_is_checked_before_the_rest(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[int] = []
    verify = desk.verifier.verify

    async def recorded(items: Sequence[SignatureItem], *, urgent: bool = False) -> list[bool]:
        order.append(len(items))
        return await verify(items, urgent=urgent)

    monkeypatch.setattr(desk.verifier, "verify", recorded)
    wires = [desk.wire() for _ in range(5)]
    desk.intake.receive(PEER, wires)
    await desk.intake.hurry([wire_hash(wires[4]), wire_hash(wires[3])])
    assert desk.intake.pending(wire_hash(wires[4])) is not None
    assert order[0] == 2
    await until(lambda: len(desk.mempool) == 5)
    assert sum(order) == 5


async def test_what_a_proposal_needs_is_taken_from_the_line_of_own_ones_too(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client may post to several nodes; where its transaction waits, a block must not wait."""
    monkeypatch.setattr(module, "GROUP_TRANSACTIONS", 2)
    desk.intake.receive(PEER, [desk.wire() for _ in range(50)])
    posted = desk.wire()
    posting = asyncio.create_task(desk.submit_one(posted))
    await asyncio.sleep(0)
    assert desk.intake.pending(wire_hash(posted)) is None
    await desk.intake.hurry([wire_hash(posted)])
    assert desk.intake.pending(wire_hash(posted)) is not None
    assert len(desk.mempool) < 50
    assert (await posting).status == "accepted"


async def test_posts_that_come_in_together_are_checked_together(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hand-over to the verifying thread costs as much as a signature."""
    sizes: list[int] = []
    verify = desk.verifier.verify

    async def recorded(items: Sequence[SignatureItem], *, urgent: bool = False) -> list[bool]:
        sizes.append(len(items))
        return await verify(items, urgent=urgent)

    monkeypatch.setattr(desk.verifier, "verify", recorded)
    wires = [desk.wire() for _ in range(9)]
    wires[4] = damaged(wires[4])
    results = await asyncio.gather(*(desk.submit_one(wire) for wire in wires))
    assert sizes == [9]
    assert [result.status for result in results] == ["accepted"] * 4 + ["rejected"] + [
        "accepted"
    ] * 4
    assert (len(desk.published), desk.admitted) == (1, 1)


async def test_transactions_of_peers_go_first_but_not_for_ever(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Peers propose theirs soon, so own ones fill the groups; a flood of gossip lets some in."""
    monkeypatch.setattr(module, "GROUP_TRANSACTIONS", 2)
    monkeypatch.setattr(module, "OVERTAKEN_MAX", 2)
    own, heard = [desk.wire() for _ in range(6)], [desk.wire() for _ in range(7)]
    desk.intake.receive(PEER, heard)
    await desk.intake.submit(own)
    order = [entry.transaction.wire for entry in desk.mempool.entries()]
    assert ["own" if wire in own else "peer" for wire in order] == (
        ["peer"] * 4 + ["own"] * 2 + ["peer"] * 3 + ["own"] * 4
    )


async def test_a_caller_that_leaves_takes_nothing_back(desk: Desk) -> None:
    wire = desk.wire()
    leaving = asyncio.create_task(desk.submit_one(wire))
    await asyncio.sleep(0)
    leaving.cancel()
    await until(lambda: desk.intake.pending(wire_hash(wire)) is not None)


async def test_a_flood_of_refused_transactions_costs_its_sender(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P7: well-formed transactions that can never be admitted are not free, and do not block."""
    monkeypatch.setattr(module, "WASTED_MAX", 10)
    operation = Transfer(None, address("bob"), MYR, Amount(1))
    expired = [
        desk.chain.wire("alice", operation, valid_until=GENESIS_TIME_MS - 1) for _ in range(25)
    ]
    desk.intake.receive(PEER, expired)
    await until(lambda: desk.intake.refused["expired"] == 25)
    assert desk.penalties == ["refused_transactions"] * 2
    assert desk.verifier.signatures_total == 0


async def test_the_gossip_queue_is_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GOSSIP_QUEUE_MAX", 2)
    desk.intake.receive(PEER, [desk.wire() for _ in range(5)])
    assert desk.intake.refused["gossip_queue_full"] == 3


async def test_arrival_ends_when_the_last_transaction_is_pending(desk: Desk) -> None:
    wire = desk.wire()
    digest = wire_hash(wire)
    waiting = asyncio.create_task(desk.intake.arrival([digest], DEADLINE_S))
    await asyncio.sleep(0)
    await desk.submit_one(wire)
    async with asyncio.timeout(DEADLINE_S / 2):
        await waiting
    assert desk.intake.pending(digest) is not None


async def test_arrival_gives_up_after_its_time(desk: Desk) -> None:
    await desk.intake.arrival([Digest(bytes(32))], 0.01)
    assert desk.intake.pending(Digest(bytes(32))) is None


async def test_transactions_of_a_block_are_verified_only_if_they_are_not_pending(
    desk: Desk,
) -> None:
    pending, fresh = desk.wire(), desk.wire()
    await desk.submit_one(pending)
    before = desk.verifier.signatures_total
    decoded = await desk.intake.decode_verified([pending, fresh])
    assert [transaction.wire for transaction in decoded] == [pending, fresh]
    assert desk.verifier.signatures_total == before + 1


async def test_a_block_with_a_bad_signature_is_refused(desk: Desk) -> None:
    with pytest.raises(LedgerError, match="signature is not valid"):
        await desk.intake.decode_verified([damaged(desk.wire())])
