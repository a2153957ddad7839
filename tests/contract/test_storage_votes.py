"""The vote store over both stores: what survives a restart, and what may be forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from consensus.effects import Persist, Store
from consensus.types import Proposal
from ledger.types import Digest, Epoch, Era, Signature, View
from ledger.votes import NULL_VALUE, Round, Value, Vote, VoteKind
from storage.chain_store import ChainStore
from storage.errors import StoreCorrupt
from storage.metadata import initialise
from storage.schema import VOTE, round_key
from storage.vote_store import CERTIFICATE_VIEWS_KEPT, PRUNED_MAX, VoteStore
from tests.unit.storage.builders import CHAIN, Chain, make_certificate

if TYPE_CHECKING:
    from ledger.block import Block
    from storage.kv import KeyValueStore
    from tests.unit.storage.disks import Disk

NONCE = bytes(range(16))


def make_vote(view: int, kind: VoteKind, digest: Digest | None = None, *, epoch: int = 0) -> Vote:
    value = NULL_VALUE if digest is None else Value(View(view - 1), digest)
    signature = Signature(bytes([view % 256]) * 64)
    return Vote(kind, Era(0), Epoch(epoch), View(view), value, 2, signature)


def at(view: int, *, epoch: int = 0) -> Round:
    return Round(Era(0), Epoch(epoch), View(view))


def no_block(digest: Digest) -> Block:
    raise AssertionError(f"asked for block {digest.hex()}, which the effect does not name")


class Node:
    """A store with genesis, and its vote store; ``restart`` opens both again."""

    def __init__(self, disk: Disk, *, rejoin: bool = False) -> None:
        self.disk = disk
        self.chain = Chain()
        self.store: KeyValueStore = disk.create()
        genesis = self.chain.steps[0]
        initialise(self.store, CHAIN, genesis.block.header, genesis.outcome, rejoin=rejoin)
        self._use(self.store)

    def _use(self, store: KeyValueStore) -> None:
        self.store = store
        self.blocks = ChainStore(store, CHAIN)
        self.votes = VoteStore(store, self.blocks)

    def restart(self) -> None:
        self._use(self.disk.reopen(self.store))

    def persist(self, effect: Persist, *blocks: Block) -> None:
        batch = self.store.batch()
        by_hash = dict(zip(effect.blocks, blocks, strict=True))
        self.votes.persist(batch, effect, by_hash.__getitem__ if blocks else no_block)
        self.store.write(batch, sync=True)

    def prune(self, head: Round) -> None:
        batch = self.store.batch()
        self.votes.prune(batch, head)
        self.store.write(batch, sync=True)


def test_a_new_node_remembers_genesis_and_nothing_else(disk: Disk) -> None:
    node = Node(disk)
    restored = node.votes.restore(nonce=NONCE)
    assert restored.finalized == node.chain.steps[0].block.header
    assert restored.sign_floor == at(0)
    assert (restored.votes, restored.certificates, restored.blocks, restored.proposals) == (
        (),
        (),
        (),
        (),
    )
    assert (restored.finalization, restored.quarantined) == (None, False)
    assert restored.nonce == NONCE


def test_everything_persisted_is_restored_after_a_restart(disk: Disk) -> None:
    """C3: own votes, the block they rest on, certificates and the proposal."""
    node = Node(disk)
    step = node.chain.extend(2)
    notarize = make_vote(3, VoteKind.NOTARIZE, step.digest)
    nullify = make_vote(2, VoteKind.NULLIFY)
    finalize = make_vote(3, VoteKind.FINALIZE, step.digest)
    notarization = make_certificate(3, step.digest, VoteKind.NOTARIZE)
    proposal = Proposal(
        Era(0),
        Epoch(0),
        View(3),
        Value(View(2), step.digest),
        step.block.header,
        b"payload",
        None,
        (make_certificate(2, kind=VoteKind.NULLIFY),),
        None,
        notarize,
    )
    node.persist(Persist(votes=(nullify,)))
    node.persist(Persist((notarize,), (step.digest,), proposal=proposal), step.block)
    node.persist(Persist((finalize,), (step.digest,), (notarization,)), step.block)
    node.restart()
    restored = node.votes.restore(nonce=NONCE)
    assert restored.votes == (nullify, notarize, finalize)
    assert restored.certificates == (notarization,)
    assert restored.proposals == (proposal,)
    assert restored.blocks == (step.block.header,)
    assert node.blocks.block(step.digest) == step.block


def test_stored_certificates_are_restored(disk: Disk) -> None:
    node = Node(disk)
    certificates = tuple(
        make_certificate(view, kind=kind) for view in (5, 6) for kind in sorted(VoteKind)
    )
    batch = node.store.batch()
    node.votes.store(batch, Store(certificates))
    node.store.write(batch, sync=False)
    node.restart()
    assert node.votes.restore(nonce=NONCE).certificates == certificates


def test_the_finalization_of_the_head_or_of_a_later_block_is_restored(disk: Disk) -> None:
    node = Node(disk)
    step = node.chain.extend(1)
    certificate = make_certificate(2, step.digest)
    batch = node.store.batch()
    node.blocks.add_finalized(batch, step.digest, step.block, step.outcome, certificate)
    node.store.write(batch, sync=True)
    node.restart()
    restored = node.votes.restore(nonce=NONCE)
    assert (restored.finalized, restored.finalization) == (step.block.header, certificate)


def test_the_sign_floor_only_rises(disk: Disk) -> None:
    """C3: whatever the order of raising and pruning, and across restarts."""
    node = Node(disk)
    for floor, expected in ((at(7), at(7)), (at(5), at(7)), (at(1, epoch=1), at(1, epoch=1))):
        node.persist(Persist(sign_floor=floor))
        assert node.votes.sign_floor() == expected
        node.restart()
        assert node.votes.restore(nonce=NONCE).sign_floor == expected
    node.prune(at(900))
    node.restart()
    assert node.votes.sign_floor() == at(1, epoch=1)


def test_a_floor_on_its_way_to_the_disk_is_not_lowered_by_the_next_batch(disk: Disk) -> None:
    """C3: batches are filled before earlier ones are written."""
    node = Node(disk)
    raising, pruning = node.store.batch(), node.store.batch()
    node.votes.persist(raising, Persist(sign_floor=at(50)), no_block)
    node.votes.prune(pruning, at(10))
    node.store.write(raising, sync=True)
    node.store.write(pruning, sync=True)
    node.restart()
    assert node.votes.sign_floor() == at(50)


def test_only_a_new_sign_floor_ends_the_quarantine(disk: Disk) -> None:
    """C3: a node that may have forgotten votes stays silent over restarts."""
    node = Node(disk, rejoin=True)
    node.prune(at(3))
    node.persist(Persist(certificates=(make_certificate(4),)))
    node.restart()
    assert node.votes.restore(nonce=NONCE).quarantined
    node.persist(Persist(sign_floor=at(9)))
    node.restart()
    restored = node.votes.restore(nonce=NONCE)
    assert (restored.quarantined, restored.sign_floor) == (False, at(9))


def test_pruning_forgets_settled_votes_together_with_raising_the_floor(disk: Disk) -> None:
    """P5: a vote may be forgotten only if the floor above it is on disk."""
    node = Node(disk)
    views = range(1, 6)
    node.persist(Persist(votes=tuple(make_vote(view, VoteKind.NULLIFY) for view in views)))
    node.persist(Persist(votes=(make_vote(1, VoteKind.NULLIFY, epoch=1),)))
    batch = node.store.batch()
    node.votes.prune(batch, at(3))
    assert len(node.votes.restore(nonce=NONCE).votes) == 6, "not written yet"
    node.store.write(batch, sync=True)
    node.restart()
    restored = node.votes.restore(nonce=NONCE)
    assert [(vote.epoch, vote.view) for vote in restored.votes] == [(0, 4), (0, 5), (1, 1)]
    assert restored.sign_floor == at(3)
    for vote in restored.votes:
        assert Round(vote.era, vote.epoch, vote.view) > restored.sign_floor


def test_certificates_are_kept_for_a_while(disk: Disk) -> None:
    node = Node(disk)
    kept = 10 + CERTIFICATE_VIEWS_KEPT
    certificates = tuple(make_certificate(view) for view in (9, 10, 11, kept, kept + 1))
    node.persist(Persist(certificates=certificates))
    node.prune(at(kept))
    node.restart()
    assert node.votes.restore(nonce=NONCE).certificates == certificates[1:]


def test_one_call_prunes_a_bounded_number_and_the_next_goes_on(disk: Disk) -> None:
    node = Node(disk)
    views = range(1, PRUNED_MAX * 2 + 2)
    node.persist(Persist(votes=tuple(make_vote(view, VoteKind.NULLIFY) for view in views)))
    left = []
    for _ in range(3):
        node.prune(at(PRUNED_MAX * 3))
        left.append(len(node.votes.restore(nonce=NONCE).votes))
    assert left == [PRUNED_MAX + 1, 1, 0]


def test_a_vote_that_cannot_be_read_is_not_skipped(disk: Disk) -> None:
    """S2: a node that cannot read its own votes must not start."""
    node = Node(disk)
    node.persist(Persist(votes=(make_vote(1, VoteKind.NULLIFY),)))
    batch = node.store.batch()
    batch.put(round_key(VOTE, at(1), VoteKind.NULLIFY), b"\x93")
    node.store.write(batch, sync=True)
    with pytest.raises(StoreCorrupt, match="a vote"):
        node.votes.restore(nonce=NONCE)


def test_a_late_certificate_is_forgotten_after_the_next_restart(disk: Disk) -> None:
    node = Node(disk)
    node.prune(at(10 + CERTIFICATE_VIEWS_KEPT))
    node.persist(Persist(certificates=(make_certificate(3),)))
    node.restart()
    node.prune(at(11 + CERTIFICATE_VIEWS_KEPT))
    assert node.votes.restore(nonce=NONCE).certificates == ()
