"""Reads a scenario, plays it to one engine and writes down what the engine does.

A scenario begins with `network of G government and C commercial validators, this node is X`.
Validators are named A, B, C, ... in the order of their turns in epoch 0: A leads view 1 of it. A
block is named `b` and its view, or `e` and its view if it has no transactions, or `s` if it is a
boundary block, whose set has one validator more; `b2 on b1` says what it is built on, the base if
nothing is said; `b1'` is another block of the same view. A line that begins with `*` happens to the
node; the indented lines below are what it does, in order. The rest is commentary.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from string import ascii_uppercase
from typing import Any, Final

from consensus.effects import (
    Broadcast,
    CancelTimer,
    Effect,
    FetchBlock,
    FetchChain,
    Finalize,
    Halt,
    Penalise,
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
    PeerConnected,
    PeerDisconnected,
    PeerId,
    Received,
    Verdict,
    Verified,
)
from consensus.types import (
    Certificate,
    CertificateMessage,
    ConsensusMessage,
    GetCertificates,
    GetProposal,
    Proposal,
    Status,
    StatusRequest,
)
from ledger.types import Digest, Epoch, Height, PublicKey, View
from ledger.validators import Chamber, Validator, ValidatorSet
from ledger.votes import Value, Vote, VoteKind
from tests.unit.consensus.kit import EPOCH, ERA, Block, Driven, Net

HEADING: Final = re.compile(
    r"network of (\d+) government and (\d+) commercial validators, this node is ([A-Z])"
)
NAME: Final = r"[bes]\d+'?"
BLOCK: Final = rf"({NAME})(?: on ({NAME}))?"
NOUNS: Final = {
    VoteKind.NOTARIZE: "notarization",
    VoteKind.NULLIFY: "nullification",
    VoteKind.FINALIZE: "finalization",
}


class Scenario:
    """One node, the names of what it meets, and the reader of its lines."""

    def __init__(self, government: int, commercial: int, me: str) -> None:
        self.net = Net(government, commercial)
        self.joiner = Validator(
            "joiner", "joiner", Chamber.GOVERNMENT, PublicKey(b"j" * 32), PublicKey(b"k" * 32)
        )
        turns = (self.net.validators[self.net.leader(v)] for v in range(1, self.net.n + 1))
        self.who = dict(zip(ascii_uppercase, [*turns, self.joiner], strict=False))
        self.before: Net | None = None
        self.me = self._index(me)
        self.base = "genesis"
        self.blocks: dict[str, Block] = {"genesis": self.net.base}
        self.names: dict[Digest, str] = {self.net.base.hash: "genesis"}
        self.now_ms = 0
        self.node = self._begin(Driven(self.net, self.me))
        self.commands: list[tuple[str, Callable[..., list[Effect]]]] = [
            (r"transactions wait", lambda: self.node.work()),
            (r"no transactions wait", lambda: self.node.work(pending=False)),
            (rf"([A-Z]) proposes {BLOCK}(?:, skipping ([\d, ]+))?", self._proposes),
            (rf"the application builds {BLOCK}", self._builds),
            (r"the application has nothing to build", self._builds_nothing),
            (rf"the application finds ({NAME}) (VALID|INVALID|NOT_YET)", self._finds),
            (rf"([A-Z]) repeats ({NAME}) in view (\d+)", self._repeats),
            (rf"([A-Z]) votes (NOTARIZE|FINALIZE) ({NAME})(?: in view (\d+))?", self._votes),
            (r"([A-Z]), in the epoch before, votes NULLIFY (\d+)", self._votes_late),
            (r"([A-Z]), in the next epoch, tells that it is in view 1", self._tells_early),
            (rf"the epoch after ({NAME}) begins", self._begins),
            (r"([A-Z]) votes NULLIFY (\d+)", self._nullifies),
            (r"([A-Z]) relays the (\w+) of (\S+)", self._relays),
            (rf"the whole block {BLOCK} arrives", self._arrives),
            (r"height (\d+) is executed", lambda h: self.node.executed(int(h))),
            (r"(\d+) ms pass", lambda ms: self.node.advance(int(ms))),
            (rf"there are the blocks ((?:{NAME}(?: on {NAME})?(?:, )?)+)", self._there_are),
            (r"([A-Z]) connects", lambda x: self.node.feed(PeerConnected(self._peer(x)))),
            (r"([A-Z]) disconnects", lambda x: self.node.feed(PeerDisconnected(self._peer(x)))),
            (r"([A-Z]) tells that it is in view (\d+)", self._tells),
            (r"the node crashes and starts again", self._restarts),
            (r"the node crashes, loses what was not synced and starts again", self._forgets),
        ]

    def happens(self, line: str) -> list[str]:
        """Play one line and return what the node does."""
        for pattern, command in self.commands:
            match = re.fullmatch(pattern, line)
            if match is not None:
                before = self.node, len(self.node.history)
                command(*match.groups())
                start = before[1] if self.node is before[0] else 0
                happened = zip(self.node.history[start:], self.node.times[start:], strict=True)
                return [text for effect, at_ms in happened for text in self._tell(effect, at_ms)]
        raise ValueError(f"no scenario knows the line {line!r}")

    # --- what happens -----------------------------------------------------------------------------

    def _begin(self, node: Driven) -> Driven:
        node.judge = None
        return node

    def _there_are(self, blocks: str) -> list[Effect]:
        for block in blocks.split(", "):
            name, _, parent = block.partition(" on ")
            self._block(name, parent or None)
        return []

    def _proposes(
        self, who: str, name: str, parent: str | None, skipped: str | None
    ) -> list[Effect]:
        views = [int(view) for view in (skipped or "").split(",") if view]
        skips = [self.net.nullification(view) for view in views]
        block = self._block(name, parent)
        return self.node.receive(self.net.proposal(block, skips), self._index(who))

    def _builds(self, name: str, parent: str | None) -> list[Effect]:
        """The application uses the parent certificate that it was given."""
        request = next(e for e in reversed(self.node.history) if isinstance(e, RequestProposal))
        certificate = request.parent_certificate
        block = self._block(name, parent, certificate)
        return self.node.feed(Built(block.view, block.header, b"payload"))

    def _builds_nothing(self) -> list[Effect]:
        return self.node.built_nothing(self.node.view)

    def _finds(self, name: str, verdict: str) -> list[Effect]:
        return self.node.feed(Verified(self.blocks[name].hash, Verdict[verdict]))

    def _repeats(self, who: str, name: str, view: str) -> list[Effect]:
        return self.node.receive(self.net.repeated(self.blocks[name], int(view)), self._index(who))

    def _votes(self, who: str, kind: str, name: str, view: str | None) -> list[Effect]:
        block, index = self._block(name), self._index(who)
        value = block.value if view is None else Value(block.view, block.hash)
        vote = self.net.vote(VoteKind[kind], index, int(view or block.view), value)
        return self.node.receive(vote, index)

    def _votes_late(self, who: str, view: str) -> list[Effect]:
        assert self.before is not None
        index = self.before.validators.index_of_key(self.who[who].consensus_key)
        assert index is not None
        vote = self.before.vote(VoteKind.NULLIFY, index, int(view))
        return self.node.feed(Received(self._peer(who), vote))

    def _tells_early(self, who: str) -> list[Effect]:
        epoch = Epoch(self.net.epoch + 1)
        status = Status(b"", ERA, epoch, View(1), Height(0), None, None, None)
        return self.node.feed(Received(self._peer(who), status))

    def _begins(self, name: str) -> list[Effect]:
        """The driver has executed the boundary block."""
        boundary, closing = self.blocks[name], self.net.finalization(self.blocks[name])
        own_key = self.net.validators[self.me].consensus_key
        self.before, self.net = self.net, Net(members=self._next_set(), after=boundary)
        self.base, self.blocks = name, {name: boundary}
        me = self.net.validators.index_of_key(own_key)
        assert me is not None
        self.me = me
        return self.node.open(self.net, me, closing)

    def _next_set(self) -> ValidatorSet:
        return ValidatorSet([*self.net.validators, self.joiner])

    def _nullifies(self, who: str, view: str) -> list[Effect]:
        index = self._index(who)
        return self.node.receive(self.net.vote(VoteKind.NULLIFY, index, int(view)), index)

    def _relays(self, who: str, noun: str, what: str) -> list[Effect]:
        kind = next(kind for kind, name in NOUNS.items() if name == noun)
        if kind is VoteKind.NULLIFY:
            certificate = self.net.nullification(int(what))
        else:
            block = self._block(what)
            certificate = self.net.certificate(kind, block.view, block.value)
        return self.node.receive(CertificateMessage((certificate,)), self._index(who))

    def _arrives(self, name: str, parent: str | None) -> list[Effect]:
        block = self._block(name, parent)
        return self.node.feed(BlockReceived(block.header, block.parent_certificate))

    def _tells(self, who: str, view: str) -> list[Effect]:
        proof = None if view == "1" else self.net.nullification(int(view) - 1)
        status = Status(b"", ERA, EPOCH, View(int(view)), Height(0), proof, None, None)
        return self.node.receive(status, self._index(who))

    def _restarts(self) -> list[Effect]:
        self.node = self._begin(self.node.restart())
        return self.node.history

    def _forgets(self) -> list[Effect]:
        self.node = self._begin(self.node.restart(lose_unsynced=True))
        return self.node.history

    def _block(
        self, name: str, parent: str | None = None, certificate: Certificate | None = None
    ) -> Block:
        if name not in self.blocks:
            view = int(name.strip("bes'"))
            changes: dict[str, Any] = {"time_ms": 9_999} if name.endswith("'") else {}
            if name.startswith("e"):
                changes |= {"transaction_count": 0, "body_bytes": 0}
            parent_block = self.blocks[parent or self.base]
            if name.startswith("s"):
                block = self.net.boundary(view, parent_block, self._next_set(), **changes)
            else:
                block = self.net.block(view, parent_block, **changes)
            if certificate is not None:
                block = self.net.certified_by(block, certificate)
            self.blocks[name] = block
            self.names[block.hash] = name
        return self.blocks[name]

    def _index(self, letter: str) -> int:
        index = self.net.validators.index_of_key(self.who[letter].consensus_key)
        assert index is not None
        return index

    def _peer(self, letter: str) -> PeerId:
        return PeerId(self.who[letter].node_key)

    # --- what the node does -----------------------------------------------------------------------

    def _letter(self, index: int) -> str:
        return next(x for x, who in self.who.items() if who == self.net.validators[index])

    def _who(self, peers: Iterable[PeerId]) -> str:
        nodes = set(peers)
        return ", ".join(x for x, who in self.who.items() if PeerId(who.node_key) in nodes)

    def _name(self, value: Value, view: View) -> str:
        name = self.names.get(value.block_hash, value.block_hash.hex()[:8])
        block = self.blocks.get(name)
        is_repeated = block is not None and block.view < view
        return f"{name} in view {view}" if is_repeated else name

    def _certificate(self, certificate: Certificate) -> str:
        if certificate.kind is VoteKind.NULLIFY:
            return f"nullification of {certificate.view}"
        return f"{NOUNS[certificate.kind]} of {self._name(certificate.value, certificate.view)}"

    def _vote(self, vote: Vote) -> str:
        is_null = vote.kind is VoteKind.NULLIFY
        return f"{vote.kind.name} {vote.view if is_null else self._name(vote.value, vote.view)}"

    def _message(self, message: ConsensusMessage) -> str:
        if isinstance(message, Vote):
            return f"vote {self._vote(message)}"
        if isinstance(message, Proposal):
            skips = ", ".join(str(skip.view) for skip in message.skips)
            return f"proposal {self._name(message.value, message.view)}" + (
                f", skipping {skips}" * bool(skips)
            )
        if isinstance(message, CertificateMessage):
            return ", ".join(map(self._certificate, message.certificates))
        if isinstance(message, Status):
            epoch = f" of epoch {message.epoch}" if message.epoch else ""
            return f"status: in view {message.view}{epoch}"
        if isinstance(message, GetCertificates):
            return f"request for certificates of views {message.first} to {message.last}"
        if isinstance(message, GetProposal):
            return f"request for the proposal of view {message.view}"
        assert isinstance(message, StatusRequest)
        return "request for status"

    def _tell(self, effect: Effect, now_ms: int) -> list[str]:
        """Return the lines that tell of an effect."""
        match effect:
            case Persist():
                things = [f"vote {self._vote(vote)}" for vote in effect.votes]
                things += [f"block {self.names[digest]}" for digest in effect.blocks]
                things += map(self._certificate, effect.certificates)
                things += ["the proposal"] * (effect.proposal is not None)
                return [f"sync to disk: {', '.join(things)}"]
            case Store():
                return [f"write: {', '.join(map(self._certificate, effect.certificates))}"]
            case Broadcast():
                return [f"to all: {self._message(effect.message)}"]
            case Send():
                return [f"to {self._who([effect.peer])}: {self._message(effect.message)}"]
            case SetTimer():
                after_ms = effect.at_ms - now_ms
                return [f"set {effect.timer.kind.name} in {after_ms} ms"]
            case CancelTimer():
                return [f"cancel {effect.timer.kind.name}"]
            case RequestProposal():
                name = next(n for n, b in self.blocks.items() if b.header == effect.parent)
                return [f"ask for a block for view {effect.view} on {name}"]
            case RequestVerification():
                return [f"ask for a verdict on {self.names[effect.block_hash]}"]
            case FetchBlock():
                return [f"fetch {self.names[effect.block_hash]} from {self._who(effect.peers)}"]
            case FetchChain():
                source = f" from {self._who(effect.peers)}" if effect.target is None else ""
                return [f"fetch the chain from height {effect.first}{source}"]
            case Finalize():
                return [f"finalise {', '.join(self.names[digest] for digest in effect.blocks)}"]
            case ReportEvidence():
                votes = f"{self._vote(effect.first)} and {self._vote(effect.second)}"
                return [f"evidence against {self._letter(effect.first.voter)}: {votes}"]
            case Penalise():
                return [f"penalise {self._who([effect.peer])}: {effect.reason}"]
            case Halt():
                return [f"halt: {effect.reason}"]


def play(text: str) -> str:
    """Return the scenario with what the engine really does below each line that happens."""
    lines: list[str] = []
    scenario: Scenario | None = None
    for line in text.splitlines():
        heading = HEADING.search(line)
        if heading is not None:
            scenario = Scenario(int(heading[1]), int(heading[2]), heading[3])
        if line.startswith("    "):
            continue
        lines.append(line)
        if line.startswith("* "):
            if scenario is None:
                raise ValueError(f"expected a network before the line {line!r}")
            lines += ["    " + effect for effect in scenario.happens(line[2:])]
    return "\n".join(lines) + "\n"
