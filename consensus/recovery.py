"""Era change: what survivors report, what a plan must prove, and why no final block is lost.

* R1  Each surviving validator first writes to disk that it never votes in this era again (the
      *fence*: a sign floor above every round of the era), then signs a *report*: its highest
      finalization and its highest notarization.
* R2  The *base* is the block of the highest certificate in the reports. For one chamber X the
      reports come from more than half of its members (``floor(|X| / 2) + 1``), plus the number of
      reporters in X that the plan assumes to lie.
* R3  A *plan* names the base, the next era and epoch, the new set and the reports. The recovery
      council of the genesis signs it, with appointees of both chambers, and each operator accepts
      it by hand.
* R4  The new era begins on the base with its own set, in view 1.

Why: every certificate has signers from at least half of X. Those who have reported honestly are
more than half of X, so of any block that is final, or that votes already cast could still make
final, one of them holds the notarization that it signed to finalise, and the base descends from it
(safety lemma L3). Having fenced, they also keep the old era from certifying anything more.

A boundary block that is the base opens its epoch first; a set that nobody has certified anything
with can still have begun to vote, so reports must then come from both sets, unless the boundary
block is known to be final. Pure: no files, no clock. Normative text:
``docs/protocol-consensus.md``, Era change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta, Struct

from consensus.certificates import verify_certificate
from consensus.errors import InvalidCertificate, InvalidPlan
from consensus.types import Certificate
from consensus.validity import EpochRules, is_statement_about
from ledger.block import Header, block_hash
from ledger.crypto import SigningKey, sha256, tag
from ledger.encoding import encode
from ledger.era import EraStart
from ledger.recovery import (
    CouncilSignature,
    CouncilSignatures,
    RecoveryRules,
    problem_of_reporters,
)
from ledger.types import (
    ERA_MAX,
    SIGNATURE_BYTES,
    UINT64_MAX,
    Digest,
    DigestField,
    Epoch,
    EpochField,
    Era,
    EraField,
    Height,
    PublicKeyField,
    Signature,
    SignatureField,
    View,
)
from ledger.validators import VALIDATORS_MAX, Validator
from ledger.votes import Round, Verify, VoteKind

REPORT_TAG: Final = tag("MBI-RECO-v1")
PLAN_TAG: Final = tag("MBI-PLAN-v1")

REPORTS_MAX: Final = 2 * VALIDATORS_MAX
"""Of two sets, if the base is a boundary block."""


class RecoveryReport(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """R1: one validator's word that it has fenced the era, and the most that it has seen."""

    era: EraField
    """Never again will this key sign a vote of this era."""
    epoch: EpochField
    """That the validator's executed head is in or opens."""
    consensus_key: PublicKeyField
    finalization: Certificate | None
    """Highest held; None before the first."""
    notarization: Certificate | None
    """Highest held above that; None if there is none."""
    signature: SignatureField
    """Over :func:`report_preimage`."""


class RecoveryPlan(
    Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True, tag=9
):
    """R3: how the network goes on. The tag tells it from a certificate in a hand-over."""

    era: Annotated[Era, Meta(ge=1, le=ERA_MAX)]
    """The new one."""
    epoch: EpochField
    """The new one: one above that of the state after the base."""
    base_height: Annotated[Height, Meta(ge=1)]
    base_hash: DigestField
    """Last block of the era before."""
    members: Annotated[tuple[Validator, ...], Meta(min_length=1, max_length=VALIDATORS_MAX)]
    """The new set, ascending by consensus key."""
    traitors: Annotated[int, Meta(ge=0, le=VALIDATORS_MAX)]
    """Reporters of the deciding chamber that may lie."""
    reports: Annotated[tuple[RecoveryReport, ...], Meta(min_length=1, max_length=REPORTS_MAX)]
    """Ascending by consensus key."""
    signatures: CouncilSignatures
    """Over :func:`plan_preimage`, ascending by public key."""

    @property
    def start(self) -> EraStart:
        """What the first block of the era is executed with."""
        base = Digest(self.base_hash)
        return EraStart(self.era, self.epoch, self.base_height, base, self.members)


# --- What is signed -------------------------------------------------------------------------------


def fence(era: Era) -> Round:
    """Return the sign floor that ends an era for whoever writes it: above all of its rounds."""
    return Round(era, Epoch(UINT64_MAX), View(UINT64_MAX))


def report_preimage(chain_id: Digest, report: RecoveryReport) -> bytes:
    """Return what the reporter's consensus key signs: tag, chain id, the fields before it."""
    fields = msgspec.structs.astuple(report)[:-1]
    return REPORT_TAG + chain_id + encode(fields)


def sign_report(
    chain_id: Digest,
    era: Era,
    epoch: Epoch,
    finalization: Certificate | None,
    notarization: Certificate | None,
    key: SigningKey,
) -> RecoveryReport:
    """Return the report of the holder of a consensus key, who has written the fence before."""
    certificates = (finalization, notarization)
    blank = RecoveryReport(era, epoch, key.public_key, *certificates, _NO_SIGNATURE)
    return msgspec.structs.replace(blank, signature=key.sign(report_preimage(chain_id, blank)))


def plan_preimage(chain_id: Digest, plan: RecoveryPlan) -> bytes:
    """Return what the council signs: tag, chain id, the fields before the signatures."""
    fields = msgspec.structs.astuple(plan)[:-1]
    return PLAN_TAG + chain_id + encode(fields)


def plan_hash(chain_id: Digest, plan: RecoveryPlan) -> Digest:
    """Return the name of a plan, the same however many have signed it."""
    return sha256(plan_preimage(chain_id, plan))


def with_signature(chain_id: Digest, plan: RecoveryPlan, key: SigningKey) -> RecoveryPlan:
    """Return the plan with one more signature of the council; a second one changes nothing."""
    signature = CouncilSignature(key.public_key, key.sign(plan_preimage(chain_id, plan)))
    others = [item for item in plan.signatures if item.public_key != key.public_key]
    ordered = sorted((*others, signature), key=lambda item: item.public_key)
    return msgspec.structs.replace(plan, signatures=tuple(ordered))


_NO_SIGNATURE: Final = Signature(bytes(SIGNATURE_BYTES))


# --- What is checked ------------------------------------------------------------------------------


class Trust(NamedTuple):
    """What a checker believes before it sees a plan."""

    chain_id: Digest
    rules: RecoveryRules
    verify: Verify
    unsigned: bool = False
    """The council is yet to decide: its signatures are not asked for."""


def check_council(plan: RecoveryPlan, trust: Trust) -> None:
    """Check that the council of the genesis has signed a plan (R3).

    Raises:
        InvalidPlan: naming what is missing.
    """
    message = plan_preimage(trust.chain_id, plan)
    _demand(trust.rules.problem_of_council(message, plan.signatures, trust.verify))


def check_report(report: RecoveryReport, chain_id: Digest, verify: Verify) -> None:
    """Check a report without its certificates, which need the sets of their epochs.

    Raises:
        InvalidPlan: the signature does not verify, or a certificate is of the wrong kind.
    """
    name = report.consensus_key.hex()
    if not verify(report.consensus_key, report_preimage(chain_id, report), report.signature):
        raise InvalidPlan(f"the signature of the report of {name} does not verify")
    for certificate, kind in (
        (report.finalization, VoteKind.FINALIZE),
        (report.notarization, VoteKind.NOTARIZE),
    ):
        if certificate is not None and certificate.kind is not kind:
            raise InvalidPlan(
                f"report of {name}: expected a {kind.name}, received a {certificate.kind.name}"
            )


def highest_certificate(
    reports: Sequence[RecoveryReport], place: EpochRules, chain_id: Digest, verify: Verify
) -> Certificate | None:
    """Return the certificate of the highest view of an epoch in the reports; None if there is none.

    Every certificate of the epoch is verified; older ones do not matter.

    Raises:
        InvalidPlan: one is false or of a later epoch, or two of one view contradict each other.
    """
    highest: Certificate | None = None
    for report in reports:
        for certificate in (report.finalization, report.notarization):
            if certificate is None or _place(certificate) < (place.era, place.epoch):
                continue
            name = report.consensus_key.hex()
            try:
                verify_certificate(
                    certificate, chain_id, place.validators, place.era, place.epoch, verify
                )
            except InvalidCertificate as error:
                raise InvalidPlan(f"certificate in the report of {name}: {error}") from error
            if highest is not None and highest.view == certificate.view:
                if highest.value != certificate.value:
                    raise InvalidPlan(
                        f"two blocks are certified in view {highest.view}: more validators are "
                        "faulty than any recovery can bear"
                    )
                # A finalization says more than the notarization of the same block.
                is_better = certificate.kind is VoteKind.FINALIZE
            else:
                is_better = highest is None or certificate.view > highest.view
            if is_better:
                highest = certificate
    return highest


def check_plan(
    plan: RecoveryPlan, base: Header, place: EpochRules, trust: Trust, *, opens_epoch: bool
) -> None:
    """Check a plan wholly, standing in the epoch ``place`` (R1 to R3).

    ``base`` is the header of the base: the block that opened the epoch of ``place``, or one in it.
    ``opens_epoch`` says that it is a boundary block of that epoch, which the plan makes final: then
    the new set must be judged once more from the epoch that it opens.

    Raises:
        InvalidPlan: naming the first rule that is broken.
    """
    digest = block_hash(trust.chain_id, base)
    for what, received, expected in (
        ("era", plan.era, place.era + 1),
        ("epoch", plan.epoch, place.epoch + (2 if opens_epoch else 1)),
        ("base height", plan.base_height, base.height),
        ("base", plan.base_hash.hex(), digest.hex()),
    ):
        if received != expected:
            raise InvalidPlan(f"expected {what} {expected} in the plan, received {received}")
    if not trust.unsigned:
        check_council(plan, trust)
    _demand(trust.rules.problem_of_members(plan.members))
    _check_reports(plan, place, trust)
    highest = highest_certificate(plan.reports, place, trust.chain_id, trust.verify)
    _check_base(base, digest, highest, place)
    if opens_epoch and highest is not None and highest.kind is VoteKind.FINALIZE:
        return
    reporters = [report.consensus_key for report in plan.reports]
    _demand(problem_of_reporters(place.validators, reporters, plan.traitors))


def _check_reports(plan: RecoveryPlan, place: EpochRules, trust: Trust) -> None:
    keys = [report.consensus_key for report in plan.reports]
    if keys != sorted(set(keys)):
        raise InvalidPlan("the reports are not in the order of their keys, each once")
    for report in plan.reports:
        if report.era != place.era:
            raise InvalidPlan(
                f"the report of {report.consensus_key.hex()} is of era {report.era}, the plan ends "
                f"era {place.era}"
            )
        check_report(report, trust.chain_id, trust.verify)


def _check_base(
    base: Header, digest: Digest, highest: Certificate | None, place: EpochRules
) -> None:
    """R2: the base is the block of the highest certificate, or opened an epoch without any."""
    if highest is None:
        if digest != place.base_hash:
            raise InvalidPlan(
                f"no report certifies a block of epoch {place.epoch}: expected the block that "
                f"opened it, {place.base_hash.hex()}, as the base, received {digest.hex()}"
            )
        return
    is_base = highest.value.block_hash == digest != place.base_hash
    if not is_base or not is_statement_about(base, None, highest.view, highest.value):
        raise InvalidPlan(
            f"expected the block of the highest certificate, {highest.value.block_hash.hex()} of "
            f"view {highest.view}, as the base, received {digest.hex()}"
        )


def _place(certificate: Certificate) -> tuple[Era, Epoch]:
    return certificate.era, certificate.epoch


def _demand(problem: str | None) -> None:
    if problem is not None:
        raise InvalidPlan(problem)
