"""All instances of one network: rounds of partitioned delivery over states that are run once.

An instance is a number that names its state; a step is looked up by the state and what it is given,
and run only if it is new. A step depends on the leaders too, on those it asked for.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ledger.types import Digest
from tests.twins.instance import (
    EVERYONE,
    NOTHING,
    OCCASIONS,
    RETRY,
    SOON,
    TIMEOUTS,
    Instance,
    Reaction,
    Schedule,
    Work,
)
from tests.twins.snapshot import freeze, thaw
from tests.unit.consensus.kit import Net

ROUND_MS: Final = 5_000
"""Virtual time of a round: longer than every timer that fires in it."""

TIMEOUT_MS: Final = 4_000
"""When views time out within a round."""

SOON_MS: Final = 60
"""Virtual time from quiet to the next RELAY or PROPOSE."""

WAVES_MAX: Final = 200
"""More deliveries one after another than any round needs: beyond it engines chatter without end."""

LIVE_MAX: Final = 512
"""Thawed instances kept, because what was made last is needed next."""


class Config(NamedTuple):
    """A network with one validator that runs twice."""

    government: int
    commercial: int
    twin_chamber: int
    """1 or 2: chamber of the twin, of which it is the first member."""

    def __str__(self) -> str:
        chamber = "government" if self.twin_chamber == 1 else "commercial"
        return f"{self.government}+{self.commercial} with a {chamber} twin"


class Facts(NamedTuple):
    """What the network needs to know about a state."""

    view: int
    due: frozenset[str]
    """Occasions for which timers wait; of the time-outs only those of the present view."""
    is_holding: bool
    """A block waits to be built."""
    final: tuple[Digest, ...]
    blocks: dict[Digest, int]
    """Numbers of the blocks that this instance can serve."""


class _Step(NamedTuple):
    asked: tuple[tuple[int, int], ...]
    """Leaders that it depended on, by view."""
    state: int
    reaction: Reaction


class _Origin(NamedTuple):
    """How a state came about, to get there again."""

    state: int
    work: Work
    asked: tuple[tuple[int, int], ...]


class Violation(Exception):
    """An invariant does not hold."""


States = tuple[int, ...]
Group = tuple[int, ...]
"""Places of the instances that hear each other."""


class World:
    """One configuration, with all states that were seen."""

    def __init__(self, config: Config) -> None:
        self.config: Final = config
        self.net: Final = Net(config.government, config.commercial)
        self.schedule: Final = Schedule()
        members = self.net.validators
        self.twin: Final = next(
            i for i in range(self.net.n) if members[i].chamber == config.twin_chamber
        )
        self.owners: Final = (*range(self.net.n), self.twin)
        """Validator of each instance; the last is the second process of the twin."""
        self.honest: Final = tuple(i for i in range(self.net.n) if i != self.twin)
        self.can_recover: Final = members.is_quorum(self.honest)
        """Whether the honest are a quorum, so that they must finalise when all is healed."""
        self.steps_run = 0
        self.rounds_run = 0
        """Rounds of one group each."""
        self._clear()
        halves = (place // self.net.n for place in range(len(self.owners)))
        created = [
            Instance.create(self.net, self.schedule, owner, self.twin, half)
            for owner, half in zip(self.owners, halves, strict=True)
        ]
        self._beginning: Final = [freeze(instance) for instance in created]

    def begin(self) -> States:
        """Forget every state but those of the start, which bounds memory; return these."""
        self._clear()
        return tuple(self._add(thaw(data), None, data) for data in self._beginning)

    def facts(self, state: int) -> Facts:
        """Return what is known about a state."""
        return self._facts[state]

    def play_round(
        self, states: States, views: int, groups: tuple[Group, ...], *, timeout: bool = True
    ) -> States:
        """Deliver, let time pass, and return the states after one round.

        Only instances of one group hear each other. ``views`` is the number of the round: the
        highest view that is worked on in it. With ``timeout`` those still in such a view give up.

        Raises:
            Violation: an instance broke an invariant, or saw one broken.
        """
        after = list(states)
        for group in groups:
            for place, state in self._play_group(states, views, group, timeout=timeout):
                after[place] = state
        self._check_agreement(after)
        return tuple(after)

    def settle(self, states: States) -> States:
        """Replace each state by the first equal one, and make it quick to return to."""
        settled = []
        for state in states:
            data = self._data.get(state)
            if data is None:
                data = self._data[state] = freeze(self._take(state))
            settled.append(self._equal.setdefault(data, state))
        return tuple(settled)

    def step(self, state: int, work: Work) -> _Step:
        """Return what an instance in this state does, from memory if it was asked before."""
        leaders = self.schedule.leaders
        known = self._steps.setdefault((state, work), [])
        for step in known:
            if all(leaders[view] == leader for view, leader in step.asked):
                return step
        instance = self._take(state)
        self.schedule.asked.clear()
        reaction = instance.act(work)
        self.steps_run += 1
        asked = tuple(self.schedule.asked.items())
        step = _Step(asked, self._add(instance, _Origin(state, work, asked)), reaction)
        known.append(step)
        return step

    def _play_group(
        self, states: States, views: int, group: Group, *, timeout: bool
    ) -> tuple[tuple[int, int], ...]:
        leaders = self.schedule.leaders
        key = (views, group, tuple(states[place] for place in group), timeout)
        known = self._group_rounds.setdefault(key, [])
        for asked, after in known:
            if all(leaders[view] == leader for view, leader in asked):
                return after
        self.rounds_run += 1
        moment = _Round(self, states, views, group)
        moment.settle(views * ROUND_MS, RETRY)
        if timeout:
            moment.settle(views * ROUND_MS + TIMEOUT_MS, TIMEOUTS)
        after = tuple(moment.states.items())
        known.append((tuple(moment.asked.items()), after))
        return after

    def _clear(self) -> None:
        self._facts: list[Facts] = []
        self._origins: list[_Origin | None] = []
        self._data: dict[int, bytes] = {}
        self._equal: dict[bytes, int] = {}
        self._live: dict[int, Instance] = {}
        self._steps: dict[tuple[int, Work], list[_Step]] = {}
        self._group_rounds: dict[
            tuple[int, Group, States, bool],
            list[tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]],
        ] = {}

    def _add(self, instance: Instance, origin: _Origin | None, data: bytes | None = None) -> int:
        number, view = len(self._facts), instance.engine.view
        self._facts.append(
            Facts(
                view,
                frozenset(
                    occasion
                    for timer in instance.timers
                    if (occasion := OCCASIONS.get(timer.kind)) is not None
                    and (occasion != TIMEOUTS or timer.view == view)
                ),
                instance.held is not None,
                instance.final,
                instance.blocks.copy(),
            )
        )
        self._origins.append(origin)
        if data is not None:
            self._data[number] = data
            self._equal[data] = number
        if len(self._live) >= LIVE_MAX:
            del self._live[next(iter(self._live))]
        self._live[number] = instance
        return number

    def _take(self, state: int) -> Instance:
        """Return an instance in this state, to be changed: kept, thawed, or brought there again."""
        instance = self._live.pop(state, None)
        if instance is not None:
            return instance
        data, origin = self._data.get(state), self._origins[state]
        if data is not None:
            restored: Instance = thaw(data)
            return restored
        assert origin is not None  # what has no origin has data
        instance = self._take(origin.state)
        leaders = self.schedule.leaders
        now = [(view, leaders[view]) for view, _ in origin.asked]
        for view, leader in origin.asked:
            leaders[view] = leader
        instance.act(origin.work)
        for view, leader in now:
            leaders[view] = leader
        self._data[state] = freeze(instance)  # what was wanted twice will be wanted again
        return instance

    def _check_agreement(self, states: list[int]) -> None:
        """I1: the finalised chains of the honest are one."""
        chains = [self._facts[states[place]].final for place in self.honest]
        longest = max(chains, key=len)
        for place, chain in zip(self.honest, chains, strict=True):
            if longest[: len(chain)] != chain:
                raise Violation(f"I1: validator {place} finalised another block")


class _Round:
    """One round of one group under way."""

    def __init__(self, world: World, states: States, views: int, group: Group) -> None:
        self.states = {place: states[place] for place in group}
        self.asked: dict[int, int] = {}
        """Leaders that the round depended on, by view."""
        self._world = world
        self._views = views
        owners = world.owners
        self._hears = {
            place: [other for other in group if owners[other] != owners[place]] for place in group
        }
        self._messages: dict[int, list[tuple[int, int]]] = {}
        self._blocks: dict[int, list[int]] = {}

    def settle(self, now_ms: int, fire: str) -> None:
        """Fire timers of everyone, then deliver and fire the short ones until all is quiet."""
        self._fire(now_ms, fire)
        for _ in range(WAVES_MAX):
            if self._messages or self._blocks:
                self._deliver(now_ms)
                continue
            now_ms += SOON_MS
            if not self._fire(now_ms, SOON):
                return
        raise Violation("I10: the network does not become quiet")

    def _fire(self, now_ms: int, occasion: str) -> bool:
        """Let the timers of an occasion fire; return whether there were any."""
        due = []
        for place, state in self.states.items():
            facts = self._world.facts(state)
            is_early = occasion == TIMEOUTS and facts.view > self._views
            is_beginning = occasion == RETRY and (facts.is_holding or self._views == 1)
            if is_beginning or (occasion in facts.due and not is_early):
                due.append(place)
        for place in due:
            self._act(place, Work(now_ms, self._views, occasion))
        return bool(due)

    def _deliver(self, now_ms: int) -> None:
        """Give everyone what was sent to it."""
        messages, blocks = self._messages, self._blocks
        self._messages, self._blocks = {}, {}
        for place in self.states:
            received, fetched = messages.get(place), blocks.get(place)
            if received or fetched:
                work = Work(
                    now_ms, self._views, NOTHING, tuple(received or ()), tuple(fetched or ())
                )
                self._act(place, work)

    def _act(self, place: int, work: Work) -> None:
        world = self._world
        asked, self.states[place], reaction = world.step(self.states[place], work)
        self.asked.update(asked)
        if reaction.problem is not None:
            raise Violation(reaction.problem)
        owner, owners = world.owners[place], world.owners
        for target, number in reaction.sent:
            for other in self._hears[place]:
                if target in (EVERYONE, owners[other]):
                    self._messages.setdefault(other, []).append((owner, number))
        for digest in reaction.wanted:
            for other in self._hears[place]:
                number_of = world.facts(self.states[other]).blocks.get(digest)
                if number_of is not None:
                    self._blocks.setdefault(place, []).append(number_of)
                    break
