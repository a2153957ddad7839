"""A network whose validator set changes: one organisation per validator, blocks with signers.

Everybody votes and signs unless a test takes them away. A boundary block comes as soon as the
executed height covers a schedule, as the rules of consensus make it come.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from ledger.block import Block, Header
from ledger.crypto import SigningKey
from ledger.genesis import (
    DEFAULT_PARAMETERS,
    GENESIS_VERSION,
    Genesis,
    GenesisAccount,
    GenesisOrganisation,
)
from ledger.operations import Operation, ProposeChange, ReportEvidence, VoteChange
from ledger.operations.governance import sign_readiness
from ledger.receipt import Receipt
from ledger.records import Change, ChangeProposal, Parameters, RemoveValidator
from ledger.transaction import DecodedTransaction
from ledger.transition import BlockExecution, BlockOutcome
from ledger.types import Digest, Epoch, Era, Height, ProposalId, Signature, TimeMs, View
from ledger.validators import Chamber, Validator, ValidatorSet, mask_of
from ledger.votes import NULL_VALUE, Value, Vote, VoteKind, vote_signing_bytes
from tests.unit.ledger.builders import (
    GENESIS_TIME_MS,
    Chain,
    address,
    key_weight,
    make_header,
    make_key,
)

NOTICE_MS: Final = 5_000
"""Five blocks of a second."""

PARAMETERS: Final = msgspec.structs.replace(
    DEFAULT_PARAMETERS,
    change_notice_ms=NOTICE_MS,
    change_lifetime_ms=60_000,
    readiness_ms=20_000,
)

EXECUTION_LAG: Final = 2
"""Heights between a block and the executed height in its header."""


def chamber_of(name: str) -> Chamber:
    """Return the chamber that a name like ``gov-1`` says."""
    return Chamber.GOVERNMENT if name.startswith("gov") else Chamber.COMMERCIAL


def consensus_key(name: str, number: int = 0) -> SigningKey:
    """Return the consensus key of a validator; the number tells rotated keys apart."""
    return make_key(f"{name} consensus {number}")


def validator(name: str, number: int = 0, *, organisation: str | None = None) -> Validator:
    """Return the validator of a name with its keys."""
    return Validator(
        name,
        organisation or name,
        chamber_of(name),
        consensus_key(name, number).public_key,
        make_key(f"{name} node {number}").public_key,
    )


def names(government: int, commercial: int) -> list[str]:
    """Return ``gov-1``, ... and ``com-1``, ..."""
    return [f"gov-{i}" for i in range(1, government + 1)] + [
        f"com-{i}" for i in range(1, commercial + 1)
    ]


def make_network(
    government: int = 2,
    commercial: int = 3,
    *,
    waiting: Sequence[str] = ("gov-8", "gov-9", "com-8", "com-9"),
    parameters: Parameters = PARAMETERS,
) -> Genesis:
    """Return a network with these validators; ``waiting`` organisations run none yet.

    Each organisation has an admin account named like it and an ordinary one, ``NAME clerk``.
    """
    running = names(government, commercial)
    everyone = [*running, *waiting]
    return Genesis(
        GENESIS_VERSION,
        "electorate",
        TimeMs(GENESIS_TIME_MS),
        dev=True,
        faucet=None,
        parameters=parameters,
        organisations=tuple(
            GenesisOrganisation(name, name, chamber_of(name), 1, (), address(name))
            for name in everyone
        ),
        accounts=tuple(
            GenesisAccount(name, (key_weight(account),), 1, 1)
            for name in everyone
            for account in (name, f"{name} clerk")
        ),
        validators=tuple(validator(name) for name in running),
        assets=(),
        balances=(),
        council=None,
    )


class Electorate(Chain):
    """A chain whose blocks have signers, executed heights and boundaries."""

    def __init__(self, genesis: Genesis | None = None) -> None:
        super().__init__(make_network() if genesis is None else genesis)
        self.absent: set[str] = set()
        """Validators that neither propose nor sign, by name."""
        self.boundaries: list[Header] = []
        self.executed: list[tuple[Block, int]] = []
        """Blocks, without certificates, and the signers of their parents' (a mask)."""
        self.outcomes: list[BlockOutcome] = []
        self._schedules: list[tuple[Height, tuple[Validator, ...]]] = []
        self._base_executed = Height(0)

    # --- Blocks ---

    @property
    def members(self) -> list[str]:
        """Names of the present set, sorted."""
        return sorted(member.name for member in self.state.validators.members)

    def next_header(
        self, transactions: Sequence[DecodedTransaction], time_ms: int | None
    ) -> Header:
        """Return the header of the next block: a boundary if a schedule is covered."""
        record = self.state.validators
        height = self.state.height + 1
        executed = Height(max(height - 1 - EXECUTION_LAG, 0))
        header = make_header(height, transactions, time_ms=time_ms)
        present = [i for i, m in enumerate(record.members) if m.name not in self.absent]
        header = msgspec.structs.replace(
            header,
            epoch=record.epoch,
            executed_height=executed,
            proposer=present[height % len(present)],
        )
        pending = self._pending(executed)
        if pending is not None:
            header = msgspec.structs.replace(
                header, next_validator_set_hash=ValidatorSet(pending).hash
            )
        return header

    def _pending(self, executed: Height) -> tuple[Validator, ...] | None:
        covered = [members for h, members in self._schedules if self._base_executed < h <= executed]
        return covered[-1] if covered else None

    def execute(
        self, *transactions: DecodedTransaction, time_ms: int | None = None
    ) -> BlockOutcome:
        """Execute the next block; boundary blocks come before it as long as one is due."""
        while self._pending(Height(max(self.state.height - EXECUTION_LAG, 0))) is not None:
            self._execute((), None)
        return self._execute(transactions, time_ms)

    def _execute(
        self, transactions: Sequence[DecodedTransaction], time_ms: int | None
    ) -> BlockOutcome:
        header = self.next_header(transactions, time_ms)
        pending = self._pending(header.executed_height)
        members = self.state.validators.members
        signers = mask_of(i for i, m in enumerate(members) if m.name not in self.absent)
        wires = [transaction.wire for transaction in transactions]
        self.executed.append((Block(header, b"", wires, pending or ()), signers))
        execution = BlockExecution(self.state, header, signers, pending)
        for transaction in transactions:
            execution.apply(transaction)
        outcome = execution.finish()
        self.reader.write(outcome)
        self.state.stored(outcome.height)
        self.outcomes.append(outcome)
        if outcome.schedule is not None:
            self._schedules.append(outcome.schedule)
        if pending is not None:
            self._base_executed = header.executed_height
            self.boundaries.append(header)
        return outcome

    def blocks(self, count: int) -> None:
        """Execute empty blocks."""
        for _ in range(count):
            self._execute((), None)

    # --- Governance ---

    def alone(self, sender: str, operation: Operation) -> Receipt:
        """Execute one operation in a transaction and block of its own."""
        return self.run(sender, operation)

    def propose(self, change: Change, by: str = "gov-1") -> Receipt:
        """Propose a change as an organisation's admin."""
        return self.run(by, ProposeChange(None, change))

    def vote(self, by: str, approve: bool = True, number: int | None = None) -> Receipt:
        """Vote on the latest proposal, or on that number."""
        chosen = self.latest if number is None else number
        return self.run(by, VoteChange(None, ProposalId(chosen), approve))

    @property
    def latest(self) -> int:
        """Number of the latest proposal."""
        return self.state.agenda.proposals

    def proposal(self, number: int | None = None) -> ChangeProposal:
        """Return a proposal; the latest unless a number is given."""
        found = self.state.proposal(ProposalId(self.latest if number is None else number))
        assert found is not None
        return found

    def removal(self, name: str) -> RemoveValidator:
        """Return the change that removes a member of the scheduled set."""
        for member in self.state.validators.scheduled:
            if member.name == name:
                return RemoveValidator(member.consensus_key)
        raise AssertionError(f"no member {name}")

    def approve(self, change: Change, by: Sequence[str] | None = None) -> ChangeProposal:
        """Propose a change and let organisations vote for it until it is approved."""
        voters = self.members if by is None else by
        receipt = self.propose(change, voters[0])
        assert receipt.code == "ok", receipt.code
        for name in voters[1:]:
            if self.proposal().status.name != "OPEN":
                break
            assert self.vote(name).code == "ok"
        return self.proposal()

    def ready(self, who: Validator, key: SigningKey, *, lasting_ms: int = 20_000) -> Receipt:
        """Post that a validator's node is ready."""
        expires = TimeMs(self.next_time_ms + lasting_ms)
        operation = sign_readiness(self.chain_id, who, expires, key)
        return self.run(who.organisation, operation)

    def settle(self) -> None:
        """Execute blocks until an approved change has had its effect and its boundary."""
        self.blocks(NOTICE_MS // 1_000 + EXECUTION_LAG + 2)

    # --- Evidence ---

    def signed_vote(
        self,
        name: str,
        kind: VoteKind = VoteKind.NOTARIZE,
        block: bytes = b"a" * 32,
        *,
        view: int = 7,
        number: int = 0,
        epoch: int | None = None,
    ) -> Vote:
        """Return a vote that a validator signed in an epoch, the present one by default."""
        chosen = Epoch(self.state.validators.epoch if epoch is None else epoch)
        members = self.members_of(chosen)
        key = consensus_key(name, number)
        voter = [member.consensus_key for member in members].index(key.public_key)
        value = NULL_VALUE if kind is VoteKind.NULLIFY else Value(View(view - 1), Digest(block))
        place = (kind, Era(0), chosen, View(view), value)
        signature = key.sign(vote_signing_bytes(self.chain_id, *place))
        return Vote(*place, voter, Signature(signature))

    def members_of(self, epoch: Epoch) -> tuple[Validator, ...]:
        """Return the set of an epoch."""
        record = self.state.epoch(epoch)
        assert record is not None
        return record.members

    def double_vote(self, name: str, *, view: int = 7, number: int = 0) -> ReportEvidence:
        """Return the report of two different notarize votes."""
        return ReportEvidence(
            None,
            self.signed_vote(name, block=b"a" * 32, view=view, number=number),
            self.signed_vote(name, block=b"b" * 32, view=view, number=number),
        )
