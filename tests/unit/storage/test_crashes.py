"""Crashes, power cuts and disk errors at any moment of a validator's life."""

from __future__ import annotations

import os
import random
import shutil
from typing import TYPE_CHECKING

import pytest

from consensus.effects import Persist, Store
from ledger.types import Epoch, Era, Signature, View
from ledger.votes import NULL_VALUE, Round, Value, Vote, VoteKind
from storage.chain_store import ChainStore
from storage.errors import DiskFull, StoreCorrupt, WriteError, WriteFailed
from storage.event_index import START
from storage.leveldb import LevelDBStore
from storage.memory import MEMORY, MemoryStore
from storage.metadata import initialise
from storage.schema import SPAN_HEIGHTS, Location, Topic
from storage.state_store import StateStore
from storage.vote_store import VoteStore
from tests.unit.storage.builders import ACCOUNTS, CHAIN, Chain, make_certificate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ledger.types import Digest
    from storage.kv import Batch, KeyValueStore


class Validator:
    """Does to a store what a validator does; remembers what others have heard from it."""

    def __init__(self, store: KeyValueStore, seed: int = 0) -> None:
        self.store = store
        self.chain = Chain(seed)
        self.sent: list[Vote] = []
        """Votes that left: their write had returned."""
        self.acknowledged = 0
        """Highest height that was reported as final and executed."""
        genesis = self.chain.steps[0]
        initialise(store, CHAIN, genesis.block.header, genesis.outcome, rejoin=False)
        self.blocks = ChainStore(store, CHAIN)
        self.votes = VoteStore(store, self.blocks)

    def live(self, heights: int) -> Iterator[None]:
        """Live through some heights; yields between any two storage calls."""
        for _ in range(heights):
            step = self.chain.extend(2)
            view, digest = step.block.header.view, step.digest
            yield from self._vote(view - 1, VoteKind.NULLIFY)
            yield from self._vote(view, VoteKind.NOTARIZE, digest)
            yield from self._write(self._certificates(view, digest), sync=False)
            yield from self._vote(view, VoteKind.FINALIZE, digest)
            batch = self.store.batch()
            self.blocks.add_finalized(
                batch, digest, step.block, step.outcome, make_certificate(view, digest)
            )
            self.votes.prune(batch, Round(Era(0), Epoch(0), view))
            yield from self._write(batch, sync=True)
            self.acknowledged = step.block.header.height

    def _certificates(self, view: int, digest: Digest) -> Batch:
        batch = self.store.batch()
        self.votes.store(batch, Store((make_certificate(view, digest, VoteKind.NOTARIZE),)))
        return batch

    def _vote(self, view: int, kind: VoteKind, digest: Digest | None = None) -> Iterator[None]:
        value = NULL_VALUE if digest is None else Value(View(view - 1), digest)
        vote = Vote(kind, Era(0), Epoch(0), View(view), value, 0, Signature(bytes(64)))
        batch = self.store.batch()
        blocks = () if digest is None else (digest,)
        bodies = {step.digest: step.block for step in self.chain.steps}
        self.votes.persist(batch, Persist((vote,), blocks), bodies.__getitem__)
        yield from self._write(batch, sync=True)
        self.sent.append(vote)

    def _write(self, batch: Batch, *, sync: bool) -> Iterator[None]:
        yield
        self.store.write(batch, sync=sync)
        yield


def check_after_crash(store: KeyValueStore, before: Validator) -> None:
    """S6, C19: nothing that was sent or acknowledged is lost, and what is there is whole."""
    blocks = ChainStore(store, CHAIN)
    check_votes(VoteStore(store, blocks), before)
    assert before.acknowledged <= blocks.head().height <= before.acknowledged + 1
    check_whole(store, blocks, before.chain)


def check_votes(votes: VoteStore, before: Validator) -> None:
    """Every vote that left is remembered, or so old that its round can never be signed again."""
    restored = votes.restore(nonce=bytes(16))
    for vote in before.sent:
        at = Round(vote.era, vote.epoch, vote.view)
        assert at <= restored.sign_floor or vote in restored.votes
    hashes = {step.digest: step.block.header for step in before.chain.steps}
    for vote in restored.votes:
        if vote.value != NULL_VALUE:
            assert hashes[vote.value.block_hash] in (*restored.blocks, restored.finalized)


def check_whole(store: KeyValueStore, blocks: ChainStore, chain: Chain) -> None:
    """The head and all that belongs to it is there, and nothing of a later block."""
    head = blocks.head().height
    known = chain.steps[: head + 1]
    for height, step in enumerate(known):
        assert blocks.require_executed(height).block_hash == step.digest
        assert blocks.block(step.digest) == step.block
        assert blocks.receipts(height) == step.outcome.receipts
        for index, receipt in enumerate(step.outcome.receipts):
            assert blocks.transaction(receipt.transaction_id) == Location(
                step.outcome.height, index
            )
    for step in chain.steps[head + 1 :]:
        height = step.outcome.height
        assert blocks.executed(height) is None
        assert blocks.receipts(height) == []
        assert blocks.certificate(height) is None
        assert all(blocks.transaction(r.transaction_id) is None for r in step.outcome.receipts)
    state = StateStore(store)
    records = dict(record for step in known for record in step.outcome.state_writes)
    assert dict(state.records()) == records
    pages = dict(page for step in known for page in step.outcome.history_writes)
    assert {key: state.history_page(key) for key in pages} == pages
    page = blocks.events(START, [], 10**6)
    expected = [event for event in chain.events if event[0].height <= head]
    assert page.entries == expected[: len(page.entries)]
    sent = [location for location, sender in chain.senders if sender == ACCOUNTS[0]]
    found = blocks.history(Topic.account(ACCOUNTS[0]), None, 10**6, newest_first=False).locations
    assert {location for location in sent if location.height <= head} <= set(found)
    assert all(location.height <= head for location in found)


def run(validator: Validator, heights: int, moments: int | None = None) -> int:
    """Let a validator live until a moment; return how many moments it had."""
    lived = 0
    for lived, _ in enumerate(validator.live(heights), 1):
        if lived == moments:
            break
    return lived


HEIGHTS = 4


@pytest.mark.parametrize("kept", [0, 1, 2, 100])
def test_a_power_cut_between_any_two_storage_calls_loses_nothing_sent(kept: int) -> None:
    """S6: of the batches after the last sync any number may have reached the disk."""
    total = run(Validator(MemoryStore()), HEIGHTS)
    assert total > 5 * HEIGHTS
    for moment in range(1, total + 1):
        store = MemoryStore()
        validator = Validator(store)
        run(validator, HEIGHTS, moment)
        check_after_crash(store.power_cut(kept=kept), validator)


@pytest.mark.slow
def test_random_power_cuts_over_a_longer_life() -> None:
    """S6: cuts spread over several spans of the index."""
    heights = 2 * SPAN_HEIGHTS + 5
    total = run(Validator(MemoryStore()), heights)
    chooser = random.Random(6)
    for seed in range(25):
        store = MemoryStore()
        validator = Validator(store, seed)
        run(validator, heights, chooser.randrange(1, total + 1))
        check_after_crash(store.power_cut(kept=chooser.randrange(4)), validator)


def test_a_vote_that_was_not_synced_is_lost_in_a_power_cut() -> None:
    """S6: the check above can fail: the same life without syncing votes loses one."""

    class Careless(MemoryStore):
        def write(self, batch: Batch, /, *, sync: bool) -> None:
            super().write(batch, sync=False)

    store = Careless()
    validator = Validator(store)
    run(validator, HEIGHTS, 5)
    assert validator.sent
    with pytest.raises((AssertionError, StoreCorrupt)):
        check_after_crash(store.power_cut(), validator)


@pytest.mark.parametrize("error", [WriteFailed(MEMORY, "EIO"), DiskFull(MEMORY, "ENOSPC")])
@pytest.mark.parametrize("reached_disk", [0, 1])
def test_a_failing_write_is_fatal_and_never_retried(error: WriteError, reached_disk: int) -> None:
    """S5: at each write in turn: its vote does not leave, and no later write is made."""
    store = MemoryStore()
    run(Validator(store), HEIGHTS)
    for failing in range(1, store.writes_total):
        disk = MemoryStore()
        validator = Validator(disk)
        disk.fault = lambda number, sync, failing=failing: error if number == failing else None
        with pytest.raises(type(error)):
            run(validator, HEIGHTS)
        disk.fault = None
        calls = disk.writes_total
        with pytest.raises(WriteFailed, match="earlier write failed"):
            disk.write(disk.batch(), sync=True)
        assert disk.writes_total == calls == failing + 1
        check_after_crash(disk.power_cut(kept=reached_disk), validator)


@pytest.mark.slow
def test_killed_at_every_storage_call_the_head_is_whole(tmp_path: Path) -> None:
    """C19: the files as they are between any two calls, opened by the next process."""
    path, image = tmp_path / "data", tmp_path / "image"
    store = LevelDBStore.create(path)
    validator = Validator(store)
    heads = set()
    for _ in validator.live(HEIGHTS):
        shutil.rmtree(image, ignore_errors=True)
        shutil.copytree(path, image)
        copy = LevelDBStore.open(image)
        check_after_crash(copy, validator)
        heads.add(ChainStore(copy, CHAIN).head().height)
        copy.close()
    store.close()
    assert heads == set(range(HEIGHTS + 1))


@pytest.mark.slow
def test_a_log_cut_at_any_byte_leaves_the_old_or_the_new_head(tmp_path: Path) -> None:
    """S1, C19: like the cuts of single batches in ``test_leveldb``, with whole blocks."""
    path, image = tmp_path / "data", tmp_path / "image"
    store = LevelDBStore.create(path)
    validator = Validator(store)
    run(validator, HEIGHTS)
    log = max(path.glob("*.log"))
    last_block = log.stat().st_size
    for _ in validator.live(1):
        pass
    store.close()
    end = log.stat().st_size
    assert end - last_block > 1000
    heads = set()
    for length in [*range(0, last_block, 97), *range(last_block, end, 29), end - 1]:
        shutil.rmtree(image, ignore_errors=True)
        shutil.copytree(path, image)
        os.truncate(image / log.name, length)
        try:
            copy = LevelDBStore.open(image)
        except StoreCorrupt:
            assert length < last_block / HEIGHTS, "only the creation itself may be missing"
            continue
        try:
            blocks = ChainStore(copy, CHAIN)
            if copy.get(b"m/identity") is not None:
                check_whole(copy, blocks, validator.chain)
                heads.add(int(blocks.head().height))
        finally:
            copy.close()
    assert heads == set(range(HEIGHTS + 1)), "the last cut is one byte short of the last batch"
