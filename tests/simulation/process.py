"""One boot of a simulated node: the production engine and its driver.

Engine, ledger and fetcher live in volatile memory. Effects are carried out strictly in order, with
``Persist`` as a barrier in front of every later effect. A process can die between any two effects.
The driver here follows the same rules as the one of production (``node.driver``); what it does for
blocks is in :mod:`tests.simulation.blocks`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from consensus import effects as out
from consensus import inputs
from consensus.config import EngineConfig, Restored
from consensus.replica import Replica
from consensus.types import Proposal
from ledger.types import TimeMs
from node.application import carries_its_payload
from p2p.messages import (
    BlockAnswer,
    ChainAnswer,
    GetBlock,
    GetChain,
    GetTransactions,
    Message,
    TransactionBatch,
    Transactions,
)
from storage.errors import StoreCorrupt
from tests.simulation.blocks import Blocks
from tests.simulation.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consensus.inputs import Input
    from consensus.types import Certificate
    from tests.simulation.node import Node
    from tests.simulation.world import World

STORE_DELAY_MS_MAX: Final = 50
"""Certificates that nobody waits for are on disk this much later at most; writers may be slow."""
HOUSEKEEPING_MS: Final = 1000
"""Expired transactions go, and the oldest are repeated: gossip may have been lost."""

GOSSIP_TRANSACTIONS_MAX: Final = 20
"""Transactions repeated at a time."""

NONCE_BYTES: Final = 16

REQUESTS = (GetTransactions, GetBlock, GetChain)
ANSWERS = (Transactions, BlockAnswer, ChainAnswer)
NODE_MESSAGES: Final = frozenset((TransactionBatch, *REQUESTS, *ANSWERS))
"""Messages that are not for the engine."""


class Process:
    """One boot of a node."""

    def __init__(self, world: World, node: Node) -> None:
        self.is_alive = True
        self.is_booted = False
        """Its disk could be read, so there are a ledger and a replica."""
        self.replica: Replica
        self.ledger: Ledger
        self.crash_after: int | None = None
        """Die after this many more effects; None: not planned."""
        self.world = world
        self.node = node
        self.peers = tuple(peer for peer in world.node_indexes if peer != node.index)
        self._boot_ms = world.timeline.now_ms
        self._inbox: deque[Input] = deque()
        self._effects: deque[out.Effect] = deque()
        self._is_running = False
        self._is_syncing = False
        self._unwritten: list[out.Store] = []
        self._timers: dict[inputs.Timer, int] = {}
        self._timer_sequence = 0
        self._told_work = False
        self._worked_view = 0
        self._blocks: Blocks
        self._handlers: dict[type, Callable[[Any], None]] = {}

    # --- life -------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Open the disk, restore the engine and start it."""
        self.guarded(self._boot)

    def _boot(self) -> None:
        node, world = self.node, self.world
        self.ledger = Ledger(
            world.universe,
            node.disk,
            is_needed=lambda digest, height: self.replica.needs(digest, height),
            now_ms=self.wall_ms,
        )
        restored = self.ledger.restore(world.random.randbytes(NONCE_BYTES))
        world.checker.on_boot(node, restored)
        self._blocks = Blocks(self)
        self._handlers = {
            out.Persist: self._on_persist,
            out.Store: self._on_store,
            out.Broadcast: self._on_broadcast,
            out.Send: self._on_send,
            out.SetTimer: self._on_set_timer,
            out.CancelTimer: self._on_cancel_timer,
            out.RequestProposal: self._blocks.on_request_proposal,
            out.RequestVerification: self._blocks.on_request_verification,
            out.FetchBlock: self._blocks.on_fetch_block,
            out.FetchChain: self._blocks.on_fetch_chain,
            out.Finalize: self._blocks.on_finalize,
            out.ReportEvidence: self._on_evidence,
            out.Penalise: self._on_penalise,
            out.Halt: self._on_halt,
        }
        self.replica = Replica(self._config(), restored)
        self.is_booted = True
        self._effects.extend(self.replica.start(self._now_ms()))
        self._run()
        for peer in self.peers:
            if world.is_connected(node.index, peer):
                self.feed(inputs.PeerConnected(world.peer_id(peer)))
        self.after(HOUSEKEEPING_MS, self._keep_house, None)

    def _config(self) -> EngineConfig:
        """Return the configuration of an engine for the epoch of the executed head."""
        world, key = self.world, self.node.key
        epoch = self.ledger.epochs.present
        me = None if key is None else epoch.validators.index_of_key(key.public_key)
        return EngineConfig(
            chain_id=world.universe.chain_id,
            validators=epoch.validators,
            me=me,
            base=epoch.base,
            timing=world.timing,
            sign=None if me is None else world.signer(self.node.index),
            verify=world.scheme.verify,
            era=epoch.era,
            epoch=epoch.number,
        )

    def open_epoch(self, closing: Certificate) -> None:
        """Begin the epoch that a durable boundary block has opened."""
        config = self._config()
        floor = self.ledger.votes.sign_floor()
        nonce = self.world.random.randbytes(NONCE_BYTES)
        restored = Restored(finalized=config.base, sign_floor=floor, nonce=nonce)
        self.world.on_epoch(config, closing)
        self.feed(inputs.EpochOpened(config, restored, closing))

    def die(self) -> None:
        """Lose everything volatile."""
        self.is_alive = False
        self._inbox.clear()
        self._effects.clear()
        self._unwritten.clear()

    def guarded(self, action: Callable[..., None], *arguments: object) -> None:
        """Do something while alive; a damaged record ends the process, as in production."""
        if not self.is_alive:
            return
        try:
            action(*arguments)
        except StoreCorrupt:
            self.world.crash(self.node, "damaged record found")

    def feed(self, item: Input) -> None:
        """Give the engine one input and carry out what follows."""
        if self.is_alive:
            self._inbox.append(item)
            if not self._is_running:
                self.guarded(self._run)

    def on_packet(self, source: int, packet: bytes) -> None:
        """Take bytes from the network."""
        if not self.is_alive:
            return
        message = self.world.net.unpack(packet)
        if message is None:
            return
        kind = type(message)
        if kind in NODE_MESSAGES:
            self.guarded(self._on_message, source, message)
        elif kind is Proposal and not carries_its_payload(message):  # type: ignore[arg-type]
            self.world.coverage["forged payload dropped"] += 1  # as inputs.Received demands
        else:
            self.feed(inputs.Received(self.world.peer_id(source), message))  # type: ignore[arg-type]

    def _on_message(self, source: int, message: Message) -> None:
        if isinstance(message, TransactionBatch):
            self.add_transactions(message.wires)
        elif isinstance(message, REQUESTS):
            self.send(source, self.ledger.server.answer(message))
        elif isinstance(message, ANSWERS):
            self._blocks.fetcher.on_answer(source, message)

    def submit(self, wires: Sequence[bytes]) -> None:
        """Take transactions from a client."""
        self.guarded(lambda: self.add_transactions(wires, gossip=True))

    def add_transactions(self, wires: Sequence[bytes], *, gossip: bool = False) -> None:
        """Take transactions from a client (which are then gossiped) or from a peer."""
        added = self.ledger.admit(wires)
        if added and gossip:
            self.multicast(TransactionBatch(tuple(added)))
        if added:
            self._blocks.on_transactions()
            self.update_work()

    # --- sending ----------------------------------------------------------------------------------

    def send(self, target: int, message: Message) -> None:
        """Send one message."""
        self._transmit((target,), message)

    def multicast(self, message: Message) -> None:
        """Send to every other node."""
        self._transmit(self.peers, message)

    def _transmit(self, targets: tuple[int, ...], message: Message) -> None:
        node, world = self.node, self.world
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
        return self.world.timeline.now_ms - self._boot_ms

    def wall_ms(self) -> TimeMs:
        """Wall clock with this node's error."""
        return TimeMs(self.world.wall_ms() + self.node.clock_offset_ms)

    def after(self, delay_ms: int, action: Callable[..., None], argument: object) -> None:
        """Do something later, if the process still lives then."""
        self.world.timeline.after(delay_ms, self.guarded, action, argument)

    def _run(self) -> None:
        if self._is_running:
            return
        self._is_running = True
        replica, effects, inbox, handlers = self.replica, self._effects, self._inbox, self._handlers
        try:
            while self.is_alive:
                if effects and not self._is_syncing:
                    effect = effects.popleft()
                    handlers[type(effect)](effect)
                    if self.crash_after is not None:
                        self._come_nearer_to_death()
                elif inbox:
                    self.world.checker.steps += 1
                    effects.extend(replica.step(self._now_ms(), inbox.popleft()))
                    if replica.view != self._worked_view:
                        # Blocks of the views before may be dead now.
                        self._worked_view = replica.view
                        self.update_work()
                else:
                    return
        finally:
            self._is_running = False

    def _come_nearer_to_death(self) -> None:
        assert self.crash_after is not None
        self.crash_after -= 1
        if self.crash_after <= 0:
            self.world.crash(self.node, "between effects")

    def update_work(self) -> None:
        """Tell the engine whether transactions wait."""
        replica = self.replica
        has_work = self.ledger.application.has_work(replica.tip, replica.view)
        if has_work or self._told_work:
            self._told_work = has_work
            self.feed(inputs.WorkChanged(has_work))

    def _keep_house(self, _: None) -> None:
        mempool = self.ledger.mempool
        if len(mempool):
            mempool.expire(self.wall_ms())
            since = self.wall_ms() - HOUSEKEEPING_MS
            oldest = mempool.oldest(GOSSIP_TRANSACTIONS_MAX)
            wires = tuple(e.transaction.wire for e in oldest if e.received_ms <= since)
            if wires:
                self.multicast(TransactionBatch(wires))
        # What waits for a time on the agenda makes no noise when the time has come.
        self.update_work()
        self.after(HOUSEKEEPING_MS, self._keep_house, None)

    # --- effects: disk ----------------------------------------------------------------------------

    def _on_persist(self, effect: out.Persist) -> None:
        disk = self.node.disk
        batch = disk.batch()
        pool = self.ledger.pool
        self.ledger.votes.persist(batch, effect, lambda digest: pool.require(digest).to_block())
        for store in self._unwritten:
            self.ledger.votes.store(batch, store)
        self._unwritten.clear()
        disk.write(batch)
        self._is_syncing = True
        disk.sync(lambda succeeded: self.guarded(self._on_synced, effect, succeeded))

    def _on_synced(self, effect: out.Persist, succeeded: bool) -> None:
        self._is_syncing = False
        if not succeeded:
            self.world.crash(self.node, "sync failed")
            return
        if effect.sign_floor is not None:
            self.world.coverage["quarantine ended"] += 1
        self.world.checker.on_persisted(self.node, effect)
        self._run()

    def _on_store(self, effect: out.Store) -> None:
        """Keep it until a vote is written, or for a while: nobody waits for it."""
        if not self._unwritten:
            self.after(self.world.random.randint(0, STORE_DELAY_MS_MAX), self._write_stores, None)
        self._unwritten.append(effect)
        for certificate in effect.certificates:
            self.world.checker.on_certificate(self.node, certificate)

    def _write_stores(self, _: None) -> None:
        batch = self.node.disk.batch()
        for effect in self._unwritten:
            self.ledger.votes.store(batch, effect)
        self._unwritten.clear()
        self.node.disk.write(batch)

    # --- effects: network and time ----------------------------------------------------------------

    def _on_broadcast(self, effect: out.Broadcast) -> None:
        self.multicast(effect.message)

    def _on_send(self, effect: out.Send) -> None:
        target = self.world.index_of_peer(effect.peer)
        if self.world.is_connected(self.node.index, target):
            self.send(target, effect.message)

    def _on_set_timer(self, effect: out.SetTimer) -> None:
        self._timer_sequence += 1
        self._timers[effect.timer] = self._timer_sequence
        self.world.timeline.at(
            effect.at_ms + self._boot_ms, self._fire, effect.timer, self._timer_sequence
        )

    def _on_cancel_timer(self, effect: out.CancelTimer) -> None:
        self._timers.pop(effect.timer, None)

    def _fire(self, timer: inputs.Timer, sequence: int) -> None:
        if self.is_alive and self._timers.get(timer) == sequence:
            del self._timers[timer]
            self.world.checker.on_timer(self.node, timer)
            self.feed(inputs.TimerFired(timer))

    def _on_penalise(self, effect: out.Penalise) -> None:
        target = self.world.key_of(self.world.index_of_peer(effect.peer))
        self.world.checker.on_penalised(self.node, target, effect)

    def _on_evidence(self, effect: out.ReportEvidence) -> None:
        world = self.world
        world.checker.on_evidence(self.node, effect)
        if world.governance is not None and self.node.index in world.nodes:
            world.governance.on_evidence(effect)

    def _on_halt(self, effect: out.Halt) -> None:
        self.world.checker.on_halt(self.node, effect)
