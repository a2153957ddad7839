"""Reads a scenario, plays it to one engine and writes down what the engine does.

A scenario begins with `network of G government and C commercial validators, this node is X`.
Validators are named A, B, C, ... in the order of their turns: A leads view 1. A block is named `b`
and its view, or `e` and its view if it has no transactions; `b2 on b1` says what it is built on,
genesis if nothing is said; `b1'` is another block of the same view. A line that begins with `*`
happens to the node; the indented lines below are what it does, in order. The rest is commentary.
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
from ledger.types import Digest, Height, View
from ledger.votes import Value, Vote, VoteKind
from tests.unit.consensus.kit import EPOCH, ERA, Block, Driven, Net

HEADING: Final = re.compile(
    r"network of (\d+) government and (\d+) commercial validators, this node is ([A-Z])"
)
NAME: Final = r"[be]\d+'?"
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
        self.me = self._index(me)
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
            (rf"([A-Z]) votes (NOTARIZE|FINALIZE) ({NAME})", self._votes),
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

    def _votes(self, who: str, kind: str, name: str) -> list[Effect]:
        block, index = self._block(name), self._index(who)
        vote = self.net.vote(VoteKind[kind], index, block.view, block.value)
        return self.node.receive(vote, index)

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
            view = int(name.strip("be'"))
            changes: dict[str, Any] = {"time_ms": 9_999} if name.endswith("'") else {}
            if name.startswith("e"):
                changes |= {"transaction_count": 0, "body_bytes": 0}
            block = self.net.block(view, self.blocks[parent or "genesis"], **changes)
            if certificate is not None:
                block = self.net.certified_by(block, certificate)
            self.blocks[name] = block
            self.names[block.hash] = name
        return self.blocks[name]

    def _index(self, letter: str) -> int:
        return self.net.leader(ascii_uppercase.index(letter) + 1)

    def _peer(self, letter: str) -> PeerId:
        return self.net.peer(self._index(letter))

    # --- what the node does -----------------------------------------------------------------------

    def _letter(self, index: int) -> str:
        return next(x for x in ascii_uppercase if self._index(x) == index)

    def _who(self, peers: Iterable[PeerId]) -> str:
        indices = (self.net.validators.index_of_node(peer) for peer in peers)
        return ", ".join(sorted(self._letter(i) for i in indices if i is not None))

    def _name(self, value: Value) -> str:
        return self.names.get(value.block_hash, value.block_hash.hex()[:8])

    def _certificate(self, certificate: Certificate) -> str:
        if certificate.kind is VoteKind.NULLIFY:
            return f"nullification of {certificate.view}"
        return f"{NOUNS[certificate.kind]} of {self._name(certificate.value)}"

    def _vote(self, vote: Vote) -> str:
        what = vote.view if vote.kind is VoteKind.NULLIFY else self._name(vote.value)
        return f"{vote.kind.name} {what}"

    def _message(self, message: ConsensusMessage) -> str:
        if isinstance(message, Vote):
            return f"vote {self._vote(message)}"
        if isinstance(message, Proposal):
            skips = ", ".join(str(skip.view) for skip in message.skips)
            return f"proposal {self._name(message.value)}" + (f", skipping {skips}" * bool(skips))
        if isinstance(message, CertificateMessage):
            return ", ".join(map(self._certificate, message.certificates))
        if isinstance(message, Status):
            return f"status: in view {message.view}"
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
                return [f"fetch the chain from height {effect.first}"]
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
