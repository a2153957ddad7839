"""Files of an era change: what a survivor reports, and the plan that is made of the reports. Pure.

Both are JSON documents for people, with the exact bytes as hex under ``content``. Whatever stands
beside it is made from it, and a file in which the two differ is refused: nobody shall sign or
accept anything but what they have read. All that is needed to check a file against the genesis is
in it. Normative text: ``docs/protocol-consensus.md``, Era change.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Struct

from consensus.certificates import signers
from consensus.errors import InvalidPlan
from consensus.light import LightClient, SetChange
from consensus.recovery import (
    RecoveryPlan,
    RecoveryReport,
    Trust,
    check_plan,
    check_report,
    highest_certificate,
    plan_hash,
)
from consensus.types import Certificate
from consensus.validity import EpochRules, is_boundary
from ledger.block import Block, Header, block_hash
from ledger.crypto import verify
from ledger.encoding import StrictDecoder, encode
from ledger.errors import LedgerError
from ledger.genesis import Genesis
from ledger.json import load_json, to_json
from ledger.recovery import RecoveryRules, reporters_needed
from ledger.types import Digest, DigestField, Epoch, Era
from ledger.validators import Chamber, Validator, ValidatorSet, members_of
from ledger.votes import VoteKind
from mbi.errors import UsageError

FILE_VERSION: Final = 1
CONTENT_BYTES_MAX: Final = 64 * 1024 * 1024
"""Some full blocks, and thousands of set changes of a large network."""

FILE_BYTES_MAX: Final = 2 * CONTENT_BYTES_MAX + 1024 * 1024
"""Hex digits, and the part for people."""

BLOCKS_MAX: Final = 1024
"""Blocks in one file; a chain that halts leaves a few above its last final one."""

CHANGES_MAX: Final = 65_536

REPORT_KIND: Final = "mbi recovery report"
PLAN_KIND: Final = "mbi recovery plan"

Json = dict[str, Any]
T = TypeVar("T", bound=Struct)
Changes = Annotated[tuple[SetChange, ...], Meta(max_length=CHANGES_MAX)]
Blocks = Annotated[tuple[Block, ...], Meta(max_length=BLOCKS_MAX)]


class ReportFile(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """A report with what others may lack to make a plan of it."""

    version: Annotated[int, Meta(ge=FILE_VERSION, le=FILE_VERSION)]
    chain_id: DigestField
    report: RecoveryReport
    changes: Changes
    """Hand-overs from genesis to the reporter's epoch."""
    blocks: Blocks
    """The last final ones, and all that are stored above the head; unsigned, their hashes count."""


class PlanFile(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """A plan with everything that proves it, and the blocks that it makes final."""

    version: Annotated[int, Meta(ge=FILE_VERSION, le=FILE_VERSION)]
    chain_id: DigestField
    changes: Changes
    """Hand-overs from genesis to the epoch in which the old era ends."""
    base: Header
    tail: Blocks
    """The chain up to the base, from some block that is final anyway; empty if the base is."""
    plan: RecoveryPlan


class CheckedPlan(NamedTuple):
    """A plan file that holds, and where it leads."""

    file: PlanFile
    client: LightClient
    """In the new era."""
    changes: tuple[SetChange, ...]
    """The hand-overs that the plan itself makes: one, or two if the base opens an epoch."""
    finalization: Certificate | None
    """Highest of the last epoch in the reports."""

    @property
    def hash(self) -> Digest:
        """Name of the plan."""
        return plan_hash(Digest(self.file.chain_id), self.file.plan)


# --- Files ----------------------------------------------------------------------------------------

_REPORT = StrictDecoder(ReportFile, CONTENT_BYTES_MAX)
_PLAN = StrictDecoder(PlanFile, CONTENT_BYTES_MAX)


def report_json(file: ReportFile) -> bytes:
    """Return the file of a report."""
    report = file.report
    head: Json = {
        "kind": REPORT_KIND,
        "chain_id": file.chain_id.hex(),
        "fenced_era": report.era,
        "epoch": report.epoch,
        "consensus_key": report.consensus_key.hex(),
        "finalization": _shown(report.finalization),
        "notarization": _shown(report.notarization),
        "blocks": [block.header.height for block in file.blocks],
    }
    return _written(head, file)


def plan_json(file: PlanFile) -> bytes:
    """Return the file of a plan."""
    plan = file.plan
    head: Json = {
        "kind": PLAN_KIND,
        "chain_id": file.chain_id.hex(),
        "plan": plan_hash(Digest(file.chain_id), plan).hex(),
        "ends_era": plan.era - 1,
        "opens_era": plan.era,
        "epoch": plan.epoch,
        "base": {"height": plan.base_height, "hash": plan.base_hash.hex()},
        "validators": [to_json(member) for member in plan.members],
        "assumed_traitors": plan.traitors,
        "reports": [
            {
                "consensus_key": report.consensus_key.hex(),
                "finalization": _shown(report.finalization),
                "notarization": _shown(report.notarization),
            }
            for report in plan.reports
        ],
        "signed_by": [item.public_key.hex() for item in plan.signatures],
        "blocks": [block.header.height for block in file.tail],
    }
    return _written(head, file)


def parse_report(data: bytes, name: str) -> ReportFile:
    """Return the report in a file; raises UsageError, naming the file."""
    return _read(data, name, _REPORT, report_json, REPORT_KIND)


def parse_plan(data: bytes, name: str) -> PlanFile:
    """Return the plan in a file; raises UsageError, naming the file."""
    return _read(data, name, _PLAN, plan_json, PLAN_KIND)


def _written(head: Json, file: Struct) -> bytes:
    document = {**head, "content": encode(file).hex()}
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def _read(
    data: bytes, name: str, decoder: StrictDecoder[T], write: Callable[[T], bytes], kind: str
) -> T:
    try:
        document = load_json(data, FILE_BYTES_MAX)
        if not isinstance(document, dict) or document.get("kind") != kind:
            raise UsageError(f"{name} is no {kind}")
        content = document.get("content")
        file = decoder.decode(bytes.fromhex(content if isinstance(content, str) else ""))
    except (LedgerError, ValueError) as error:
        raise UsageError(f"{name}: {error}") from error
    if load_json(write(file), FILE_BYTES_MAX) != document:
        raise UsageError(f"{name}: what is written for people is not what the content says")
    return file


def _shown(certificate: Certificate | None) -> Json | None:
    if certificate is None:
        return None
    return {
        "epoch": certificate.epoch,
        "view": certificate.view,
        "block": certificate.value.block_hash.hex(),
    }


# --- Making a plan --------------------------------------------------------------------------------


class Situation(NamedTuple):
    """What reports say together about the end of an era."""

    chain_id: Digest
    client: LightClient
    """In the last epoch of the old era that the reports know."""
    changes: tuple[SetChange, ...]
    reports: tuple[RecoveryReport, ...]
    base: Header
    tail: tuple[Block, ...]
    members: ValidatorSet
    """The set that the new one is made from: the last one, or what the base announces."""
    opens_epoch: bool
    """The base is a boundary block of the last epoch."""


def assess(genesis: Genesis, files: Sequence[ReportFile]) -> Situation:
    """Find the base of a recovery (R2); whether the reports suffice is for ``check_plan`` to say.

    Raises:
        UsageError: the reports do not belong together, or a block is in none of them.
        ConsensusError: a report or a hand-over in one does not hold.
    """
    client = LightClient.from_genesis(genesis)
    identity = client.chain_id
    for file in files:
        if file.chain_id != identity:
            raise UsageError(
                f"expected reports of network {identity.hex()}, received one of "
                f"{file.chain_id.hex()}"
            )
        check_report(file.report, identity, verify)
    changes = max((file.changes for file in files), key=len, default=())
    for change in changes:
        client.apply(change)
    latest = {file.report.consensus_key: file.report for file in files}
    reports = tuple(latest[key] for key in sorted(latest))
    highest = highest_certificate(reports, client.rules, identity, verify)
    blocks = {block_hash(identity, block.header): block for file in files for block in file.blocks}
    if highest is None:
        base, opens_epoch = client.base, False
    else:
        block = blocks.get(Digest(highest.value.block_hash))
        if block is None:
            who = [client.validators[index].name for index in members_of(signers(highest))]
            raise UsageError(
                f"block {highest.value.block_hash.hex()}, the base, is in no report: add that of "
                f"another validator that voted for it ({', '.join(who)})"
            )
        base, opens_epoch = block.header, is_boundary(block.header)
    tail = _path(base, blocks, identity)
    members = ValidatorSet(tail[-1].next_validators) if opens_epoch else client.validators
    return Situation(identity, client, changes, reports, base, tail, members, opens_epoch)


def make_plan(situation: Situation, members: ValidatorSet, traitors: int) -> PlanFile:
    """Return the plan that continues with this set; the council has not signed it."""
    s = situation
    plan = RecoveryPlan(
        Era(s.client.era + 1),
        Epoch(s.client.epoch + (2 if s.opens_epoch else 1)),
        s.base.height,
        block_hash(s.chain_id, s.base),
        members.members,
        traitors,
        s.reports,
        (),
    )
    return PlanFile(FILE_VERSION, s.chain_id, s.changes, s.base, s.tail, plan)


def _path(base: Header, blocks: Mapping[Digest, Block], identity: Digest) -> tuple[Block, ...]:
    """Return the blocks that lead to the base, as far down as there are any."""
    path: list[Block] = []
    digest = block_hash(identity, base)
    while digest in blocks and len(path) < BLOCKS_MAX:
        path.append(blocks[digest])
        digest = Digest(blocks[digest].header.parent_hash)
    return tuple(reversed(path))


# --- Checking a plan ------------------------------------------------------------------------------


def check_plan_file(file: PlanFile, genesis: Genesis) -> CheckedPlan:
    """Check a plan that the council has signed, against nothing but the genesis.

    Raises:
        ConsensusError, LedgerError: naming the first rule that is broken.
    """
    client = _last_epoch(file, genesis)
    plan, identity = file.plan, client.chain_id
    finalization, opened = _highest_finalization(plan, client), client.base_hash
    hand_overs = []
    if _opens_epoch(file, client):
        hand_overs.append(SetChange(file.base, plan, _announced(file)))
    hand_overs.append(SetChange(file.base, plan, plan.members))
    for change in hand_overs:
        client.apply(change)
    _check_tail(file, identity, finalization, opened)
    return CheckedPlan(file, client, tuple(hand_overs), finalization)


def check_before_signing(file: PlanFile, genesis: Genesis) -> None:
    """Check everything in a plan but the council's signatures; raises as ``check_plan_file``."""
    client = _last_epoch(file, genesis)
    trust = Trust(client.chain_id, RecoveryRules.of(genesis), verify, unsigned=True)
    rules, opens_epoch = client.rules, _opens_epoch(file, client)
    check_plan(file.plan, file.base, rules, trust, opens_epoch=opens_epoch)
    if opens_epoch:
        digest, announced = block_hash(client.chain_id, file.base), ValidatorSet(_announced(file))
        opened = EpochRules(rules.era, Epoch(rules.epoch + 1), announced, (), digest)
        check_plan(file.plan, file.base, opened, trust, opens_epoch=False)
    finalization = _highest_finalization(file.plan, client)
    _check_tail(file, client.chain_id, finalization, client.base_hash)


def _last_epoch(file: PlanFile, genesis: Genesis) -> LightClient:
    """Return a client in the last epoch before the plan."""
    client = LightClient.from_genesis(genesis)
    if file.chain_id != client.chain_id:
        raise InvalidPlan(
            f"expected a plan for network {client.chain_id.hex()}, received one for "
            f"{file.chain_id.hex()}"
        )
    for change in file.changes:
        client.apply(change)
    return client


def _opens_epoch(file: PlanFile, client: LightClient) -> bool:
    """Tell whether the base is a boundary block of the client's epoch."""
    return block_hash(client.chain_id, file.base) != client.base_hash and is_boundary(file.base)


def _announced(file: PlanFile) -> tuple[Validator, ...]:
    """Return the set in the body of the base; raises InvalidPlan unless it is the header's."""
    members = file.tail[-1].next_validators if file.tail else ()
    if not members or ValidatorSet(members).hash != file.base.next_validator_set_hash:
        raise InvalidPlan("the plan lacks the set that its base announces")
    return members


def _highest_finalization(plan: RecoveryPlan, client: LightClient) -> Certificate | None:
    held = [
        report.finalization
        for report in plan.reports
        if report.finalization is not None
        and (report.finalization.era, report.finalization.epoch) == (client.era, client.epoch)
        and report.finalization.kind is VoteKind.FINALIZE
    ]
    return max(held, key=lambda certificate: certificate.view, default=None)


def _check_tail(
    file: PlanFile, identity: Digest, finalization: Certificate | None, opened: Digest
) -> None:
    """Check that the blocks lead from what is final anyway to the base, without a gap."""
    anchor = opened if finalization is None else Digest(finalization.value.block_hash)
    base = block_hash(identity, file.base)
    path = [block_hash(identity, block.header) for block in file.tail]
    for block, parent in zip(file.tail[1:], path, strict=False):
        if block.header.parent_hash != parent:
            raise InvalidPlan(f"block {block.header.height} does not extend the one before it")
    if path and path[-1] != base:
        raise InvalidPlan("the blocks in the plan do not lead to its base")
    if anchor != base and anchor not in (file.tail[0].header.parent_hash if path else b"", *path):
        raise InvalidPlan(
            f"the blocks between {anchor.hex()}, which is final, and the base are missing, or the "
            "base does not descend from it"
        )


def needed_reports(validators: ValidatorSet, traitors: int) -> dict[str, int]:
    """Return how many members of each chamber must report; one chamber suffices."""
    needed = {
        chamber.name.lower(): reporters_needed(validators, chamber, traitors) for chamber in Chamber
    }
    return {name: count for name, count in needed.items() if count is not None}


def new_members(
    present: ValidatorSet, removed: Sequence[str], added: Sequence[Validator]
) -> ValidatorSet:
    """Return a set without some members and with others; raises UsageError or LedgerError."""
    names = {member.name for member in present}
    unknown = sorted(set(removed) - names)
    if unknown:
        raise UsageError(
            f"no validator {unknown[0]!r} in the last set; there are: {', '.join(sorted(names))}"
        )
    return ValidatorSet([*(m for m in present if m.name not in removed), *added])


def with_plan(file: PlanFile, plan: RecoveryPlan) -> PlanFile:
    """Return the file with the same plan and other signatures."""
    return msgspec.structs.replace(file, plan=plan)
