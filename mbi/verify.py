"""Verifies a served chain from its genesis without trusting the node that serves it. Pure; no I/O.

Checked for every block: the header's place and hash by the rules of its epoch, the body's root and
sizes, every signature of every transaction, that none is outside its validity or used twice, and a
finalization certificate, its own or a descendant's; at the end of an epoch the whole hand-over to
the next set. The results that the node shows (state and receipts roots) must be those that later
headers certify. Not checked here: that execution gives these results, which needs the whole state;
``python -m node audit`` replays it. Normative text: ``docs/proofs.md`` section 6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from consensus.certificates import verify_certificate
from consensus.errors import ConsensusError
from consensus.light import LightClient, SetChange
from consensus.types import Certificate
from consensus.validity import check_header, is_boundary
from ledger.block import BLOCK_BYTES_MAX, BLOCK_TRANSACTIONS_MAX, Header, block_hash
from ledger.block_rules import UsedBefore, UsedNonces, check_body
from ledger.crypto import verify, verify_many
from ledger.errors import LedgerError
from ledger.genesis import Genesis, genesis_block, genesis_records
from ledger.history import History, history_leaf
from ledger.merkle import dense_root
from ledger.records import (
    PARAMETERS_KEY,
    TRANSACTION_BYTES_MAX,
    VALIDITY_WINDOW_MS_MAX,
    Parameters,
)
from ledger.transaction import DecodedTransaction, decode_transaction
from ledger.types import Digest, Epoch, Era, Height
from ledger.validators import ValidatorSet
from ledger.votes import VoteKind
from mbi.errors import IntegrityViolation

NO_RECEIPTS_ROOT: Final = dense_root([])
"""Receipts root of genesis."""


class Roots(NamedTuple):
    """What executing a block gave, as a node shows it."""

    state_root: Digest
    receipts_root: Digest


@dataclass(slots=True)
class Progress:
    """What has been verified so far."""

    height: Height
    epoch: int = 0
    """Changes of the validator set."""
    transactions: int = 0
    signatures: int = 0
    certificates: int = 0
    certified_results: int = 0
    """Heights whose results a final header commits to."""


class ChainVerifier:
    """Takes blocks in order, from height 1 on; the first flaw is an `IntegrityViolation`."""

    def __init__(self, genesis: Genesis, checkpoints: Mapping[Epoch, Digest] | None = None) -> None:
        try:
            self._client = LightClient.from_genesis(genesis, checkpoints=checkpoints)
        except ConsensusError as error:
            raise IntegrityViolation(f"{error.code}: {error}") from error
        self.chain_id = self._client.chain_id
        self._parent = genesis_block(genesis)
        self._parent_hash = self._client.base_hash
        parameters = genesis_records(genesis)[PARAMETERS_KEY]
        if not isinstance(parameters, Parameters):
            raise IntegrityViolation("the genesis holds no parameters")
        self._parameters = parameters
        self._used = UsedNonces()
        self._uncovered: dict[Digest, Header] = {}
        self._history = History()
        self._results: dict[Height, tuple[Digest, Digest]] = {}
        self._take_results(Height(0), Roots(self._parent.state_root, NO_RECEIPTS_ROOT))
        self.progress = Progress(Height(0))

    @property
    def head_hash(self) -> Digest:
        """Hash of the last verified block."""
        return self._parent_hash

    @property
    def validators(self) -> ValidatorSet:
        """The set that votes on the next block, or on this one if the epoch is not handed over."""
        return self._client.validators

    @property
    def epoch(self) -> Epoch:
        """The epoch of the next block, or of this one if the epoch is not handed over."""
        return self._client.epoch

    @property
    def era(self) -> Era:
        """Its era."""
        return self._client.era

    @property
    def uncovered(self) -> int:
        """How many of the last blocks no certificate has covered yet."""
        return len(self._uncovered)

    def add(self, header: Header, wires: Sequence[bytes], results: Roots) -> Digest:
        """Verify the next block and return its hash; ``results`` are what the node says it gave."""
        if header.era != self._client.era or (
            is_boundary(self._parent) and self._parent_hash != self._client.base_hash
        ):
            raise IntegrityViolation(
                f"block {self._parent.height}: the epoch was not handed over to the next set"
            )
        decoded = self._check_block(header, wires)
        items = [item for transaction in decoded for item in transaction.signature_items()]
        for valid, item in zip(verify_many(items), items, strict=True):
            if not valid:
                raise IntegrityViolation(
                    f"block {header.height}: a signature of key {item[0].hex()} does not verify"
                )
        self._used.add_block(header.time_ms, decoded)
        self._parent, self._parent_hash = header, block_hash(self.chain_id, header)
        self._uncovered[self._parent_hash] = header
        self._take_results(header.height, results)
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
        rules = self._client.rules
        try:
            verify_certificate(
                certificate, self.chain_id, rules.validators, rules.era, rules.epoch, verify
            )
        except ConsensusError as error:
            raise IntegrityViolation(f"certificate of block {covered.height}: {error}") from error
        self._covered_up_to(covered)

    def hand_over(self, change: SetChange) -> None:
        """Verify how the last block closed its epoch, finalised or by a plan; open the next one."""
        if block_hash(self.chain_id, change.header) != self._parent_hash:
            raise IntegrityViolation(
                f"block {self._parent.height}: its set change has another header"
            )
        try:
            self._client.apply(change)
        except ConsensusError as error:
            raise IntegrityViolation(f"{error.code}: {error}") from error
        self._parameters = _WIDEST
        self.progress.epoch = self._client.epoch
        self._covered_up_to(self._parent)

    def finish(self) -> None:
        """Check that nothing is open: every block is covered, every checkpoint was passed."""
        if self._uncovered:
            raise IntegrityViolation(f"no finalization covers the last {self.uncovered} blocks")
        try:
            self._client.require_checkpoints()
        except ConsensusError as error:
            raise IntegrityViolation(f"{error.code}: {error}") from error

    def _check_block(self, header: Header, wires: Sequence[bytes]) -> list[DecodedTransaction]:
        try:
            check_header(header, self._parent, self._parent_hash, self._client.rules)
            self._check_results(header)
            decoded = [decode_transaction(self.chain_id, wire) for wire in wires]
            used = UsedBefore(header.time_ms, [self._used])
            check_body(header, decoded, self._parameters, used)
        except (LedgerError, ConsensusError) as error:
            raise IntegrityViolation(f"block {self.progress.height + 1}: {error}") from error
        return decoded

    def _check_results(self, header: Header) -> None:
        """Check that the results shown up to a height are those that its header commits to."""
        shown = self._results[header.executed_height]
        if (header.state_root, header.history_root) != shown:
            raise IntegrityViolation(
                f"block {header.height}: expected the roots of height {header.executed_height} to "
                f"be {shown[0].hex()} and {shown[1].hex()}, as the node shows results; its header "
                f"certifies {header.state_root.hex()} and {header.history_root.hex()}"
            )
        for height in [h for h in self._results if h < header.executed_height]:
            del self._results[height]

    def _take_results(self, height: Height, results: Roots) -> None:
        leaf = history_leaf(self._parent_hash, results.state_root, results.receipts_root)
        self._history, _ = self._history.append(leaf)
        self._results[height] = results.state_root, self._history.root

    def _covered_up_to(self, covered: Header) -> None:
        self.progress.certificates += 1
        self.progress.certified_results = covered.executed_height
        self._uncovered = {
            digest: header
            for digest, header in self._uncovered.items()
            if header.height > covered.height
        }


_WIDEST: Final = Parameters(
    block_transactions_max=BLOCK_TRANSACTIONS_MAX,
    block_bytes_max=BLOCK_BYTES_MAX,
    transaction_bytes_max=TRANSACTION_BYTES_MAX,
    validity_window_ms=VALIDITY_WINDOW_MS_MAX,
    change_notice_ms=0,
    change_lifetime_ms=0,
    readiness_ms=0,
)
"""Limits of any network. Later epochs may have other parameters than genesis, which are part of the
state; who does not execute cannot know them and checks what holds everywhere."""
