"""I12: a light client accepts the finalised chain from genesis on, and nothing else."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from consensus.light import LightClient, LightError
from ledger.errors import ProofError
from ledger.types import Digest, Height
from tests.simulation.invariants.registry import Violation

if TYPE_CHECKING:
    from collections.abc import Callable

    from consensus.types import Certificate
    from ledger.block import Header
    from ledger.validators import Validator
    from storage.chain_store import ChainStore
    from tests.simulation.invariants.knowledge import Knowledge
    from tests.simulation.process import Process


class I12LightClient:
    """Follows what a node has stored, by signatures alone, and tries forgeries on the way."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge
        self.accepted = 0
        """Finalizations and hand-overs that were accepted."""
        self.refused = 0
        """Forgeries that were refused."""

    def check(self, process: Process) -> None:
        """Follow a node's chain up to its highest finalization, and check its last result."""
        universe = self._knowledge.universe
        chain = process.ledger.chain
        client = LightClient.from_genesis(universe.genesis, universe.scheme.verify)
        head = chain.head().height
        last: tuple[Header, Certificate] | None = None
        for height in range(1, head + 1):
            certificate = chain.certificate(Height(height))
            if certificate is None:
                continue
            header = chain.require_executed(height).header
            self._accept(f"height {height}", partial(client.check_final, header, certificate))
            self._refuse_forgeries(client, header, certificate)
            members = self._members(chain, height)
            if members:
                advance = partial(client.advance, header, certificate, members)
                self._accept(f"hand-over at {height}", advance)
                last = None
            else:
                last = header, certificate
        if last is not None:
            self._check_result(process, client, *last)

    def _members(self, chain: ChainStore, height: int) -> tuple[Validator, ...]:
        block = chain.block(Height(height))
        return () if block is None else block.next_validators

    def _check_result(
        self, process: Process, client: LightClient, header: Header, certificate: Certificate
    ) -> None:
        """Check the result of the height that a header certifies, and refuse another one."""
        executed = header.executed_height
        roots = self._knowledge.roots[executed]
        results = (self._knowledge.chain[executed], roots.state, roots.receipts)
        path = process.ledger.state.history_path(executed + 1, executed)
        self._accept(
            f"result of {executed}",
            lambda: client.check_executed(header, certificate, executed, results, path),
        )
        wrong = (results[0], Digest(bytes(32)), results[2])
        self._refuse(
            "another result",
            lambda: client.check_executed(header, certificate, executed, wrong, path),
        )

    def _refuse_forgeries(
        self, client: LightClient, header: Header, certificate: Certificate
    ) -> None:
        signatures = certificate.signatures
        flipped = bytes([signatures[0] ^ 1]) + signatures[1:]
        forged = msgspec.structs.replace(certificate, signatures=flipped)
        self._refuse("a broken signature", lambda: client.check_final(header, forged))
        other = msgspec.structs.replace(header, time_ms=header.time_ms + 1)
        self._refuse("another header", lambda: client.check_final(other, certificate))
        later = msgspec.structs.replace(header, epoch=header.epoch + 1)
        self._refuse("a later epoch", lambda: client.check_final(later, certificate))

    def _accept(self, what: str, check: Callable[[], object]) -> None:
        try:
            check()
        except (LightError, ProofError) as error:
            raise Violation("I12", f"a light client refuses {what}: {error}") from error
        self.accepted += 1

    def _refuse(self, what: str, check: Callable[[], object]) -> None:
        try:
            check()
        except (LightError, ProofError):
            self.refused += 1
            return
        raise Violation("I12", f"a light client accepts {what}")
