"""Errors of the ledger: expected outcomes of bad input, each with a stable code.

``LedgerError`` is the root. ``permanent`` tells whether the same bytes can ever become acceptable.
``InvariantViolation`` is not an expected error: it means the node itself is wrong, is never caught,
and stops the process.
"""

from __future__ import annotations

from typing import ClassVar


class LedgerError(Exception):
    """Expected refusal of an input; ``code`` is stable and documented, the message explains."""

    code: ClassVar[str] = "ledger_error"
    permanent: ClassVar[bool] = True


class InvariantViolation(Exception):  # noqa: N818 - the field's word; it is never handled
    """A rule that the code itself guarantees is broken: stop the node at once, never continue."""
