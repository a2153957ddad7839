"""How a validator that may have forgotten own votes learns from which round on it may vote again.

It follows the chain without voting until a *quorum* of other validators has answered its status
request, each proving its view by a certificate of the view before. Above the highest proven view
plus one it cannot have voted: the certificate that let it into its own last view was signed by a
quorum, which shares an honest member with those that answered, and honest nodes never report a view
lower than their own. Normative text: ``docs/protocol-consensus.md``, Restart.
"""

from __future__ import annotations

from typing import Final

from ledger.types import View
from ledger.validators import ValidatorSet


class Quarantine:
    """Proven views of the validators that have answered since this start."""

    __slots__ = ("_answered", "_highest", "_validators", "nonce")

    def __init__(self, validators: ValidatorSet, nonce: bytes) -> None:
        self._validators: Final = validators
        self.nonce: Final = nonce
        """Repeated in answers, so that they are known to be newer than the start."""
        self._answered = 0
        self._highest = View(0)

    def report(self, index: int, view: View) -> View | None:
        """Record one proven view; once a quorum has answered, return the highest unsafe view."""
        self._answered |= 1 << index
        self._highest = max(self._highest, view)
        if not self._validators.has_quorum(self._answered):
            return None
        return View(self._highest + 1)
