"""Byzantine validators that know the protocol and keep no promise.

None of them runs the engine: a :class:`Puppet` follows views by the certificates that the
conspiracy holds, and signs what it likes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from consensus.certificates import certificate_hash, encode_certificate
from consensus.types import CertificateMessage, GetProposal, Proposal, Status, StatusRequest
from consensus.validity import EXECUTION_LAG_MAX
from ledger.block import Block
from ledger.block_rules import transactions_root
from ledger.encoding import encode
from ledger.transaction import wire_hash
from ledger.types import ZERO_DIGEST, Digest, Epoch, Era, Height, View
from ledger.votes import NULL_VALUE, Value, Vote, VoteKind, vote_signing_bytes
from p2p.messages import (
    BlockAnswer,
    GetBlock,
    GetTransactions,
    Message,
    Transactions,
)
from tests.simulation.forgery import FORGERIES, OF_PROPOSALS, Draft, Workshop
from tests.simulation.universe import BLOCK_TRANSACTIONS_MAX

if TYPE_CHECKING:
    from random import Random

    from tests.simulation.world import Place, World

FLOOD_VOTES: Final = 400
"""Votes that a flooder signs in one burst, over far views and many values."""

FLOOD_EVERY_MS: Final = 2_000
"""Time between bursts."""


class Puppet:
    """A validator without a guard: signs what it likes, tells everybody something else."""

    def __init__(self, world: World, index: int) -> None:
        self.world = world
        self.index = index
        self.random: Random = world.random
        self.conspiracy = world.conspiracy
        self.peers = tuple(peer for peer in world.node_indexes if peer != index)
        self._sign = world.signer(index)
        self._led: set[tuple[Place, View]] = set()
        self._answered: set[tuple[Place, View, Digest]] = set()

    def start(self) -> None:
        self._lead()

    def on_packet(self, source: int, packet: bytes) -> None:
        message = self.world.net.unpack(packet)
        if message is None:
            return
        self.conspiracy.learn(message)
        if isinstance(message, GetTransactions | GetBlock | StatusRequest | GetProposal):
            self._serve(source, message)
        if (
            isinstance(message, Vote | Proposal)
            and message.value != NULL_VALUE
            and (message.era, message.epoch) == self.conspiracy.place
        ):
            self.on_value(message.view, message.value)
        self._lead()

    def on_value(self, view: View, value: Value) -> None:
        """React once to each value that is heard of."""
        key = (self.conspiracy.place, view, value.block_hash)
        if view < self.conspiracy.view - 3 or key in self._answered or self.member is None:
            return
        self._answered.add(key)
        self.world.timeline.after(self.random.randint(0, 60), self._vote_on, key[0], view, value)

    def _vote_on(self, place: Place, view: View, value: Value) -> None:
        if place == self.conspiracy.place:
            self.vote_on(view, value)

    def vote_on(self, view: View, value: Value) -> None:
        """Vote for a value: as an honest validator would."""
        self.send_all(self.vote(VoteKind.NOTARIZE, view, value))

    @property
    def member(self) -> int | None:
        """Own index in the set of the newest epoch; None if not in it."""
        key = self.world.key_of(self.index)
        members = self.world.members(self.conspiracy.place)
        return None if key is None else members.index_of_key(key)

    def vote(self, kind: VoteKind, view: View, value: Value) -> Vote:
        """Sign anything; somebody who is in no set signs as member 0."""
        era, epoch = Era(self.conspiracy.place[0]), Epoch(self.conspiracy.place[1])
        message = vote_signing_bytes(self.world.universe.chain_id, kind, era, epoch, view, value)
        member = self.member
        signed = Vote(kind, era, epoch, view, value, member or 0, self._sign(message))
        if member is not None:
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
        base_hash = conspiracy.base_hash
        parent_hash = base_hash if certificate is None else certificate.value.block_hash
        parent = self.conspiracy.header(parent_hash)
        if parent is None:
            return None
        encoded = b"" if certificate is None else encode_certificate(certificate)
        wires: list[bytes] = []
        if parent.height + 1 - parent.executed_height <= EXECUTION_LAG_MAX:
            pool = list(self.conspiracy.wires.values())[-3 * BLOCK_TRANSACTIONS_MAX :]
            wires = self.random.sample(pool, min(len(pool), self.random.randint(0, 3)))
        hashes = [wire_hash(wire) for wire in wires]
        now_ms = self.world.wall_ms() + self.random.randint(0, 50)
        roots: dict[str, Digest] = {}
        if parent.height == 0:  # its header certifies nothing yet
            outcome = self.world.universe.outcome
            roots = {"state_root": outcome.state_root, "history_root": outcome.history_root}
        header = msgspec.structs.replace(
            parent,
            **roots,
            era=conspiracy.place[0],
            epoch=conspiracy.place[1],
            validator_set_hash=self.world.members(conspiracy.place).hash,
            next_validator_set_hash=ZERO_DIGEST,
            height=parent.height + 1,
            view=view,
            parent_hash=parent_hash,
            proposer=self.member or 0,
            time_ms=max(now_ms, parent.time_ms + 1),
            transactions_root=transactions_root(hashes),
            transaction_count=len(hashes),
            body_bytes=sum(map(len, wires)),
            parent_certificate_hash=certificate_hash(certificate),
            previous_boundary_hash=base_hash,
        )
        skips = self.conspiracy.skips(parent_view, view)
        is_late = parent.next_validator_set_hash != ZERO_DIGEST and certificate is not None
        return Draft(
            Block(header, encoded, wires, ()),
            parent_view,
            certificate,
            skips,
            corruption="V5 child of a boundary" if is_late else None,
        )

    def propose(self, draft: Draft, view: View, targets: tuple[int, ...]) -> None:
        """Sign a draft and send it to some."""
        digest = self.conspiracy.add_block(draft.block)
        knowledge = self.world.checker.knowledge
        if draft.corruption not in OF_PROPOSALS:
            knowledge.add_block(draft.block.header, draft.corruption)
        for wire in draft.block.transactions:
            self.conspiracy.wires.setdefault(wire_hash(wire), wire)
        value = Value(draft.parent_view, draft.named or digest)
        if draft.corruption is not None:
            knowledge.forbidden[value] = draft.corruption
        if draft.named is not None:
            knowledge.headers[draft.named] = draft.block.header
        proposal = Proposal(
            era=Era(self.conspiracy.place[0]),
            epoch=Epoch(self.conspiracy.place[1]),
            view=view,
            value=value,
            header=draft.block.header,
            payload=b"".join(map(wire_hash, draft.block.transactions)),
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
        view, place = self.conspiracy.view, self.conspiracy.place
        if (place, view) not in self._led and self.world.leader(place, view) == self.index:
            self._led.add((place, view))
            self.world.timeline.after(self.random.randint(0, 300), self._lead_in, place, view)

    def _lead_in(self, place: Place, view: View) -> None:
        if place == self.conspiracy.place:
            self.lead(view)

    def _serve(self, source: int, message: Message) -> None:
        if self.random.random() < 0.5:
            return
        if isinstance(message, GetTransactions):
            held = self.conspiracy.blocks.get(Digest(message.block_hash))
            wires = [] if held is None else held.transactions
            found = tuple(wires[i] for i in message.indexes if i < len(wires))
            self.send(source, Transactions(message.request_id, found))
        elif isinstance(message, GetBlock):
            block = self.conspiracy.blocks.get(Digest(message.block_hash))
            data = None if block is None else encode(block)
            self.send(source, BlockAnswer(message.request_id, data))
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
        era, epoch = Era(self.conspiracy.place[0]), Epoch(self.conspiracy.place[1])
        return Status(nonce, era, epoch, view, Height(0), certificate, None, None)


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
        if draft.corruption is not None:
            self.world.count(f"forged block: {draft.corruption}")
        if skipping is not None:
            self.world.count("forged block: A3 skips a view")
        elif draft.corruption is None and self.random.random() < 0.8:
            name = self.random.choice(sorted(FORGERIES))
            forged = FORGERIES[name](draft, Workshop(self.world, self.random))
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
