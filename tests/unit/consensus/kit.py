"""A network in miniature for tests of consensus: keys, blocks, votes, one engine and its driver.

Signatures are digests of key and message, so tests need no real keys and every forgery is noticed.
Validators are named by their place in the leader order: in view v the leader is ``net.leader(v)``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256, sha512
from typing import Any, Final, TypeVar

import msgspec

from consensus.certificates import certificate_hash, make_certificate
from consensus.config import EngineConfig, Restored
from consensus.core import Core
from consensus.effects import (
    Broadcast,
    CancelTimer,
    Effect,
    Finalize,
    Persist,
    RequestVerification,
    Send,
    SetTimer,
    Store,
)
from consensus.inputs import (
    Built,
    EpochOpened,
    Executed,
    Input,
    PeerConnected,
    PeerId,
    Received,
    Timer,
    TimerFired,
    TimerKind,
    Verdict,
    Verified,
    WorkChanged,
)
from consensus.leader import leader_order
from consensus.replica import Replica
from consensus.timing import Timing
from consensus.types import Certificate, ConsensusMessage, Proposal
from ledger.block import Header, block_hash
from ledger.types import (
    ZERO_DIGEST,
    Digest,
    Epoch,
    Era,
    Height,
    PublicKey,
    Signature,
    TimeMs,
    View,
)
from ledger.validators import Chamber, Validator, ValidatorSet
from ledger.votes import NULL_VALUE, Round, Value, Vote, VoteKind, vote_signing_bytes

ERA: Final = Era(0)
EPOCH: Final = Epoch(0)
CHAIN_ID: Final = Digest(sha256(b"test chain").digest())
MESSAGE = TypeVar("MESSAGE")
EFFECT = TypeVar("EFFECT")


def sign(public_key: bytes, message: bytes) -> Signature:
    """Return the test signature of a key."""
    return Signature(sha512(public_key + message).digest())


def verify(public_key: PublicKey, message: bytes, signature: Signature) -> bool:
    """Check a test signature."""
    return sign(public_key, message) == signature


def validators(government: int, commercial: int, first: int = 0) -> ValidatorSet:
    """Return a set with so many members in each chamber, the keys being those from ``first`` on."""
    chambers = [Chamber.GOVERNMENT] * government + [Chamber.COMMERCIAL] * commercial
    return ValidatorSet(
        Validator(
            f"validator-{i}",
            f"organisation-{i}",
            chamber,
            PublicKey(sha256(b"consensus key %d" % i).digest()),
            PublicKey(sha256(b"node key %d" % i).digest()),
        )
        for i, chamber in enumerate(chambers, first)
    )


def genesis(members: ValidatorSet) -> Header:
    """Return the base block of a network."""
    return Header(
        version=1,
        era=ERA,
        epoch=EPOCH,
        height=Height(0),
        view=View(0),
        parent_hash=ZERO_DIGEST,
        proposer=0,
        time_ms=TimeMs(1_000),
        transactions_root=ZERO_DIGEST,
        transaction_count=0,
        body_bytes=0,
        parent_certificate_hash=ZERO_DIGEST,
        validator_set_hash=members.hash,
        executed_height=Height(0),
        state_root=Digest(sha256(b"state").digest()),
        history_root=Digest(sha256(b"history").digest()),
        next_validator_set_hash=ZERO_DIGEST,
        previous_boundary_hash=ZERO_DIGEST,
    )


@dataclass(frozen=True)
class Block:
    """A header with what is known about it."""

    header: Header
    hash: Digest
    value: Value
    parent_certificate: Certificate | None

    @property
    def view(self) -> View:
        return self.header.view


class Net:
    """Everything a test can sign and build."""

    def __init__(
        self,
        government: int = 2,
        commercial: int = 2,
        *,
        after: Block | None = None,
        members: ValidatorSet | None = None,
    ) -> None:
        """Begin with genesis, or with the next epoch if ``after`` is the boundary block before."""
        self.validators = members or validators(government, commercial)
        self.n = self.validators.size
        self.epoch = EPOCH if after is None else Epoch(after.header.epoch + 1)
        self.under_test: list[int] = []
        """Does not sign by default: a node stops on own signatures that it did not make."""
        self.order = leader_order(CHAIN_ID, ERA, self.epoch, self.validators)
        self.base_header = genesis(self.validators) if after is None else after.header
        base_hash = block_hash(CHAIN_ID, self.base_header)
        self.base = Block(self.base_header, base_hash, Value(View(0), base_hash), None)

    def leader(self, view: int) -> int:
        return self.order[view % self.n]

    def peer(self, index: int) -> PeerId:
        return PeerId(self.validators[index].node_key)

    def others(self, *excluded: int) -> list[int]:
        return [i for i in range(self.n) if i not in excluded]

    def vote(
        self, kind: VoteKind, voter: int, view: int, value: Value = NULL_VALUE, **changes: object
    ) -> Vote:
        """Return a validly signed vote; ``changes`` are made after signing."""
        message = vote_signing_bytes(CHAIN_ID, kind, ERA, self.epoch, View(view), value)
        signature = sign(self.validators[voter].consensus_key, message)
        vote = Vote(kind, ERA, self.epoch, View(view), value, voter, signature)
        return msgspec.structs.replace(vote, **changes) if changes else vote

    def certificate(
        self,
        kind: VoteKind,
        view: int,
        value: Value = NULL_VALUE,
        signers: Iterable[int] | None = None,
    ) -> Certificate:
        """Return a certificate by these signers, by default by all but the node under test."""
        chosen = self.others(*self.under_test) if signers is None else signers
        return make_certificate(
            self.validators, [self.vote(kind, voter, view, value) for voter in chosen]
        )

    def notarization(self, block: Block, signers: Iterable[int] | None = None) -> Certificate:
        return self.certificate(VoteKind.NOTARIZE, block.view, block.value, signers)

    def finalization(self, block: Block, signers: Iterable[int] | None = None) -> Certificate:
        return self.certificate(VoteKind.FINALIZE, block.view, block.value, signers)

    def nullification(self, view: int, signers: Iterable[int] | None = None) -> Certificate:
        return self.certificate(VoteKind.NULLIFY, view, NULL_VALUE, signers)

    def block(self, view: int, parent: Block | None = None, **changes: object) -> Block:
        """Return a valid block for a view on ``parent`` (default: the base)."""
        parent = parent or self.base
        certificate = None if parent is self.base else self.notarization(parent)
        header = msgspec.structs.replace(
            parent.header,
            epoch=self.epoch,
            validator_set_hash=self.validators.hash,
            next_validator_set_hash=ZERO_DIGEST,
            height=Height(parent.header.height + 1),
            view=View(view),
            parent_hash=parent.hash,
            proposer=self.leader(view),
            time_ms=TimeMs(parent.header.time_ms + 100),
            transaction_count=1,
            body_bytes=200,
            transactions_root=Digest(sha256(b"transactions %d" % view).digest()),
            parent_certificate_hash=certificate_hash(certificate),
            executed_height=parent.header.height,
            previous_boundary_hash=self.base.hash,
        )
        header = msgspec.structs.replace(header, **changes)
        digest = block_hash(CHAIN_ID, header)
        parent_view = View(0) if parent is self.base else parent.view
        return Block(header, digest, Value(parent_view, digest), certificate)

    def boundary(
        self, view: int, parent: Block | None, following: ValidatorSet, **changes: object
    ) -> Block:
        """Return a valid boundary block that names the next set."""
        empty = {"transaction_count": 0, "body_bytes": 0, "transactions_root": ZERO_DIGEST}
        return self.block(
            view, parent, next_validator_set_hash=following.hash, **{**empty, **changes}
        )

    def repeated(self, block: Block, view: int, certified: int | None = None) -> Proposal:
        """Return a later leader's proposal of the same boundary block (EP2)."""
        certified = block.view if certified is None else certified
        earlier = Value(View(certified), block.hash)
        own = block.value if certified == block.view else Value(block.view, block.hash)
        return Proposal(
            ERA,
            self.epoch,
            View(view),
            earlier,
            block.header,
            b"",
            self.certificate(VoteKind.NOTARIZE, certified, own),
            (),
            None,
            self.vote(VoteKind.NOTARIZE, self.leader(view), view, earlier),
        )

    def certified_by(self, block: Block, certificate: Certificate) -> Block:
        """Return the block naming another certificate of its parent."""
        header = msgspec.structs.replace(
            block.header, parent_certificate_hash=certificate_hash(certificate)
        )
        digest = block_hash(CHAIN_ID, header)
        return Block(header, digest, Value(certificate.view, digest), certificate)

    def chain(self, length: int) -> list[Block]:
        """Return blocks of the views 1, 2, and so on, each on the one before."""
        blocks: list[Block] = []
        for view in range(1, length + 1):
            blocks.append(self.block(view, blocks[-1] if blocks else None))
        return blocks

    def proposal(
        self, block: Block, skips: Iterable[Certificate] = (), **changes: object
    ) -> Proposal:
        """Return the leader's proposal of a block."""
        proposal = Proposal(
            ERA,
            self.epoch,
            block.view,
            block.value,
            block.header,
            b"payload",
            block.parent_certificate,
            tuple(skips),
            None,
            self.vote(VoteKind.NOTARIZE, self.leader(block.view), block.view, block.value),
        )
        return msgspec.structs.replace(proposal, **changes) if changes else proposal


@dataclass
class Disk:
    """What a driver has synced, and what it wrote without syncing."""

    votes: list[Vote] = field(default_factory=list)
    certificates: list[Certificate] = field(default_factory=list)
    unsynced: list[Certificate] = field(default_factory=list)
    blocks: list[Digest] = field(default_factory=list)
    proposals: list[Proposal] = field(default_factory=list)
    sign_floor: Round = field(default_factory=lambda: Round(ERA, EPOCH, View(0)))

    def take(self, effect: Effect) -> None:
        if isinstance(effect, Persist):
            self.votes += effect.votes
            self.certificates += effect.certificates
            self.blocks += effect.blocks
            if effect.proposal is not None:
                self.proposals.append(effect.proposal)
            if effect.sign_floor is not None:
                self.sign_floor = effect.sign_floor
        elif isinstance(effect, Store):
            self.unsynced += effect.certificates


class Driven:
    """One replica under a driver that keeps timers, disk and all effects, and answers as told."""

    def __init__(
        self,
        net: Net,
        me: int | None,
        *,
        timing: Timing | None = None,
        restored: Restored | None = None,
        connect: Iterable[int] | None = None,
        start_ms: int = 0,
    ) -> None:
        self.net = net
        self.me = me
        if me is not None and me not in net.under_test and net.n > 1:
            net.under_test = [me]
        self.now_ms = start_ms
        self.timers: dict[Timer, int] = {}
        self.disk = Disk()
        self.effects: list[Effect] = []
        """Of the last input (or of the start)."""
        self.history: list[Effect] = []
        self.times: list[int] = []
        """When each effect of the history came."""
        self.offered: list[Proposal] = []
        """Proposals received; the driver would have their bodies."""
        self.judge: Verdict | None = Verdict.VALID
        """Answer given at once to every request for a verdict; None to leave it open."""
        self.signed = 0
        self.timing = timing or Timing(idle_ms=None)
        self.engine = Replica(self.config(net, me), restored or Restored(net.base_header))
        self._carry_out(self.engine.start(self.now_ms))
        everyone = net.others(*([] if me is None else [me]))
        for index in everyone if connect is None else connect:
            self.feed(PeerConnected(net.peer(index)))

    @property
    def core(self) -> Core:
        """Inside of the engine of the present epoch."""
        return self.engine._engine._core

    def config(self, net: Net, me: int | None) -> EngineConfig:
        """Return what makes the engine of a network's epoch."""
        return EngineConfig(
            chain_id=CHAIN_ID,
            validators=net.validators,
            me=me,
            base=net.base_header,
            timing=self.timing,
            sign=None if me is None else self._sign,
            verify=verify,
            epoch=net.epoch,
        )

    def open(self, net: Net, me: int | None, closing: Certificate, **restored: Any) -> list[Effect]:
        """Let the epoch of ``net`` begin: the boundary block is executed."""
        self.net, self.me = net, me
        net.under_test = [] if me is None else [me]
        opened = EpochOpened(self.config(net, me), Restored(net.base_header, **restored), closing)
        return self.feed(opened)

    def _sign(self, message: bytes) -> Signature:
        assert self.me is not None
        self.signed += 1
        return sign(self.net.validators[self.me].consensus_key, message)

    def feed(self, event: Input) -> list[Effect]:
        """Give one input, answer verdicts at once, return all effects."""
        self.effects = []
        self._carry_out(self.engine.step(self.now_ms, event))
        return self.effects

    def _carry_out(self, effects: list[Effect]) -> None:
        self.effects += effects
        self.history += effects
        self.times += [self.now_ms] * len(effects)
        for effect in effects:
            self.disk.take(effect)
            if isinstance(effect, SetTimer):
                self.timers[effect.timer] = effect.at_ms
            elif isinstance(effect, CancelTimer):
                self.timers.pop(effect.timer, None)
        for effect in effects:
            if isinstance(effect, RequestVerification) and self.judge is not None:
                answer = Verified(effect.block_hash, self.judge)
                self._carry_out(self.engine.step(self.now_ms, answer))

    def receive(self, message: ConsensusMessage, source: int) -> list[Effect]:
        """Receive a message on the channel of a validator."""
        if isinstance(message, Proposal):
            self.offered.append(message)
        return self.feed(Received(self.net.peer(source), message))

    def receive_votes(
        self, kind: VoteKind, view: int, value: Value, voters: Iterable[int]
    ) -> list[Effect]:
        """Receive votes on their voters' channels; return all effects."""
        effects: list[Effect] = []
        for voter in voters:
            effects += self.receive(self.net.vote(kind, voter, view, value), voter)
        self.effects = effects
        return effects

    def propose(self, block: Block, skips: Iterable[Certificate] = ()) -> list[Effect]:
        """Receive the proposal of a block from its leader."""
        return self.receive(self.net.proposal(block, skips), self.net.leader(block.view))

    def built(self, block: Block) -> list[Effect]:
        """Answer a request for a block."""
        return self.feed(Built(block.view, block.header, b"payload"))

    def built_nothing(self, view: int) -> list[Effect]:
        """Answer a request for a block: there is nothing to build."""
        return self.feed(Built(View(view), None, b""))

    def work(self, *, pending: bool = True) -> list[Effect]:
        return self.feed(WorkChanged(pending))

    def executed(self, height: int) -> list[Effect]:
        return self.feed(Executed(Height(height)))

    def advance(self, period_ms: int) -> list[Effect]:
        """Let time pass and fire what falls due, in order; return all effects."""
        until_ms = self.now_ms + period_ms
        effects: list[Effect] = []
        while due := [(at, t.kind.value, t) for t, at in self.timers.items() if at <= until_ms]:
            at_ms, _, timer = min(due, key=lambda item: item[:2])
            self.now_ms = max(self.now_ms, at_ms)
            del self.timers[timer]
            effects += self.feed(TimerFired(timer))
        self.now_ms = until_ms
        self.effects = effects
        return effects

    def restart(
        self, *, finalized: Block | None = None, lose_unsynced: bool = False, **changes: Any
    ) -> Driven:
        """Return a new replica over what this one has on disk, with this executed head."""
        proposals = [*self.disk.proposals, *self.offered]
        headers = {block_hash(CHAIN_ID, p.header): p.header for p in proposals}
        restored = Restored(
            finalized=self.net.base_header if finalized is None else finalized.header,
            sign_floor=self.disk.sign_floor,
            votes=tuple(self.disk.votes),
            certificates=(
                *self.disk.certificates,
                *(() if lose_unsynced else self.disk.unsynced),
            ),
            blocks=tuple(headers[digest] for digest in self.disk.blocks if digest in headers),
            proposals=tuple(self.disk.proposals),
            **changes,
        )
        return Driven(self.net, self.me, restored=restored, connect=(), start_ms=5_000)

    # --- looking at effects -----------------------------------------------------------------------

    def all_of(self, kind: type[EFFECT], effects: Iterable[Effect] | None = None) -> list[EFFECT]:
        """Return the effects of a type, by default of the last input."""
        return [e for e in (self.effects if effects is None else effects) if isinstance(e, kind)]

    def sent(self, kind: type[MESSAGE], effects: Iterable[Effect] | None = None) -> list[MESSAGE]:
        """Return the messages of a type that were broadcast or sent, by default just now."""
        found = self.effects if effects is None else effects
        return [
            e.message
            for e in found
            if isinstance(e, Broadcast | Send) and isinstance(e.message, kind)
        ]

    def votes_cast(self, effects: Iterable[Effect] | None = None) -> list[tuple[VoteKind, int]]:
        """Return kind and view of every own vote sent, inside proposals too."""
        votes = self.sent(Vote, effects)
        votes += [p.leader_vote for p in self.sent(Proposal, effects)]
        return [(v.kind, v.view) for v in votes if v.voter == self.me]

    def finalized(self, effects: Iterable[Effect] | None = None) -> list[Digest]:
        return [h for e in self.all_of(Finalize, effects) for h in e.blocks]

    def timer(self, kind: TimerKind) -> int | None:
        """Return when a timer of this kind fires."""
        return next((at for t, at in self.timers.items() if t.kind is kind), None)

    @property
    def view(self) -> int:
        return self.engine.status().view


def follower(net: Net, timing: Timing | None = None) -> Driven:
    """Return a validator that leads none of the views 1 to 3."""
    return Driven(net, net.leader(4), timing=timing)


def notarize_by_others(node: Driven, block: Block) -> None:
    """Let the node see a quorum for a block: its leader's, its own and one more."""
    voters = [i for i in node.net.others(node.me or 0) if i != node.net.leader(block.view)]
    node.receive_votes(VoteKind.NOTARIZE, block.view, block.value, voters)
