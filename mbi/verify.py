"""Verifies a chain from its genesis without trusting the node that serves it. Pure; no I/O.

Checked for every block: the header's place and hash, the body's root and sizes, every signature of
every transaction, that none is outside its validity or used twice, and a finalization certificate,
its own or a descendant's. Not checked here: the outcome of execution, which needs the whole state;
``python -m node audit`` replays it. Normative text: ``docs/protocol.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from consensus.certificates import verify_certificate
from consensus.errors import ConsensusError
from consensus.leader import leader_order
from consensus.types import Certificate
from consensus.validity import EpochRules, check_header
from ledger.block import Header, block_hash
from ledger.block_rules import UsedBefore, UsedNonces, check_body
from ledger.crypto import verify, verify_many
from ledger.errors import LedgerError
from ledger.genesis import Genesis, chain_id, genesis_block, genesis_records
from ledger.records import PARAMETERS_KEY, Parameters
from ledger.transaction import decode_transaction
from ledger.types import Digest, Epoch, Era, Height
from ledger.validators import ValidatorSet
from ledger.votes import VoteKind
from mbi.errors import IntegrityViolation

ERA: Final = Era(0)
EPOCH: Final = Epoch(0)


@dataclass(slots=True)
class Progress:
    """What has been verified so far."""

    height: Height
    transactions: int = 0
    signatures: int = 0
    certificates: int = 0


class ChainVerifier:
    """Takes blocks in order, from height 1 on; the first flaw is an `IntegrityViolation`."""

    def __init__(self, genesis: Genesis) -> None:
        self.chain_id = chain_id(genesis)
        self.validators = ValidatorSet(genesis.validators)
        self._parent = genesis_block(genesis)
        self._parent_hash = block_hash(self.chain_id, self._parent)
        order = leader_order(self.chain_id, ERA, EPOCH, self.validators)
        self._rules = EpochRules(ERA, EPOCH, self.validators, order, self._parent_hash)
        parameters = genesis_records(genesis)[PARAMETERS_KEY]
        if not isinstance(parameters, Parameters):
            raise IntegrityViolation("the genesis holds no parameters")
        self._parameters = parameters
        self._used = UsedNonces()
        self._uncovered: dict[Digest, Height] = {}
        self.progress = Progress(Height(0))

    @property
    def head_hash(self) -> Digest:
        """Hash of the last verified block."""
        return self._parent_hash

    @property
    def uncovered(self) -> int:
        """How many of the last blocks no certificate has covered yet."""
        return len(self._uncovered)

    def add(self, header: Header, wires: Sequence[bytes]) -> Digest:
        """Verify the next block and return its hash."""
        try:
            check_header(header, self._parent, self._parent_hash, self._rules)
            decoded = [decode_transaction(self.chain_id, wire) for wire in wires]
            used = UsedBefore(header.time_ms, [self._used])
            check_body(header, decoded, self._parameters, used)
        except (LedgerError, ConsensusError) as error:
            raise IntegrityViolation(f"block {self.progress.height + 1}: {error}") from error
        items = [item for transaction in decoded for item in transaction.signature_items()]
        for valid, item in zip(verify_many(items), items, strict=True):
            if not valid:
                raise IntegrityViolation(
                    f"block {header.height}: a signature of key {item[0].hex()} does not verify"
                )
        self._used.add_block(header.time_ms, decoded)
        self._parent, self._parent_hash = header, block_hash(self.chain_id, header)
        self._uncovered[self._parent_hash] = header.height
        self.progress.height = header.height
        self.progress.transactions += len(decoded)
        self.progress.signatures += len(items)
        return self._parent_hash

    def cover(self, certificate: Certificate) -> None:
        """Verify a finalization of a recent block, which covers its ancestors, too."""
        covered = self._uncovered.get(certificate.value.block_hash)
        if certificate.kind is not VoteKind.FINALIZE or covered is None:
            raise IntegrityViolation(
                f"a certificate is no finalization of a block up to {self.progress.height}"
            )
        try:
            verify_certificate(certificate, self.chain_id, self.validators, ERA, EPOCH, verify)
        except ConsensusError as error:
            raise IntegrityViolation(f"certificate of block {covered}: {error}") from error
        self.progress.certificates += 1
        self._uncovered = {
            digest: height for digest, height in self._uncovered.items() if height > covered
        }
