"""One boot of a simulated node: the production engine and its driver.

Engine, application and fetcher live in volatile memory. Effects are carried out strictly in order,
with ``Persist`` as a barrier in front of every later effect. A process can die between any two
effects. The driver here follows the same rules as the one of production (``node.runtime``); it is
the engine that is on trial.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from consensus import effects as out
from consensus import inputs
from consensus.certificates import verify_certificate
from consensus.config import EngineConfig
from consensus.errors import InvalidCertificate
from consensus.replica import Replica
from consensus.types import Certificate, CertificateMessage, Proposal
from ledger.block import Block, block_hash
from ledger.types import Digest, Epoch, Era, Height
from ledger.votes import VoteKind
from tests.simulation.application import (
    Application,
    is_payload_of,
    split_payload,
    transaction_hash,
)
from tests.simulation.disk import Batch
from tests.simulation.fetch import Fetcher, Ports, parent_certificate
from tests.simulation.messages import APPLICATION_TYPES, Message, TransactionsMessage, encode
from tests.simulation.node import restore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consensus.inputs import Input, PeerId
    from tests.simulation.node import Node
    from tests.simulation.world import World

GOSSIP_MS: Final = 1000
"""A node repeats its oldest transactions this often while any wait: gossip may have been lost."""

GOSSIP_TRANSACTIONS_MAX: Final = 20
"""Transactions repeated at a time."""


class Process:
    """One boot of a node."""

    def __init__(self, world: World, node: Node) -> None:
        self.is_alive = True
        self.engine: Replica
        self.application = Application(world.network, node.disk)
        self.crash_after: int | None = None
        """Die after this many more effects; None: not planned."""
        self._world = world
        self._node = node
        self._boot_ms = world.timeline.now_ms
        self._peers = tuple(peer for peer in world.node_indexes if peer != node.index)
        self._inbox: deque[Input] = deque()
        self._effects: deque[out.Effect] = deque()
        self._is_running = False
        self._is_syncing = False
        self._timers: dict[inputs.Timer, int] = {}
        self._timer_sequence = 0
        self._judging: dict[Digest, out.RequestVerification] = {}
        self._notarized: dict[Digest, None] = {}
        self._to_execute: deque[tuple[Digest, Certificate | None]] = deque()
        self._is_executing = False
        self._is_pending = False
        self._finalized: tuple[int, Digest] = (0, world.network.genesis_hash)
        self._fetcher = Fetcher(
            self.application,
            Ports(
                peers=self._peers,
                send=self.send,
                after=self._after,
                accept_block=self._accept_block,
                accept_certificate=self._accept_certificate,
                is_certificate=self._is_certificate,
                finalization=self._finalization,
                finalized=lambda: self._finalized,
            ),
        )
        self._handlers: dict[type, Callable[[Any], None]] = {
            out.Persist: self._on_persist,
            out.Store: self._on_store,
            out.Broadcast: self._on_broadcast,
            out.Send: self._on_send,
            out.SetTimer: self._on_set_timer,
            out.CancelTimer: self._on_cancel_timer,
            out.RequestProposal: self._on_request_proposal,
            out.RequestVerification: self._on_request_verification,
            out.FetchBlock: self._on_fetch_block,
            out.FetchChain: self._on_fetch_chain,
            out.Finalize: self._on_finalize,
            out.ReportEvidence: self._on_evidence,
            out.Penalise: self._on_penalise,
            out.Halt: self._on_halt,
        }

    # --- life -------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Restore the engine from the disk and start it."""
        node, world = self._node, self._world
        restored = restore(world, node.disk)
        self._finalized = (restored.finalized.height, self.application.chain[-1])
        world.checker.on_boot(node, restored)
        config = EngineConfig(
            chain_id=world.chain_id,
            validators=world.validators,
            me=node.member,
            base=world.network.genesis,
            timing=world.timing,
            sign=None if node.member is None else world.signer(node.member),
            verify=world.scheme.verify,
        )
        self.engine = Replica(config, restored)
        self._effects.extend(self.engine.start(self._now_ms()))
        self._run()
        for peer in self._peers:
            if world.is_connected(node.index, peer):
                self.feed(inputs.PeerConnected(world.peer_id(peer)))
        self._after(GOSSIP_MS, self._gossip_again, None)

    def die(self) -> None:
        """Lose everything volatile."""
        self.is_alive = False
        self._inbox.clear()
        self._effects.clear()

    def feed(self, item: Input) -> None:
        """Give the engine one input and carry out what follows."""
        if not self.is_alive:
            return
        self._inbox.append(item)
        self._run()

    def on_packet(self, source: int, packet: object) -> None:
        """Take a message from the network."""
        if not self.is_alive:
            return
        message = self._world.net.unpack(packet)
        if message is None:
            return
        if isinstance(message, TransactionsMessage):
            self.add_transactions(message.wires)
        elif isinstance(message, APPLICATION_TYPES):
            self._fetcher.on_message(source, message)
        elif isinstance(message, Proposal) and not is_payload_of(message.payload, message.header):
            self._world.coverage["forged payload dropped"] += 1  # as inputs.Received demands
        else:
            self.feed(inputs.Received(self._world.peer_id(source), message))

    def add_transactions(self, wires: Sequence[bytes], *, gossip: bool = False) -> None:
        """Take transactions from a client (which are then gossiped) or from a peer."""
        added = self.application.add_transactions(wires)
        if added and gossip:
            self.multicast(TransactionsMessage(tuple(added)))
        if added:
            for digest in [*self._judging]:
                self._judge(digest)
            self._update_pending(again=True)

    # --- sending ----------------------------------------------------------------------------------

    def send(self, target: int, message: Message) -> None:
        """Send one message."""
        self._transmit((target,), message)

    def multicast(self, message: Message) -> None:
        """Send to every other node."""
        self._transmit(self._peers, message)

    def _transmit(self, targets: tuple[int, ...], message: Message) -> None:
        node, world = self._node, self._world
        world.checker.on_sent(node, message)
        if node.filter is None:
            world.net.multicast(node.index, targets, message)
            return
        for target in targets:
            changed = node.filter(target, message)
            if changed is not None:
                world.net.send(node.index, target, changed)

    # --- running the engine -----------------------------------------------------------------------

    def _now_ms(self) -> int:
        """Monotonic clock of this boot: starts anywhere, as after a reboot."""
        return self._world.timeline.now_ms - self._boot_ms

    def _wall_ms(self) -> int:
        return self._world.wall_ms() + self._node.clock_offset_ms

    def _after(self, delay_ms: int, action: Callable[..., None], argument: object) -> None:
        self._world.timeline.after(delay_ms, self._if_alive, action, argument)

    def _if_alive(self, action: Callable[..., None], argument: object) -> None:
        if self.is_alive:
            action(argument)

    def _run(self) -> None:
        if self._is_running:
            return
        self._is_running = True
        while self.is_alive and (self._inbox or (self._effects and not self._is_syncing)):
            if self._effects and not self._is_syncing:
                self._perform(self._effects.popleft())
            else:
                item = self._inbox.popleft()
                self._world.checker.steps += 1
                self._effects.extend(self.engine.step(self._now_ms(), item))
        self._is_running = False

    def _perform(self, effect: out.Effect) -> None:
        self._handlers[type(effect)](effect)
        if self.crash_after is not None:
            self.crash_after -= 1
            if self.crash_after <= 0:
                self._world.crash(self._node, "between effects")

    # --- effects: disk ----------------------------------------------------------------------------

    def _on_persist(self, effect: out.Persist) -> None:
        batch: Batch = {}
        for vote in effect.votes:
            batch["vote", vote.era, vote.epoch, vote.view, int(vote.kind)] = vote
        for digest in effect.blocks:
            batch["block", digest] = self.application.blocks[digest]
        self._note_certificates(effect.certificates, batch)
        if effect.proposal is not None:
            own = effect.proposal
            batch["proposal", own.era, own.epoch, own.view] = own
        if effect.sign_floor is not None:
            batch["sign floor",] = effect.sign_floor
            self._world.coverage["quarantine ended"] += 1
            batch["quarantined",] = False
        self._node.disk.write(batch)
        self._is_syncing = True
        self._node.disk.sync(lambda succeeded: self._on_synced(effect, succeeded))

    def _on_synced(self, effect: out.Persist, succeeded: bool) -> None:
        if not self.is_alive:
            return
        self._is_syncing = False
        if not succeeded:
            self._world.crash(self._node, "sync failed")
            return
        self._world.checker.on_persisted(self._node, effect)
        self._run()

    def _on_store(self, effect: out.Store) -> None:
        batch: Batch = {}
        self._note_certificates(effect.certificates, batch)
        self._node.disk.write(batch)
        for certificate in effect.certificates:
            self._world.checker.on_certificate(self._node, certificate)

    def _note_certificates(self, certificates: Sequence[Certificate], batch: Batch) -> None:
        for item in certificates:
            batch["certificate", item.era, item.epoch, item.view, int(item.kind)] = item
            if item.kind is VoteKind.NOTARIZE:
                self._notarized[item.value.block_hash] = None
                self._update_pending()

    # --- effects: network and time ----------------------------------------------------------------

    def _on_broadcast(self, effect: out.Broadcast) -> None:
        self.multicast(effect.message)

    def _on_send(self, effect: out.Send) -> None:
        target = self._world.index_of_peer(effect.peer)
        if self._world.is_connected(self._node.index, target):
            self.send(target, effect.message)

    def _on_set_timer(self, effect: out.SetTimer) -> None:
        self._timer_sequence += 1
        self._timers[effect.timer] = self._timer_sequence
        self._world.timeline.at(
            effect.at_ms + self._boot_ms, self._fire, effect.timer, self._timer_sequence
        )

    def _on_cancel_timer(self, effect: out.CancelTimer) -> None:
        self._timers.pop(effect.timer, None)

    def _fire(self, timer: inputs.Timer, sequence: int) -> None:
        if self.is_alive and self._timers.get(timer) == sequence:
            del self._timers[timer]
            self._world.checker.on_timer(self._node, timer)
            self.feed(inputs.TimerFired(timer))

    def _on_penalise(self, effect: out.Penalise) -> None:
        self._world.checker.on_penalised(self._node, self._world.index_of_peer(effect.peer), effect)

    def _on_evidence(self, effect: out.ReportEvidence) -> None:
        self._world.checker.on_evidence(self._node, effect)

    def _on_halt(self, effect: out.Halt) -> None:
        self._world.checker.on_halt(self._node, effect)

    # --- effects: blocks --------------------------------------------------------------------------

    def _on_request_proposal(self, effect: out.RequestProposal) -> None:
        self._after(self._work_ms(), self._build, effect)

    def _build(self, effect: out.RequestProposal) -> None:
        certificate = effect.parent_certificate
        encoded = b"" if certificate is None else encode(certificate)
        block = self.application.build(
            effect.parent, encoded, effect.view, effect.proposer, self._wall_ms()
        )
        if block is None or not (block.transactions or effect.empty_allowed):
            self.feed(inputs.Built(effect.view, None, b""))
            return
        digest = self._keep(block)
        self._world.checker.on_block(digest, block.header)
        payload = b"".join(map(transaction_hash, block.transactions))
        self.feed(inputs.Built(effect.view, block.header, payload))

    def _on_request_verification(self, effect: out.RequestVerification) -> None:
        if effect.block_hash not in self._judging:
            self._judging[effect.block_hash] = effect
            self._after(self._work_ms(), self._judge, effect.block_hash)

    def _judge(self, digest: Digest) -> None:
        """Judge a block if all of it is here, otherwise fetch the rest."""
        effect = self._judging.get(digest)
        if effect is None:
            return
        block = self.application.blocks.get(digest)
        if block is None and effect.payload is not None:
            if not is_payload_of(effect.payload, effect.header):
                self._answer(digest, inputs.Verdict.NOT_YET)  # a wrong copy: the block may be good
                return
            if self.application.missing(effect.payload):
                self._fetch_transactions(effect)
                return
            wires = [self.application.wires[item] for item in split_payload(effect.payload)]
            certificate = effect.parent_certificate
            block = Block(
                effect.header, b"" if certificate is None else encode(certificate), wires, ()
            )
        if block is None:
            self._answer(digest, inputs.Verdict.NOT_YET)
            return
        verdict = self.application.judge(block, self._wall_ms())
        if verdict is inputs.Verdict.VALID:
            self._keep(block)
        self._world.coverage[f"block judged {verdict.value}"] += 1
        self._answer(digest, verdict)

    def _fetch_transactions(self, effect: out.RequestVerification) -> None:
        self._world.coverage["transactions of a proposal fetched"] += 1
        first = () if effect.source is None else (self._world.index_of_peer(effect.source),)
        self._fetcher.want_transactions(
            effect.block_hash,
            effect.payload or b"",
            first,
            lambda: self._answer(effect.block_hash, inputs.Verdict.NOT_YET),
        )

    def _answer(self, digest: Digest, verdict: inputs.Verdict) -> None:
        if self._judging.pop(digest, None) is not None:
            self.feed(inputs.Verified(digest, verdict))

    def _on_fetch_block(self, effect: out.FetchBlock) -> None:
        held = self.application.blocks.get(effect.block_hash)
        if held is not None:  # consensus has forgotten a block that its driver still has
            self._after(0, self._accept_block, held)
            return
        self._world.coverage["block fetched by hash"] += 1
        self._fetcher.want_block(effect, self._indexes(effect.peers))

    def _on_fetch_chain(self, effect: out.FetchChain) -> None:
        self._world.coverage["chain segment fetched"] += 1
        self._fetcher.want_chain(effect, self._indexes(effect.peers))

    def _accept_block(self, block: Block) -> None:
        self._keep(block)
        self.feed(inputs.BlockReceived(block.header, parent_certificate(block)))
        self._judge(block_hash(self._world.chain_id, block.header))

    def _keep(self, block: Block) -> Digest:
        digest = block_hash(self._world.chain_id, block.header)
        self.application.blocks[digest] = block
        return digest

    # --- effects: finality and execution ----------------------------------------------------------

    def _on_finalize(self, effect: out.Finalize) -> None:
        self._world.checker.on_finalized(self._node, effect)
        if len(effect.blocks) > 1:
            self._world.coverage["several blocks finalised at once"] += 1
        self._finalized = (self._finalized[0] + len(effect.blocks), effect.blocks[-1])
        for digest in effect.blocks:
            is_certified = digest == effect.certificate.value.block_hash
            self._to_execute.append((digest, effect.certificate if is_certified else None))
        self._execute_later()

    def _execute_later(self) -> None:
        if self._to_execute and not self._is_executing:
            self._is_executing = True
            self._after(self._node.execution_ms, self._execute, None)

    def _execute(self, _: None) -> None:
        digest, certificate = self._to_execute.popleft()
        batch = self.application.execute_next(digest, certificate)
        self._notarized.pop(digest, None)
        height = self.application.head
        self._node.disk.write(batch)
        self._node.disk.sync(lambda succeeded: self._on_executed(height, succeeded))

    def _on_executed(self, height: int, succeeded: bool) -> None:
        if not self.is_alive:
            return
        if not succeeded:
            self._world.crash(self._node, "sync failed")
            return
        self._is_executing = False
        self._world.checker.on_executed(self._node, self.application, height)
        self._update_pending()
        self.feed(inputs.Executed(Height(height)))
        self._execute_later()

    # --- small parts ------------------------------------------------------------------------------

    def _work_ms(self) -> int:
        limit = self._node.verification_ms
        return self._world.random.randint(0, limit) if limit else 0

    def _indexes(self, peers: Sequence[PeerId]) -> tuple[int, ...]:
        return tuple(self._world.index_of_peer(peer) for peer in peers)

    def _is_certificate(self, certificate: Certificate) -> bool:
        world = self._world
        try:
            verify_certificate(
                certificate, world.chain_id, world.validators, Era(0), Epoch(0), world.scheme.verify
            )
        except InvalidCertificate:
            return False
        return True

    def _accept_certificate(self, source: int, certificate: Certificate) -> None:
        message = CertificateMessage((certificate,))
        self.feed(inputs.Received(self._world.peer_id(source), message))

    def _finalization(self, height: int) -> Certificate | None:
        stored = self._node.disk.live.get(("final", height))
        return stored if isinstance(stored, Certificate) else None

    def _update_pending(self, *, again: bool = False) -> None:
        covered = () if self._world.options.pending_counts_in_flight else self._notarized
        is_pending = self.application.waiting(covered)
        if is_pending != self._is_pending or (is_pending and again):
            self._is_pending = is_pending
            self.feed(inputs.WorkChanged(is_pending))

    def _gossip_again(self, _: None) -> None:
        wires = list(self.application.mempool.values())[:GOSSIP_TRANSACTIONS_MAX]
        if wires:
            self.multicast(TransactionsMessage(tuple(wires)))
        self._after(GOSSIP_MS, self._gossip_again, None)
