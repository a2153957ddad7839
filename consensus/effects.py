"""Everything the consensus engine can ask its driver to do.

Effects are carried out **in order**. ``Persist`` is a barrier: no later ``Send`` or ``Broadcast``
may leave before the write is synced to disk, because a restarted node must know every vote a peer
may hold. A failed write is fatal: the driver ends the process, never retries.
"""

from __future__ import annotations

from msgspec import Struct

from consensus.inputs import PeerId, Timer
from consensus.types import Certificate, ConsensusMessage, Proposal
from ledger.block import Header
from ledger.types import Digest, Height, View
from ledger.votes import Round, Vote


class Persist(Struct, frozen=True):
    """Write to disk and sync before any later send (rules P1 to P4)."""

    votes: tuple[Vote, ...] = ()
    """Own votes about to be sent."""
    blocks: tuple[Digest, ...] = ()
    """Whole blocks the votes rest on; the driver holds their bodies since it verified them. Each is
    named once."""
    certificates: tuple[Certificate, ...] = ()
    proposal: Proposal | None = None
    """Own proposal about to be sent: a restarted leader repeats it and builds no second one."""
    sign_floor: Round | None = None
    """Never sign at or below this round again."""


class Store(Struct, frozen=True):
    """Write to disk without waiting: losing it costs a fetch, never safety."""

    certificates: tuple[Certificate, ...]


class Broadcast(Struct, frozen=True):
    """Send to every connected peer, validators and observers."""

    message: ConsensusMessage


class Send(Struct, frozen=True):
    """Send to one peer; dropped if it is not connected."""

    peer: PeerId
    message: ConsensusMessage


class SetTimer(Struct, frozen=True):
    """Fire ``timer`` at ``at_ms`` of the monotonic clock; replaces one of the same name."""

    timer: Timer
    at_ms: int


class CancelTimer(Struct, frozen=True):
    """Forget a timer; no effect if it is not set."""

    timer: Timer


class RequestProposal(Struct, frozen=True):
    """Build a block on ``parent`` for ``view``; answered by ``Built``.

    A block is built if transactions wait, if a view needs one (``empty_allowed``), or if a change
    of the validator set waits for one; a boundary block (V5) carries no transactions, and its
    payload is the canonical encoding of the new set. The engine itself repeats boundary blocks.

    The new header's ``parent_certificate_hash`` is
    ``certificates.certificate_hash(parent_certificate)``. Every block from the finalised head to
    ``parent`` was judged VALID before.
    """

    view: View
    parent: Header
    parent_certificate: Certificate | None
    """To be stored in the block; None on the child of the base."""
    proposer: int
    empty_allowed: bool
    """The view needs a block even if nothing waits; if False answer "no header" then."""


class RequestVerification(Struct, frozen=True):
    """Judge a block whose chain rules hold; answered by ``Verified``; repeated after ``NOT_YET``.

    The parent is finalised or was judged VALID before. The driver may also answer late, for example
    when missing transactions have arrived, or a second time after ``NOT_YET``.
    """

    block_hash: Digest
    header: Header
    payload: bytes | None
    """Of the proposal; None if the whole block is at hand already (``BlockReceived``)."""
    source: PeerId | None
    """Who offered the block, to ask for missing transactions first."""
    parent_certificate: Certificate | None = None
    """Of the proposal, whose header commits to it; None if the whole block is at hand."""


class FetchBlock(Struct, frozen=True):
    """Get a whole block by hash from the own store or a peer; answered by ``BlockReceived``.

    The driver goes on until the block arrives or is finalised without it. The effect is repeated on
    every retry of the engine: a repetition may name other peers and starts no second fetch.
    """

    block_hash: Digest
    peers: tuple[PeerId, ...]


class FetchChain(Struct, frozen=True):
    """Get finalised blocks from this height on: the chain up to ``target`` is missing here.

    A segment never goes beyond the boundary block of the present epoch, whose set proves it.

    The driver gets one segment, checks the finalization of its last block first and then the hash
    links, and feeds the blocks as ``BlockReceived``, lowest first, then the finalization as a
    received ``CertificateMessage``. The engine asks for the next segment when it has finalised this
    one, and repeats the effect on every retry: a repetition starts no second fetch.
    """

    first: Height
    """One above the engine's finalised height."""
    target: Certificate | None
    """Highest finalization held; the network may be beyond it by now. None if only the word of
    ``peers`` tells that there is more: they may have nothing to give, or lie."""
    peers: tuple[PeerId, ...]


class Finalize(Struct, frozen=True):
    """These blocks, oldest first, can never be reverted: execute and store them."""

    blocks: tuple[Digest, ...]
    certificate: Certificate
    """Finalization of the last block or of a descendant of it. A driver stores it with the block
    that it names (``certificate.value.block_hash``), so not at all if that is none of these."""


class ReportEvidence(Struct, frozen=True):
    """Two validly signed votes of one validator that an honest one never signs together."""

    first: Vote
    second: Vote


class Penalise(Struct, frozen=True):
    """The peer sent something that no correct node sends."""

    peer: PeerId
    reason: str
    """Code, for logs and metrics; ``docs/network.md`` lists them."""


class Halt(Struct, frozen=True):
    """Safety is violated or this node disagrees with a quorum: stop voting, keep serving.

    The driver keeps the certificates, which are the evidence, and tells the operator.
    """

    reason: str
    certificates: tuple[Certificate, ...]


Effect = (
    Persist
    | Store
    | Broadcast
    | Send
    | SetTimer
    | CancelTimer
    | RequestProposal
    | RequestVerification
    | FetchBlock
    | FetchChain
    | Finalize
    | ReportEvidence
    | Penalise
    | Halt
)
