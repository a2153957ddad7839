"""The running node: every part wired to the others, under one task group.

Consensus decides, the application fills and judges blocks, the executor makes final blocks
durable, the intake feeds the mempool, peering and the HTTP API are the edges. Each mutable
thing has one owner. An exception in any task ends the group and with it the process: a node
that limps is worse than one that stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

import structlog

from consensus.certificates import verify_certificate
from consensus.config import EngineConfig, Restored
from consensus.effects import (
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
    Store,
)
from consensus.inputs import (
    EpochOpened,
    Executed,
    PeerId,
    Verified,
    WorkChanged,
)
from consensus.recovery import plan_hash
from consensus.replica import Replica
from consensus.timing import Timing
from consensus.types import Certificate, ConsensusMessage
from ledger.crypto import verify
from ledger.records import AGENDA_KEY
from ledger.transition import BlockOutcome
from ledger.types import Digest, Height
from ledger.validators import ValidatorSet
from node.application import Application
from node.block_pool import BLOCKS_MAX, BlockPool, PoolBlock
from node.clock import now_ms
from node.costs import Costs
from node.driver import Driver, Tasks
from node.epochs import Epochs
from node.errors import EraComplete
from node.evidence import EvidenceDesk
from node.executor import Executor
from node.fetch import Fetcher
from node.forensics import write_bundle
from node.home import OpenHome, new_nonce
from node.intake import Intake, Lookup
from node.mempool import Mempool
from node.metrics import Metrics
from node.participation import ParticipationLog
from node.peering import Inbox, Peering
from node.progress import Progress
from node.recovery import tail_of
from node.serving import Server
from node.stages import StageClock
from node.telemetry import Telemetry
from node.verifier import Verifier
from node.writer import Writer
from p2p.messages import EvidenceMessage, Priority
from storage.evidence_store import Evidence

HOUSEKEEPING_S: Final = 1.0
"""Between two looks at what expires, waits too long or has become due."""

log = structlog.get_logger("node")


class Node:
    """One node: validator in the epochs whose set has its keys, observer in the others."""

    def __init__(self, home: OpenHome, metrics: Metrics) -> None:
        """Wire everything; nothing runs before :meth:`run`."""
        genesis, chain_id = home.genesis, home.chain_id
        self.home = home
        self.genesis = genesis
        self.chain_id = chain_id
        self.chain = home.chain
        self.metrics = metrics
        self.epochs = Epochs(home.chain, home.schedules, home.state, home.plans)
        self.halted: str | None = None
        self.costs = Costs()
        self.verifier = Verifier(costs=self.costs)
        observe_write = metrics.node.storage_write_seconds.observe
        self.writer = Writer(home.store, observe_write, costs=self.costs)
        self.mempool = Mempool(self._weights())
        self._agenda = home.state.record(AGENDA_KEY)
        self.pool = BlockPool(lambda digest, height: self.driver.engine.needs(digest, height))
        self.executor = self._make_executor()
        self.used = home.used
        self.progress = Progress(home.chain)
        self.participation = ParticipationLog(chain_id, self.epochs.present)
        self.server = Server(self.pool, self.chain)
        self.peering = self._make_peering()
        self.network = self.peering.network
        self.intake = self._make_intake()
        self.fetcher = Fetcher(
            chain_id,
            self.network,
            self.pool,
            self.intake,
            post=lambda event: self.driver.post(event),
            executed_height=lambda: self.progress.height,
            wait_executed=self.progress.wait_above,
            verify_certificate=self._verify_certificate,
            penalise=self.peering.penalise,
            era=lambda: self.epochs.present.era,
            costs=self.costs,
        )
        self.application = Application(
            chain_id,
            self.epochs,
            home.state,
            mempool=self.mempool,
            pool=self.pool,
            used=self.used,
            roots_at=self.progress.roots_at,
            executed_height=lambda: self.progress.height,
            source=self.fetcher,
            now_ms=now_ms,
            costs=self.costs,
        )
        self.evidence = self._make_evidence_desk()
        self.driver = Driver(self._make_replica(), self, self._watch, costs=self.costs)
        self.telemetry = Telemetry(self, metrics)
        self._stages = StageClock(metrics.consensus)
        self._told_work = False
        self._worked_view = self.driver.engine.view
        self._tasks: Tasks | None = None

    def _make_executor(self) -> Executor:
        home = self.home
        parts = (home.chain, home.votes, home.schedules, home.store, home.state)
        return Executor(*parts, self.writer, home.plans, costs=self.costs)

    def _make_intake(self) -> Intake:
        return Intake(
            self.chain_id,
            self.mempool,
            self.verifier,
            state=lambda: self.executor.state,
            lookup=Lookup(self.used, self._height_of),
            now_ms=now_ms,
            publish=self.peering.publish,
            on_admitted=self._work_changed,
            penalise=self.peering.penalise,
            costs=self.costs,
        )

    def _make_peering(self) -> Peering:
        # Most of those who take what peers send are made after the network.
        inbox = Inbox(
            consensus=lambda event: self.driver.post(event),
            transactions=lambda peer, wires: self.intake.receive(peer, wires),
            evidence=lambda peer, found: self.evidence.receive(peer, found, self._place()),
            answer=self.server.answer,
            unreported=lambda: [EvidenceMessage(*case) for case, _ in self.evidence.unreported()],
            validators=lambda: self.validators,
        )
        return Peering(
            self.home,
            self.epochs,
            self.mempool,
            inbox,
            metrics=self.metrics.consensus,
            costs=self.costs,
        )

    def _make_evidence_desk(self) -> EvidenceDesk:
        home = self.home
        return EvidenceDesk(
            self.chain_id,
            home.evidence,
            self.epochs,
            home.state,
            home.reporter_key,
            keep=self._keep_evidence,
            pass_on=self.peering.publish_evidence,
            submit=lambda wire: self._start(wire, lambda: self._submit(wire)),
            penalise=self.peering.penalise,
        )

    @property
    def fence(self) -> str | None:
        """Why this node never votes in the present era; None unless it has been fenced."""
        era = self.epochs.present.era
        if not self.home.is_fenced(era):
            return None
        plan = self.home.plan_after(era)
        if plan is None:
            return (
                f"this node has promised never to vote in era {era} again and has no recovery plan "
                "for the next: accept one with `mbi recovery accept`"
            )
        return (
            f"era {era} has ended; plan {plan_hash(self.chain_id, plan).hex()} continues from "
            f"height {plan.base_height}, which is still being fetched"
        )

    @property
    def validators(self) -> ValidatorSet:
        """The set whose votes count here; the state is ahead of it while an epoch opens."""
        return self.driver.engine.config.validators

    def _engine_config(self) -> EngineConfig:
        """Return the configuration of an engine for the present epoch."""
        epoch, consensus = self.epochs.present, self.home.config.consensus
        # The guard would refuse every vote anyway; an observer does not even try.
        is_fenced = self.home.is_fenced(epoch.era)
        seat = None if is_fenced else self.home.seat_in(epoch.validators)
        return EngineConfig(
            chain_id=self.chain_id,
            validators=epoch.validators,
            me=None if seat is None else seat.index,
            base=epoch.base,
            timing=Timing(
                min_block_interval_ms=consensus.min_block_interval_ms,
                idle_ms=consensus.idle_beat_ms,
            ),
            sign=None if seat is None else seat.key.sign,
            verify=verify,
            era=epoch.era,
            epoch=epoch.number,
        )

    def _make_replica(self) -> Replica:
        """Go on where this node stopped: a head that is a boundary block opens the next epoch."""
        blocks = self.home.unfinished_blocks(self.epochs.present.number, BLOCKS_MAX)
        for block in blocks:
            self.pool.add(block)
        headers = tuple(block.header for block in blocks)
        restored = replace(self.home.restore(), blocks=headers, closings=self.epochs.closings())
        return Replica(self._engine_config(), restored)

    def _open_epoch(self, closing: Certificate) -> None:
        """Begin the epoch that a durable boundary block has opened."""
        epoch = self.epochs.present
        self.mempool.enforce(self.home.state.parameters, now_ms())
        config = self._engine_config()
        restored = Restored(
            finalized=epoch.base, sign_floor=self.home.votes.sign_floor(), nonce=new_nonce()
        )
        log.info(
            "epoch_opened",
            epoch=epoch.number,
            base_height=epoch.base.height,
            validators=[member.name for member in epoch.validators],
            voting=config.me is not None,
        )
        self.driver.post(EpochOpened(config, restored, closing))

    def _weights(self) -> dict[str, int]:
        """Return the share of throughput of every organisation."""
        found = (self.home.state.organisation(item.id) for item in self.genesis.organisations)
        return {item.id: item.weight for item in found if item is not None}

    # ------------------------------------------------------------------ life

    async def run(self) -> None:
        """Run until cancelled; an exception in any part propagates.

        Raises:
            FatalError: the address for other nodes cannot be used, or the disk refuses a write.
        """
        self.peering.bind()
        async with asyncio.TaskGroup() as group:
            self._tasks = Tasks(group)
            group.create_task(self.executor.run(self._on_executed), name="executor")
            group.create_task(self.intake.run(), name="intake")
            group.create_task(self.driver.run(), name="consensus")
            group.create_task(self.network.run(), name="network")
            group.create_task(self._housekeeping(), name="housekeeping")

    def close(self) -> None:
        """Release threads and files; call after :meth:`run` has ended."""
        self.driver.close()
        self.verifier.close()
        self.writer.close()
        self.home.close()

    async def _housekeeping(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            time_ms = now_ms()
            if self.mempool.expire(time_ms):
                self._work_changed()
            self.peering.remind(time_ms)
            self.evidence.report_due()
            # What waits for a time on the agenda makes no noise when the time has come.
            self._work_changed()

    # ---------------------------------------------------------------- port of the driver (Outside)

    async def persist(self, effects: Sequence[Persist], stores: Sequence[Store]) -> None:
        """Write votes with the blocks they rest on in one synced batch."""
        batch = self.home.store.batch()
        votes = self.home.votes
        with self.costs.measure("write"):
            for effect in effects:
                votes.persist(batch, effect, lambda digest: self.pool.require(digest).to_block())
            for store in stores:
                votes.store(batch, store)
        await self.writer.write(batch, sync=bool(effects))

    def send(self, peer: PeerId, message: ConsensusMessage) -> None:
        """Queue a consensus message for one peer."""
        self.network.send(peer, message, priority=Priority.CONSENSUS)

    def broadcast(self, message: ConsensusMessage) -> None:
        """Queue a consensus message for every connected peer."""
        self.network.broadcast(message, priority=Priority.CONSENSUS)

    def request_proposal(self, request: RequestProposal) -> None:
        """Build at once: it takes about a millisecond for a full block."""
        with self.costs.measure("propose"):
            built = self.application.build(request)
        self.driver.post(built)
        # Nothing was built although work waits: only an execution result can change that.
        if built.header is not None:
            self._work_changed()

    def request_verification(self, request: RequestVerification) -> None:
        """Judge in a task of its own: transactions may have to be fetched."""

        async def judge() -> None:
            verdict = await self.application.judge(request)
            self.driver.post(Verified(request.block_hash, verdict))
            self._work_changed()

        self._start(("judge", request.block_hash), judge)

    def fetch_block(self, request: FetchBlock) -> None:
        """Fetch one block, unless that is under way or what it consists of is being looked for.

        A certified block that is still being judged lacks transactions or their checks, and the
        judge asks for just these: the whole block would be decoded and checked a second time.
        """
        if self._tasks is None or not self._tasks.is_running(("judge", request.block_hash)):
            self._start(("block", request.block_hash), lambda: self.fetcher.block(request))

    def fetch_chain(self, request: FetchChain) -> None:
        """Fetch the missing chain, unless that is under way."""
        self._start("chain", lambda: self.fetcher.chain(request))

    def finalize(self, effect: Finalize) -> None:
        """Hand final blocks to the executor."""
        certified = effect.certificate.value.block_hash
        for digest in effect.blocks:
            block = self.pool.require(digest)
            self.progress.finalized(block.header.height, now_ms())
            self.executor.enqueue(block, effect.certificate if digest == certified else None)

    def report_evidence(self, effect: ReportEvidence) -> None:
        """Tell everyone, and have it reported on chain."""
        self.evidence.found(effect.first, effect.second, self._place())

    def penalise(self, effect: Penalise) -> None:
        """Count a breach against a peer."""
        self.peering.penalise(effect.peer, effect.reason)

    def halt(self, effect: Halt) -> None:
        """Keep the evidence; the engine has stopped voting and the node goes on serving."""
        self.halted = effect.reason
        path = write_bundle(self.home.config.home, effect)
        log.error("halted", reason=effect.reason, evidence=str(path))

    # ------------------------------------------------------------------ steps

    def _on_executed(
        self, block: PoolBlock, outcome: BlockOutcome, certificate: Certificate | None
    ) -> None:
        """Settle a final block that is durable now, and tell consensus and everyone who waits."""
        header = block.header
        time_ms = now_ms()
        self.participation.add(header, certificate)
        opens_epoch = bool(block.next_validators)
        if self.epochs.executed(header, outcome, is_boundary=opens_epoch):
            self.peering.list_members()
        agenda = self.home.state.record(AGENDA_KEY)
        if agenda is not self._agenda:  # what was decided may have changed the weights
            self._agenda = agenda
            self.mempool.set_weights(self._weights())
        with self.costs.measure("checks"):
            self.used.add_block(header.time_ms, block.transactions)
            waits_s = self.mempool.finalized(block.transactions, time_ms)
        self.pool.executed(header.height)
        self.progress.executed(block, outcome, time_ms)
        self.telemetry.block(block, outcome, waits_s)
        self.network.height = header.height
        self.driver.post(Executed(header.height))
        if opens_epoch and certificate is not None:
            self._open_epoch(certificate)
        self._leave_era()
        self._work_changed()

    def _leave_era(self) -> None:
        """End this run if an accepted plan makes final what is left of the era, and all is here."""
        plan = self.home.plan_after(self.epochs.present.era)
        if plan is not None and tail_of(plan, self.chain) is not None:
            raise EraComplete(f"era {plan.era} continues from height {plan.base_height}")

    def _watch(self, effects: list[Effect]) -> None:
        view, present = self.driver.engine.view, self.epochs.present
        if self.driver.engine.epoch == present.number != self.participation.epoch:
            self.participation.enter(present)
        left = self._stages.watch(effects, view)
        if left is not None:
            self.application.pacer.observe(*left)
        if view != self._worked_view:
            # Blocks of the views before may be dead now, and their transactions waiting again.
            self._worked_view = view
            self._work_changed()

    def _work_changed(self) -> None:
        engine = self.driver.engine
        has_work = self.application.has_work(engine.tip, engine.view)
        if has_work or self._told_work:
            self._told_work = has_work
            self.driver.post(WorkChanged(has_work))

    def _height_of(self, transaction_id: Digest) -> Height | None:
        location = self.chain.transaction(transaction_id)
        return None if location is None else location.height

    def _verify_certificate(self, certificate: Certificate) -> None:
        epoch = self.epochs.present
        verify_certificate(
            certificate, self.chain_id, epoch.validators, epoch.era, epoch.number, verify
        )

    def _place(self) -> int:
        """Return this node's place in the present set; observers come last."""
        me = self.driver.engine.config.me
        return self.validators.size if me is None else me

    def _keep_evidence(self, evidence: Evidence) -> None:
        kind = evidence.second.kind.name.lower()
        self.metrics.consensus.evidence.labels(kind=kind).inc()
        batch = self.home.store.batch()
        self.home.evidence.add(batch, evidence)
        self._start(evidence, lambda: self.writer.write(batch, sync=False))

    async def _submit(self, wire: bytes) -> None:
        await self.intake.submit([wire])

    def _start(self, key: object, work: Callable[[], Awaitable[None]]) -> None:
        if self._tasks is not None:
            self._tasks.start(key, work)
