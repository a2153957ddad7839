"""A network of two chambers that loses one, and the plan with which it goes on, for tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from consensus.certificates import certificate_hash
from consensus.leader import leader, leader_order
from consensus.light import LightClient
from consensus.recovery import RecoveryPlan, RecoveryReport, sign_report, with_signature
from consensus.types import Certificate
from ledger.block import Header, block_hash
from ledger.crypto import SigningKey
from ledger.genesis import CouncilMember, RecoveryCouncil, chain_id, genesis_block
from ledger.types import ZERO_DIGEST, Digest, Epoch, Era, Height, TimeMs, View
from ledger.validators import Chamber, Validator, ValidatorSet
from ledger.votes import Value, VoteKind
from tests.unit.certifying import certify
from tests.unit.ledger.builders import make_key
from tests.unit.ledger.electorate import consensus_key, make_network, validator

COUNCIL_KEYS: Final = {
    name: make_key(f"council {name}") for name in ("gov-a", "gov-b", "com-a", "com-b")
}
COUNCIL: Final = RecoveryCouncil(
    3,
    tuple(
        CouncilMember(
            name,
            Chamber.GOVERNMENT if name.startswith("gov") else Chamber.COMMERCIAL,
            key.public_key,
        )
        for name, key in COUNCIL_KEYS.items()
    ),
)
GENESIS: Final = msgspec.structs.replace(make_network(3, 3), council=COUNCIL)
CHAIN_ID: Final = chain_id(GENESIS)
FIRST: Final = ValidatorSet(GENESIS.validators)
NEW: Final = ValidatorSet(validator(name) for name in ("gov-1", "gov-2", "gov-3", "com-8", "com-9"))
"""The survivors of the government, and new machines for the commercial chamber."""

SURVIVORS: Final = ("gov-1", "gov-2", "gov-3")


def hash_of(header: Header) -> Digest:
    """Return the hash of a block of this network."""
    return block_hash(CHAIN_ID, header)


class Scene:
    """A chain of headers that grows block by block; everybody votes unless a test says who."""

    def __init__(self) -> None:
        self.era, self.epoch = Era(0), Epoch(0)
        self.members = FIRST
        self.base = genesis_block(GENESIS)
        self.headers = [self.base]

    def client(self) -> LightClient:
        """Return a light client that trusts the genesis."""
        return LightClient.from_genesis(GENESIS)

    def open(self, base: Header, members: ValidatorSet, *, era: int | None = None) -> None:
        """Go on in the next epoch."""
        self.era = Era(self.era if era is None else era)
        self.epoch = Epoch(self.epoch + 1)
        self.base, self.members = base, members

    def block(self, view: int | None = None, **changes: object) -> Header:
        """Add a block of the present epoch."""
        parent = self.headers[-1]
        is_first = parent is self.base
        chosen = View(view or (1 if is_first else parent.view + 1))
        order = leader_order(CHAIN_ID, self.era, self.epoch, self.members)
        certificate = None if is_first else self.certificate(parent)
        header = msgspec.structs.replace(
            parent,
            era=self.era,
            epoch=self.epoch,
            height=Height(parent.height + 1),
            view=chosen,
            parent_hash=hash_of(parent),
            proposer=leader(order, chosen),
            time_ms=TimeMs(parent.time_ms + 100),
            parent_certificate_hash=certificate_hash(certificate),
            validator_set_hash=self.members.hash,
            executed_height=Height(max(parent.height - 1, 0)),
            next_validator_set_hash=ZERO_DIGEST,
            previous_boundary_hash=hash_of(self.base),
        )
        self.headers.append(msgspec.structs.replace(header, **changes))
        return self.headers[-1]

    def certificate(
        self,
        header: Header,
        kind: VoteKind = VoteKind.NOTARIZE,
        voters: Iterable[str] | None = None,
        view: int | None = None,
    ) -> Certificate:
        """Return a certificate over a block of the present epoch."""
        chosen = View(view or header.view)
        value = Value(View(chosen - 1), hash_of(header))
        names = {member.name for member in self.members} if voters is None else set(voters)
        return certify(
            CHAIN_ID,
            self.members,
            [index for index, member in enumerate(self.members) if member.name in names],
            (kind, self.era, self.epoch, chosen, value),
            lambda member, message: consensus_key(member.name).sign(message),
        )

    def finalization(self, header: Header) -> Certificate:
        """Return a finalization by everybody."""
        return self.certificate(header, VoteKind.FINALIZE)

    def report(
        self,
        name: str,
        finalization: Certificate | None = None,
        notarization: Certificate | None = None,
    ) -> RecoveryReport:
        """Return what a validator reports."""
        key = consensus_key(name)
        return sign_report(CHAIN_ID, self.era, self.epoch, finalization, notarization, key)

    def plan(
        self,
        reports: Sequence[RecoveryReport],
        base: Header,
        *,
        signed_by: Iterable[str] = ("gov-a", "com-a", "com-b"),
        members: Sequence[Validator] = NEW.members,
        traitors: int = 0,
        **changes: object,
    ) -> RecoveryPlan:
        """Return a plan for the next era on a base, signed by the council."""
        plan = RecoveryPlan(
            Era(self.era + 1),
            Epoch(self.epoch + 1),
            base.height,
            hash_of(base),
            tuple(members),
            traitors,
            tuple(sorted(reports, key=lambda report: report.consensus_key)),
            (),
        )
        plan = msgspec.structs.replace(plan, **changes)
        for name in signed_by:
            plan = with_signature(CHAIN_ID, plan, council_key(name))
        return plan


def council_key(name: str) -> SigningKey:
    """Return the key of a member of the council, or a stranger's."""
    return COUNCIL_KEYS.get(name) or make_key(name)
