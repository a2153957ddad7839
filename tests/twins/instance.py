"""One running engine with the smallest driver: blocks at hand, timers, what it signed and decided.

Of the engine the public surface is used: start, step, effects; but a twin is kept from noticing the
other, and the enumeration sets the leaders. Two instances of one validator are its twins; each
builds its own blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, NamedTuple, cast, overload
from unittest.mock import patch

import msgspec

from consensus import core as engine_core
from consensus.certificates import certificate_hash
from consensus.config import EngineConfig, Restored
from consensus.effects import (
    Broadcast,
    CancelTimer,
    Effect,
    FetchBlock,
    Finalize,
    Halt,
    Penalise,
    Persist,
    ReportEvidence,
    RequestProposal,
    RequestVerification,
    Send,
    SetTimer,
)
from consensus.engine import Engine
from consensus.inputs import (
    BlockReceived,
    Built,
    EpochInput,
    PeerConnected,
    Received,
    Timer,
    TimerFired,
    TimerKind,
    Verdict,
    Verified,
    WorkChanged,
)
from consensus.timing import Timing
from consensus.types import Certificate
from ledger.block import Header, block_hash
from ledger.evidence import are_conflicting
from ledger.types import Digest, Height, TimeMs
from ledger.votes import Vote
from tests.twins.snapshot import intern, share, shared
from tests.unit.consensus.kit import CHAIN_ID, Net, sign, verify

NOTHING: Final = ""
RETRY: Final = "retry"
SOON: Final = "soon"
TIMEOUTS: Final = "timeouts"

OCCASIONS: Final[dict[TimerKind, str]] = {
    TimerKind.RETRY: RETRY,
    TimerKind.RELAY: SOON,
    TimerKind.PROPOSE: SOON,
    TimerKind.LEAD: TIMEOUTS,
    TimerKind.VIEW: TIMEOUTS,
}
"""When timers fire: as a round begins, as soon as the network is quiet, or late in a round."""

EVERYONE: Final = -1
"""Target of a broadcast."""

VIEWS_MAX: Final = 64
"""Length of the schedule of leaders: more views than a scenario has."""


class Schedule(Sequence[int]):
    """The order of turns: the enumeration sets the leader of each view; what is asked is noted."""

    def __init__(self) -> None:
        self.leaders: list[int] = [0] * VIEWS_MAX
        self.asked: dict[int, int] = {}
        """Leaders that were asked for since this was cleared, by view."""

    def __len__(self) -> int:
        return VIEWS_MAX

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[int]: ...
    def __getitem__(self, index: int | slice) -> int | Sequence[int]:
        if isinstance(index, slice):
            return self.leaders[index]
        leader = self.asked[index] = self.leaders[index]
        return leader


class Signer:
    """The consensus key of one validator."""

    def __init__(self, public_key: bytes) -> None:
        self._public_key = public_key

    def __call__(self, message: bytes) -> Any:
        return sign(self._public_key, message)


class Work(NamedTuple):
    """What an instance is given at one moment."""

    now_ms: int
    views: int
    """Views that may be worked on: a later one is entered and waits for its round."""
    fire: str
    """Occasion of :data:`OCCASIONS`."""
    messages: tuple[tuple[int, int], ...] = ()
    """Number of the sender's validator and of the message."""
    blocks: tuple[int, ...] = ()
    """Numbers of blocks that were fetched."""


class Reaction(NamedTuple):
    """What an instance did."""

    sent: tuple[tuple[int, int], ...]
    """Validator or :data:`EVERYONE`, and number of the message."""
    wanted: tuple[Digest, ...]
    """Blocks to fetch."""
    problem: str | None
    """Invariant that this instance broke or saw broken."""


class BlockAtHand(msgspec.Struct, frozen=True, gc=False):
    """A whole block, as far as the engine knows blocks."""

    header: Header
    parent_certificate: Certificate | None


def _never_forgotten(certificate: Certificate) -> bool:
    """Replace what makes a twin stop when it sees votes of the other: a traitor does not stop."""
    return False


@dataclass
class Instance:
    """One engine of a scenario."""

    net: Net
    me: int
    twin: int
    """Index of the validator that runs twice."""
    half: int
    """0, or 1 for the second process of the twin."""
    engine: Engine
    timers: dict[Timer, int] = field(default_factory=dict)
    blocks: dict[Digest, int] = field(default_factory=dict)
    """Numbers of the blocks at hand."""
    final: tuple[Digest, ...] = ()
    """Hashes of the finalised blocks, from height 1."""
    votes: dict[int, list[Vote]] = field(default_factory=dict)
    """Own votes by view."""
    held: RequestProposal | None = None
    """A block to be built when the round of its view begins."""

    @classmethod
    def create(cls, net: Net, schedule: Schedule, me: int, twin: int, half: int) -> Instance:
        """Return an instance that has started, is connected to everyone and has work to do."""
        config = EngineConfig(
            chain_id=CHAIN_ID,
            validators=net.validators,
            me=me,
            base=net.base_header,
            timing=Timing(idle_ms=None),
            sign=Signer(net.validators[me].consensus_key),
            verify=verify,
        )
        for constant in (net, net.validators, schedule, config, config.sign, config.timing):
            share(constant)
        order = cast("tuple[int, ...]", schedule)
        with patch.object(engine_core, "leader_order", lambda *_: order):
            engine = Engine(config, Restored(net.base_header))
        instance = cls(net, me, twin, half, engine)
        if me == twin:
            deciding = engine._deciding
            assert callable(deciding._is_forgotten)
            deciding._is_forgotten = _never_forgotten  # type: ignore[method-assign]
        out = _Outputs(instance, views=0)
        out.carry_out(engine.start(0))
        for peer in net.others(me):
            out.give(0, PeerConnected(net.peer(peer)))
        return instance

    def act(self, work: Work) -> Reaction:
        """Take what has come, let timers fire, answer what the engine asks for."""
        out, now_ms = _Outputs(self, work.views), work.now_ms
        if work.views == 1 and not self.engine.status().work_pending:
            out.give(now_ms, WorkChanged(True))
        if self.held is not None and self.held.view <= work.views:
            request, self.held = self.held, None
            out.give(now_ms, self.build(request))
        view = self.engine.view
        for timer in [t for t in self.timers if OCCASIONS.get(t.kind) == work.fire]:
            if work.fire == TIMEOUTS and timer.view > work.views:
                continue
            if self.timers.pop(timer, None) is not None:
                out.give(now_ms, TimerFired(timer))
        for sender, number in work.messages:
            out.give(now_ms, Received(self.net.peer(sender), shared(number)))
        for number in work.blocks:
            block: BlockAtHand = shared(number)
            out.give(now_ms, BlockReceived(block.header, block.parent_certificate))
        if self.engine.view < view:
            out.problem = "I8: a view became lower"
        return Reaction(tuple(out.sent), tuple(out.wanted), out.problem)

    def build(self, request: RequestProposal) -> Built:
        """Return an empty block; the twins build different ones."""
        parent = request.parent
        content = b"half %d of %d view %d" % (self.half, self.me, request.view)
        header = msgspec.structs.replace(
            parent,
            height=Height(parent.height + 1),
            view=request.view,
            parent_hash=block_hash(CHAIN_ID, parent),
            proposer=request.proposer,
            time_ms=TimeMs(parent.time_ms + 100),
            transactions_root=Digest(sha256(content).digest()),
            parent_certificate_hash=certificate_hash(request.parent_certificate),
            previous_boundary_hash=self.net.base.hash,
        )
        block = BlockAtHand(header, request.parent_certificate)
        self.blocks[block_hash(CHAIN_ID, header)] = intern(block)
        return Built(request.view, header, b"")

    def sign_off(self, votes: Iterable[Vote]) -> str | None:
        """Remember own votes; return a problem if two of them conflict (I3)."""
        for vote in votes:
            earlier = self.votes.setdefault(vote.view, [])
            if any(are_conflicting(vote, each) for each in earlier) and self.me != self.twin:
                return f"I3: validator {self.me} signed a conflicting pair in view {vote.view}"
            earlier.append(vote)
        return None


class _Outputs:
    """Carries out effects."""

    def __init__(self, instance: Instance, views: int) -> None:
        self._instance = instance
        self._views = views
        self.sent: list[tuple[int, int]] = []
        self.wanted: list[Digest] = []
        self.problem: str | None = None

    def give(self, now_ms: int, event: EpochInput) -> None:
        """Step the engine, and again with the answers to what it asks."""
        pending = [event]
        while pending:
            effects = self._instance.engine.step(now_ms, pending.pop(0))
            pending += self.carry_out(effects)

    def carry_out(self, effects: list[Effect]) -> list[EpochInput]:
        """Carry effects out; return the answers that come at once."""
        return [answer for effect in effects if (answer := self._do(effect)) is not None]

    def _do(self, effect: Effect) -> EpochInput | None:
        one = self._instance
        match effect:
            case SetTimer():
                one.timers[effect.timer] = effect.at_ms
            case CancelTimer():
                one.timers.pop(effect.timer, None)
            case Broadcast():
                self.sent.append((EVERYONE, intern(effect.message)))
            case Send():
                index = one.net.validators.index_of_node(effect.peer)
                assert index is not None
                self.sent.append((index, intern(effect.message)))
            case RequestVerification():
                if effect.payload is not None:
                    block = BlockAtHand(effect.header, effect.parent_certificate)
                    one.blocks.setdefault(effect.block_hash, intern(block))
                return Verified(effect.block_hash, Verdict.VALID)
            case RequestProposal():
                if effect.view > self._views:
                    one.held = effect
                    return None
                return one.build(effect)
            case FetchBlock():
                self.wanted.append(effect.block_hash)
            case Persist():
                self.problem = self.problem or one.sign_off(effect.votes)
            case Finalize():
                one.final += effect.blocks
            case ReportEvidence() | Halt() | Penalise():
                self._suspect(effect)
            case _:
                pass
        return None

    def _suspect(self, effect: ReportEvidence | Halt | Penalise) -> None:
        """I9: only the twin is ever accused, and no honest engine has a reason to stop."""
        one = self._instance
        if one.me == one.twin:
            return
        if isinstance(effect, Halt):
            self.problem = f"I1: validator {one.me} halted: {effect.reason}"
        elif isinstance(effect, ReportEvidence):
            if effect.first.voter != one.twin:
                self.problem = f"I9: evidence against honest validator {effect.first.voter}"
        elif one.net.validators.index_of_node(effect.peer) != one.twin:
            self.problem = f"I9: an honest peer is penalised for {effect.reason}"
