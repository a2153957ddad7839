"""Errors of the client side, and the exit code that each one gives a command.

    MbiError                 expected; a command prints one line and ends
    ├── UsageError           2  the call or the configuration is wrong
    │   └── KeyFileError        a key file cannot be used: see mbi.keyfiles
    ├── Unreachable          3  no answer from the node, or it is not ready
    ├── OutcomeUnknown       4  no answer, or none in time: what was sent may take effect
    ├── IntegrityViolation   5  what a node says contradicts proofs or other nodes
    └── OperationFailed      1  the node or the ledger refused
        ├── ApiProblem          a problem document of the HTTP API (RFC 9457)
        └── ProcessFailed       a node process ended or could not be started

Every message says what happened, with which value, and what to do next. ``permanent`` tells whether
the same call can ever succeed without a change.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What a command returns to the shell; scripts rely on these numbers."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    UNKNOWN = 4
    INTEGRITY = 5
    INTERRUPTED = 130


class MbiError(Exception):
    """Expected failure of something the user asked for."""

    code: ClassVar[str] = "mbi_error"
    permanent: ClassVar[bool] = True
    exit_code: ClassVar[ExitCode] = ExitCode.FAILED


class UsageError(MbiError):
    """The command line, a setting or an input file is wrong; nothing was attempted."""

    code = "usage"
    exit_code = ExitCode.USAGE


class Unreachable(MbiError):
    """The node did not answer, or answered that it is not ready."""

    code = "unreachable"
    permanent = False
    exit_code = ExitCode.UNREACHABLE


class OutcomeUnknown(MbiError):
    """No answer came, or none in time; what was asked for may still happen."""

    code = "outcome_unknown"
    permanent = False
    exit_code = ExitCode.UNKNOWN


class IntegrityViolation(MbiError):
    """Data of a node fails a cryptographic check or contradicts another node."""

    code = "integrity_violation"
    exit_code = ExitCode.INTEGRITY


class OperationFailed(MbiError):
    """The node understood and refused, or the ledger recorded a failure."""

    code = "operation_failed"


class ApiProblem(OperationFailed):
    """A problem document of the HTTP API; ``problem_code`` is its stable code."""

    code = "api_problem"

    def __init__(self, status: int, problem_code: str, detail: str, request_id: str = "") -> None:
        suffix = f" (request {request_id})" if request_id else ""
        super().__init__(f"{problem_code}: {detail}{suffix}")
        self.status = status
        self.problem_code = problem_code
        self.detail = detail
        self.request_id = request_id


class ProcessFailed(OperationFailed):
    """A child process ended unexpectedly or did not become ready."""

    code = "process_failed"
