"""Follows the finalised chain by signatures alone, without executing anything.

The client trusts a genesis: its hash is the chain id, its validators are the set of epoch 0.
From there every set hands over to the next one in a *boundary block*, the last block of its epoch:

* ``advance``: a boundary header, a FINALIZE certificate over its hash by a quorum of the present
  set (both chambers), and the members that hash to ``next_validator_set_hash``. Each boundary
  header names the one before, so the chain of epochs has no gap.
* ``check_final``: a header of the present epoch is final if such a certificate is over its hash, or
  over that of a descendant to which hashes lead.
* ``check_executed``: execution is deferred, so a final header commits to the result of an earlier
  height, and through ``history_root`` to that of every height before it.
* A chamber that is gone for good ends an era instead: a *recovery plan*, signed by the council of
  the genesis, closes the epoch at its base (``consensus.recovery``). ``advance`` takes it in place
  of the certificate. If the base is a boundary block without a certificate of its own, the plan is
  taken twice: it makes that block final, and it opens the era.

There is no skipping: every set change is checked, at a cost of one quorum of signatures (67 of 100
validators, 9 ms). What signatures cannot exclude is a second chain made with the keys of
validators that left long ago; a trusted *checkpoint*, the hash of the block that opened a recent
epoch, does. A call that raises changes nothing. Normative text: ``docs/proofs.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final

from msgspec import Meta, Struct

from consensus.certificates import verify_certificate
from consensus.errors import InvalidCertificate
from consensus.leader import leader, leader_order
from consensus.light.errors import (
    BrokenLink,
    CheckpointMismatch,
    ForeignHeader,
    NotABoundary,
    NotExecuted,
    NotFinalized,
    WrongMembers,
)
from consensus.recovery import RecoveryPlan, Trust, check_plan
from consensus.types import Certificate
from consensus.validity import EpochRules, is_boundary, is_statement_about
from ledger.block import HEADER_VERSION, Header, block_hash
from ledger.crypto import verify as verify_signature
from ledger.errors import InvalidValidatorSet, ProofError
from ledger.genesis import Genesis, genesis_block
from ledger.genesis import chain_id as chain_id_of
from ledger.history import history_leaf
from ledger.merkle import root_from_path
from ledger.recovery import RecoveryRules
from ledger.types import Digest, Epoch, Era, Height
from ledger.validators import VALIDATORS_MAX, Validator, ValidatorSet
from ledger.votes import Verify, VoteKind

DESCENDANTS_MAX: Final = 1024
"""Headers between a header and the certified one above it, as many as a chain segment has."""

_NO_RECOVERY: Final = RecoveryRules(None, {})

MembersField = Annotated[tuple[Validator, ...], Meta(min_length=1, max_length=VALIDATORS_MAX)]


class SetChange(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """One hand-over: everything that ``LightClient.advance`` needs."""

    header: Header
    """Of the last block of the epoch: its boundary block, or the base of a plan."""
    certificate: Certificate | RecoveryPlan
    """Finalization of the boundary block by the set of its epoch, or a plan of the council."""
    members: MembersField
    """The set of the next epoch, by consensus key."""


class LightClient:
    """Where a verifier stands: the present epoch, its set, and the block that opened it."""

    __slots__ = ("_checkpoints", "_trust", "_verify", "base", "chain_id", "rules")

    def __init__(
        self,
        chain_id: Digest,
        base: Header,
        validators: ValidatorSet,
        verify: Verify = verify_signature,
        checkpoints: Mapping[Epoch, Digest] | None = None,
        recovery: RecoveryRules = _NO_RECOVERY,
    ) -> None:
        """Begin at the genesis header ``base``, with the set that votes on its descendants.

        ``checkpoints`` gives, for some epochs, the hash of the block that opened each; ``recovery``
        says whose plans may change the era.
        """
        self.chain_id = chain_id
        self._verify = verify
        self._trust = Trust(chain_id, recovery, verify)
        self._checkpoints = dict(checkpoints or {})
        self._open(base.era, Epoch(0), base, block_hash(chain_id, base), validators)

    @classmethod
    def from_genesis(
        cls,
        genesis: Genesis,
        verify: Verify = verify_signature,
        checkpoints: Mapping[Epoch, Digest] | None = None,
    ) -> LightClient:
        """Return a client that trusts this genesis and nothing else."""
        validators = ValidatorSet(genesis.validators)
        place = (chain_id_of(genesis), genesis_block(genesis), validators)
        return cls(*place, verify, checkpoints, RecoveryRules.of(genesis))

    @property
    def epoch(self) -> Epoch:
        """The present epoch, which is also the number of set changes that were checked."""
        return self.rules.epoch

    @property
    def era(self) -> Era:
        """The present era: the number of recoveries that were checked."""
        return self.rules.era

    @property
    def validators(self) -> ValidatorSet:
        """The set of the present epoch."""
        return self.rules.validators

    @property
    def base_hash(self) -> Digest:
        """Hash of the block that opened the present epoch."""
        return self.rules.base_hash

    def advance(
        self,
        header: Header,
        certificate: Certificate | RecoveryPlan,
        members: Sequence[Validator],
    ) -> None:
        """Close the present epoch with its last block and open the next one.

        Raises:
            LightError: naming the check that failed; the client stays where it was.
            InvalidPlan: the same, for a plan.
        """
        if isinstance(certificate, RecoveryPlan):
            self._recover(header, certificate, members)
            return
        if not is_boundary(header):
            raise NotABoundary(
                f"epoch {self.epoch}: the header of height {header.height} announces no next set"
            )
        digest = self.check_final(header, certificate)
        validators = self._next_set(header, members)
        self._open(self.rules.era, Epoch(self.epoch + 1), header, digest, validators)

    def _recover(self, header: Header, plan: RecoveryPlan, members: Sequence[Validator]) -> None:
        """Close the present epoch with the base of a plan."""
        digest = block_hash(self.chain_id, header)
        opens_epoch = digest != self.base_hash and is_boundary(header)
        if digest != self.base_hash:
            self._check_place(header)
        check_plan(plan, header, self.rules, self._trust, opens_epoch=opens_epoch)
        if opens_epoch:
            validators = self._next_set(header, members)
            self._open(self.rules.era, Epoch(self.epoch + 1), header, digest, validators)
            return
        if tuple(members) != plan.members:
            raise WrongMembers(f"era {plan.era}: expected the members that the plan names")
        self._open(plan.era, plan.epoch, header, digest, ValidatorSet(members))

    def apply(self, change: SetChange) -> None:
        """Do what ``advance`` does with the parts of one hand-over."""
        self.advance(change.header, change.certificate, change.members)

    def check_final(
        self, header: Header, certificate: Certificate, descendants: Sequence[Header] = ()
    ) -> Digest:
        """Check that a header of the present epoch is final; return its block hash.

        ``descendants`` are the headers above it, ascending; ``certificate`` is over the last of
        them, or over ``header`` itself if there are none.

        Raises:
            LightError: naming the check that failed.
        """
        if len(descendants) > DESCENDANTS_MAX:
            raise BrokenLink(
                f"expected at most {DESCENDANTS_MAX} descendants, received {len(descendants)}"
            )
        self._check_place(header)
        first = digest = block_hash(self.chain_id, header)
        certified = header
        for child in descendants:
            self._check_place(child)
            if (child.parent_hash, child.height) != (digest, certified.height + 1):
                raise BrokenLink(
                    f"expected height {certified.height + 1} on {digest.hex()}, received height "
                    f"{child.height} on {child.parent_hash.hex()}"
                )
            if is_boundary(certified):
                raise BrokenLink(f"the boundary block of height {certified.height} has no children")
            certified, digest = child, block_hash(self.chain_id, child)
        self._check_certificate(certified, digest, certificate)
        return first

    def check_executed(
        self,
        certified: Header,
        certificate: Certificate,
        height: Height,
        results: tuple[Digest, Digest, Digest],
        path: Sequence[bytes],
    ) -> None:
        """Check the result of one executed height against a final header.

        ``results`` are block hash, state root and receipts root; ``path`` leads from them to the
        header's ``history_root``.

        Raises:
            LightError: naming the check that failed.
        """
        self.check_final(certified, certificate)
        check_results(certified, height, results, path)

    def require_checkpoints(self) -> None:
        """Check that the chain has passed every checkpoint.

        Raises:
            CheckpointMismatch: it ends before one, which then protects nothing.
        """
        beyond = max(self._checkpoints, default=Epoch(0))
        if beyond > self.epoch:
            raise CheckpointMismatch(
                f"expected a chain that reaches the checkpoint of epoch {beyond}, received one "
                f"that ends in epoch {self.epoch}"
            )

    def _open(
        self, era: Era, epoch: Epoch, base: Header, base_hash: Digest, validators: ValidatorSet
    ) -> None:
        trusted = self._checkpoints.get(epoch, base_hash)
        if trusted != base_hash:
            raise CheckpointMismatch(
                f"epoch {epoch}: expected to be opened by {trusted.hex()}, received "
                f"{base_hash.hex()}"
            )
        self.base = base
        """The block that opened the present epoch."""
        order = leader_order(self.chain_id, era, epoch, validators)
        self.rules = EpochRules(era, epoch, validators, order, base_hash)
        """What all headers of the present epoch have in common."""

    def _next_set(self, header: Header, members: Sequence[Validator]) -> ValidatorSet:
        where = f"epoch {self.epoch + 1}"
        if len(members) > VALIDATORS_MAX:
            raise WrongMembers(
                f"{where}: expected at most {VALIDATORS_MAX} members, received {len(members)}"
            )
        try:
            validators = ValidatorSet(members)
        except InvalidValidatorSet as error:
            raise WrongMembers(f"{where}: {error}") from error
        if tuple(members) != validators.members:
            raise WrongMembers(f"{where}: expected the members in order of their consensus keys")
        if validators.hash != header.next_validator_set_hash:
            raise WrongMembers(
                f"{where}: expected members with hash {header.next_validator_set_hash.hex()}, "
                f"received {validators.hash.hex()}"
            )
        return validators

    def _check_place(self, header: Header) -> None:
        """Check what headers of the present epoch have in common, and the leader's turn."""
        rules = self.rules
        for field, received, expected in (
            ("version", header.version, HEADER_VERSION),
            ("era", header.era, rules.era),
            ("epoch", header.epoch, rules.epoch),
            ("validator_set_hash", header.validator_set_hash, rules.validators.hash),
            ("previous_boundary_hash", header.previous_boundary_hash, rules.base_hash),
            ("proposer", header.proposer, leader(rules.order, header.view)),
        ):
            if received != expected:
                raise ForeignHeader(
                    f"height {header.height}: expected {field} {_shown(expected)}, received "
                    f"{_shown(received)}"
                )
        if header.height <= self.base.height or not 0 <= header.executed_height < header.height:
            raise ForeignHeader(
                f"epoch {self.epoch}: expected a height above {self.base.height} that executed a "
                f"lower one, received {header.height} with {header.executed_height}"
            )

    def _check_certificate(self, header: Header, digest: Digest, certificate: Certificate) -> None:
        where = f"height {header.height}"
        if certificate.kind is not VoteKind.FINALIZE:
            raise NotFinalized(
                f"{where}: expected a finalization, received {certificate.kind.name}"
            )
        if certificate.value.block_hash != digest:
            raise NotFinalized(
                f"{where}: expected a certificate over {digest.hex()}, received one over "
                f"{certificate.value.block_hash.hex()}"
            )
        if not is_statement_about(header, None, certificate.view, certificate.value):
            raise NotFinalized(
                f"{where}: expected a certificate of view {header.view}, received one of view "
                f"{certificate.view} on {certificate.value.parent_view}"
            )
        rules = self.rules
        try:
            verify_certificate(
                certificate, self.chain_id, rules.validators, rules.era, rules.epoch, self._verify
            )
        except InvalidCertificate as error:
            raise NotFinalized(f"{where}: {error}") from error


def check_results(
    certified: Header,
    height: Height,
    results: tuple[Digest, Digest, Digest],
    path: Sequence[bytes],
) -> None:
    """Check that block hash, state root and receipts root of a height lead to ``history_root``.

    Raises:
        NotExecuted: they do not, or the header's history ends below the height.
    """
    if not 0 <= height <= certified.executed_height:
        raise NotExecuted(
            f"expected a height up to {certified.executed_height}, which the header of height "
            f"{certified.height} certifies; received {height}"
        )
    try:
        root = root_from_path(history_leaf(*results), height, certified.executed_height + 1, path)
    except ProofError as error:
        raise NotExecuted(f"history of height {height}: {error}") from error
    if root != certified.history_root:
        raise NotExecuted(
            f"history of height {height}: expected a path to {certified.history_root.hex()}, "
            f"received one to {root.hex()}"
        )


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
