"""When things go wrong: the schedule of faults of a run's first phase, and the healing after it.

Each kind of fault has its own recurring event and draws its next moment from the world's random
source. :meth:`Faults.heal` ends all of them: the core is connected, restarted and given good clocks
and disks; validators outside the core stay as broken as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ledger.types import Epoch, Era, View
from ledger.votes import Round
from storage.schema import QUARANTINE_KEY, SIGN_FLOOR_KEY, decode_round
from tests.simulation.governance import Governance, rest_is_quorum_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.disk import Image
    from tests.simulation.node import Node
    from tests.simulation.world import World

DOWN_MS: Final = (10, 200, 3_000, 12_000)
"""How long a crashed node stays down: drawn below one of these."""

HEALED_CLOCK_MS: Final = 200
"""Clock error after healing: below the 500 ms that V2 tolerates."""

HEALED_EXECUTION_MS: Final = 5
"""Time to execute a block after healing: a backlog must be worked off."""


class Faults:
    """The fault schedule of one run."""

    def __init__(self, world: World, governance: Governance) -> None:
        self.world = world
        self._governance = governance
        self.is_over = False
        self.core: tuple[int, ...] = ()
        """After healing: the nodes that must make progress."""
        self._random = world.random
        self._options = world.options
        self._old_image: Image | None = None
        self._has_lost_disk = False

    def start(self) -> None:
        """Schedule the first fault of each kind."""
        options = self._options
        for every_ms, strike in (
            (options.partition_every_ms, self._partition),
            (options.clog_every_ms, self._clog),
            (options.crash_every_ms, self._crash),
            (3_000 if options.disk_loss else 0, self._lose_disk),
            (4_000 if options.disk_loss and options.disk_damage else 0, self._damage_disk),
            (4_000 if options.chamber_stops else 0, self._stop_chamber),
            (2_000 if options.disk_slow_ms else 0, self._slow_disk),
            (2_500 if options.sync_errors else 0, self._break_sync),
            (3_000 if options.clock_skew_ms else 0, self._turn_clock),
            (3_000 if options.execution_ms else 0, self._slow_execution),
        ):
            if every_ms:
                self._again(every_ms, strike)
        for node in self.world.nodes.values():
            node.verification_ms = options.verification_ms
            self._set_clock(node)

    def heal(self) -> None:
        """End all faults inside the core; the rest stays broken."""
        self.is_over = True
        world = self.world
        for node in world.nodes.values():
            if node.disk.damaged:
                self._replace_disk(node)
        outside = self._choose_outside() if self._options.outside_core else []
        self.core = tuple(index for index in world.nodes if index not in outside)
        connected = [index for index in world.node_indexes if index not in outside]
        world.reconnect_all()
        world.net.heal(connected, self._options.delta_ms)
        for index in outside:
            self._freeze(world.nodes[index])
        for index in self.core:
            node = world.nodes[index]
            node.disk.sync_ms = 0
            node.disk.sync_fails = False
            node.execution_ms = min(node.execution_ms, HEALED_EXECUTION_MS)
            node.verification_ms = min(node.verification_ms, HEALED_EXECUTION_MS)
            node.clock_offset_ms = self._random.randint(-HEALED_CLOCK_MS, HEALED_CLOCK_MS)
            if node.process is not None:
                node.process.crash_after = None
            world.restart(node)
        world.trace.record(f"healed: core {self.core}, outside {outside}")

    def _choose_outside(self) -> list[int]:
        """Return as many honest validators as the core can spare, in every set that may come."""
        world = self.world
        names = list(world.names)
        sets = self._governance.possible_sets()
        failed = {names[index] for index in world.byzantine}
        honest = [index for index in world.nodes if index < len(names)]
        failed |= {names[index] for index in honest if self._may_not_vote(index)}
        outside: list[int] = []
        for index in self._random.sample(honest, len(honest)):
            more = failed | {names[index]}
            if names[index] not in failed and all(rest_is_quorum_of(each, more) for each in sets):
                failed = more
                outside.append(index)
        return outside

    def _may_not_vote(self, index: int) -> bool:
        """Say whether a node is in quarantine, or the network not yet above its signing floor."""
        node = self.world.nodes[index]
        floor = node.disk.live.get(SIGN_FLOOR_KEY)
        return is_quarantined(node) or (
            floor is not None and decode_round(floor) >= self._highest_round()
        )

    def _highest_round(self) -> Round:
        processes = [node.process for node in self.world.nodes.values() if node.is_up]
        rounds = [
            Round(p.replica.era, p.replica.epoch, p.replica.view)
            for p in processes
            if p is not None
        ]
        return max(rounds, default=Round(Era(0), Epoch(0), View(0)))

    def _freeze(self, node: Node) -> None:
        if self._random.random() < 0.5:
            self.world.crash(node, "for good")
        else:
            self.world.net.isolate(node.index)
            self.world.count("isolated for good")

    # --- one kind of fault each -------------------------------------------------------------------

    def _again(self, every_ms: int, strike: Callable[[], None]) -> None:
        delay_ms = self._random.randint(every_ms // 4, 2 * every_ms)
        self.world.timeline.after(delay_ms, self._strike, every_ms, strike)

    def _strike(self, every_ms: int, strike: Callable[[], None]) -> None:
        if not self.is_over:
            strike()
            self._again(every_ms, strike)

    def _some_node(self) -> Node:
        return self.world.nodes[self._random.choice(tuple(self.world.nodes))]

    def _partition(self) -> None:
        world, random = self.world, self._random
        world.reconnect_all()
        pairs = tuple(world.net.links)
        shape = random.choice(("none", "split", "one-way", "isolate", "isolate one-way"))
        side = {index for index in world.node_indexes if random.random() < 0.5}
        one = random.choice(world.node_indexes)
        cut: Callable[[tuple[int, int]], bool] = {
            "none": lambda pair: False,
            "split": lambda pair: (pair[0] in side) != (pair[1] in side),
            "one-way": lambda pair: random.random() < 0.3,
            "isolate": lambda pair: one in pair,
            "isolate one-way": lambda pair: pair[0] == one,
        }[shape]
        chosen = {pair for pair in pairs if cut(pair)}
        world.net.cut(chosen)
        world.trace.record(f"partition: {shape} {sorted(chosen)}")
        world.count(f"partition: {shape}")
        if shape in ("split", "isolate") and random.random() < 0.5:
            world.count("disconnection")
            for pair in sorted(chosen):
                world.set_connected(*pair, connected=False)

    def _clog(self) -> None:
        net = self.world.net
        for pair in self._random.sample(tuple(net.links), self._random.randint(1, 4)):
            if not net.links[pair].is_clogged:
                net.clog(pair)
                self.world.timeline.after(self._random.randint(100, 4_000), self._unclog, pair)

    def _unclog(self, pair: tuple[int, int]) -> None:
        if not self.is_over:
            self.world.net.unclog(pair)

    def _crash(self) -> None:
        nodes = [self._some_node()]
        if self._options.crash_all and self._random.random() < 0.25:
            nodes = list(self.world.nodes.values())
            self.world.count("crash of all nodes")
        down_ms = self._random.randint(1, self._random.choice(DOWN_MS))
        for node in nodes:
            if node.process is not None and node.is_up and self._random.random() < 0.7:
                node.process.crash_after = self._random.randint(1, 8)
                self.world.timeline.after(1_000, self._crash_now, node, node.process)
            else:
                self.world.crash(node, "between events")
            self.world.timeline.after(
                1_000 + down_ms + self._random.randint(0, 50), self._restart, node
            )

    def _crash_now(self, node: Node, process: object) -> None:
        """Crash at last: the process had too few effects to die between them."""
        if not self.is_over and node.process is process:
            self.world.crash(node, "between events")

    def _restart(self, node: Node) -> None:
        if not self.is_over:
            self.world.restart(node)

    def _lose_disk(self) -> None:
        node = self.world.nodes[self.world.names[self._options.disk_loss]]
        if self._old_image is None or (self._has_lost_disk and is_quarantined(node)):
            self._old_image = dict(node.disk.durable)
            return
        self.world.crash(node, "and loses its disk")
        if self._random.random() < 0.5:
            self.world.count("disk wiped")
            node.disk.wipe()
        else:
            self.world.count("old disk image restored")
            node.disk.restore(self._old_image)
        quarantine(node)
        self._has_lost_disk = True
        self.world.timeline.after(self._random.randint(1, 2_000), self._restart, node)

    def _damage_disk(self) -> None:
        """A bit flips in an old record; the node stops when it reads it, and starts empty."""
        node = self.world.nodes[self.world.names[self._options.disk_loss]]
        if self._has_lost_disk and is_quarantined(node):
            return
        node.disk.damage()
        self._has_lost_disk = True
        self.world.count("bit flipped in an old record")
        self.world.timeline.after(self._random.randint(500, 3_000), self._repair, node)

    def _repair(self, node: Node) -> None:
        """The operator starts a node anew whose disk is damaged; a restart finds the damage."""
        if not self.is_over and node.disk.damaged:
            self._replace_disk(node)

    def _replace_disk(self, node: Node) -> None:
        self.world.crash(node, "for a look at its disk")
        node.disk.wipe()
        quarantine(node)
        self.world.restart(node)

    def _stop_chamber(self) -> None:
        """All nodes of a chamber stop: the chain halts, and goes on when they return."""
        world = self.world
        chosen = [
            world.nodes[index]
            for name, index in world.names.items()
            if name[0] == self._options.chamber_stops and index in world.nodes
        ]
        world.count("chamber stopped")
        down_ms = self._random.choice((2_000, 10_000, 60_000))
        for node in chosen:
            world.crash(node, "with its chamber")
            world.timeline.after(down_ms + self._random.randint(0, 50), self._restart, node)

    def _slow_disk(self) -> None:
        self._some_node().disk.sync_ms = self._random.randint(0, self._options.disk_slow_ms)
        self.world.count("disk slow")

    def _break_sync(self) -> None:
        node = self._some_node()
        if node.is_up:
            node.disk.sync_fails = True
            self.world.timeline.after(self._random.randint(500, 3_000), self._restart_after, node)

    def _restart_after(self, node: Node) -> None:
        node.disk.sync_fails = False
        self._restart(node)

    def _turn_clock(self) -> None:
        self._set_clock(self._some_node())
        self.world.count("clock jump")

    def _set_clock(self, node: Node) -> None:
        skew_ms = self._options.clock_skew_ms
        node.clock_offset_ms = self._random.randint(-skew_ms, skew_ms)

    def _slow_execution(self) -> None:
        self._some_node().execution_ms = self._random.randint(0, self._options.execution_ms)
        self.world.count("execution slow")


def is_quarantined(node: Node) -> bool:
    """Say whether a node would start in quarantine, or is in it."""
    return QUARANTINE_KEY in node.disk.live


def quarantine(node: Node) -> None:
    """Mark a disk that may have forgotten votes, as the marker beside it makes a start do."""
    node.disk.add(QUARANTINE_KEY, b"votes may be lost")
    node.durable_height = 0
