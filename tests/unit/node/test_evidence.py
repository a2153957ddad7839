"""Evidence is believed when proven, kept and passed on once, and reported until it is on chain."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from consensus.inputs import PeerId
from ledger.crypto import SigningKey
from ledger.genesis import DEFAULT_PARAMETERS
from ledger.operations import ReportEvidence
from ledger.transaction import decode_transaction
from ledger.transition import admission_error
from ledger.types import Epoch, TimeMs
from ledger.votes import Vote
from node.epochs import Epochs
from node.evidence import AGAIN_S, EvidenceDesk
from p2p.messages import EvidenceMessage, decode_message, encode_message
from storage.evidence_store import Evidence, EvidenceStore
from storage.memory import MemoryStore
from storage.schedule_store import ScheduleStore
from tests.unit.node_api.fakes import ALICE, FakeNode, double_vote, make_genesis

PEER = PeerId(b"p" * 32)
STRANGER = SigningKey.from_seed(bytes(31) + b"\1")


@dataclass
class Office:
    """A desk with its surroundings in the test's hand."""

    reporter: SigningKey | None = ALICE
    node: FakeNode = field(default_factory=FakeNode)
    store: MemoryStore = field(default_factory=MemoryStore)
    kept: list[Evidence] = field(default_factory=list)
    passed: list[tuple[EvidenceMessage, PeerId | None]] = field(default_factory=list)
    submitted: list[bytes] = field(default_factory=list)
    penalties: list[tuple[PeerId, str]] = field(default_factory=list)
    desk: EvidenceDesk = field(init=False)

    def __post_init__(self) -> None:
        self.desk = self.opened()
        self.votes = double_vote(self.node.chain_id, self.node.set)

    def opened(self) -> EvidenceDesk:
        """Return the desk of a process that starts now."""
        return EvidenceDesk(
            self.node.chain_id,
            EvidenceStore(self.store),
            Epochs(self.node.chain, ScheduleStore(self.store), self.node.state),
            self.node.state,
            self.reporter,
            keep=self.keep,
            pass_on=lambda message, source: self.passed.append((message, source)),
            submit=self.submitted.append,
            penalise=lambda peer, reason: self.penalties.append((peer, reason)),
        )

    def keep(self, evidence: Evidence) -> None:
        self.kept.append(evidence)
        batch = self.store.batch()
        EvidenceStore(self.store).add(batch, evidence)
        self.store.write(batch, sync=False)

    def receive(self, first: Vote, second: Vote, place: int = 0) -> None:
        self.desk.receive(PEER, EvidenceMessage(first, second), place)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Monotonic time in the test's hand: its only item."""
    now_s = [1000.0]
    monkeypatch.setattr("node.evidence.monotonic", lambda: now_s[0])
    monkeypatch.setattr("node.evidence.now_ms", lambda: FakeNode().now_ms)
    return now_s


def test_proof_from_a_peer_is_kept_and_passed_on_once() -> None:
    """C2: to everyone but its source, and never again."""
    office = Office()
    office.receive(*office.votes)
    office.receive(*office.votes)
    office.receive(*office.votes[::-1])
    assert office.kept == [Evidence(*office.votes)]
    assert office.passed == [(EvidenceMessage(*office.votes), PEER)]
    assert office.penalties == []


def changed(vote: Vote, **changes: Any) -> Vote:
    return msgspec.structs.replace(vote, **changes)


def test_what_proves_nothing_costs_its_sender() -> None:
    """C18: forged, incomplete, about nobody: nothing is kept, nothing is passed on."""
    office = Office()
    first, second = office.votes
    forged = changed(second, signature=bytes(64))
    pairs = [(first, first), (first, forged), (forged, first)]
    pairs += [(changed(first, voter=n), changed(second, voter=n)) for n in (1, 99, 2**40, -1)]
    for pair in pairs:
        office.receive(*pair)
    assert office.penalties == [(PEER, "invalid_evidence")] * len(pairs)
    assert (office.kept, office.passed) == ([], [])


def test_an_epoch_that_has_not_begun_here_is_no_fault_of_the_peer() -> None:
    """It may be ahead; the proof comes again with the next connection."""
    office = Office()
    first, second = office.votes
    office.receive(changed(first, epoch=Epoch(1)), changed(second, epoch=Epoch(1)))
    assert (office.kept, office.penalties) == ([], [])


@pytest.mark.parametrize("epoch", [2, 2**63, 2**64 - 1])
def test_an_epoch_that_no_chain_has_stops_no_node(epoch: int) -> None:
    """C5: any 64-bit number decodes; one message of 400 bytes must not end the process."""
    office = Office()
    first, second = office.votes
    message = EvidenceMessage(
        changed(first, epoch=Epoch(epoch)), changed(second, epoch=Epoch(epoch))
    )
    decoded = decode_message(encode_message(message))
    assert isinstance(decoded, EvidenceMessage)
    office.desk.receive(PEER, decoded, 0)
    assert (office.kept, office.penalties) == ([], [])


def test_one_proof_against_a_validator_is_enough() -> None:
    """C18: an equivocator cannot make others store or send more than one."""
    office = Office()
    office.desk.found(*office.votes, 0)
    office.desk.found(office.votes[1], office.votes[0], 0)
    assert len(office.kept) == len(office.passed) == 1


def test_a_report_keeps_within_a_short_validity_window(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No node would take it otherwise, and the fault would never come to the chain."""
    limits = msgspec.structs.replace(DEFAULT_PARAMETERS, validity_window_ms=10_000)
    genesis = msgspec.structs.replace(make_genesis(), parameters=limits)
    monkeypatch.setattr("tests.unit.node_api.fakes.make_genesis", lambda dev: genesis)
    office = Office()
    office.desk.found(*office.votes, 0)
    office.desk.report_due()
    (wire,) = office.submitted
    decoded = decode_transaction(office.node.chain_id, wire)
    assert admission_error(office.node.state, decoded, TimeMs(office.node.now_ms)) is None
    assert admission_error(office.node.state, decoded, TimeMs(office.node.now_ms - 4_000)) is None


def test_each_place_waits_its_turn_before_it_reports(clock: list[float]) -> None:
    office = Office()
    office.desk.found(*office.votes, place=3)
    office.desk.report_due()
    clock[0] += 2.9
    office.desk.report_due()
    assert office.submitted == []
    clock[0] += 0.1
    office.desk.report_due()
    (wire,) = office.submitted
    (operation,) = decode_transaction(office.node.chain_id, wire).transaction.operations
    assert operation == ReportEvidence(None, *office.votes)


def test_a_report_is_repeated_but_not_at_once(clock: list[float]) -> None:
    office = Office()
    office.desk.found(*office.votes, 0)
    office.desk.report_due()
    office.desk.report_due()
    assert len(office.submitted) == 1
    clock[0] += AGAIN_S
    office.desk.report_due()
    assert len(office.submitted) == 2


async def test_what_is_on_chain_is_not_reported_again(clock: list[float]) -> None:
    office = Office()
    office.desk.found(*office.votes, 0)
    assert [evidence for evidence, _ in office.desk.unreported()] == [Evidence(*office.votes)]
    await office.node.finalize(office.node.signed(ReportEvidence(None, *office.votes)))
    office.desk.report_due()
    assert office.submitted == []
    assert office.desk.unreported() == []


def test_what_the_chain_would_not_take_is_not_sent(clock: list[float]) -> None:
    """An account that is not registered pays for nothing."""
    office = Office(reporter=STRANGER)
    office.desk.found(*office.votes, 0)
    office.desk.report_due()
    assert office.submitted == []


def test_a_node_without_an_account_reports_nothing(clock: list[float]) -> None:
    office = Office(reporter=None)
    office.desk.found(*office.votes, 0)
    office.desk.report_due()
    assert office.submitted == []
    assert len(office.passed) == 1


def test_evidence_outlives_a_restart(clock: list[float]) -> None:
    """C19: what was seen is reported by the next process."""
    office = Office()
    office.desk.found(*office.votes, 0)
    again = office.opened()
    again.report_due()
    assert len(office.submitted) == 1
    again.receive(PEER, EvidenceMessage(*office.votes), 0)
    assert len(office.passed) == 1
