"""Errors of light verification: which step failed, with what was expected and what was received.

    ConsensusError
    └── LightError
        ├── ForeignHeader          a header is not one of the present epoch
        ├── NotABoundary           the header that should close an epoch announces no next set
        ├── WrongMembers           the members are not the set that the boundary header announces
        ├── NotFinalized           the certificate is no finalization of the header by its set
        ├── BrokenLink             headers that should follow each other do not
        ├── NotExecuted            the header does not certify this result of this height
        ├── CheckpointMismatch     the chain differs from the trusted checkpoint, or ends before it
        └── DamagedProof           a proof file whose parts do not belong together

All are permanent: the same bytes can never become acceptable.
"""

from __future__ import annotations

from consensus.errors import ConsensusError


class LightError(ConsensusError):
    """The input proves nothing; ``code`` names the step that failed."""

    code = "light_error"


class ForeignHeader(LightError):
    """A field of the header is not what every header of the epoch has."""

    code = "light_foreign_header"


class NotABoundary(LightError):
    """The header closes no epoch."""

    code = "light_not_a_boundary"


class WrongMembers(LightError):
    """The members are no set, not in order, or hash to something else."""

    code = "light_wrong_members"


class NotFinalized(LightError):
    """No quorum of the epoch's set has finalised this header."""

    code = "light_not_finalized"


class BrokenLink(LightError):
    """A header does not name the hash or the height of the one below it."""

    code = "light_broken_link"


class NotExecuted(LightError):
    """A result is not the one that the certified header commits to."""

    code = "light_not_executed"


class CheckpointMismatch(LightError):
    """The chain does not pass through the checkpoint that the verifier trusts."""

    code = "light_checkpoint_mismatch"


class DamagedProof(LightError):
    """Kind, version or closing digest of a proof file are wrong."""

    code = "light_damaged_proof"
