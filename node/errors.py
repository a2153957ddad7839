"""Errors of the running node.

::

    NodeError
    ├── ConfigError          the configuration cannot be used; lists every problem at once
    ├── HomeError            the node's directory is missing something or belongs to another chain
    ├── SubmissionRefused    a transaction is not admitted; ``code`` says why
    ├── FatalError           the process must end: disk failure, disagreement, dead task
    └── EraComplete          the node must start anew: an accepted plan opens the next era

``InvariantViolation`` of the ledger is not listed: nothing handles it, it ends the process.
"""

from __future__ import annotations

from typing import ClassVar


class NodeError(Exception):
    """Root: expected, and handled at the edge that caused it."""

    code: ClassVar[str] = "node_error"
    permanent: ClassVar[bool] = True


class ConfigError(NodeError):
    """The configuration cannot be used."""

    code = "config_invalid"

    def __init__(self, source: str, problems: list[str]) -> None:
        """``problems`` name the key, what was found and what is allowed, one per line."""
        self.problems = problems
        super().__init__(f"{source}: " + "; ".join(problems))


class HomeError(NodeError):
    """The node's home directory cannot be used as it is."""

    code = "home_invalid"


class FatalError(NodeError):
    """The process must end with a non-zero code; code and message are its last line."""

    code = "fatal"

    def __init__(self, message: str, *, cause: str = "fatal") -> None:
        """``cause``: code of what forced the end, for instance ``disk_full``."""
        self.cause = cause
        super().__init__(message)


class EraComplete(NodeError):
    """Nothing more can become final in this era: start again from disk, in the next one."""

    code = "era_complete"


class SubmissionRefused(NodeError):
    """A transaction is not admitted to the mempool now; later it may be."""

    permanent = False

    def __init__(self, code: str, detail: str) -> None:
        """``code`` is stable; ``detail`` says what was expected and what to do."""
        self.refusal = code
        self.detail = detail
        super().__init__(f"{code}: {detail}")
