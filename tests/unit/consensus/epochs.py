"""A chain through several epochs for tests of light verification: headers, sets and certificates.

Every epoch has a few ordinary blocks and ends with a boundary block. Signatures are those of the
kit unless a test brings its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

import msgspec

from consensus.certificates import certificate_hash
from consensus.leader import leader_order
from consensus.light import LightClient, SetChange
from consensus.types import Certificate
from ledger.block import Header, block_hash
from ledger.types import (
    ZERO_DIGEST,
    Digest,
    Epoch,
    Height,
    PublicKey,
    Signature,
    TimeMs,
    View,
)
from ledger.validators import Chamber, Validator, ValidatorSet
from ledger.votes import Value, VoteKind
from tests.unit.certifying import certify
from tests.unit.consensus.kit import CHAIN_ID, ERA, genesis, sign, validators, verify

SignAs = Callable[[PublicKey, bytes], Signature]


def members(names: Iterable[str]) -> ValidatorSet:
    """Return a set of these names; those that begin with ``g`` are of the government."""
    return ValidatorSet(
        Validator(
            name,
            f"organisation-{name}",
            Chamber.GOVERNMENT if name.startswith("g") else Chamber.COMMERCIAL,
            PublicKey(sha256(b"consensus " + name.encode()).digest()),
            PublicKey(sha256(b"node " + name.encode()).digest()),
        )
        for name in names
    )


DEFAULT_SETS: Final = (
    validators(2, 2),
    members(["g1", "g2", "c1", "c2", "c3"]),
    members(["g1", "g3", "g4", "c1", "c3", "c4", "c5"]),
    members(["g3", "g4", "c4", "c5"]),
)


@dataclass
class EpochChain:
    """Extends itself block by block; keeps everything that a light client is shown."""

    sets: Sequence[ValidatorSet] = DEFAULT_SETS
    chain_id: Digest = CHAIN_ID
    sign: SignAs = sign
    base: Header = field(init=False)
    headers: list[Header] = field(init=False, default_factory=list)
    """By height, genesis first."""
    changes: list[SetChange] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.genesis = self.base = genesis(self.sets[0])
        self.headers.append(self.base)
        self.epoch = 0

    @property
    def validators(self) -> ValidatorSet:
        return self.sets[self.epoch]

    def client(self, **options: object) -> LightClient:
        """Return a light client that trusts this chain's genesis."""
        return LightClient(self.chain_id, self.genesis, self.sets[0], verify, **options)  # type: ignore[arg-type]

    def hash_of(self, header: Header) -> Digest:
        return block_hash(self.chain_id, header)

    def block(self, view: int | None = None, **changes: object) -> Header:
        """Return the next block of the present epoch without adding it."""
        parent = self.headers[-1]
        is_first = parent is self.base
        chosen = View(view or (1 if is_first else parent.view + 1))
        order = leader_order(self.chain_id, ERA, Epoch(self.epoch), self.validators)
        certificate = None if is_first else self.certificate(parent, VoteKind.NOTARIZE)
        header = msgspec.structs.replace(
            parent,
            epoch=Epoch(self.epoch),
            height=Height(parent.height + 1),
            view=chosen,
            parent_hash=self.hash_of(parent),
            proposer=order[chosen % len(order)],
            time_ms=TimeMs(parent.time_ms + 100),
            parent_certificate_hash=certificate_hash(certificate),
            validator_set_hash=self.validators.hash,
            executed_height=Height(max(parent.height - 1, 0)),
            next_validator_set_hash=ZERO_DIGEST,
            previous_boundary_hash=self.hash_of(self.base),
        )
        return msgspec.structs.replace(header, **changes)

    def grow(self, count: int = 1) -> Header:
        """Add ordinary blocks; return the last."""
        for _ in range(count):
            self.headers.append(self.block())
        return self.headers[-1]

    def close(self, view: int | None = None, certified_view: int | None = None) -> SetChange:
        """Add the boundary block of the epoch and open the next one."""
        following = self.sets[self.epoch + 1]
        header = self.block(view, next_validator_set_hash=following.hash)
        certificate = self.certificate(header, view=certified_view)
        self.headers.append(header)
        change = SetChange(header, certificate, following.members)
        self.changes.append(change)
        self.base = header
        self.epoch += 1
        return change

    def certificate(
        self,
        header: Header,
        kind: VoteKind = VoteKind.FINALIZE,
        *,
        view: int | None = None,
        by: ValidatorSet | None = None,
        signers: Iterable[int] | None = None,
        epoch: int | None = None,
    ) -> Certificate:
        """Return a certificate over a header, by default of all members of the present set."""
        electorate = by or self.validators
        chosen = View(header.view if view is None else view)
        value = Value(View(chosen - 1), self.hash_of(header))
        in_epoch = Epoch(header.epoch if epoch is None else epoch)
        return certify(
            self.chain_id,
            electorate,
            range(electorate.size) if signers is None else signers,
            (kind, ERA, in_epoch, chosen, value),
            lambda member, message: self.sign(PublicKey(member.consensus_key), message),
        )

    def run(self, blocks: int = 3) -> EpochChain:
        """Go through all sets with so many blocks in each epoch before its boundary."""
        while self.epoch + 1 < len(self.sets):
            self.grow(blocks)
            self.close()
        self.grow(blocks)
        return self
