"""Organisations that change the validator set, and clients that report evidence.

Each round looks at the state of the most advanced honest node and does what is missing: a proof of
readiness, a proposal, votes, a report. So it does not matter which of its transactions are lost.
Changes are drawn so that in every set the honest members that can vote are a quorum (condition H);
what else a change must obey is the ledger's business, and some proposals are meant to be refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace

from ledger.operations.governance import (
    ProposeChange,
    ReportEvidence,
    VoteChange,
    sign_readiness,
)
from ledger.records import (
    AGENDA_KEY,
    AddValidator,
    Agenda,
    ChangeProposal,
    ProposalStatus,
    RemoveValidator,
    RotateKey,
    SetParameters,
    evidence_key,
    proposal_key,
)
from ledger.types import PublicKey, Signature, TimeMs
from ledger.validators import Validator
from tests.simulation.options import rest_is_quorum

if TYPE_CHECKING:
    from consensus import effects as out
    from ledger.operations import Operation
    from ledger.records import Change, Parameters
    from ledger.state import State
    from ledger.types import ProposalId
    from ledger.votes import Vote
    from tests.simulation.process import Process
    from tests.simulation.workload import Workload
    from tests.simulation.world import World

VALIDITY_MS: Final = 120_000
"""Governance transactions are valid this long."""

AGAIN_MS: Final = 2_500
"""A transaction that has had no effect for so long is made again: it may have been lost."""

PARAMETERS_PERCENT: Final = 15
"""Share of changes that are of parameters: they need a boundary block, too."""

APPROVAL_PERCENT: Final = 85
"""An organisation approves in a round with this chance; it may think again in the next."""


class Goal(NamedTuple):
    """A change that shall come about."""

    change: Change
    joiner: str
    """Whose node must be ready; empty if nobody joins."""
    after: frozenset[str]
    """Names in the set that it leads to."""

    def is_reached(self, state: State, scheduled: frozenset[str]) -> bool:
        """Say whether the state has scheduled what the change asks for."""
        if isinstance(self.change, SetParameters):
            return state.validators.scheduled_parameters == self.change.parameters
        return self.after == scheduled


class Governance:
    """The members' decisions of one run."""

    def __init__(self, world: World, workload: Workload) -> None:
        self.is_over = False
        self.goal: Goal | None = None
        self._world = world
        self._workload = workload
        self._random = world.random
        self._names = {m.consensus_key: name for name, m in world.universe.everybody.items()}
        self._not_before: dict[tuple[object, ...], int] = {}
        """When each transaction may be made again."""
        self._evidence: dict[bytes, tuple[Vote, Vote]] = {}
        """One proof for each accused consensus key."""

    def start(self) -> None:
        """Begin, if the options ask for it."""
        if self._world.options.change_every_ms or self._world.options.evidence:
            self._again()

    def on_evidence(self, effect: out.ReportEvidence) -> None:
        """Keep a proof that an honest node has found."""
        accused = self._world.checker.knowledge.voter(effect.first)
        if accused is not None and self._world.options.evidence:
            self._evidence.setdefault(accused, (effect.first, effect.second))

    def possible_sets(self) -> list[frozenset[str]]:
        """Return the names in the present set, the scheduled one, and that of the goal."""
        found = [frozenset(m.name for m in self._newest_set())]
        process = self._leading_process()
        if process is not None:
            found.append(self._scheduled(process.ledger.state))
        if self.goal is not None:
            found.append(self.goal.after)
        return found

    # --- rounds -----------------------------------------------------------------------------------

    def _again(self) -> None:
        every_ms = self._world.options.change_every_ms or 1_500
        self._world.timeline.after(self._random.randint(every_ms // 4, every_ms), self._round)

    def _round(self) -> None:
        process = self._leading_process()
        if process is not None:
            self._report(process.ledger.state)
            if self._world.options.change_every_ms:
                self._change(process.ledger.state)
        if not self.is_over:
            self._again()

    def _leading_process(self) -> Process | None:
        """Return the honest process that has executed most."""
        up = [
            node.process
            for node in self._world.nodes.values()
            if node.process is not None and node.is_up
        ]
        return max(up, key=lambda each: each.ledger.durable_height, default=None)

    def _submit(self, what: tuple[object, ...], signer: str, operation: Operation) -> None:
        """Have an organisation's admin send a transaction to a random node, not too often."""
        world = self._world
        if world.timeline.now_ms < self._not_before.get((signer, *what), 0):
            return
        self._not_before[signer, *what] = world.timeline.now_ms + AGAIN_MS
        world.count(f"governance: {what[0]}")
        until = world.wall_ms() + VALIDITY_MS
        nonce = self._random.getrandbits(63)
        wire = world.universe.sign(world.universe.admin(signer), nonce, until, (operation,))
        self._workload.submit_wire(self._random.choice(tuple(world.nodes)), wire)

    # --- evidence ---------------------------------------------------------------------------------

    def _report(self, state: State) -> None:
        for accused, votes in self._evidence.items():
            if state.record(evidence_key(PublicKey(accused))) is None:
                self._submit(("evidence", accused), "org-g0", ReportEvidence(None, *votes))
                if self._random.random() < 0.3:
                    forged = self._forged(*votes)
                    self._submit(("forged evidence", accused), "org-g0", forged)

    def _forged(self, first: Vote, second: Vote) -> ReportEvidence:
        """Return a report that the ledger must refuse: a signature, or the voter, is another's."""
        if self._random.random() < 0.5:
            return ReportEvidence(None, first, _with(second, self._random.randbytes(64), 0))
        return ReportEvidence(None, _with(first, None, 1), _with(second, None, 1))

    # --- changes ----------------------------------------------------------------------------------

    def _change(self, state: State) -> None:
        agenda = state.record(AGENDA_KEY)
        assert isinstance(agenda, Agenda)
        if agenda.entries:
            for entry in agenda.entries:
                self._vote(state, entry.proposal)
            return
        record = state.validators
        is_pending = record.scheduled != record.members
        if is_pending or record.scheduled_parameters != state.parameters or self.is_over:
            return  # the next boundary first
        goal = self.goal
        if goal is None or goal.is_reached(state, self._scheduled(state)):
            if goal is not None:
                self._world.coverage["set changed as planned"] += 1
            self.goal = goal = self._draw(state)
        if goal is None:
            return
        if goal.joiner and not self._prepare(state, goal):
            return
        members = [self._names[m.consensus_key] for m in record.members]
        proposer = self._random.choice(sorted(members))
        organisation = self._world.universe.everybody[proposer].organisation
        what = (f"proposed: {type(goal.change).__name__}", goal.after)
        self._submit(what, organisation, ProposeChange(None, goal.change))

    def _vote(self, state: State, number: ProposalId) -> None:
        proposal = state.record(proposal_key(number))
        if not isinstance(proposal, ChangeProposal) or proposal.status is not ProposalStatus.OPEN:
            return
        approving = {vote.organisation for vote in proposal.votes if vote.approve}
        voters = {member.organisation for member in state.validators.members} - approving
        for organisation in sorted(voters):
            approve = self._random.randrange(100) < APPROVAL_PERCENT
            self._submit(("votes", number), organisation, VoteChange(None, number, approve))

    def _prepare(self, state: State, goal: Goal) -> bool:
        """Start the node that joins, and have it say that it is ready; True once it has."""
        world = self._world
        index = world.names[goal.joiner]
        node = world.nodes[index]
        if node.boots == 0:
            world.count("joiner started")
            world.boot(node)
            return False
        if node.process is None or not node.is_up:
            return False
        if node.process.ledger.durable_height + 2 < state.height:
            return False  # not synced yet
        validator = _validator_of(goal.change, world.universe.everybody[goal.joiner], state)
        expires = TimeMs(world.wall_ms() + VALIDITY_MS)
        key = world.scheme.key_pair(f"consensus {goal.joiner}")
        operation = sign_readiness(world.universe.chain_id, validator, expires, key)  # type: ignore[arg-type]
        self._submit(("readiness", goal.joiner), validator.organisation, operation)
        return True

    def _draw(self, state: State) -> Goal | None:
        """Draw a change after which the honest members that can vote are a quorum."""
        world, everybody = self._world, self._world.universe.everybody
        present = self._scheduled(state)
        absent = sorted(
            name
            for name in everybody
            if name not in present
            and world.names[name] in world.nodes
            and state.record(evidence_key(everybody[name].consensus_key)) is None
        )
        rivals = {name: name.removesuffix("b") for name in absent}
        goals: list[Goal] = []
        for name in absent:
            rival = rivals[name] if rivals[name] != name else f"{name}b"
            if rival not in present:
                change: Change = AddValidator(everybody[name])
                goals.append(Goal(change, name, present | {name}))
            else:
                new, old = everybody[name], everybody[rival]
                change = RotateKey(old.consensus_key, new.consensus_key, new.node_key)
                goals.append(Goal(change, name, (present - {rival}) | {name}))
        for name in sorted(present):
            change = RemoveValidator(everybody[name].consensus_key)
            goals.append(Goal(change, "", present - {name}))
        if self._random.randrange(100) < PARAMETERS_PERCENT:
            return Goal(SetParameters(self._other_parameters(state)), "", present)
        sound = [goal for goal in goals if self._is_sound(goal.after)]
        joining = [goal for goal in sound if goal.joiner]
        if joining and self._random.random() < 0.6:
            return self._random.choice(joining)
        return self._random.choice(sound) if sound else None

    def _other_parameters(self, state: State) -> Parameters:
        """Return the present parameters with another size of blocks; they begin with an epoch."""
        present = state.parameters
        sizes = [size for size in (4, 8, 16) if size != present.block_transactions_max]
        return replace(present, block_transactions_max=self._random.choice(sizes))

    def _is_sound(self, names: frozenset[str]) -> bool:
        """Say whether the members that can be relied on are a quorum of a set (H)."""
        world = self._world
        unreliable = {name for name in names if world.names[name] in world.byzantine}
        unreliable.add(world.options.disk_loss)
        if len(unreliable & names) * 3 >= len(names):
            return False
        return rest_is_quorum_of(names, unreliable)

    def _scheduled(self, state: State) -> frozenset[str]:
        return frozenset(self._names[m.consensus_key] for m in state.validators.scheduled)

    def _newest_set(self) -> tuple[Validator, ...]:
        sets = self._world.checker.knowledge.sets
        return tuple(
            self._world.universe.everybody[self._names[m.consensus_key]] for m in sets[max(sets)]
        )


def rest_is_quorum_of(names: frozenset[str], failed: set[str]) -> bool:
    """Say whether the members of a set other than the failed ones are a quorum of it."""
    government = sum(name[0] == "g" for name in names)
    return rest_is_quorum(government, len(names) - government, failed & names)


def _validator_of(change: Change, joiner: Validator, state: State) -> Validator:
    """Return what a joiner must prove to be; who rotates keys keeps the name."""
    if isinstance(change, RotateKey):
        for member in state.validators.members:
            if member.consensus_key == change.consensus_key:
                return Validator(
                    member.name,
                    member.organisation,
                    member.chamber,
                    change.new_consensus_key,
                    change.new_node_key,
                )
    return joiner


def _with(vote: Vote, signature: bytes | None, shift: int) -> Vote:
    kept = vote.signature if signature is None else Signature(signature)
    place = (vote.kind, vote.era, vote.epoch, vote.view, vote.value)
    return type(vote)(*place, vote.voter + shift, kept)
