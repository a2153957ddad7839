"""What happened in a run, as a running hash and, on demand, as readable lines.

Every event that could differ between two runs is recorded as one line. The hash over all lines is
the identity of the run: equal seeds give equal hashes on every machine, Python version and hash
seed. A campaign records nothing, since writing the lines costs as much as the run.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from consensus.types import Certificate, Proposal
from ledger.votes import Vote

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.timeline import Timeline


class Trace:
    """Collects the lines of one run; ``sink`` receives each readable line if given."""

    def __init__(
        self,
        timeline: Timeline,
        sink: Callable[[str], None] | None = None,
        *,
        is_on: bool = True,
    ) -> None:
        self.is_on = is_on or sink is not None
        """Whether lines are recorded at all; ask before making an expensive one."""
        self._timeline = timeline
        self._sink = sink
        self._hash = sha256()

    def record(self, line: str) -> None:
        """Add one line, stamped with the virtual time."""
        if not self.is_on:
            return
        stamped = f"{self._timeline.now_ms} {line}"
        self._hash.update(stamped.encode() + b"\n")
        if self._sink is not None:
            self._sink(stamped)

    def digest(self) -> str:
        """Return the hash over everything recorded so far, in hex; empty if nothing was."""
        return self._hash.hexdigest() if self.is_on else ""


def describe(message: object) -> str:
    """Return one short, deterministic line about a message."""
    if isinstance(message, Vote):
        return (
            f"{message.kind.name} e{message.epoch} v{message.view} p{message.value.parent_view}"
            f" {message.value.block_hash[:4].hex()} by {message.voter}"
        )
    if isinstance(message, Certificate):
        return (
            f"CERT-{message.kind.name} v{message.view} p{message.value.parent_view}"
            f" {message.value.block_hash[:4].hex()} {message.bitmap.hex()}"
        )
    if isinstance(message, Proposal):
        skips = ",".join(str(skip.view) for skip in message.skips)
        return (
            f"PROPOSAL v{message.view} h{message.header.height} p{message.value.parent_view}"
            f" {message.value.block_hash[:4].hex()} by {message.leader_vote.voter} skips[{skips}]"
        )
    certificates = getattr(message, "certificates", None)
    if certificates:
        return "CERTIFICATES " + "; ".join(describe(item) for item in certificates)
    text = type(message).__name__
    for name in ("view", "first", "last", "executed_height", "height"):
        value = getattr(message, name, None)
        if isinstance(value, int):
            text += f" {name}={value}"
    digest = getattr(message, "block_hash", None)
    return f"{text} {digest[:4].hex()}" if isinstance(digest, bytes) else text
