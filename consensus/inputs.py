"""Everything that can happen to the consensus engine.

The engine is a function of these inputs and of the time passed with them; it reads no clock,
socket, disk or random source. A driver (the node, or the simulator) turns the outside world into
inputs.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import NewType

from msgspec import Struct

from consensus.config import EngineConfig, Restored
from consensus.types import Certificate, ConsensusMessage
from ledger.block import Header
from ledger.types import Digest, Height, View

PeerId = NewType("PeerId", bytes)
"""Node key (Ed25519 public key of the channel) of a connected node; a validator's is in its set."""


class Verdict(Enum):
    """Application's answer about a block: the three cases that consensus must tell apart."""

    VALID = "valid"
    INVALID = "invalid"
    """Can never become valid."""
    NOT_YET = "not_yet"
    """Depends on something this node does not have yet (its clock, an execution result, a body)."""


class TimerKind(StrEnum):
    """The engine's timers; at most one of each kind runs per view."""

    LEAD = "lead"
    """No proposal from the leader yet."""
    VIEW = "view"
    """No certificate in this view yet."""
    PROPOSE = "propose"
    """Minimum block interval is over."""
    RETRY = "retry"
    """Repeat what may have been lost."""
    RELAY = "relay"
    """Forward a certificate to peers that may not have it."""
    SEAL = "seal"
    """The last state root is not in a final header yet."""
    BEAT = "beat"
    """Liveness beacon of an idle chain."""


class Timer(Struct, frozen=True):
    """Name of one timer."""

    kind: TimerKind
    view: View


class Received(Struct, frozen=True):
    """A decoded message from a connected, authenticated peer.

    The driver has dropped proposals whose payload is not the one that their header commits to (the
    transactions of ``transactions_root``, or the set of ``next_validator_set_hash``): the leader's
    signature covers the header only. A repeated proposal, ``view`` above ``header.view``, has no
    payload, and the engine checks that.
    """

    peer: PeerId
    message: ConsensusMessage


class TimerFired(Struct, frozen=True):
    """A timer set by ``SetTimer`` has run out."""

    timer: Timer


class Built(Struct, frozen=True):
    """Answer to ``RequestProposal``; ``header`` is None if nothing can be built now."""

    view: View
    header: Header | None
    payload: bytes
    """Opaque list of the block's transactions, repeated in the proposal."""


class Verified(Struct, frozen=True):
    """Answer to ``RequestVerification``."""

    block_hash: Digest
    verdict: Verdict


class BlockReceived(Struct, frozen=True):
    """Answer to ``FetchBlock`` or ``FetchChain``: a whole block is at hand, not yet judged.

    The driver has recomputed the hash and checked that body and parent certificate match the
    header.
    """

    header: Header
    parent_certificate: Certificate | None


class Executed(Struct, frozen=True):
    """The finalised block of this height has been executed and stored durably."""

    height: Height


class WorkChanged(Struct, frozen=True):
    """Whether a block is wanted: transactions wait, or a change of the validator set does.

    Transactions wait if some are not finalised and not in a block that still may be. A change waits
    from the moment at which a block would bring it forward until its boundary block is final: a
    scheduled set waits for its boundary block (V5), an approved change whose notice is over waits
    for any block that schedules it. The application reports that here, or an idle chain would not
    reach its boundary; and it builds such a block though nothing else waits (``RequestProposal``).

    May be repeated. After a ``Built`` without a header, True asks the leader to try again. Counting
    the transactions of unfinalised blocks as waiting is allowed too: it costs a few timers, no
    blocks.
    """

    pending: bool


class PeerConnected(Struct, frozen=True):
    """An authenticated channel to this peer is up."""

    peer: PeerId


class PeerDisconnected(Struct, frozen=True):
    """The channel to this peer is gone."""

    peer: PeerId


class PeerAhead(Struct, frozen=True):
    """From the replica to its engine: this peer speaks of a later epoch (unproven)."""

    peer: PeerId


class EpochOpened(Struct, frozen=True):
    """The boundary block of the present epoch is executed and durable: the next epoch begins.

    Posted once, when a restart at this moment would begin in the new epoch too. The driver looks
    up by its consensus key whether it is a member of the new set (``config.me``) and gives what its
    disk has of the new epoch; after a live switch that is nothing but the base.
    """

    config: EngineConfig
    """Of the new epoch: ``base`` is the boundary block, ``validators`` the set that it names."""
    restored: Restored
    """``finalized`` is the boundary block; the nonce is still that of the start."""
    closing: Certificate
    """Finalization of the boundary block, by the old set."""


EpochInput = (
    Received
    | TimerFired
    | Built
    | Verified
    | BlockReceived
    | Executed
    | WorkChanged
    | PeerConnected
    | PeerDisconnected
    | PeerAhead
)
"""What an engine, the machine of one epoch, is stepped with."""

Input = EpochInput | EpochOpened
"""What a replica is stepped with."""
