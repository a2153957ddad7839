"""A set change for tests: two networks, the boundary block between them, and who crosses it."""

from __future__ import annotations

from collections.abc import Iterable

from consensus.effects import Effect
from consensus.types import (
    Certificate,
    CertificateMessage,
    Status,
)
from ledger.types import Epoch, Height, View
from ledger.validators import ValidatorSet
from tests.unit.consensus.kit import ERA, Driven, Net, validators

JOINED = validators(3, 2)
"""The four validators of epoch 0 and another one (keys 0 to 4; the chambers are of no matter)."""


class Change:
    """A network in epoch 0, the boundary block that ends it, and the network of epoch 1."""

    def __init__(self, following: ValidatorSet = JOINED) -> None:
        self.before = Net(2, 2)
        self.boundary = self.before.boundary(1, None, following)
        self.after = Net(members=following, after=self.boundary)

    @property
    def closing(self) -> Certificate:
        return self.before.finalization(self.boundary)

    def place(self, index: int) -> int | None:
        """Return the index in the new set of a member of the old one."""
        key = self.before.validators[index].consensus_key
        return self.after.validators.index_of_key(key)

    def node(self, me: int | None, connect: Iterable[int] | None = None) -> Driven:
        return Driven(self.before, me, connect=connect)

    def finish(self, node: Driven) -> None:
        """Let the node finalise the boundary block."""
        node.propose(self.boundary)
        node.receive(CertificateMessage((self.closing,)), self.before.leader(2))
        assert node.finalized(node.history) == [self.boundary.hash]

    def switch(self, node: Driven, **restored: object) -> list[Effect]:
        me = None if node.me is None else self.place(node.me)
        return node.open(self.after, me, self.closing, **restored)

    def switched(self, me: int | None = None) -> Driven:
        """Return a node in epoch 1 that was a member of both sets."""
        node = self.node(self.before.leader(4) if me is None else me)
        self.finish(node)
        self.switch(node)
        return node


def index(change: Change, number: int) -> int:
    """Return the place in the old set of the validator with the key of this number."""
    name = f"validator-{number}"
    return next(i for i, member in enumerate(change.before.validators) if member.name == name)


def later_status(epoch: int) -> Status:
    """Return what a peer in a later epoch says on connecting."""
    return Status(b"", ERA, Epoch(epoch), View(1), Height(0), None, None, None)
