"""The engine under arbitrary inputs: it never fails, never contradicts itself, never grows.

A machine feeds one engine whatever peers, timers and the application may send, in any order:
validly signed statements of everyone (more than a third may be faulty here, so it may halt),
ill-formed ones, answers nobody asked for, and restarts that lose what was not synced.
"""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from consensus.effects import Broadcast, Effect, Send
from consensus.inputs import (
    BlockReceived,
    Built,
    EpochInput,
    PeerConnected,
    PeerDisconnected,
    Timer,
    TimerFired,
    TimerKind,
    Verdict,
    Verified,
    WorkChanged,
)
from consensus.types import (
    CertificateMessage,
    ConsensusMessage,
    GetCertificates,
    GetProposal,
    Proposal,
    Status,
    StatusRequest,
)
from ledger.evidence import are_conflicting
from ledger.types import UINT64_MAX, Digest, Height, Signature, View
from ledger.votes import NULL_VALUE, Value, Vote, VoteKind
from tests.unit.consensus.kit import EPOCH, ERA, Block, Driven, Net

NET = Net(2, 2)
BLOCKS: list[Block] = []
for number in range(1, 6):
    parents: list[Block | None] = [None, *BLOCKS[-4:]]
    BLOCKS += [NET.block(number, parent) for parent in parents]
    BLOCKS.append(NET.block(number, time_ms=7_000 + number))

ITEMS_MAX = 400
"""Bound of everything that an engine may hold in these runs."""

blocks = st.integers(0, len(BLOCKS) - 1).map(lambda index: BLOCKS[index])
members = st.integers(0, NET.n - 1)
kinds = st.sampled_from(list(VoteKind))
integers = st.one_of(st.integers(-2, 30), st.sampled_from([2**32, 2**63, UINT64_MAX]))
subsets = st.sets(members, min_size=3).map(sorted)


def statement(kind: VoteKind, block: Block) -> tuple[int, Value]:
    return block.view, NULL_VALUE if kind is VoteKind.NULLIFY else block.value


votes = st.builds(
    lambda kind, voter, block: NET.vote(kind, voter, *statement(kind, block)),
    kinds,
    members,
    blocks,
)
wild_votes = st.builds(
    lambda vote, changes: msgspec.structs.replace(vote, **changes),
    votes,
    st.fixed_dictionaries(
        {},
        optional={
            "view": integers,
            "era": integers,
            "epoch": integers,
            "voter": integers,
            "kind": kinds,
            "signature": st.just(Signature(bytes(64))),
            "value": st.builds(Value, integers.map(View), st.just(Digest(b"w" * 32))),
        },
    ),
)
certificates = st.builds(
    lambda kind, block, signers: NET.certificate(kind, *statement(kind, block), signers),
    kinds,
    blocks,
    subsets,
)
wild_certificates = st.builds(
    lambda certificate, changes: msgspec.structs.replace(certificate, **changes),
    certificates,
    st.fixed_dictionaries(
        {},
        optional={
            "view": integers,
            "kind": kinds,
            "bitmap": st.binary(min_size=1, max_size=3),
            "signatures": st.binary(min_size=64, max_size=64 * 4),
        },
    ),
)
any_certificate = st.one_of(certificates, wild_certificates)
proposals = st.builds(
    lambda block, skips: NET.proposal(block, skips),
    blocks,
    st.lists(st.integers(1, 5).map(NET.nullification), max_size=3),
)
wild_proposals = st.builds(
    lambda proposal, changes: msgspec.structs.replace(proposal, **changes),
    proposals,
    st.fixed_dictionaries(
        {},
        optional={
            "view": integers,
            "payload": st.binary(max_size=40),
            "parent_certificate": st.none() | any_certificate,
            "finalization": st.none() | any_certificate,
            "header": blocks.map(lambda block: block.header),
            "leader_vote": wild_votes,
        },
    ),
)
statuses = st.builds(
    Status,
    st.binary(max_size=16),
    st.just(ERA),
    st.just(EPOCH),
    integers.map(View),
    integers.map(Height),
    st.none() | any_certificate,
    st.none() | any_certificate,
    st.none() | any_certificate,
)
messages: st.SearchStrategy[ConsensusMessage] = st.one_of(
    votes,
    votes,
    wild_votes,
    proposals,
    proposals,
    wild_proposals,
    st.lists(any_certificate, min_size=1, max_size=4).map(
        lambda found: CertificateMessage(tuple(found))
    ),
    statuses,
    st.just(StatusRequest(bytes(16))),
    st.builds(GetCertificates, st.just(EPOCH), integers.map(View), integers.map(View)),
    st.builds(GetProposal, st.just(EPOCH), integers.map(View)),
)


class AnyInput(RuleBasedStateMachine):
    """One engine and the worst of company."""

    node: Driven
    signed: dict[tuple[int, VoteKind, Value], Vote]
    final: list[Digest]

    @initialize(me=st.none() | members)
    def begin(self, me: int | None) -> None:
        self.signed = {}
        self.final = []
        self.node = Driven(NET, me)
        self.node.judge = None

    def give(self, event: EpochInput) -> None:
        self.look(self.node.feed(event))

    def look(self, effects: list[Effect]) -> None:
        """P1: what is sent of own votes is on disk; finality only grows."""
        self.final += self.node.finalized(effects)
        durable = set(self.node.disk.votes)
        for effect in effects:
            message: Any = effect.message if isinstance(effect, Broadcast | Send) else None
            vote = message.leader_vote if isinstance(message, Proposal) else message
            if isinstance(vote, Vote) and vote.voter == self.node.me:
                assert vote in durable
                self.signed[vote.view, vote.kind, vote.value] = vote

    @rule(message=messages, source=members)
    def message(self, message: ConsensusMessage, source: int) -> None:
        self.look(self.node.receive(message, source))

    @rule(block=blocks, verdict=st.sampled_from(list(Verdict)))
    def verdict(self, block: Block, verdict: Verdict) -> None:
        known = self.node.core.tree.get(block.hash)
        if known is not None and known.is_asked:
            self.give(Verified(block.hash, verdict))

    @rule(block=blocks)
    def whole_block(self, block: Block) -> None:
        self.give(BlockReceived(block.header, block.parent_certificate))

    @rule(pending=st.booleans())
    def work(self, pending: bool) -> None:
        self.give(WorkChanged(pending))

    @rule(view=st.integers(0, 9))
    def nothing_built(self, view: int) -> None:
        self.give(Built(View(view), None, b""))

    @rule(height=st.integers(0, 5))
    def executed(self, height: int) -> None:
        self.look(self.node.executed(height))

    @rule(period_ms=st.sampled_from([0, 50, 900, 2_000, 20_000]))
    def time(self, period_ms: int) -> None:
        self.look(self.node.advance(period_ms))

    @rule(kind=st.sampled_from(list(TimerKind)), view=st.integers(0, 6))
    def any_timer(self, kind: TimerKind, view: int) -> None:
        """Timers may come early, or after they were cancelled."""
        timer = Timer(kind, View(view))
        self.node.timers.pop(timer, None)
        self.give(TimerFired(timer))

    @rule(peer=members, up=st.booleans())
    def channel(self, peer: int, up: bool) -> None:
        node = NET.peer(peer)
        self.give(PeerConnected(node) if up else PeerDisconnected(node))

    @rule(lose=st.booleans())
    def crash(self, lose: bool) -> None:
        disk = self.node.disk
        self.node = self.node.restart(lose_unsynced=lose)
        self.node.disk.votes += disk.votes
        self.node.disk.blocks += disk.blocks
        self.node.disk.proposals += disk.proposals
        self.node.disk.certificates += disk.certificates
        self.node.judge = None
        self.final = []  # nothing was executed: what was final has to become final again
        self.look(self.node.history)

    @invariant()
    def no_two_own_votes_conflict(self) -> None:
        """I3: over all restarts."""
        own = list(self.signed.values())
        assert not any(are_conflicting(a, b) for a in own for b in own)

    @invariant()
    def the_final_chain_has_no_gaps(self) -> None:
        """I8: every block extends the one before, none comes twice."""
        headers = {block.hash: block.header for block in BLOCKS}
        previous = NET.base.hash
        for digest in self.final:
            assert headers[digest].parent_hash == previous
            previous = digest

    @invariant()
    def memory_is_bounded(self) -> None:
        """I10."""
        core = self.node.core
        held = len(core.tally) + len(core.tree) + len(core.proposals) + len(core.outbox.timers)
        assert held <= ITEMS_MAX
        assert core.outbox.timers == self.node.timers

    @invariant()
    def the_status_can_be_told(self) -> None:
        status = self.node.engine.status()
        assert status.finalized_view <= status.certified_view
        assert status.view > status.certified_view or status.halted is not None


TestAnyInput = AnyInput.TestCase
TestAnyInput.settings = settings(stateful_step_count=50, max_examples=40)
