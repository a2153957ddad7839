"""Makes proof files from the chain on disk (``consensus.light.proofs`` says what they contain).

Everything in a file is final, so what was once read stays true: the changes of the validator set
are kept in their encoded form, and each is read from disk once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from consensus.light import SetChange
from consensus.light.proofs import make_proof
from consensus.recovery import RecoveryPlan
from consensus.types import Certificate
from ledger.block import Block, Header
from ledger.encoding import encode
from ledger.errors import InvariantViolation
from ledger.proof import Claim, StateClaim, make_transaction_claim
from ledger.state import State
from ledger.state_proof import StateProof
from ledger.types import ZERO_DIGEST, Digest, Height
from node.state_before import prove_before
from storage.chain_store import ChainStore, ExecutedBlock

CERTIFIED_HEADERS_MAX: Final = 256
"""Certified headers looked at; the first or second one nearly always covers the block."""

_decode_change = msgspec.msgpack.Decoder(SetChange).decode


class KeyProof(NamedTuple):
    """What the state holds under a key now; provable once a header covers the height."""

    key: bytes
    height: Height
    state_root: Digest
    proof: StateProof


class Opening(NamedTuple):
    """The block that opened an epoch: what a verifier trusts as a checkpoint."""

    epoch: int
    height: Height
    block_hash: Digest


class Prover:
    """Answers with proof files; None where no certified header covers the block yet."""

    def __init__(
        self, chain: ChainStore, chain_id: Digest, plans: Iterable[RecoveryPlan] = ()
    ) -> None:
        """``plans`` are those that opened the eras of this chain, in their order."""
        self._chain = chain
        self._chain_id = chain_id
        self._plans = tuple(plans)
        self._changes: list[bytes] = []
        """Encoded set changes by epoch; all of them together fit into one file's limit."""
        self._openings = [Opening(0, Height(0), Digest(chain.require_executed(0).block_hash))]

    def transaction(
        self, state: State, transaction_id: Digest, *, newest: bool = False
    ) -> bytes | None:
        """Return the proof of a final transaction and its outcome.

        The first certified header that covers its block makes the smallest file; ``newest`` takes
        the last one, so that the file passes through all checkpoints up to now.
        """
        location = self._chain.transaction(transaction_id)
        if location is None:
            return None
        covering = self._covering(location.height, newest=newest)
        block = self._chain.block(location.height)
        if covering is None or block is None:
            return None
        executed = self._chain.require_executed(location.height)
        claim = make_transaction_claim(
            block.transactions,
            self._chain.receipts(location.height),
            location.index,
            Digest(executed.state_root),
        )
        return self._file(state, executed, covering, claim)

    def key(self, state: State, key: bytes) -> KeyProof:
        """Return what the state holds under a key now, for ``key_file``.

        If the last block only noted who was present, the state below it serves as well, and the
        block itself has certified that one.
        """
        found = KeyProof(key, state.height, state.root, state.prove(key))
        if self.key_file(state, found) is not None:
            return found
        before = prove_before(self._chain, state, key)
        if before is None:
            return found
        height = Height(state.height - 1)
        root = Digest(self._chain.require_executed(height).state_root)
        sealed = KeyProof(key, height, root, before)
        return found if self._covering(height, newest=True) is None else sealed

    def key_file(self, state: State, found: KeyProof) -> bytes | None:
        """Return the proof file of what the state held under a key."""
        executed = self._chain.executed(found.height)
        covering = self._covering(found.height, newest=True)
        if executed is None or covering is None:
            return None
        claim = StateClaim(found.key, found.proof, found.state_root, Digest(executed.receipts_root))
        return self._file(state, executed, covering, claim)

    def openings(self) -> list[Opening]:
        """Return the block that opened each epoch up to now, genesis first."""
        self._read_changes()
        return list(self._openings)

    def change(self, epoch: int) -> bytes | None:
        """Return the encoded ``SetChange`` that closed an epoch; None if none has."""
        self._read_changes()
        return self._changes[epoch] if 0 <= epoch < len(self._changes) else None

    def changes(self) -> tuple[SetChange, ...]:
        """Return every hand-over from genesis to the present epoch."""
        self._read_changes()
        return tuple(_decode_change(change) for change in self._changes)

    def _file(
        self,
        state: State,
        executed: ExecutedBlock,
        covering: tuple[Header, Certificate],
        claim: Claim,
    ) -> bytes:
        certified, _ = covering
        self._read_changes()
        path = state.history_path(certified.executed_height + 1, executed.height)
        changes = self._changes[: certified.epoch]
        return make_proof(self._chain_id, changes, covering, path, executed.header, claim)

    def _covering(self, height: Height, *, newest: bool) -> tuple[Header, Certificate] | None:
        """Return a certified header whose ``history_root`` covers a height."""
        if newest:
            return self._last_covering(height)
        after = Height(height + 1)
        for _ in range(CERTIFIED_HEADERS_MAX):
            found = self._chain.first_certified_at_or_after(after)
            if found is None:
                return None
            certified, certificate = found
            header = self._chain.require_executed(certified).header
            if header.executed_height >= height:
                return header, certificate
            after = Height(certified + 1)
        return None

    def _last_covering(self, height: Height) -> tuple[Header, Certificate] | None:
        head = self._chain.head().height
        for at in range(head, max(height, head - CERTIFIED_HEADERS_MAX), -1):
            header = self._chain.require_executed(at).header
            if header.executed_height < height:
                return None
            certificate = self._chain.certificate(at)
            if certificate is not None:
                return header, certificate
        return None

    def _read_changes(self) -> None:
        """Take in the set changes since the last call, from the newest back to a known one."""
        head = self._chain.head()
        bases = {plan.base_hash for plan in self._plans}
        is_last = head.header.next_validator_set_hash != ZERO_DIGEST or head.block_hash in bases
        digest = Digest(head.block_hash if is_last else head.header.previous_boundary_hash)
        known = self._openings[-1].block_hash
        found: list[tuple[Digest, Block]] = []
        while head.height > 0 and digest != known:
            block = self._chain.block(digest)
            if block is None:
                raise InvariantViolation("closing_certificates", f"block {digest.hex()} is gone")
            found.append((digest, block))
            digest = Digest(block.header.previous_boundary_hash)
        for digest, block in reversed(found):
            header = block.header
            for number, change in enumerate(self._hand_overs(digest, block), 1):
                self._changes.append(encode(change))
                self._openings.append(Opening(header.epoch + number, header.height, digest))

    def _hand_overs(self, digest: Digest, block: Block) -> list[SetChange]:
        """Return how the last block of an epoch closed it, and what plans did on top of it."""
        header = block.header
        plans = [plan for plan in self._plans if plan.base_hash == digest]
        changes = [SetChange(header, plan, plan.members) for plan in plans]
        if header.next_validator_set_hash == ZERO_DIGEST:
            return changes
        # A boundary block without a finalization of its own was made final by a plan.
        closing: Certificate | RecoveryPlan | None = self._chain.certificate(header.height)
        if closing is None and plans:
            closing = plans[0]
        if closing is None:
            raise InvariantViolation(
                "closing_certificates", f"no finalization of boundary block {digest.hex()}"
            )
        return [SetChange(header, closing, block.next_validators), *changes]
