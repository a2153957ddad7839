"""A world whose faults are told one by one, for what random ones would tell too rarely."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ledger.operations.governance import ProposeChange, VoteChange
from ledger.records import AGENDA_KEY, Agenda, RemoveValidator
from tests.simulation.options import Options, expand
from tests.simulation.workload import Workload
from tests.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ledger.operations import Operation
    from ledger.types import Digest, View
    from p2p.messages import Message
    from tests.simulation.process import Process

GOVERNANCE_MS = 60_000
"""Validity of a story's governance transactions."""


def calm(**changes: object) -> Options:
    """Return the options of a network of 2+2 without any fault."""
    options = replace(
        expand(0),
        government=2,
        commercial=2,
        observers=0,
        byzantine=(),
        whole_chamber=False,
        joiners=(),
        chamber_stops="",
        change_every_ms=0,
        evidence=False,
        disk_loss="",
        verification_ms=0,
        execution_ms=0,
        real_signatures=False,
        delay_ms=10,
        spread_ms=5,
        loss_percent=0,
        duplicate_percent=0,
        idle_ms=None,
    )
    return replace(options, **changes)  # type: ignore[arg-type]


class Story:
    """A world whose faults are told one by one."""

    def __init__(self, options: Options | None = None) -> None:
        self.world = World(options or calm())
        self.clients = Workload(self.world)
        self.world.start()

    def wait(self, duration_ms: int) -> None:
        self.world.timeline.run_until(self.world.timeline.now_ms + duration_ms)

    def leader(self, view: View) -> int:
        """Return the node that leads a view of the first epoch."""
        return self.world.leader((0, 0), view)

    def process(self, index: int) -> Process:
        process = self.world.nodes[index].process
        assert process is not None
        return process

    def wait_final(
        self, transaction: Digest, limit_ms: int, nodes: Iterable[int] = range(4)
    ) -> int:
        """Wait until nodes have executed a transaction; return how long that took."""
        begun_ms = self.world.timeline.now_ms

        def is_final() -> bool:
            return all(self.process(i).ledger.has_executed(transaction) for i in nodes)

        assert self.world.timeline.run_until(begun_ms + limit_ms, is_final), "not final in time"
        return self.world.timeline.now_ms - begun_ms

    def drop(self, is_dropped: Callable[[int, Message], bool] | None) -> None:
        """Lose all messages (by target) for which the condition holds; None: no more."""
        for node in self.world.nodes.values():
            node.filter = (
                None
                if is_dropped is None
                else lambda target, message: None if is_dropped(target, message) else message
            )

    def govern(self, organisation: str, operation: Operation) -> Digest:
        """Have an organisation's admin send a transaction to the first node."""
        universe = self.world.universe
        until = self.world.wall_ms() + GOVERNANCE_MS
        nonce = self.world.random.getrandbits(63)
        wire = universe.sign(universe.admin(organisation), nonce, until, (operation,))
        return self.clients.submit_wire(0, wire)

    def propose_removal(self, name: str, nodes: Iterable[int]) -> None:
        """Propose that a validator leaves, and approve it; wait until that is executed."""
        nodes = tuple(nodes)
        key = self.world.universe.everybody[name].consensus_key
        change = ProposeChange(None, RemoveValidator(key))
        self.wait_final(self.govern("org-g0", change), 10_000, nodes)
        agenda = self.process(nodes[0]).ledger.state.record(AGENDA_KEY)
        assert isinstance(agenda, Agenda)
        proposal = agenda.entries[0].proposal
        voters = {member.organisation for member in self.world.universe.validators} - {"org-g0"}
        for organisation in sorted(voters):
            self.govern(organisation, VoteChange(None, proposal, approve=True))

    def wait_epoch(self, epoch: int, limit_ms: int, nodes: Iterable[int]) -> int:
        """Wait until nodes are in an epoch; return how long that took."""
        begun_ms = self.world.timeline.now_ms

        def is_there() -> bool:
            return all(self.process(index).replica.epoch >= epoch for index in nodes)

        assert self.world.timeline.run_until(begun_ms + limit_ms, is_there), "epoch not in time"
        return self.world.timeline.now_ms - begun_ms
