"""Chain rules: whether a proposal may extend its parent, and whether its header is right.

These are the rules that depend on certificates and headers only. What depends on transactions,
execution results or the wall clock is judged by the application (``RequestVerification``). The
builder of a block and its judges call the same functions.

* A1  The parent's view is lower than the proposal's and not below the finalised view.
* A2  A notarization or finalization of the parent is held for the parent's view (or it is
  the base).
* A3  A nullification is held for **every** view between, whatever else is held for it.
* V1  Version, era, epoch, height, view, proposer, validator set, links and sizes are what they
  must be; the block names the certificate of its parent.
* V2  Time grows strictly. (The comparison with the clock is the application's: NOT_YET.)
* V3  ``parent.executed_height <= executed_height <= parent.height``. (Roots are the application's.)
* V4  A block more than :data:`EXECUTION_LAG_MAX` above the executed height is empty.
* V5  A header that names another validator set makes a *boundary block*: it has no transactions,
  and no block is built on it in its epoch (EP1). (Which set is named is the application's.)

Normative text: ``docs/protocol-consensus.md``, Validity of a proposal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from consensus.certificates import CertificateStore, certificate_hash
from consensus.errors import InvalidHeader
from consensus.leader import leader
from consensus.types import Certificate
from ledger.block import BLOCK_BYTES_MAX, BLOCK_TRANSACTIONS_MAX, HEADER_VERSION, Header
from ledger.types import ZERO_DIGEST, Digest, Epoch, Era, View
from ledger.validators import ValidatorSet
from ledger.votes import Value, VoteKind

EXECUTION_LAG_MAX: Final = 8
"""Blocks with transactions may run ahead of execution by this many heights (back-pressure)."""


@dataclass(frozen=True, slots=True)
class EpochRules:
    """What all headers of an epoch have in common."""

    era: Era
    epoch: Epoch
    validators: ValidatorSet
    order: tuple[int, ...]
    """Of turns, see :mod:`consensus.leader`."""
    base_hash: Digest
    """Of the block that opened the epoch."""


def check_header(header: Header, parent: Header, parent_hash: Digest, rules: EpochRules) -> None:
    """Check a header against its parent's: V1 to V5 as far as headers tell.

    Raises:
        InvalidHeader: naming the first rule that is broken.
    """
    for rule, field, received, expected in (
        ("V1", "version", header.version, HEADER_VERSION),
        ("V1", "era", header.era, rules.era),
        ("V1", "epoch", header.epoch, rules.epoch),
        ("V1", "height", header.height, parent.height + 1),
        ("V1", "parent_hash", header.parent_hash, parent_hash),
        ("V1", "proposer", header.proposer, leader(rules.order, header.view)),
        ("V1", "validator_set_hash", header.validator_set_hash, rules.validators.hash),
        ("V1", "previous_boundary_hash", header.previous_boundary_hash, rules.base_hash),
    ):
        if received != expected:
            raise InvalidHeader(f"{rule}: expected {field} {expected!r}, received {received!r}")
    for rule, field, value, low, high in (
        ("V1", "transaction_count", header.transaction_count, 0, BLOCK_TRANSACTIONS_MAX),
        ("V1", "body_bytes", header.body_bytes, 0, BLOCK_BYTES_MAX),
        ("V3", "executed_height", header.executed_height, parent.executed_height, parent.height),
    ):
        if not low <= value <= high:
            raise InvalidHeader(f"{rule}: expected {field} from {low} to {high}, received {value}")
    if header.time_ms <= parent.time_ms:
        raise InvalidHeader(
            f"V2: expected a time after {parent.time_ms}, received {header.time_ms}"
        )
    if header.transaction_count and header.height - header.executed_height > EXECUTION_LAG_MAX:
        raise InvalidHeader(
            f"V4: expected an empty block {header.height - header.executed_height} heights above "
            f"execution, received {header.transaction_count} transactions"
        )
    if is_boundary(parent) and parent_hash != rules.base_hash:
        raise InvalidHeader(f"V5: expected no block on the boundary block {parent_hash.hex()}")
    if is_boundary(header) and (header.transaction_count or header.body_bytes):
        raise InvalidHeader(
            f"V5: expected an empty boundary block, received {header.body_bytes} bytes"
        )


def is_boundary(header: Header) -> bool:
    """Tell whether a block names the validator set of the next epoch, and so ends its own (V5)."""
    return header.next_validator_set_hash != ZERO_DIGEST


def is_statement_about(header: Header, parent_view: View | None, view: View, value: Value) -> bool:
    """Tell whether a value describes a block truly in a view: as new, or repeated (EP2).

    ``parent_view`` is the view of the block's own parent certificate, None if that is not known.
    """
    if view == header.view:
        return parent_view in (None, value.parent_view)
    return is_boundary(header) and header.view <= value.parent_view < view


def check_parent_certificate(
    header: Header, certificate: Certificate | None, rules: EpochRules
) -> View:
    """Check that the block names this certificate of its parent; return the parent's view.

    The certificate's signatures are the caller's business (V1).

    Raises:
        InvalidHeader: the certificate is missing, not wanted, of another block or not the named
        one.
    """
    if certificate_hash(certificate) != header.parent_certificate_hash:
        raise InvalidHeader("V1: the parent certificate is not the one that the header names")
    if certificate is None:
        if header.parent_hash != rules.base_hash:
            raise InvalidHeader("V1: expected a certificate of the parent, received none")
        return View(0)
    if certificate.kind is VoteKind.NULLIFY or certificate.value.block_hash != header.parent_hash:
        raise InvalidHeader("V1: the parent certificate is not of the parent")
    if header.parent_hash == rules.base_hash or certificate.view >= header.view:
        raise InvalidHeader(
            f"V1: expected a parent certificate below view {header.view} and none for the base, "
            f"received view {certificate.view}"
        )
    return certificate.view


def missing_ancestry(
    view: View,
    parent_view: View,
    parent_hash: Digest,
    final_view: View,
    final_hash: Digest,
    certificates: CertificateStore,
) -> list[View]:
    """Return the views whose certificates A1 to A3 still need; empty if the rules hold.

    Raises:
        InvalidHeader: a rule is broken whatever certificates may still come.
    """
    if not final_view <= parent_view < view:
        raise InvalidHeader(
            f"A1: expected a parent view from {final_view} to {view - 1}, received {parent_view}"
        )
    missing = []
    if parent_view == final_view:
        certified: Digest | None = final_hash
    else:
        certificate = certificates.block_at(parent_view)
        certified = None if certificate is None else certificate.value.block_hash
    if certified is None:
        missing.append(parent_view)
    elif certified != parent_hash:
        raise InvalidHeader(f"A2: another block is certified in view {parent_view}")
    missing.extend(
        View(between)
        for between in range(parent_view + 1, view)
        if certificates.get(View(between), VoteKind.NULLIFY) is None
    )
    return missing
