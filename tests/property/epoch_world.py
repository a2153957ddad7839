"""A small world of replicas that go through several epochs, for the property test of epochs.

Every node runs the real replica over a disk that keeps what was synced and loses what was not. The
application has one rule, V5: the block at a fixed distance above the base names the next set of the
plan. All that happens is drawn from one seed: delays, losses, crashes, and slow execution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from heapq import heappop, heappush
from random import Random
from typing import Any, Final

import msgspec

from consensus.certificates import certificate_hash
from consensus.config import EngineConfig, Restored
from consensus.effects import (
    Broadcast,
    CancelTimer,
    Effect,
    FetchBlock,
    FetchChain,
    Finalize,
    Halt,
    Persist,
    ReportEvidence,
    RequestProposal,
    RequestVerification,
    Send,
    SetTimer,
    Store,
)
from consensus.inputs import (
    BlockReceived,
    Built,
    EpochOpened,
    Executed,
    Input,
    PeerConnected,
    PeerDisconnected,
    PeerId,
    Received,
    Timer,
    TimerFired,
    Verdict,
    Verified,
    WorkChanged,
)
from consensus.replica import Replica
from consensus.timing import Timing
from consensus.types import Certificate, CertificateMessage, ConsensusMessage, Proposal
from consensus.validity import is_boundary
from ledger.block import Header, block_hash
from ledger.evidence import are_conflicting
from ledger.types import (
    ZERO_DIGEST,
    Digest,
    Epoch,
    Height,
    PublicKey,
    TimeMs,
    View,
)
from ledger.validators import Chamber, Validator, ValidatorSet
from ledger.votes import Round, Vote
from tests.unit.consensus.kit import CHAIN_ID, ERA, genesis, sign, verify

KEYS: Final = 6
"""Validators that exist; some are in a set, the others observe."""


def validator(number: int) -> Validator:
    """Return one of the validators that exist."""
    return Validator(
        f"validator-{number}",
        f"organisation-{number}",
        Chamber.GOVERNMENT if number % 2 else Chamber.COMMERCIAL,
        PublicKey(sha256(b"consensus key %d" % number).digest()),
        PublicKey(sha256(b"node key %d" % number).digest()),
    )


@dataclass
class Body:
    """A block as the world knows it: whoever asks for it can get it."""

    header: Header
    parent_certificate: Certificate | None


@dataclass
class Disk:
    """What a node has synced, and what a crash may take."""

    chain: list[Header]
    votes: list[Vote] = field(default_factory=list)
    proposals: list[Proposal] = field(default_factory=list)
    blocks: list[Digest] = field(default_factory=list)
    certificates: list[Certificate] = field(default_factory=list)
    unsynced: list[Certificate] = field(default_factory=list)
    finalizations: dict[Digest, Certificate] = field(default_factory=dict)
    floor: Round = field(default_factory=lambda: Round(ERA, Epoch(0), View(0)))


class Node:
    """One replica and its driver."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.key = validator(number).consensus_key
        self.peer = PeerId(validator(number).node_key)
        self.disk = Disk([world.genesis])
        self.boots = 0
        self.is_up = False
        self.replica: Replica
        self.timers: dict[Timer, int] = {}
        self.executing: list[tuple[Header, Certificate | None]] = []

    # --- life -------------------------------------------------------------------------------------

    def boot(self) -> None:
        disk, random = self.disk, self.world.random
        lost = random.randint(0, len(disk.unsynced))
        disk.certificates += disk.unsynced[: len(disk.unsynced) - lost]
        disk.unsynced = []
        self.boots += 1
        self.is_up = True
        self.timers, self.executing = {}, []
        config = self.config()
        head = disk.chain[-1]
        above = [self.world.bodies[digest].header for digest in disk.blocks]
        closings = [
            disk.finalizations[self.world.hash(header)]
            for header in disk.chain
            if is_boundary(header)
        ]
        restored = self.restored(
            head,
            blocks=tuple(header for header in above if header.height > head.height),
            finalization=disk.finalizations.get(self.world.hash(head)),
            closings=tuple(closings),
        )
        self.replica = Replica(config, restored)
        self.carry_out(self.replica.start(self.world.now_ms))
        self.feed(WorkChanged(True))
        for other in self.world.nodes:
            if other is not self and other.is_up:
                self.feed(PeerConnected(other.peer))
                other.feed(PeerConnected(self.peer))

    def crash(self) -> None:
        self.is_up = False
        self.boots += 1
        for other in self.world.nodes:
            if other.is_up:
                other.feed(PeerDisconnected(self.peer))

    def config(self) -> EngineConfig:
        """Return the epoch that the executed head is in or opens."""
        base = next((h for h in reversed(self.disk.chain) if is_boundary(h)), self.world.genesis)
        epoch = sum(map(is_boundary, self.disk.chain))
        members = self.world.plan[epoch]
        me = members.index_of_key(self.key)
        return EngineConfig(
            chain_id=CHAIN_ID,
            validators=members,
            me=me,
            base=base,
            timing=Timing(idle_ms=None),
            sign=None if me is None else lambda message: sign(self.key, message),
            verify=verify,
            epoch=Epoch(epoch),
        )

    def restored(self, head: Header, **more: Any) -> Restored:
        disk = self.disk
        return Restored(
            finalized=head,
            sign_floor=disk.floor,
            votes=tuple(disk.votes),
            certificates=tuple(disk.certificates),
            proposals=tuple(disk.proposals),
            **more,
        )

    # --- the driver -------------------------------------------------------------------------------

    def feed(self, event: Input) -> None:
        if self.is_up:
            self.carry_out(self.replica.step(self.world.now_ms, event))

    def later(self, event: Input, low_ms: int = 1, high_ms: int = 20) -> None:
        """Post an input after a while, unless the node crashes before."""
        boot = self.boots
        delay_ms = self.world.random.randint(low_ms, high_ms)
        self.world.after(delay_ms, lambda: self.feed(event) if self.boots == boot else None)

    def carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Persist():
                    self.persist(effect)
                case Store():
                    self.disk.unsynced += effect.certificates
                case Broadcast():
                    for other in self.world.nodes:
                        self.world.send(self, other, effect.message)
                case Send():
                    self.world.send(self, self.world.by_peer[effect.peer], effect.message)
                case SetTimer():
                    self.set_timer(effect)
                case CancelTimer():
                    self.timers.pop(effect.timer, None)
                case RequestProposal():
                    self.later(Built(effect.view, self.build(effect), b""), 1, 40)
                case RequestVerification():
                    self.later(Verified(effect.block_hash, self.judge(effect.header)), 1, 40)
                case FetchBlock():
                    body = self.world.bodies[effect.block_hash]
                    self.later(BlockReceived(body.header, body.parent_certificate), 5, 60)
                case FetchChain():
                    self.fetch_chain(effect)
                case Finalize():
                    self.finalize(effect)
                case Halt() | ReportEvidence():
                    raise AssertionError(f"node {self.number}: {effect}")
                case _:
                    pass

    def persist(self, effect: Persist) -> None:
        disk = self.disk
        disk.votes += effect.votes
        disk.blocks += effect.blocks
        disk.certificates += effect.certificates
        if effect.proposal is not None:
            disk.proposals.append(effect.proposal)
        if effect.sign_floor is not None:
            disk.floor = effect.sign_floor
        for vote in effect.votes:
            self.world.record(self.number, vote)

    def set_timer(self, effect: SetTimer) -> None:
        timer, at_ms, boot = effect.timer, effect.at_ms, self.boots
        self.timers[timer] = at_ms

        def fire() -> None:
            if self.boots == boot and self.timers.get(timer) == at_ms:
                del self.timers[timer]
                self.feed(TimerFired(timer))

        self.world.after(max(0, at_ms - self.world.now_ms), fire)

    def fetch_chain(self, effect: FetchChain) -> None:
        """Get a segment from a peer: up to a stored finalization, not beyond a boundary."""
        if not effect.peers:
            return
        source = self.world.by_peer[self.world.random.choice(effect.peers)]
        found: list[Header] = []
        for header in source.disk.chain[effect.first :]:
            if found and header.epoch != found[0].epoch:
                break
            found.append(header)
        while found and self.world.hash(found[-1]) not in source.disk.finalizations:
            found.pop()
        if not found or found[0].epoch != self.replica.epoch:
            return
        for header in found:
            body = self.world.bodies[self.world.hash(header)]
            self.later(BlockReceived(body.header, body.parent_certificate), 5, 5)
        closing = source.disk.finalizations[self.world.hash(found[-1])]
        self.later(Received(source.peer, CertificateMessage((closing,))), 6, 6)

    # --- the application --------------------------------------------------------------------------

    def build(self, request: RequestProposal) -> Header:
        parent, world = request.parent, self.world
        following = world.next_set(parent)
        header = msgspec.structs.replace(
            parent,
            epoch=self.replica.epoch,
            height=Height(parent.height + 1),
            view=request.view,
            parent_hash=world.hash(parent),
            proposer=request.proposer,
            time_ms=TimeMs(parent.time_ms + world.random.randint(1, 9)),
            transaction_count=0 if following else 1,
            body_bytes=0 if following else 100,
            parent_certificate_hash=certificate_hash(request.parent_certificate),
            validator_set_hash=self.replica.config.validators.hash,
            executed_height=max(parent.executed_height, Height(len(self.disk.chain) - 1)),
            next_validator_set_hash=following.hash if following else ZERO_DIGEST,
            previous_boundary_hash=world.hash(self.replica.config.base),
        )
        world.bodies[world.hash(header)] = Body(header, request.parent_certificate)
        return header

    def judge(self, header: Header) -> Verdict:
        if header.executed_height >= len(self.disk.chain):
            return Verdict.NOT_YET
        following = self.world.next_set(self.world.bodies[header.parent_hash].header)
        expected = following.hash if following else ZERO_DIGEST
        is_right = header.next_validator_set_hash == expected
        return Verdict.VALID if is_right else Verdict.INVALID

    def finalize(self, effect: Finalize) -> None:
        for digest in effect.blocks:
            header = self.world.bodies[digest].header
            self.world.decide(self.number, header)
            certified = effect.certificate.value.block_hash == digest
            self.executing.append((header, effect.certificate if certified else None))
        boot = self.boots
        for _ in effect.blocks:
            delay_ms = self.world.random.randint(1, 120)
            self.world.after(delay_ms, lambda: self.execute() if self.boots == boot else None)

    def execute(self) -> None:
        """Execute the next final block durably; a boundary block opens the next epoch."""
        header, certificate = self.executing.pop(0)
        self.disk.chain.append(header)
        if certificate is not None:
            self.disk.finalizations[certificate.value.block_hash] = certificate
        self.feed(Executed(header.height))
        if is_boundary(header):
            assert certificate is not None
            self.feed(EpochOpened(self.config(), self.restored(header), certificate))


class World:
    """Nodes, a network with a clock, and what must never happen."""

    def __init__(self, seed: int, plan: Sequence[Sequence[int]], length: int) -> None:
        """``plan`` names the members of each epoch; an epoch has ``length`` blocks."""
        self.random = Random(seed)
        self.plan = [ValidatorSet(validator(number) for number in members) for members in plan]
        self.length = length
        self.genesis = genesis(self.plan[0])
        self.bodies = {self.hash(self.genesis): Body(self.genesis, None)}
        self.decided: dict[Height, Digest] = {}
        self.votes: dict[tuple[int, Round], list[Vote]] = {}
        self.now_ms = 0
        self.loss = 0.0
        self.cut: Callable[[Node, Node, ConsensusMessage], bool] = lambda *_: False
        """Which messages are lost besides."""
        self._count = 0
        self._events: list[tuple[int, int, Any]] = []
        self.nodes = [Node(self, number) for number in range(KEYS)]
        self.by_peer = {node.peer: node for node in self.nodes}
        for node in self.nodes:
            node.boot()

    def hash(self, header: Header) -> Digest:
        return block_hash(CHAIN_ID, header)

    def next_set(self, parent: Header) -> ValidatorSet | None:
        """V5: the set that a child of this block names."""
        epoch = parent.epoch + is_boundary(parent)
        begin = self.length * epoch
        is_last = parent.height + 1 == begin + self.length
        return self.plan[epoch + 1] if is_last and epoch + 1 < len(self.plan) else None

    def after(self, delay_ms: int, action: Any) -> None:
        self._count += 1
        heappush(self._events, (self.now_ms + delay_ms, self._count, action))

    def send(self, source: Node, target: Node, message: ConsensusMessage) -> None:
        if target is source or not target.is_up or self.random.random() < self.loss:
            return
        if self.cut(source, target, message):
            return
        boots = source.boots, target.boots

        def arrive() -> None:
            if (source.boots, target.boots) == boots:
                target.feed(Received(source.peer, message))

        self.after(self.random.randint(1, 60), arrive)

    def run(self, period_ms: int) -> None:
        end_ms = self.now_ms + period_ms
        while self._events and self._events[0][0] <= end_ms:
            self.now_ms, _, action = heappop(self._events)
            action()
        self.now_ms = end_ms

    # --- what must never happen -------------------------------------------------------------------

    def decide(self, number: int, header: Header) -> None:
        """I1: one block per height, over all nodes and epochs."""
        digest = self.hash(header)
        assert self.decided.setdefault(header.height, digest) == digest, f"node {number} forks"

    def record(self, number: int, vote: Vote) -> None:
        """I3: no validator signs two conflicting votes, over all crashes and epochs."""
        key = validator(number).consensus_key
        assert self.plan[vote.epoch].index_of_key(key) == vote.voter
        made = self.votes.setdefault((number, Round(vote.era, vote.epoch, vote.view)), [])
        assert not any(are_conflicting(vote, other) for other in made)
        made.append(vote)
