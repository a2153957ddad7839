"""What a stopped node does for an era change: fence, accept a plan, and finish the old era.

``fence_home`` writes first that this node never votes in its era again, then what it has seen;
``accept_home`` takes a plan over after checking all of it against the node's own genesis and chain.
Both need the node to be stopped: the database has one user. What a plan makes final is executed at
the next start (``finish_eras``), or as soon as the chain up to there has been fetched. Normative
text: ``docs/protocol-consensus.md``, Era change.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta, Struct

from consensus.certificates import encoded_signers
from consensus.recovery import RecoveryPlan, fence, plan_hash, sign_report
from consensus.types import Certificate
from ledger.block import Block, Header, block_hash
from ledger.block_rules import transactions_root
from ledger.crypto import SigningKey, verify_many
from ledger.era import EraStart
from ledger.errors import InvariantViolation, LedgerError
from ledger.state import State
from ledger.transaction import decode_transaction
from ledger.transition import BlockExecution
from ledger.types import ERA_MAX, ZERO_DIGEST, Digest, Epoch, Era
from ledger.votes import VoteKind
from mbi.recovery import BLOCKS_MAX, FILE_VERSION, CheckedPlan, ReportFile
from node.epochs import check_members
from node.errors import HomeError
from node.proofs import Prover
from storage.chain_store import ChainStore
from storage.errors import WriteFailed
from storage.kv import KeyValueStore
from storage.recovery_store import RecoveryStore
from storage.schedule_store import ScheduleStore
from storage.vote_store import VoteStore

FINAL_BLOCKS: Final = 8
"""Final blocks in a report: another survivor may lack the last ones, with nobody left to ask."""


class Reporter(NamedTuple):
    """A validator of the last epoch of an era."""

    era: Era
    epoch: Epoch
    key: SigningKey


class RecoveryRefused(HomeError):
    """This node cannot report, or cannot accept this plan; nothing was changed."""

    code = "recovery_refused"


def is_fenced(votes: VoteStore, era: Era) -> bool:
    """Tell whether this node has promised never to vote in an era again."""
    return votes.sign_floor() >= fence(era)


def write_fence_file(path: Path, era: Era) -> None:
    """Keep the promise beside the database too: a database can be lost, or restored from a copy.

    Raises:
        WriteFailed: the disk refuses.
    """
    new = path.with_name(path.name + ".new")
    try:
        with new.open("wb") as file:
            file.write(msgspec.json.encode(_FenceFile(era)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise WriteFailed(path, str(error)) from error


def renew_fence(path: Path, store: KeyValueStore, votes: VoteStore) -> None:
    """Bring the promise back into a database that does not know of it.

    Raises:
        HomeError: the file is something else; then nobody knows what was promised.
    """
    try:
        era = msgspec.json.decode(path.read_bytes(), type=_FenceFile).era
    except FileNotFoundError:
        return
    except (OSError, msgspec.MsgspecError) as error:
        raise HomeError(f"{path} cannot be read: {error}") from error
    if not is_fenced(votes, Era(era)):
        write_fence(store, votes, Era(era))


class _FenceFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The file as JSON, for operators to read."""

    never_votes_in_era: Annotated[int, Meta(ge=0, le=ERA_MAX)]
    """Nor in any before."""

    @property
    def era(self) -> Era:
        """The last era of the promise."""
        return Era(self.never_votes_in_era)


# --- Reports --------------------------------------------------------------------------------------


def write_fence(store: KeyValueStore, votes: VoteStore, era: Era) -> None:
    """Promise never to vote in an era again; the promise is on disk when this returns."""
    batch = store.batch()
    votes.fence(batch, fence(era))
    store.write(batch, sync=True)


def make_report(
    chain_id: Digest, chain: ChainStore, votes: VoteStore, plans: RecoveryStore, seat: Reporter
) -> ReportFile:
    """Return what this node has seen of an era, which it must have fenced.

    Raises:
        RecoveryRefused: it has not, so that a report would prove nothing.
    """
    if not is_fenced(votes, seat.era):
        raise RecoveryRefused(f"era {seat.era} is not fenced")
    known = votes.restore(nonce=bytes(16))
    held = [item for item in (known.finalization, *known.certificates) if item is not None]
    highest = [_highest(held, kind, seat.era) for kind in (VoteKind.FINALIZE, VoteKind.NOTARIZE)]
    report = sign_report(chain_id, seat.era, seat.epoch, highest[0], highest[1], seat.key)
    head = chain.head().height
    blocks = (*chain.blocks(max(1, head - FINAL_BLOCKS + 1), head), *chain.unfinished())
    changes = Prover(chain, chain_id, plans.plans()).changes()
    return ReportFile(FILE_VERSION, chain_id, report, changes, blocks[-BLOCKS_MAX:])


def _highest(held: list[Certificate], kind: VoteKind, era: Era) -> Certificate | None:
    fitting = [item for item in held if item.kind is kind and item.era == era]
    return max(fitting, key=lambda item: (item.epoch, item.view), default=None)


# --- Plans ----------------------------------------------------------------------------------------


def accept_plan(
    checked: CheckedPlan,
    store: KeyValueStore,
    chain: ChainStore,
    votes: VoteStore,
    plans: RecoveryStore,
) -> None:
    """Take over a plan that holds, with the blocks up to its base; fence the era that it ends.

    Raises:
        RecoveryRefused: the plan does not fit what is final here; nothing was changed.
    """
    plan, identity = checked.file.plan, Digest(checked.file.chain_id)
    accepted = plans.plan(plan.era)
    if accepted is not None and plan_hash(identity, accepted) != checked.hash:
        raise RecoveryRefused(
            f"plan {plan_hash(identity, accepted).hex()} for era {plan.era} was accepted here "
            "before; there can be only one: another plan must end that era first"
        )
    check_local_chain(checked, chain, votes)
    batch = store.batch()
    votes.fence(batch, fence(Era(plan.era - 1)))
    plans.add(batch, plan)
    head = chain.head().height
    for block in checked.file.tail:
        if block.header.height > head:
            chain.add_block(batch, block_hash(identity, block.header), _sound(block, identity))
    store.write(batch, sync=True)


def check_local_chain(checked: CheckedPlan, chain: ChainStore, votes: VoteStore) -> None:
    """Refuse a plan that would undo what this node knows to be final.

    Raises:
        RecoveryRefused: too few honest validators have reported, or another network is meant.
    """
    plan, head = checked.file.plan, chain.head()
    here = chain.executed(plan.base_height)
    if head.height > plan.base_height and head.header.era >= plan.era:
        raise RecoveryRefused(f"this node is in era {head.header.era} already, at {head.height}")
    if head.height > plan.base_height or (here and here.block_hash != plan.base_hash):
        raise RecoveryRefused(
            f"block {head.height}, {head.block_hash.hex()}, is final here, and the plan continues "
            f"from height {plan.base_height}, {plan.base_hash.hex()}: it would undo final blocks"
        )
    base = checked.file.base
    reached = (base.era, base.epoch, _view_of(checked, base))
    for item in votes.restore(nonce=bytes(16)).certificates:
        is_above = reached < (item.era, item.epoch, item.view) < (plan.era, 0, 0)
        if item.kind is VoteKind.FINALIZE and is_above and item.value.block_hash != plan.base_hash:
            raise RecoveryRefused(
                f"this node holds a finalization of view {item.view}, above the base: report it "
                "with `mbi recovery fence` and make a new plan"
            )


def _view_of(checked: CheckedPlan, base: Header) -> int:
    """Return the highest view in which a report certifies the base; its own at least."""
    views = [
        item.view
        for report in checked.file.plan.reports
        for item in (report.finalization, report.notarization)
        if item is not None and item.value.block_hash == checked.file.plan.base_hash
    ]
    return max([base.view, *views])


def _sound(block: Block, identity: Digest) -> Block:
    """Return a block whose transactions are what their senders signed; raises RecoveryRefused.

    A quorum has notarized it or a descendant, so honest validators have judged all of it; a file
    could still carry another body under the same header.
    """
    header = block.header
    try:
        decoded = [decode_transaction(identity, wire) for wire in block.transactions]
        check_members(header, block.next_validators)
    except LedgerError as error:
        raise RecoveryRefused(f"block {header.height} of the plan: {error}") from error
    items = [item for transaction in decoded for item in transaction.signature_items()]
    root = transactions_root([transaction.wire_hash for transaction in decoded])
    certificate = block.parent_certificate
    hashes = (root, sha256(certificate).digest() if certificate else ZERO_DIGEST)
    expected = (header.transactions_root, header.parent_certificate_hash)
    if hashes != expected or not all(verify_many(items)):
        raise RecoveryRefused(f"block {header.height} of the plan has another body than its header")
    return block


# --- The end of an era ----------------------------------------------------------------------------


def tail_of(plan: RecoveryPlan, chain: ChainStore) -> list[Block] | None:
    """Return the blocks above the head up to the base; None while some are missing here.

    Empty if the base is executed.

    Raises:
        InvariantViolation: another block is final at its height, or one of the same era above it.
    """
    head = chain.head()
    base, above = chain.executed(plan.base_height), chain.executed(plan.base_height + 1)
    if (base is not None and base.block_hash != plan.base_hash) or (
        above is not None and above.header.era < plan.era
    ):
        raise InvariantViolation(
            "plan_base", f"the plan for era {plan.era} would undo block {head.height}, final here"
        )
    if base is not None:
        return []
    digest, path = Digest(plan.base_hash), list[Block]()
    while digest != head.block_hash:
        block = chain.block(digest)
        if block is None or block.header.height <= head.height:
            return None
        path.append(block)
        digest = Digest(block.header.parent_hash)
    return path[::-1]


def finish_eras(
    plans: Sequence[RecoveryPlan],
    store: KeyValueStore,
    chain: ChainStore,
    schedules: ScheduleStore,
    state: State,
) -> None:
    """Execute what accepted plans make final, as far as the blocks up to a base are here."""
    for plan in plans:
        for block in tail_of(plan, chain) or ():
            _execute(block, plan, store, chain, schedules, state, start_for(block.header, plans))


def _execute(
    block: Block,
    plan: RecoveryPlan,
    store: KeyValueStore,
    chain: ChainStore,
    schedules: ScheduleStore,
    state: State,
    start: EraStart | None,
) -> None:
    """Execute a block that a plan makes final."""
    held = {
        report.finalization.value.block_hash: report.finalization
        for report in plan.reports
        if report.finalization is not None
    }
    header = block.header
    signers = encoded_signers(block.parent_certificate)
    execution = BlockExecution(state, header, signers, block.next_validators, start)
    for wire in block.transactions:
        execution.apply(decode_transaction(state.chain_id, wire))
    outcome = execution.finish()
    digest = block_hash(state.chain_id, header)
    batch = store.batch()
    chain.add_finalized(batch, digest, block, outcome, held.get(digest))
    schedules.add(batch, outcome)
    store.write(batch, sync=True)
    state.stored(header.height)


def start_for(header: Header, plans: Sequence[RecoveryPlan]) -> EraStart | None:
    """Return what a block is executed with: its plan, if it is the first block of an era."""
    for plan in plans:
        if header.era == plan.era and header.height == plan.base_height + 1:
            return plan.start
    return None
