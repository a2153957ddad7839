"""Errors of consensus: what a peer or an operator can get wrong, each with a stable code.

    ConsensusError
    ├── InvalidCertificate     not a quorum of valid signatures of the set over one statement
    ├── InvalidHeader          a block breaks a chain rule (A1-A3, V1-V5)
    └── InvalidPlan            a recovery plan breaks a rule of era changes (R1-R4)

All are permanent: the same bytes can never become acceptable. What may change with time is not an
error but the verdict ``NOT_YET``.
"""

from __future__ import annotations

from typing import ClassVar


class ConsensusError(Exception):
    """Expected refusal of an input; ``code`` is stable and documented, the message explains."""

    code: ClassVar[str] = "consensus_error"
    permanent: ClassVar[bool] = True


class InvalidCertificate(ConsensusError):
    """The bytes do not prove that a quorum made the statement."""

    code = "invalid_certificate"


class InvalidHeader(ConsensusError):
    """A header breaks a chain rule; the message starts with the name of the rule."""

    code = "invalid_header"


class InvalidPlan(ConsensusError):
    """A recovery plan, or a report for one, does not prove what it must."""

    code = "invalid_plan"
