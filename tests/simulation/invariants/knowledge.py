"""What all invariants may know of a run: who voted for what, every block, and the final chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ledger.block import block_hash
from ledger.validators import ValidatorSet
from tests.simulation.invariants.registry import EpochKey, Registry, electorate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger.block import Header
    from ledger.types import Digest
    from ledger.validators import Validator
    from ledger.votes import Value, Vote
    from tests.simulation.node import Node
    from tests.simulation.universe import Universe


class Roots(NamedTuple):
    """What executing a height gave."""

    state: Digest
    history: Digest
    receipts: Digest


class Knowledge:
    """The facts of one run that invariants share."""

    def __init__(self, universe: Universe, byzantine: frozenset[bytes]) -> None:
        self.universe = universe
        self.byzantine = byzantine
        """Consensus keys of Byzantine validators."""
        self.registry = Registry()
        self.sets: dict[EpochKey, ValidatorSet] = {}
        """Validators of each epoch that has been opened."""
        self.headers: dict[Digest, Header] = {universe.header_hash: universe.header}
        """Every block anybody made."""
        self.corrupted: dict[Digest, str] = {}
        """Blocks that break a rule, and which."""
        self.forbidden: dict[Value, str] = {}
        """What proposals named that break a rule, and which."""
        self.chain: list[Digest] = [universe.header_hash]
        """The final chain."""
        self.roots: list[Roots] = [
            Roots(
                universe.outcome.state_root,
                universe.outcome.history_root,
                universe.outcome.receipts_root,
            )
        ]
        """Of each height that some node has executed."""
        self.acknowledged: dict[Digest, int] = {}
        """Ids of transactions that some client was told are final, and their height."""
        self.bases: dict[EpochKey, Digest] = {}
        """Block that opened each epoch."""
        self.open_epoch((0, 0), tuple(universe.validators), universe.header_hash)

    def open_epoch(self, epoch: EpochKey, members: Sequence[Validator], base: Digest) -> None:
        """Remember the validators of an epoch."""
        if epoch not in self.sets:
            self.sets[epoch] = ValidatorSet(members)
            self.bases[epoch] = base
            self.registry.epochs[epoch] = electorate(members, self.byzantine)

    def add_block(self, header: Header, corruption: str | None = None) -> Digest:
        """Remember a block that somebody made; return its hash."""
        digest = block_hash(self.universe.chain_id, header)
        self.headers[digest] = header
        if corruption is not None:
            self.corrupted[digest] = corruption
        return digest

    def is_byzantine(self, node: Node) -> bool:
        """Say whether a node belongs to a Byzantine validator."""
        return node.key is not None and node.key.public_key in self.byzantine

    def voter(self, vote: Vote) -> bytes | None:
        """Return the consensus key that a vote names; None if its epoch has no such member."""
        members = self.sets.get((vote.era, vote.epoch))
        if members is None or not 0 <= vote.voter < members.size:
            return None
        return bytes(members[vote.voter].consensus_key)
