"""Byzantine validators that know the protocol and keep no promise.

None of them runs the engine: a :class:`Puppet` follows views by the certificates that the
conspiracy holds, and signs what it likes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from consensus.types import CertificateMessage, GetProposal, Proposal, Status, StatusRequest
from ledger.block import Block
from ledger.types import Digest, Epoch, Era, Height, View
from ledger.votes import NULL_VALUE, Value, Vote, VoteKind, vote_signing_bytes
from tests.simulation.application import (
    BLOCK_TRANSACTIONS_MAX,
    EXECUTION_LAG_MAX,
    certificate_hash,
    transaction_hash,
    transactions_root,
)
from tests.simulation.forgery import FORGERIES, Draft
from tests.simulation.messages import (
    BlockAnswer,
    GetBlock,
    GetTransactions,
    Message,
    TransactionsMessage,
    encode,
)

if TYPE_CHECKING:
    from random import Random

    from tests.simulation.world import World

FLOOD_VOTES: Final = 400
"""Votes that a flooder signs in one burst, over far views and many values."""

FLOOD_EVERY_MS: Final = 2_000
"""Time between bursts."""

ERA: Final = Era(0)
EPOCH: Final = Epoch(0)


class Puppet:
    """A validator without a guard: signs what it likes, tells everybody something else."""

    def __init__(self, world: World, index: int) -> None:
        self.world = world
        self.index = index
        self.random: Random = world.random
        self.conspiracy = world.conspiracy
        self.peers = tuple(peer for peer in world.node_indexes if peer != index)
        self._sign = world.signer(index)
        self._led: set[View] = set()
        self._answered: set[tuple[View, Digest]] = set()

    def start(self) -> None:
        self._lead()

    def on_packet(self, source: int, packet: object) -> None:
        message = self.world.net.unpack(packet)
        if message is None:
            return
        self.conspiracy.learn(message)
        if isinstance(message, GetTransactions | GetBlock | StatusRequest | GetProposal):
            self._serve(source, message)
        if isinstance(message, Vote | Proposal) and message.value != NULL_VALUE:
            self.on_value(message.view, message.value)
        self._lead()

    def on_value(self, view: View, value: Value) -> None:
        """React once to each value that is heard of."""
        if view < self.conspiracy.view - 3 or (view, value.block_hash) in self._answered:
            return
        self._answered.add((view, value.block_hash))
        self.world.timeline.after(self.random.randint(0, 60), self.vote_on, view, value)

    def vote_on(self, view: View, value: Value) -> None:
        """Vote for a value: as an honest validator would."""
        self.send_all(self.vote(VoteKind.NOTARIZE, view, value))

    def vote(self, kind: VoteKind, view: View, value: Value) -> Vote:
        """Sign anything."""
        message = vote_signing_bytes(self.world.chain_id, kind, ERA, EPOCH, view, value)
        signed = Vote(kind, ERA, EPOCH, view, value, self.index, self._sign(message))
        self.conspiracy.learn(signed)
        return signed

    def send(self, target: int, message: Message) -> None:
        self.world.net.send(self.index, target, message)

    def send_all(self, message: Message) -> None:
        self.world.net.multicast(self.index, self.peers, message)

    def some_peers(self, share: float) -> tuple[int, ...]:
        """Return a random subset of the other nodes."""
        return tuple(peer for peer in self.peers if self.random.random() < share)

    def draft(self, view: View, *, forbidden: bool = False) -> Draft | None:
        """Return an unsigned proposal for a view, on a random allowed or forbidden parent."""
        conspiracy = self.conspiracy
        parents = conspiracy.forbidden_parents(view) if forbidden else conspiracy.parents(view)
        if not parents:
            return None
        parent_view, certificate = self.random.choice(parents)
        genesis_hash = self.world.network.genesis_hash
        parent_hash = genesis_hash if certificate is None else certificate.value.block_hash
        parent = self.conspiracy.header(parent_hash)
        if parent is None:
            return None
        encoded = b"" if certificate is None else encode(certificate)
        wires: list[bytes] = []
        if parent.height + 1 - parent.executed_height <= EXECUTION_LAG_MAX:
            pool = list(self.conspiracy.wires.values())[-3 * BLOCK_TRANSACTIONS_MAX :]
            wires = self.random.sample(pool, min(len(pool), self.random.randint(0, 3)))
        hashes = [transaction_hash(wire) for wire in wires]
        now_ms = self.world.wall_ms() + self.random.randint(0, 50)
        header = msgspec.structs.replace(
            parent,
            height=parent.height + 1,
            view=view,
            parent_hash=parent_hash,
            proposer=self.index,
            time_ms=max(now_ms, parent.time_ms + 1),
            transactions_root=transactions_root(hashes),
            transaction_count=len(hashes),
            body_bytes=sum(map(len, wires)),
            parent_certificate_hash=certificate_hash(encoded),
            previous_boundary_hash=genesis_hash,
        )
        skips = self.conspiracy.skips(parent_view, view)
        return Draft(Block(header, encoded, wires, ()), parent_view, certificate, skips)

    def propose(self, draft: Draft, view: View, targets: tuple[int, ...]) -> None:
        """Sign a draft and send it to some."""
        digest = self.conspiracy.add_block(draft.block)
        self.world.checker.on_block(digest, draft.block.header, draft.corruption)
        for wire in draft.block.transactions:
            self.conspiracy.wires.setdefault(transaction_hash(wire), wire)
        value = Value(draft.parent_view, draft.named or digest)
        if draft.named is not None:
            self.world.checker.on_block(draft.named, draft.block.header, draft.corruption)
        proposal = Proposal(
            era=ERA,
            epoch=EPOCH,
            view=view,
            value=value,
            header=draft.block.header,
            payload=b"".join(map(transaction_hash, draft.block.transactions)),
            parent_certificate=draft.parent_certificate,
            skips=draft.skips,
            finalization=None,
            leader_vote=self.vote(VoteKind.NOTARIZE, view, value),
        )
        self.conspiracy.learn(proposal)
        self.world.net.multicast(self.index, targets, proposal)

    def lead(self, view: View) -> None:
        """Act as the leader of a view."""

    def _lead(self) -> None:
        view = self.conspiracy.view
        if self.world.leader(view) == self.index and view not in self._led:
            self._led.add(view)
            self.world.timeline.after(self.random.randint(0, 300), self.lead, view)

    def _serve(self, source: int, message: Message) -> None:
        if self.random.random() < 0.5:
            return
        if isinstance(message, GetTransactions):
            wires = self.conspiracy.wires
            self.send(
                source, TransactionsMessage(tuple(wires[h] for h in message.hashes if h in wires))
            )
        elif isinstance(message, GetBlock):
            block = self.conspiracy.blocks.get(message.block_hash)
            self.send(source, BlockAnswer(message.block_hash, block))
        elif isinstance(message, GetProposal):
            for proposal in self.conspiracy.proposals.get(message.view, []):
                self.send(source, proposal)
        elif isinstance(message, StatusRequest):
            self.send(source, self._false_status(message.nonce))

    def _false_status(self, nonce: bytes) -> Status:
        """Claim to be in an old view: true certificates, under-reported."""
        known = sorted(self.conspiracy.certificates)
        view = View(1)
        certificate = None
        if known:
            certificate = self.conspiracy.certificates[self.random.choice(known)]
            view = View(certificate.view + 1)
        return Status(nonce, ERA, EPOCH, view, Height(0), certificate, None, None)


class Equivocator(Puppet):
    """Two blocks per view to two halves; votes of all kinds for everything to random subsets."""

    def lead(self, view: View) -> None:
        drafts = [self.draft(view), self.draft(view)]
        half = self.some_peers(0.5)
        rest = tuple(peer for peer in self.peers if peer not in half)
        for draft, targets in zip(drafts, (half, rest), strict=True):
            if draft is not None:
                self.world.count("equivocating proposal")
                self.propose(draft, view, targets if self.random.random() < 0.8 else self.peers)

    def vote_on(self, view: View, value: Value) -> None:
        for kind, chance in ((VoteKind.NOTARIZE, 0.9), (VoteKind.FINALIZE, 0.6)):
            if self.random.random() < chance:
                targets = self.some_peers(0.7)
                self.world.net.multicast(self.index, targets, self.vote(kind, view, value))
        if self.random.random() < 0.4:
            nullify = self.vote(VoteKind.NULLIFY, view, NULL_VALUE)
            self.world.net.multicast(self.index, self.some_peers(0.6), nullify)
        self.world.count("vote for everything")
        if self.random.random() < 0.3:
            self._reveal()

    def _reveal(self) -> None:
        """Show one certificate to one node only."""
        recent = sorted(self.conspiracy.certificates)[-6:]
        if recent:
            certificate = self.conspiracy.certificates[self.random.choice(recent)]
            self.send(self.random.choice(self.peers), CertificateMessage((certificate,)))


class Forger(Puppet):
    """Proposes blocks that break one rule each, and votes like an honest validator."""

    def lead(self, view: View) -> None:
        if self.random.random() < 0.5:
            self._offer(view, self.peers)
            return
        for peer in self.peers:
            self._offer(view, (peer,))

    def _offer(self, view: View, targets: tuple[int, ...]) -> None:
        skipping = self.draft(view, forbidden=True) if self.random.random() < 0.3 else None
        draft = skipping or self.draft(view)
        if draft is None:
            return
        if skipping is not None:
            self.world.count("forged block: A3 skips a view")
        elif self.random.random() < 0.8:
            name = self.random.choice(sorted(FORGERIES))
            forged = FORGERIES[name](draft, self.random)
            if forged is not None:
                self.world.count(f"forged block: {name}")
                draft = msgspec.structs.replace(forged, corruption=name)
        self.propose(draft, view, targets)


class Flooder(Puppet):
    """Signs hundreds of votes for far views and many values."""

    def start(self) -> None:
        self._victim = self.random.choice(self.peers)
        super().start()
        self._flood()

    def lead(self, view: View) -> None:
        draft = self.draft(view)
        if draft is not None:
            self.propose(draft, view, self.peers)

    def _flood(self) -> None:
        base = self.conspiracy.view
        for _ in range(FLOOD_VOTES):
            far = self.random.choice((1, 30, 10_000, 10**6, 2**40))
            view = View(max(1, base + self.random.randint(-3, far)))
            value = Value(View(view - 1), Digest(self.random.randbytes(32)))
            kind = self.random.choice((VoteKind.NOTARIZE, VoteKind.FINALIZE))
            self.send(self._victim, self.vote(kind, view, value))
        self.world.count("flood of votes")
        self.world.timeline.after(FLOOD_EVERY_MS, self._flood)
