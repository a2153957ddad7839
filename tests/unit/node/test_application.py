"""The application: what it builds, it accepts; every other body gets the verdict the rules say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
import pytest

from consensus.effects import RequestProposal, RequestVerification
from consensus.inputs import Verdict
from consensus.types import Proposal
from consensus.validity import EXECUTION_LAG_MAX
from ledger.block import Header, block_hash
from ledger.block_rules import UsedNonces, transactions_root
from ledger.encoding import encode
from ledger.genesis import DEFAULT_PARAMETERS, genesis_block
from ledger.operations.assets import Transfer
from ledger.transaction import DecodedTransaction
from ledger.types import Amount, Digest, Epoch, Era, Height, Signature, TimeMs, View
from ledger.validators import ValidatorSet
from ledger.votes import Value, Vote, VoteKind
from node.application import (
    TIME_AHEAD_MS_MAX,
    Application,
    carries_its_payload,
    is_payload_of,
)
from node.block_pool import BlockPool, PoolBlock
from node.costs import Costs
from node.epochs import Epochs, PresentEpoch
from node.mempool import Mempool
from tests.unit.ledger.builders import GENESIS_TIME_MS, MYR, Chain, address, make_genesis

NOW = GENESIS_TIME_MS + 500


@dataclass
class FakeEpochs:
    """The epoch of the genesis set, and what follows it in the test's hand."""

    present: PresentEpoch
    scheduled: dict[int, ValidatorSet] = field(default_factory=dict)
    """By the height from which a block must bring it."""
    due: TimeMs | None = None

    def next_set(self, executed_height: Height) -> ValidatorSet | None:
        found = [height for height in self.scheduled if height <= executed_height]
        return self.scheduled[max(found)] if found else None

    def due_ms(self) -> TimeMs | None:
        return self.due


@dataclass
class Bench:
    """An application with its surroundings in the test's hand."""

    chain: Chain = field(default_factory=Chain)
    mempool: Mempool = field(default_factory=lambda: Mempool({}))
    pool: BlockPool = field(default_factory=BlockPool)
    used: UsedNonces = field(default_factory=UsedNonces)
    executed: Height = field(default_factory=lambda: Height(0))
    now_ms: int = NOW
    elsewhere: dict[Digest, DecodedTransaction] = field(default_factory=dict)
    """Transactions that peers would deliver."""
    asked: list[Mapping[int, Digest]] = field(default_factory=list)
    delivered: PoolBlock | None = None
    """Whole block that arrives while its transactions are looked for."""
    executes: Height | None = None
    """Height that is executed while transactions are looked for."""
    costs: Costs = field(default_factory=Costs)
    application: Application = field(init=False)

    def __post_init__(self) -> None:
        self.genesis = genesis_block(self.chain.genesis)
        self.genesis_hash = block_hash(self.chain.chain_id, self.genesis)
        self.validators = ValidatorSet(self.chain.genesis.validators)
        self.epochs = FakeEpochs(
            PresentEpoch(Era(0), Epoch(0), self.genesis, self.genesis_hash, self.validators)
        )
        self.application = Application(
            self.chain.chain_id,
            cast("Epochs", self.epochs),
            self.chain.state,
            mempool=self.mempool,
            pool=self.pool,
            used=self.used,
            roots_at=self.roots_at,
            executed_height=lambda: self.executed,
            source=self,
            now_ms=lambda: TimeMs(self.now_ms),
            costs=self.costs,
        )

    def roots_at(self, height: Height) -> tuple[Digest, Digest] | None:
        if height > self.executed:
            return None
        return self.chain.state.root, self.chain.state.history.root

    async def transactions(
        self, request: RequestVerification, missing: Mapping[int, Digest]
    ) -> dict[Digest, DecodedTransaction]:
        self.asked.append(missing)
        if self.delivered is not None:
            self.pool.add(self.delivered)
        if self.executes is not None:
            self.executed = self.executes
        wanted = missing.values()
        return {digest: self.elsewhere[digest] for digest in wanted if digest in self.elsewhere}

    def transfer(self, *, nonce: int | None = None, valid_until: int = NOW + 60_000) -> Any:
        operation = Transfer(None, address("bob"), MYR, Amount(1))
        return self.chain.transaction("alice", operation, nonce=nonce, valid_until=valid_until)

    def pend(self, count: int = 1, **changes: Any) -> list[DecodedTransaction]:
        transactions = [self.transfer(**changes) for _ in range(count)]
        for transaction in transactions:
            self.mempool.add(transaction, "bank", TimeMs(NOW))
        return transactions

    def build(self, parent: Header | None = None, *, empty_allowed: bool = True) -> Header | None:
        request = RequestProposal(View(1), parent or self.genesis, None, 0, empty_allowed)
        built = self.application.build(request)
        return built.header

    def built(self, parent: Header | None = None) -> PoolBlock:
        header = self.build(parent)
        assert header is not None
        block = self.pool.get(block_hash(self.chain.chain_id, header))
        assert block is not None
        return block

    async def judge(self, block: PoolBlock, **changes: Any) -> Verdict:
        """Let a second node judge the block, with some header fields changed."""
        header = msgspec.structs.replace(block.header, **changes)
        digest = block_hash(self.chain.chain_id, header)
        payload = b"".join(transaction.wire_hash for transaction in block.transactions)
        if block.next_validators:
            payload = encode(block.next_validators)
        request = RequestVerification(digest, header, payload, None)
        return await self.application.judge(request)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_block_extends_its_parent_and_certifies_what_is_executed(bench: Bench) -> None:
    transactions = bench.pend(3)
    block = bench.built()
    header = block.header
    assert list(block.transactions) == transactions
    assert (header.height, header.executed_height) == (1, 0)
    assert header.parent_hash == block_hash(bench.chain.chain_id, bench.genesis)
    assert header.previous_boundary_hash == header.parent_hash
    assert header.time_ms == NOW
    assert (header.state_root, header.history_root) == bench.roots_at(Height(0))


def test_time_grows_even_if_the_clock_stands_still(bench: Bench) -> None:
    """R1: block time strictly grows."""
    first = bench.built().header
    assert bench.built(first).header.time_ms == first.time_ms + 1


def test_nothing_is_built_without_need(bench: Bench) -> None:
    assert bench.build(empty_allowed=False) is None
    bench.pend()
    assert bench.build(empty_allowed=False) is not None


def test_a_child_does_not_repeat_its_ancestors_transactions(bench: Bench) -> None:
    first = bench.pend(2)
    parent = bench.built()
    second = bench.pend(1)
    child = bench.built(parent.header)
    assert list(parent.transactions) == first
    assert list(child.transactions) == second


def test_used_nonces_and_foreign_validity_windows_are_left_out(bench: Bench) -> None:
    """T6, R2: what would make the block invalid never enters it."""
    (replayed,) = bench.pend(1, nonce=77)
    bench.used.add_block(TimeMs(GENESIS_TIME_MS), [replayed])
    bench.pend(1, valid_until=NOW - 1)
    bench.pend(1, valid_until=NOW + 600_001)
    (good,) = bench.pend(1)
    assert list(bench.built().transactions) == [good]


def test_what_became_too_large_while_it_was_checked_is_left_out() -> None:
    """With it the block would be invalid for everyone, in every view that this node leads."""
    limits = msgspec.structs.replace(DEFAULT_PARAMETERS, transaction_bytes_max=1024)
    genesis = msgspec.structs.replace(make_genesis(), parameters=limits)
    bench = Bench(chain=Chain(genesis))
    [small] = bench.pend()
    operation = Transfer(None, address("bob"), MYR, Amount(1))
    large = bench.chain.transaction("alice", *[operation] * 50, valid_until=NOW + 60_000)
    assert len(large.wire) > 1024
    bench.mempool.add(large, "bank", TimeMs(NOW))
    header = bench.build()
    assert header is not None
    assert (header.transaction_count, header.body_bytes) == (1, len(small.wire))


def test_far_above_the_executed_height_blocks_are_empty(bench: Bench) -> None:
    """C14: back-pressure: a block further than the lag above execution carries nothing."""
    parent = msgspec.structs.replace(bench.genesis, height=Height(EXECUTION_LAG_MAX))
    bench.pend()
    header = bench.build(parent)
    assert header is not None
    assert header.transaction_count == 0


def test_nothing_is_built_on_a_parent_that_knows_more_than_we_executed(bench: Bench) -> None:
    ahead = msgspec.structs.replace(bench.genesis, height=Height(5), executed_height=Height(4))
    assert bench.build(ahead) is None


async def test_what_one_node_builds_another_accepts(bench: Bench) -> None:
    bench.pend(3)
    block = bench.built()
    bench.pool.executed(Height(0))
    other = Bench(chain=bench.chain, mempool=bench.mempool)
    assert await other.judge(block) is Verdict.VALID
    assert other.pool.get(block.block_hash) is not None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"transactions_root": Digest(bytes(32))}, Verdict.INVALID),
        ({"transaction_count": 2}, Verdict.INVALID),
        ({"body_bytes": 1}, Verdict.INVALID),
        ({"state_root": Digest(bytes(32))}, Verdict.INVALID),
        ({"history_root": Digest(bytes(32))}, Verdict.INVALID),
        ({"time_ms": TimeMs(NOW + 60_001)}, Verdict.INVALID),
        ({"executed_height": Height(1)}, Verdict.NOT_YET),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_a_wrong_header_field_changes_the_verdict(
    bench: Bench, changes: dict[str, Any], expected: Verdict
) -> None:
    """C8: one mutation per field that the application judges."""
    bench.pend(3)
    block = bench.built()
    judge = Bench(chain=bench.chain, mempool=bench.mempool, now_ms=NOW + 60_001)
    assert await judge.judge(block, **changes) is expected


async def test_a_block_from_the_future_waits(bench: Bench) -> None:
    """R1: a leader's fast clock costs time, never a wrong verdict."""
    bench.pend()
    block = bench.built()
    other = Bench(chain=bench.chain, mempool=bench.mempool, now_ms=NOW - TIME_AHEAD_MS_MAX - 1)
    assert await other.judge(block) is Verdict.NOT_YET
    other.now_ms += 1
    assert await other.judge(block) is Verdict.VALID


async def test_missing_transactions_are_asked_for_by_position(bench: Bench) -> None:
    transactions = bench.pend(3)
    block = bench.built()
    other = Bench(chain=bench.chain)
    other.mempool.add(transactions[1], "bank", TimeMs(NOW))
    assert await other.judge(block) is Verdict.NOT_YET
    assert [sorted(missing) for missing in other.asked] == [[0, 2]]
    other.elsewhere = {transaction.wire_hash: transaction for transaction in transactions}
    assert await other.judge(block) is Verdict.VALID


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, Verdict.VALID), ({"state_root": Digest(bytes(32))}, Verdict.INVALID)],
    ids=["agrees", "differs"],
)
async def test_what_is_executed_while_transactions_come_counts(
    bench: Bench, changes: dict[str, Any], expected: Verdict
) -> None:
    """Consensus hears of the execution before it hears the verdict, and would not ask again."""
    transactions = bench.pend()
    block = bench.built()
    other = Bench(chain=bench.chain, executes=Height(1))
    other.elsewhere = {transaction.wire_hash: transaction for transaction in transactions}
    assert await other.judge(block, executed_height=Height(1), **changes) is expected


async def test_judging_a_block_is_charged_to_its_stage(bench: Bench) -> None:
    bench.pend(50)
    block = bench.built()
    judge = Bench(chain=bench.chain, mempool=bench.mempool)
    assert await judge.judge(block) is Verdict.VALID
    assert sum(judge.costs.seconds.values()) == judge.costs.seconds["resolve"] > 0


async def test_a_block_with_one_nonce_twice_is_invalid(bench: Bench) -> None:
    """T6: a block with both transactions of one (sender, nonce) is invalid."""
    first, second = bench.transfer(nonce=3), bench.transfer(nonce=3, valid_until=NOW + 1)
    first_block = PoolBlock(Digest(bytes(32)), bench.genesis, b"", [first, second])
    bench.pend()
    header = msgspec.structs.replace(
        bench.built().header,
        transactions_root=transactions_root([first.wire_hash, second.wire_hash]),
        transaction_count=2,
        body_bytes=len(first.wire) + len(second.wire),
    )
    bench.elsewhere = {item.wire_hash: item for item in (first, second)}
    first_block.header = header
    assert await bench.judge(first_block) is Verdict.INVALID


async def test_a_transaction_of_an_ancestor_makes_a_block_invalid(bench: Bench) -> None:
    """T6: replay in a later block."""
    bench.pend()
    parent = bench.built()
    child = msgspec.structs.replace(
        parent.header, height=Height(2), parent_hash=parent.block_hash, time_ms=TimeMs(NOW + 1)
    )
    replay = PoolBlock(Digest(bytes(32)), child, b"", parent.transactions)
    assert await bench.judge(replay) is Verdict.INVALID


def test_a_payload_belongs_to_one_header(bench: Bench) -> None:
    """C8: whoever relays a proposal can forge its payload, because the leader signs the header."""
    bench.pend(2)
    block = bench.built()
    payload = b"".join(transaction.wire_hash for transaction in block.transactions)
    assert is_payload_of(payload, block.header)
    for forged in (
        b"",
        payload[:32],
        payload[32:] + payload[:32],
        payload + b"x",
        payload + payload,
    ):
        assert not is_payload_of(forged, block.header)


def test_a_repeated_boundary_block_needs_no_payload(bench: Bench) -> None:
    """Otherwise a boundary block that misses its first view would never become final."""
    bench.pend(1)
    header = msgspec.structs.replace(
        bench.built().header, next_validator_set_hash=Digest(b"\x07" * 32)
    )
    value = Value(View(1), Digest(bytes(32)))
    vote = Vote(
        VoteKind.NOTARIZE, header.era, header.epoch, View(2), value, 0, Signature(bytes(64))
    )
    first = Proposal(
        header.era, header.epoch, header.view, value, header, b"", None, (), None, vote
    )
    repeated = msgspec.structs.replace(first, view=View(header.view + 1))
    assert not carries_its_payload(first)
    assert carries_its_payload(repeated)


async def test_an_invalid_block_does_not_hide_its_transactions(bench: Bench) -> None:
    """C8: a leader's wrong block must not put the chain to sleep with work pending."""
    bench.pend(2)
    block = bench.built()
    other = Bench(chain=bench.chain, mempool=bench.mempool)
    assert await other.judge(block, transaction_count=0) is Verdict.INVALID
    assert len(other.pool) == 0
    assert other.application.has_work(bench.genesis_hash, View(1))


async def test_a_block_that_arrives_whole_ends_the_search_for_its_parts(bench: Bench) -> None:
    bench.pend(2)
    block = bench.built()
    other = Bench(chain=bench.chain)
    other.delivered = PoolBlock(block.block_hash, block.header, b"", block.transactions)
    assert await other.judge(block) is Verdict.VALID


def test_a_full_pool_builds_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.block_pool.BLOCKS_MAX", 0)
    bench.pend()
    assert bench.build() is None


def test_work_is_what_no_living_block_contains(bench: Bench) -> None:
    """A block of an earlier view that was not notarized is dead: its transactions wait again."""
    work = bench.application.has_work
    assert not work(bench.genesis_hash, View(1))
    bench.pend()
    assert work(bench.genesis_hash, View(1))
    block = bench.built()
    assert not work(bench.genesis_hash, View(1))
    assert work(bench.genesis_hash, View(2))
    assert not work(block.block_hash, View(2))


# --- Changes of the set ---------------------------------------------------------------------------


def successor(bench: Bench, count: int = 1) -> ValidatorSet:
    """Return a set that differs from the present one."""
    return ValidatorSet(bench.validators.members[:count])


async def test_a_scheduled_set_makes_a_boundary_block(bench: Bench) -> None:
    """V5: it brings the set and no transactions, and whoever judges it agrees."""
    bench.pend(3)
    bench.epochs.scheduled[0] = successor(bench)
    block = bench.built()
    assert block.header.next_validator_set_hash == successor(bench).hash
    assert block.next_validators == successor(bench).members
    assert (list(block.transactions), block.header.transaction_count) == ([], 0)
    bench.pool.discard(block.block_hash)
    assert await bench.judge(block) is Verdict.VALID
    whole = bench.pool.get(block.block_hash)
    assert whole is not None
    assert whole.to_block() == block.to_block()


@pytest.mark.parametrize("due", [True, False])
async def test_a_boundary_that_is_not_due_is_invalid_and_one_that_is_missing_too(
    bench: Bench, due: bool
) -> None:
    """C8, V5: the next set in a header is judged like its roots."""
    bench.epochs.scheduled = {0: successor(bench)} if due else {}
    block = bench.built()
    bench.pool.discard(block.block_hash)
    bench.epochs.scheduled = {} if due else {0: successor(bench)}
    assert await bench.judge(block) is Verdict.INVALID


async def test_a_set_that_is_scheduled_later_waits(bench: Bench) -> None:
    """V5: what the block certifies as executed decides; a later schedule is for a later block."""
    bench.epochs.scheduled = {1: successor(bench)}
    block = bench.built()
    assert block.header.next_validator_set_hash == bytes(32)
    bench.pool.discard(block.block_hash)
    assert await bench.judge(block) is Verdict.VALID


async def test_a_boundary_with_another_set_in_its_body_is_invalid(bench: Bench) -> None:
    """C8: the header names one set, the payload holds another."""
    bench.epochs.scheduled[0] = successor(bench)
    block = bench.built()
    bench.pool.discard(block.block_hash)
    block.next_validators = bench.validators.members[1:2]
    assert await bench.judge(block) is Verdict.INVALID
    assert not is_payload_of(encode(block.next_validators), block.header)
    assert is_payload_of(encode(successor(bench).members), block.header)
    assert not is_payload_of(b"", block.header)


def test_a_scheduled_set_is_work_until_its_epoch_begins(bench: Bench) -> None:
    """An idle network reaches the boundary by itself."""
    tip = bench.genesis_hash
    assert not bench.application.has_work(tip, View(1))
    bench.epochs.scheduled[0] = successor(bench)
    assert bench.application.has_work(tip, View(1))
    assert bench.build(empty_allowed=False) is not None


def test_what_waits_for_a_time_gets_one_empty_block_when_the_time_has_come(bench: Bench) -> None:
    """An idle network decides what is due by itself, and makes one block for it."""
    bench.epochs.due = TimeMs(NOW + 10)
    assert not bench.application.has_work(bench.genesis_hash, View(1))
    assert bench.build(empty_allowed=False) is None
    bench.now_ms = NOW + 10
    assert bench.application.has_work(bench.genesis_hash, View(1))
    header = bench.build(empty_allowed=False)
    assert header is not None
    assert header.transaction_count == 0
    tip = block_hash(bench.chain.chain_id, header)
    assert not bench.application.has_work(tip, View(2))
    assert bench.build(header, empty_allowed=False) is None


def test_blocks_of_a_later_epoch_name_its_place(bench: Bench) -> None:
    """V1: era, epoch, set and base are those of the epoch, whatever the parent says."""
    base = msgspec.structs.replace(bench.genesis, height=Height(0), view=View(9))
    base_hash = block_hash(bench.chain.chain_id, base)
    later = PresentEpoch(Era(2), Epoch(3), base, base_hash, successor(bench))
    bench.epochs.present = later
    header = bench.build(base)
    assert header is not None
    assert (header.era, header.epoch) == (2, 3)
    assert header.validator_set_hash == successor(bench).hash
    assert header.previous_boundary_hash == base_hash
