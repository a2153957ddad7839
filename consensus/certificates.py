"""Certificates: proof, in one value, that a quorum signed the same statement about a view.

A certificate is checked as a whole: its shape in constant time first, then **every** signature; one
bad signature makes it invalid. :class:`CertificateStore` keeps those that were checked. Normative
text: ``docs/protocol-consensus.md``, Certificates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Final

import msgspec

from consensus.errors import InvalidCertificate
from consensus.types import Certificate
from ledger.types import (
    SIGNATURE_BYTES,
    UINT64_MAX,
    ZERO_DIGEST,
    Digest,
    Epoch,
    Era,
    Signature,
    View,
)
from ledger.validators import ValidatorSet, mask_of, members_of
from ledger.votes import Verify, Vote, VoteKind, is_value_of, vote_signing_bytes

CERTIFICATE_VIEWS_KEPT: Final = 1024
"""Certificates are kept this far below the highest finalization, for peers that are behind."""

encode_certificate: Final = msgspec.msgpack.Encoder().encode
"""Canonical bytes of a certificate, as a block stores them."""

_decode_certificate: Final = msgspec.msgpack.Decoder(Certificate).decode


def certificate_hash(certificate: Certificate | None) -> Digest:
    """Return SHA-256 of the encoded certificate; zeros for None, on the child of genesis."""
    if certificate is None:
        return ZERO_DIGEST
    return Digest(sha256(encode_certificate(certificate)).digest())


def signers(certificate: Certificate) -> int:
    """Return the indices of the signers as a bit mask."""
    return int.from_bytes(certificate.bitmap, "little")


def encoded_signers(encoded: bytes) -> int:
    """Return the signers of a certificate that was checked before, as a block stores it.

    A mask; 0 for the empty bytes that the child of genesis has instead.
    """
    return signers(_decode_certificate(encoded)) if encoded else 0


def vote_in(certificate: Certificate, voter: int) -> Vote | None:
    """Return the vote of one signer as it is in a certificate; None if it has not signed."""
    c, mask = certificate, signers(certificate)
    if not mask >> voter & 1:
        return None
    start = SIGNATURE_BYTES * (mask & ((1 << voter) - 1)).bit_count()
    signature = Signature(c.signatures[start : start + SIGNATURE_BYTES])
    return Vote(c.kind, c.era, c.epoch, c.view, c.value, voter, signature)


def make_certificate(validators: ValidatorSet, votes: Iterable[Vote]) -> Certificate:
    """Join matching votes of different voters; that they are a quorum is the caller's business."""
    ordered = sorted(votes, key=lambda vote: vote.voter)
    first = ordered[0]
    bitmap = mask_of(vote.voter for vote in ordered).to_bytes(validators.bitmap_bytes, "little")
    signatures = b"".join(vote.signature for vote in ordered)
    return Certificate(
        first.kind, first.era, first.epoch, first.view, first.value, bitmap, signatures
    )


def check_shape(certificate: Certificate, validators: ValidatorSet, era: Era, epoch: Epoch) -> None:
    """Check everything but the signatures, in constant time.

    Raises:
        InvalidCertificate: wrong round, value, bitmap or number of signatures, or no quorum.
    """
    c = certificate
    if (c.era, c.epoch) != (era, epoch) or not 0 < c.view <= UINT64_MAX:
        raise InvalidCertificate(
            f"expected era {era}, epoch {epoch}; received {c.era}, {c.epoch}, view {c.view}"
        )
    if not is_value_of(c.kind, c.view, c.value):
        raise InvalidCertificate(f"no {c.kind.name} of view {c.view} can be about {c.value}")
    if len(c.bitmap) != validators.bitmap_bytes:
        raise InvalidCertificate(
            f"expected a bitmap of {validators.bitmap_bytes} bytes, received {len(c.bitmap)}"
        )
    mask = signers(c)
    if mask >> validators.size:
        raise InvalidCertificate(f"a signer index is not below {validators.size}")
    if len(c.signatures) != SIGNATURE_BYTES * mask.bit_count():
        raise InvalidCertificate(
            f"expected {mask.bit_count()} signatures, received {len(c.signatures)} bytes"
        )
    if not validators.has_quorum(mask):
        raise InvalidCertificate(f"{mask.bit_count()} signers of {validators.size} are no quorum")


def verify_certificate(
    certificate: Certificate,
    chain_id: Digest,
    validators: ValidatorSet,
    era: Era,
    epoch: Epoch,
    verify: Verify,
    is_known: Callable[[int, Signature], bool] = lambda _voter, _signature: False,
) -> None:
    """Check a certificate wholly: shape, then every signature.

    ``is_known(voter, signature)`` says that this signature of this statement was verified before.

    Raises:
        InvalidCertificate: the certificate proves nothing.
    """
    c = certificate
    check_shape(c, validators, era, epoch)
    message = vote_signing_bytes(chain_id, c.kind, c.era, c.epoch, c.view, c.value)
    for position, voter in enumerate(members_of(signers(c))):
        start = position * SIGNATURE_BYTES
        signature = Signature(c.signatures[start : start + SIGNATURE_BYTES])
        if is_known(voter, signature):
            continue
        if not verify(validators[voter].consensus_key, message, signature):
            raise InvalidCertificate(f"signature of validator {voter} is not valid")


class CertificateStore:
    """Checked certificates of one epoch, at most one per view and kind.

    Invariant: no view holds two values, and none holds a nullification and a finalization; a caller
    asks :meth:`clashes` before it adds.
    """

    __slots__ = ("_blocks", "_floor", "_views", "finalization", "finalized_view", "notarization")

    def __init__(self) -> None:
        self._views: dict[View, dict[VoteKind, Certificate]] = {}
        self._blocks: dict[Digest, list[View]] = {}
        self._floor = View(0)
        self.notarization: Certificate | None = None
        """Highest held."""
        self.finalization: Certificate | None = None
        """Highest held."""
        self.finalized_view = View(0)
        """View of the highest finalization held; 0 without one."""

    @property
    def highest_view(self) -> View:
        """Highest view with any certificate; 0 without one."""
        return max(self._views, default=View(0))

    def get(self, view: View, kind: VoteKind) -> Certificate | None:
        """Return the certificate of this kind in this view."""
        held = self._views.get(view)
        return None if held is None else held.get(kind)

    def at(self, view: View) -> tuple[Certificate, ...]:
        """Return every certificate of a view, by kind."""
        held = self._views.get(view)
        if held is None:
            return ()
        return tuple(held.values()) if len(held) == 1 else tuple(held[k] for k in sorted(held))

    def block_at(self, view: View) -> Certificate | None:
        """Return a notarization or finalization of this view: what a child may be built on."""
        return self.get(view, VoteKind.NOTARIZE) or self.get(view, VoteKind.FINALIZE)

    def of_block(self, block_hash: Digest) -> tuple[Certificate, ...]:
        """Return every certificate for a block, oldest view first."""
        return tuple(
            certificate
            for view in self._blocks.get(block_hash, ())
            for certificate in self.at(view)
            if certificate.value.block_hash == block_hash
        )

    def notarizations_above(self, view: View) -> list[Certificate]:
        """Return the notarizations of all later views, oldest first."""
        last = View(0) if self.notarization is None else self.notarization.view
        later = (self.get(View(v), VoteKind.NOTARIZE) for v in range(view + 1, last + 1))
        return [certificate for certificate in later if certificate is not None]

    def clashes(self, certificate: Certificate) -> tuple[Certificate, ...]:
        """Return the held certificates that cannot be true together with this one."""
        return tuple(held for held in self.at(certificate.view) if are_clashing(held, certificate))

    def add(self, certificate: Certificate) -> None:
        """Keep a checked certificate that clashes with none."""
        view = certificate.view
        self._views.setdefault(view, {})[certificate.kind] = certificate
        if certificate.kind is VoteKind.NULLIFY:
            return
        views = self._blocks.setdefault(certificate.value.block_hash, [])
        if view not in views:
            views.append(view)
            views.sort()
        if certificate.kind is VoteKind.NOTARIZE:
            if self.notarization is None or view > self.notarization.view:
                self.notarization = certificate
        elif view > self.finalized_view:
            self.finalization, self.finalized_view = certificate, view

    def prune(self) -> None:
        """Drop what is far below the highest finalization."""
        floor = View(max(self.finalized_view - CERTIFICATE_VIEWS_KEPT, 0))
        if floor <= self._floor:
            return
        self._floor = floor
        for view in [v for v in self._views if v < floor]:
            for certificate in self._views.pop(view).values():
                self._forget_block(certificate.value.block_hash, view)

    def _forget_block(self, block_hash: Digest, view: View) -> None:
        views = self._blocks.get(block_hash)
        if views is not None and view in views:
            views.remove(view)
            if not views:
                del self._blocks[block_hash]


def are_clashing(a: Certificate, b: Certificate) -> bool:
    """Tell whether two certificates of one view prove that a third of the validators is faulty."""
    if a.kind is not VoteKind.NULLIFY and b.kind is not VoteKind.NULLIFY:
        return a.value != b.value
    return {a.kind, b.kind} == {VoteKind.NULLIFY, VoteKind.FINALIZE}
