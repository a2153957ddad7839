"""What a simulated node does with blocks: builds, judges, fetches, finalises and executes them.

The work is the production code's (:mod:`tests.simulation.ledger`); here is only when it happens:
building and judging take a random time, execution takes the node's own, and a verdict that needs
transactions from peers is parked meanwhile.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from consensus import inputs
from consensus.certificates import verify_certificate
from consensus.errors import InvalidCertificate
from consensus.types import Certificate, CertificateMessage
from tests.simulation.fetch import Fetcher, Ports, parent_certificate
from tests.simulation.invariants import Violation

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from consensus import effects as out
    from consensus.inputs import PeerId, Verdict
    from ledger.transaction import DecodedTransaction
    from ledger.transition import BlockOutcome
    from ledger.types import Digest
    from node.block_pool import PoolBlock
    from tests.simulation.ledger import Missing
    from tests.simulation.process import Process

    Judging = Coroutine[Missing, dict[Digest, DecodedTransaction] | None, Verdict]


class Final(NamedTuple):
    """A final block that waits for its execution."""

    block: PoolBlock
    certificate: Certificate | None
    """Finalization of exactly this block."""


class Blocks:
    """The blocks of one process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world
        self._node = process.node
        self._ledger = process.ledger
        head = self._ledger.chain.head()
        self._finalized = (int(head.height), head.block_hash)
        self._judging: set[Digest] = set()
        self._to_execute: deque[Final] = deque()
        self._is_executing = False
        self.fetcher = Fetcher(
            self._ledger,
            Ports(
                peers=process.peers,
                send=process.send,
                after=process.after,
                accept_block=self._accept_block,
                accept_certificate=self._accept_certificate,
                is_certificate=self._is_certificate,
                finalized=lambda: self._finalized,
            ),
        )

    # --- building and judging ---------------------------------------------------------------------

    def on_request_proposal(self, effect: out.RequestProposal) -> None:
        """Build a block soon."""
        self._process.after(self._work_ms(), self._build, effect)

    def _build(self, effect: out.RequestProposal) -> None:
        built = self._ledger.application.build(effect)
        if built.header is not None:
            self._world.checker.on_block(built.header)
        self._process.feed(built)
        if built.header is not None:
            self._process.update_work()

    def on_request_verification(self, effect: out.RequestVerification) -> None:
        """Judge a block soon, unless that is under way."""
        if effect.block_hash in self._judging:
            return
        self._judging.add(effect.block_hash)
        self._process.after(self._work_ms(), self._start, effect)

    def _start(self, effect: out.RequestVerification) -> None:
        # The application is written for a loop; what it awaits here is only what it may lack.
        coroutine: Judging = self._ledger.application.judge(effect)
        self._advance(effect.block_hash, coroutine, None)

    def _advance(
        self,
        digest: Digest,
        coroutine: Judging,
        found: dict[Digest, DecodedTransaction] | None,
    ) -> None:
        """Run a verdict up to its end, or to where it lacks transactions."""
        try:
            parked = coroutine.send(found)
        except StopIteration as stop:
            self._judging.discard(digest)
            verdict: Verdict = stop.value
            self._world.coverage[f"block judged {verdict.value}"] += 1
            self._process.feed(inputs.Verified(digest, verdict))
            self._process.update_work()
            return
        self._world.coverage["transactions of a proposal fetched"] += 1
        source = parked.request.source
        first = () if source is None else (self._world.index_of_peer(source),)
        self.fetcher.want_transactions(
            parked, first, lambda found: self._advance(digest, coroutine, found)
        )

    def on_transactions(self) -> None:
        """Look again at proposals that wait for transactions."""
        self.fetcher.poke_transactions()

    # --- fetching ---------------------------------------------------------------------------------

    def on_fetch_block(self, effect: out.FetchBlock) -> None:
        """Fetch one block, from the own pool if consensus has forgotten it."""
        held = self._ledger.pool.get(effect.block_hash)
        if held is not None:
            self._process.after(0, self._accept_held, held)
            return
        self._world.coverage["block fetched by hash"] += 1
        self.fetcher.want_block(effect, self._indexes(effect.peers))

    def on_fetch_chain(self, effect: out.FetchChain) -> None:
        """Fetch the next segment of the chain."""
        self._world.coverage["chain segment fetched"] += 1
        self.fetcher.want_chain(effect, self._indexes(effect.peers))

    def _accept_held(self, block: PoolBlock) -> None:
        self._accept_block(block, parent_certificate(block))

    def _accept_block(self, block: PoolBlock, certificate: Certificate | None) -> None:
        self._process.feed(inputs.BlockReceived(block.header, certificate))

    def _accept_certificate(self, source: int, certificate: Certificate) -> None:
        message = CertificateMessage((certificate,))
        self._process.feed(inputs.Received(self._world.peer_id(source), message))

    def _is_certificate(self, certificate: Certificate) -> bool:
        """Believe a finalization of the present epoch only: no other set is known for sure."""
        epoch = self._ledger.epochs.present
        try:
            verify_certificate(
                certificate,
                self._world.universe.chain_id,
                epoch.validators,
                epoch.era,
                epoch.number,
                self._world.scheme.verify,
            )
        except InvalidCertificate:
            return False
        return True

    # --- finality and execution -------------------------------------------------------------------

    def on_finalize(self, effect: out.Finalize) -> None:
        """Queue final blocks for execution."""
        self._world.checker.on_finalized(self._node, effect)
        if len(effect.blocks) > 1:
            self._world.coverage["several blocks finalised at once"] += 1
        self._finalized = (self._finalized[0] + len(effect.blocks), effect.blocks[-1])
        certified = effect.certificate.value.block_hash
        for digest in effect.blocks:
            block = self._ledger.pool.require(digest)
            certificate = effect.certificate if digest == certified else None
            self._to_execute.append(Final(block, certificate))
        self._execute_later()

    def _execute_later(self) -> None:
        if self._to_execute and not self._is_executing:
            self._is_executing = True
            self._process.after(self._node.execution_ms, self._execute, None)

    def _execute(self, _: None) -> None:
        final = self._to_execute.popleft()
        block, certificate = final
        if block.next_validators and certificate is None:
            raise Violation("I1", f"node {self._node.index} has no closing certificate")
        outcome, batch = self._ledger.execute(block, certificate)
        self._world.checker.on_executed(self._node, block, outcome)
        disk = self._node.disk
        disk.write(batch)
        guarded = self._process.guarded
        disk.sync(lambda succeeded: guarded(self._on_executed, final, outcome, succeeded))

    def _on_executed(self, final: Final, outcome: BlockOutcome, succeeded: bool) -> None:
        block, certificate = final
        if not succeeded:
            self._world.crash(self._node, "sync failed")
            return
        self._is_executing = False
        self._ledger.executed(block, outcome)
        self._world.checker.on_durable(self._node, block)
        self._process.feed(inputs.Executed(block.header.height))
        if block.next_validators and certificate is not None:
            self._process.open_epoch(certificate)
        self._process.update_work()
        self._execute_later()

    # --- small parts ------------------------------------------------------------------------------

    def _work_ms(self) -> int:
        limit = self._node.verification_ms
        return self._world.random.randint(0, limit) if limit else 0

    def _indexes(self, peers: Sequence[PeerId]) -> tuple[int, ...]:
        return tuple(self._world.index_of_peer(peer) for peer in peers)
