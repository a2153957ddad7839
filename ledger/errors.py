"""Errors of the ledger: expected outcomes of bad input, each with a stable code.

    LedgerError
    ├── EncodingError          bytes that are not the one encoding of a value
    ├── ValueFormError         keys, names, text, JSON fields, validator sets in a wrong form
    ├── TransactionError       a transaction that no state could make acceptable now
    ├── ExecutionError         a transaction that this state refuses; recorded in a failed receipt
    ├── BlockError             a block that is invalid whatever the state is
    ├── GenesisError           a genesis file that describes no network
    └── ProofError             a proof that does not prove its claim

``permanent`` tells whether the same bytes can never become acceptable. ``InvariantViolation`` is
not in the tree: it means the node itself is wrong, is never caught, and stops the process. The
table of codes is normative: ``docs/protocol.md``, Error codes.
"""

from __future__ import annotations

from typing import ClassVar


class LedgerError(Exception):
    """Expected refusal of an input; ``code`` is stable and documented, the message explains."""

    code: ClassVar[str] = "ledger_error"
    permanent: ClassVar[bool] = True


class InvariantViolation(Exception):
    """A rule that the code itself guarantees is broken: stop the node at once, never continue."""

    def __init__(self, invariant: str, detail: str = "") -> None:
        super().__init__(f"invariant {invariant} is broken: {detail}" if detail else invariant)
        self.invariant = invariant
        """Stable name of the broken rule."""


class StateUnreadable(Exception):
    """Root of what a reader of stored state raises: says something about this node's disk only.

    Execution lets it pass, because a receipt must not depend on the disk of one node.
    """


# --- Encoding -------------------------------------------------------------------------------------


class EncodingError(LedgerError):
    """The bytes are not an encoding of the expected type."""


class MalformedEncoding(EncodingError):
    """Not msgpack, or not of the expected type, length or range."""

    code = "malformed_encoding"


class NonCanonicalEncoding(EncodingError):
    """Decodes, but differs from the one canonical encoding of its value."""

    code = "non_canonical_encoding"


class TooLarge(EncodingError):
    """Longer than the limit; refused before decoding."""

    code = "too_large"


# --- Forms of single values -----------------------------------------------------------------------


class ValueFormError(LedgerError):
    """One value is not in its form."""


class WeakPublicKey(ValueFormError):
    """Not the canonical encoding of an Ed25519 point of prime order."""

    code = "weak_public_key"


class InvalidAddress(ValueFormError):
    """Not the text form of an address."""

    code = "invalid_address"


class InvalidText(ValueFormError):
    """Free text that is too long, not NFC, or holds characters that cannot be shown safely."""

    code = "invalid_text"


class InvalidName(ValueFormError):
    """An identifier of an organisation or asset outside its alphabet."""

    code = "invalid_name"


class InvalidField(ValueFormError):
    """A JSON field of the wrong type, range or name; the message names its path."""

    code = "invalid_field"


class InvalidValidatorSet(ValueFormError):
    """The members cannot form a validator set."""

    code = "invalid_validator_set"


class InvalidEvidence(ValueFormError):
    """The two votes do not prove a fault."""

    code = "invalid_evidence"


# --- Transactions ---------------------------------------------------------------------------------


class TransactionError(LedgerError):
    """The transaction breaks a rule that does not depend on the state."""


class UnsupportedVersion(TransactionError):
    """The version of the transaction is not one that this protocol knows."""

    code = "unsupported_version"


class SignatureOrder(TransactionError):
    """Signatures are not in strictly ascending order of their keys."""

    code = "signature_order"


class InvalidSignature(TransactionError):
    """A signature does not verify under the strict Ed25519 rule."""

    code = "invalid_signature"


class InvalidOperation(TransactionError):
    """An operation's fields contradict each other."""

    code = "invalid_operation"


class Expired(TransactionError):
    """``valid_until`` has passed."""

    code = "expired"


class ValidUntilTooFar(TransactionError):
    """``valid_until`` is further ahead than the validity window."""

    code = "valid_until_too_far"
    permanent = False


# --- Execution ------------------------------------------------------------------------------------


class ExecutionError(LedgerError):
    """The state refuses the transaction; another state may accept the same bytes."""

    permanent = False


class AccountUnknown(ExecutionError):
    """An account that acts or is named is not registered."""

    code = "account_unknown"


class AccountExists(ExecutionError):
    """The address of the new account is taken."""

    code = "account_exists"


class AccountSuspended(ExecutionError):
    """A suspended account neither acts nor receives."""

    code = "account_suspended"


class InsufficientSignatures(ExecutionError):
    """The signing keys weigh less than the threshold of an acting account."""

    code = "insufficient_signatures"


class SuperfluousSignature(ExecutionError):
    """A signing key belongs to no acting account."""

    code = "superfluous_signature"


class OrganisationUnknown(ExecutionError):
    """No organisation has this id."""

    code = "organisation_unknown"


class NotOrganisationAdmin(ExecutionError):
    """Only the organisation's admin account may do this."""

    code = "not_organisation_admin"


class NotIssuer(ExecutionError):
    """Only the asset's issuer may do this."""

    code = "not_issuer"


class LicenceMissing(ExecutionError):
    """The organisation holds no licence for this class of asset."""

    code = "licence_missing"


class AdminLockout(ExecutionError):
    """The change would leave an organisation without a working admin account."""

    code = "admin_lockout"


class ForeignIssuer(ExecutionError):
    """The issuer of an asset must be an account of the organisation that creates it."""

    code = "foreign_issuer"


class AssetUnknown(ExecutionError):
    """No asset has this id."""

    code = "asset_unknown"


class AssetExists(ExecutionError):
    """The id of the new asset is taken."""

    code = "asset_exists"


class InsufficientBalance(ExecutionError):
    """The account holds less of the asset than the operation takes."""

    code = "insufficient_balance"


class SupplyOverflow(ExecutionError):
    """The supply would exceed the largest amount."""

    code = "supply_overflow"


class SelfTransfer(ExecutionError):
    """Source and receiver are the same account."""

    code = "self_transfer"


class HolderNotAuthorised(ExecutionError):
    """The asset's issuer has not authorised this account to hold it."""

    code = "holder_not_authorised"


class TransferLimitExceeded(ExecutionError):
    """The amount is above the asset's limit for one transfer."""

    code = "transfer_limit_exceeded"


class DayLimitExceeded(ExecutionError):
    """The account's transfers of this UTC day would be above the asset's limit."""

    code = "day_limit_exceeded"


class MemoRequired(ExecutionError):
    """The asset may be transferred only with a memo."""

    code = "memo_required"


class NotAlone(ExecutionError):
    """The operation carries signatures of its own, so it must be the only one of a transaction."""

    code = "not_alone"


class NotVoter(ExecutionError):
    """Only the admin of an organisation that runs a validator takes part in governance."""

    code = "not_voter"


class TooManyProposals(ExecutionError):
    """The organisation, or the network, has as many waiting proposals as allowed."""

    code = "too_many_proposals"


class ProposalUnknown(ExecutionError):
    """No proposal has this number."""

    code = "proposal_unknown"


class ProposalClosed(ExecutionError):
    """The proposal is not open for votes any more."""

    code = "proposal_closed"


class ValidatorUnknown(ExecutionError):
    """No member of the next set has this consensus key."""

    code = "validator_unknown"


class ValidatorExists(ExecutionError):
    """A name or key of the validator is one that the next set has already."""

    code = "validator_exists"


class ChamberMismatch(ExecutionError):
    """The validator's chamber is not that of its organisation."""

    code = "chamber_mismatch"


class ForeignValidator(ExecutionError):
    """The validator belongs to another organisation than the acting account."""

    code = "foreign_validator"


class SetTooSmall(ExecutionError):
    """The next set, or one of its chambers, would have fewer members than allowed."""

    code = "set_too_small"


class AbsentValidators(ExecutionError):
    """Members of the next set are not at work, and it cannot do without them."""

    def __init__(
        self,
        message: str,
        *,
        absent: tuple[tuple[str, int | None], ...],
        needed: int = 0,
        present: int = 0,
    ) -> None:
        super().__init__(message)
        self.absent = absent
        """Name of each, and the height at which it was last seen; None if it is not ready."""
        self.needed = needed
        """Present members that a quorum needs; 0 where each of the absent is needed."""
        self.present = present
        """Present members that there are."""


class QuorumAbsent(AbsentValidators):
    """Those members of the next set that are at work now would not be a quorum of it."""

    code = "quorum_absent"


class InvalidReadiness(ExecutionError):
    """The joining key did not sign this, or not for this time."""

    code = "invalid_readiness"


class ValidatorNotReady(AbsentValidators):
    """The joining key has not proven lately that its node is ready."""

    code = "validator_not_ready"


class KeyAccused(ExecutionError):
    """There is evidence against this consensus key: it can never enter a set again."""

    code = "key_accused"


class EvidenceKnown(ExecutionError):
    """Evidence against this consensus key is recorded already."""

    code = "evidence_known"


class EvidenceExpired(ExecutionError):
    """The epoch of the evidence was closed too long ago."""

    code = "evidence_expired"


class FeatureExists(ExecutionError):
    """The feature has its height already, or no more features are possible."""

    code = "feature_exists"


class FeatureHeightPassed(ExecutionError):
    """The height of the feature is not in the future."""

    code = "feature_height_passed"


class UnexpectedFailure(ExecutionError):
    """A defect in an operation's handler; the transaction fails alike on every node."""

    code = "execution_error"


# --- Blocks ---------------------------------------------------------------------------------------


class BlockError(LedgerError):
    """The block is invalid for every node, whatever its state."""


class BlockTooLarge(BlockError):
    """More transactions or bytes than the network allows."""

    code = "block_too_large"


class BodyMismatch(BlockError):
    """Count, size or root in the header do not match the transactions."""

    code = "body_mismatch"


class OutsideValidity(BlockError):
    """A transaction is not valid at the block's time."""

    code = "outside_validity"


class NonceUsed(BlockError):
    """A (sender, nonce) pair appears twice in the block, or was used by an ancestor."""

    code = "nonce_used"


# --- Genesis and proofs ---------------------------------------------------------------------------


class GenesisError(LedgerError):
    """The genesis breaks a rule; the message names the JSON path and what is allowed."""

    code = "invalid_genesis"


class ProofError(LedgerError):
    """The proof is malformed or does not lead to the expected root."""

    code = "invalid_proof"
