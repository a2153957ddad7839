"""Invariants of how nodes behave: I9, I10, I11 and H."""

from __future__ import annotations

from enum import Enum
from types import NoneType
from typing import TYPE_CHECKING, Final

from ledger.events import EvidenceReported
from tests.simulation.invariants.registry import Violation, are_conflicting

if TYPE_CHECKING:
    from consensus import effects as out
    from ledger.transition import BlockOutcome
    from tests.simulation.invariants.knowledge import Knowledge
    from tests.simulation.node import Node

ENGINE_ITEMS_MAX: Final = 5_000
"""Items in all containers of one engine with up to seven validators. Runs of 130 views reach 800;
an engine that keeps what a flooding validator sends goes beyond the limit in half a minute."""

USUAL_VALIDATORS: Final = 7
"""Above it the limit grows with the number of validators, as votes do."""

LEAVES: Final = (bytes, int, str, NoneType, Enum)
"""Most of what containers hold; nothing is to be counted in these."""


class I9NoFalseAccusation:
    """No evidence and no penalty against an honest node; evidence proves what it claims, once."""

    def __init__(self, knowledge: Knowledge) -> None:
        self.reported = 0
        self.convicted = 0
        self._knowledge = knowledge
        self._seen: set[tuple[int, int, int, int, int]] = set()

    def on_evidence(self, node: Node, effect: out.ReportEvidence) -> None:
        """Check a pair of votes that a node reports."""
        first, second = effect.first, effect.second
        key = (first.voter, first.era, first.epoch, first.view)
        if key != (second.voter, second.era, second.epoch, second.view):
            raise Violation("I9", f"evidence of node {node.index} pairs unrelated votes")
        if not are_conflicting((first.kind, first.value), (second.kind, second.value)):
            raise Violation("I9", f"evidence of node {node.index} proves nothing")
        if self._knowledge.voter(first) not in self._knowledge.byzantine:
            raise Violation("I9", f"node {node.index} accuses honest validator {first.voter}")
        reported = (node.index, node.boots, first.voter, first.epoch, first.view)
        if reported in self._seen and not self._knowledge.is_byzantine(node):
            raise Violation("I9", f"node {node.index} reports {key} twice")
        self._seen.add(reported)
        self.reported += 1

    def on_executed(self, outcome: BlockOutcome) -> None:
        """Nobody but a Byzantine validator is convicted on chain."""
        for receipt in outcome.receipts:
            for event in receipt.events:
                if isinstance(event, EvidenceReported):
                    self.convicted += 1
                    if event.validator.consensus_key not in self._knowledge.byzantine:
                        raise Violation("I9", f"{event.validator.name} is convicted, and honest")

    def on_penalised(self, node: Node, target: bytes | None, effect: out.Penalise) -> None:
        """Only Byzantine nodes are penalised; ``target`` is the consensus key of the peer."""
        knowledge = self._knowledge
        if not knowledge.is_byzantine(node) and target not in knowledge.byzantine:
            raise Violation("I9", f"node {node.index} penalises an honest one: {effect.reason}")


class I10BoundedMemory:
    """An engine does not hoard."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge
        self.largest = 0

    def check(self, node: Node) -> None:
        """Count the items of all containers of an engine."""
        process = node.process
        if process is None or not process.is_booted or self._knowledge.is_byzantine(node):
            return
        size = max(members.size for members in self._knowledge.sets.values())
        limit = ENGINE_ITEMS_MAX * max(USUAL_VALIDATORS, size) // USUAL_VALIDATORS
        items = container_items(process.replica)
        self.largest = max(self.largest, items)
        if items > limit:
            raise Violation("I10", f"engine of node {node.index} holds {items} items")


class I11IdleIsSilent:
    """An idle chain is silent: counts what must not grow then."""

    def __init__(self, knowledge: Knowledge) -> None:
        self.awake = 0
        """Timers fired and messages sent by honest nodes."""
        self._knowledge = knowledge

    def note(self, node: Node) -> None:
        """Count a timer or a message."""
        self.awake += not self._knowledge.is_byzantine(node)

    def check(self, before: int, duration_ms: int) -> None:
        """Compare with the count at the beginning of the silence."""
        if self.awake != before:
            noise = self.awake - before
            raise Violation("I11", f"{noise} timers and messages in {duration_ms} ms of idleness")


class HNobodyHalts:
    """No node halts: in every run the safety condition S holds."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    def on_halt(self, node: Node, effect: out.Halt) -> None:
        """A halt of an honest node says that it saw a contradiction."""
        if not self._knowledge.is_byzantine(node):
            raise Violation("H", f"node {node.index} halts: {effect.reason}")


def container_items(root: object) -> int:
    """Count the items of all containers reachable from an object's attributes."""
    seen: set[int] = set()
    stack: list[object] = [root]
    items = 0
    while stack:
        thing = stack.pop()
        if isinstance(thing, LEAVES) or id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, dict):
            items += len(thing)
            stack.extend(thing.values())
        elif isinstance(thing, list | tuple | set | frozenset) or hasattr(thing, "popleft"):
            members = list(thing)  # type: ignore[call-overload]
            items += len(members)
            stack.extend(members)
        elif type(thing).__module__.startswith("consensus.") and not callable(thing):
            names = [*getattr(thing, "__slots__", ()), *getattr(thing, "__dict__", ())]
            stack.extend(getattr(thing, name, None) for name in names)
    return items
