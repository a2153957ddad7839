"""Brings blocks from unknown to judged.

A block is judged after its parent; what is missing for that is asked for. The chain rules
are applied here; what passes them goes to the application, whose verdict comes back as an input of
the engine.
"""

from __future__ import annotations

from typing import Final

from consensus.blocks import BlockTree, Gap, KnownBlock
from consensus.catchup import CatchUp
from consensus.certificates import CertificateStore, verify_certificate
from consensus.config import EngineConfig
from consensus.effects import RequestVerification
from consensus.errors import InvalidCertificate, InvalidHeader
from consensus.inputs import PeerId, Verdict
from consensus.outbox import Outbox
from consensus.tally import Tally
from consensus.types import Certificate
from consensus.validity import (
    EpochRules,
    check_header,
    check_parent_certificate,
    is_statement_about,
)
from ledger.types import Digest, Signature, View
from ledger.votes import Value


class Judge:
    """Judges the blocks of a tree."""

    __slots__ = ("_catchup", "_certificates", "_config", "_outbox", "_rules", "_tally", "_tree")

    def __init__(
        self,
        config: EngineConfig,
        rules: EpochRules,
        tree: BlockTree,
        certificates: CertificateStore,
        tally: Tally,
        catchup: CatchUp,
        outbox: Outbox,
    ) -> None:
        self._config: Final = config
        self._rules: Final = rules
        self._tree: Final = tree
        self._certificates: Final = certificates
        self._tally: Final = tally
        self._catchup: Final = catchup
        self._outbox: Final = outbox

    def verify(self, certificate: Certificate) -> None:
        """Check a certificate wholly, skipping signatures that were verified as votes.

        Raises:
            InvalidCertificate: it proves nothing.
        """
        if self._certificates.get(certificate.view, certificate.kind) == certificate:
            return

        def is_known(voter: int, signature: Signature) -> bool:
            return self._tally.has_verified(certificate, voter, signature)

        c = self._config
        verify_certificate(
            certificate, c.chain_id, c.validators, c.era, c.epoch, c.verify, is_known
        )

    def pursue(
        self,
        block_hash: Digest,
        certificate: Certificate | None = None,
        source: PeerId | None = None,
    ) -> Verdict:
        """Bring a block nearer to a verdict and return what is known: NOT_YET if that takes time.

        ``certificate`` is of the block, ``source`` has offered it. INVALID also means that its path
        does not lead to the finalised block.
        """
        if self._tree.is_sound(block_hash):
            return Verdict.VALID
        lowest = self._tree.lowest_unsound(block_hash)
        if lowest is None:
            return Verdict.INVALID
        if isinstance(lowest, Gap):
            self._catchup.fetch(lowest, certificate, source)
            return Verdict.NOT_YET
        lowest_hash, block = lowest
        is_partial = block.payload is not None
        if block.verdict is Verdict.INVALID and certificate is not None and is_partial:
            # Payloads are opaque here, so this one may be another block's: a certified block is
            # INVALID only as a whole.
            gap = Gap(lowest_hash, block.header.height)
            self._catchup.fetch(gap, certificate, source)
            return Verdict.NOT_YET
        if block.verdict is None and not block.is_asked:
            self._judge(lowest_hash, block)
        return Verdict.INVALID if block.verdict is Verdict.INVALID else Verdict.NOT_YET

    def fetch_whole(self, certificate: Certificate) -> None:
        """Fetch what keeps a certified block from being judged, if that is a proposal's payload."""
        lowest = self._tree.lowest_unsound(certificate.value.block_hash)
        if isinstance(lowest, tuple) and not isinstance(lowest, Gap):
            block_hash, block = lowest
            if block.payload is not None and (block.is_asked or block.verdict is not None):
                self._catchup.fetch(Gap(block_hash, block.header.height), certificate, None)

    def matches(self, block: KnownBlock, view: View, value: Value) -> bool:
        """Tell whether a statement of this view about this value describes the block truly."""
        return is_statement_about(block.header, block.parent_view, view, value)

    def _judge(self, block_hash: Digest, block: KnownBlock) -> None:
        """Apply the chain rules to a block whose parent is sound, then ask the application."""
        parent_hash = block.header.parent_hash
        parent = self._tree.header(parent_hash)
        assert parent is not None  # a sound block is known
        try:
            check_header(block.header, parent, parent_hash, self._rules)
            if not block.is_linked:
                block.parent_view = check_parent_certificate(
                    block.header, block.parent_certificate, self._rules
                )
                if block.parent_certificate is not None:
                    self.verify(block.parent_certificate)
                block.is_linked = True
        except (InvalidHeader, InvalidCertificate):
            block.verdict = Verdict.INVALID
            return
        block.is_asked = True
        self._outbox.emit(
            RequestVerification(
                block_hash,
                block.header,
                block.payload,
                block.source,
                None if block.payload is None else block.parent_certificate,
            )
        )
