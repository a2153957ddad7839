"""``mbi gov``: voting, following a proposal, listing, evidence."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from ledger.genesis import DEFAULT_PARAMETERS
from ledger.json import to_json
from ledger.operations.governance import (
    ReportEvidence,
    VoteChange,
)
from ledger.types import ProposalId
from mbi.cli import gov_show
from tests.unit.mbi.commands import Outcome, Runner
from tests.unit.mbi.fake_node import FakeNode
from tests.unit.mbi.gov_documents import (
    NOTE,
    POWERS,
    finalized,
    member,
    proposal,
    sent,
    vote,
)

# --- Voting and following -------------------------------------------------------------------------


@pytest.mark.parametrize(("word", "approve"), [("--approve", True), ("--reject", False)])
def test_a_vote_says_yes_or_no(mbi: Runner, government: FakeNode, word: str, approve: bool) -> None:
    assert vote(mbi, government, word).code == 0
    assert sent(government) == VoteChange(None, ProposalId(7), approve)


def test_a_vote_that_says_nothing_is_a_mistake(mbi: Runner, government: FakeNode) -> None:
    found = vote(mbi, government)
    assert found.code == 2
    assert "say --approve or --reject" in found.err


def test_a_vote_tells_what_is_still_missing(mbi: Runner, government: FakeNode) -> None:
    government.documents["/v1/governance/proposals/7"] = proposal(7, POWERS)
    government.on_submit = lambda _: finalized({"type": "change_voted", "status": "open"})
    found = vote(mbi, government, "--approve", "--wait")
    assert "proposal 7 is open, missing 3 more: 1 government and 2 commercial" in found.out


def test_proposals_are_listed_in_words(mbi: Runner, government: FakeNode) -> None:
    refused = proposal(6, POWERS, status="refused", reason=NOTE)
    joining = {"type": "add_validator", "validator": member("gov-9")}
    items = [proposal(7, joining), refused]
    government.documents["/v1/governance/proposals"] = items
    shown = mbi("gov", "list", "--node", government.url).out
    assert "add validator gov-9 (government, of gov-9)" in shown
    assert "open until 2026-12-05 22:57:13 UTC" in shown
    assert "government 1 of 2, commercial 0 of 2" in shown
    assert "bank: weight 5, licences deposit" in shown
    assert NOTE in shown
    as_json = mbi("gov", "list", "--status", "refused", "--node", government.url, "--json")
    assert as_json.document == {"items": [refused]}
    assert mbi("gov", "list", "--status", "new", "--node", government.url).code == 2


def test_a_proposal_is_shown_with_its_votes(mbi: Runner, government: FakeNode) -> None:
    parameters = to_json(DEFAULT_PARAMETERS) | {"readiness_ms": 7_200_000}
    change = {"type": "set_parameters", "parameters": parameters}
    government.documents["/v1/governance/proposals/7"] = proposal(7, change)
    shown = mbi("gov", "show", "7", "--node", government.url).out
    assert "7200000 (now 259200000)" in shown
    assert "block_bytes_max" not in shown, "only what would change"
    assert "3 more: 1 government and 2 commercial" in shown
    found = mbi("gov", "show", "7", "--node", government.url, "--json").document
    assert found["tally"]["all"] == {"approve": 1, "oppose": 0, "members": 4, "majority": 3}
    missing = mbi("gov", "show", "8", "--node", government.url)
    assert missing.code == 1
    assert "not_found" in missing.err


def wait(mbi: Runner, node: FakeNode, *words: str) -> Outcome:
    return mbi("gov", "wait", "7", "--node", node.url, *words)


@pytest.mark.parametrize("status", ["rejected", "expired", "refused"])
def test_waiting_ends_with_1_if_nothing_will_come(
    mbi: Runner, government: FakeNode, status: str
) -> None:
    document = proposal(7, POWERS, status=status, reason=NOTE)
    government.documents["/v1/governance/proposals/7"] = document
    found = wait(mbi, government)
    assert found.code == 1
    assert f"proposal 7 is {status}: {NOTE}" in found.err


def test_waiting_ends_with_4_if_the_time_is_over(mbi: Runner, government: FakeNode) -> None:
    government.documents["/v1/governance/proposals/7"] = proposal(7, POWERS)
    assert wait(mbi, government, "--timeout", "0.1").code == 4


@pytest.mark.parametrize(("effective_ms", "code"), [(5000, 0), (5001, 4)])
def test_a_set_change_is_in_force_with_its_epoch(
    mbi: Runner,
    government: FakeNode,
    monkeypatch: pytest.MonkeyPatch,
    effective_ms: int,
    code: int,
) -> None:
    """The epoch brings what was scheduled up to the block its opener had executed, of time 5000."""
    monkeypatch.setattr(gov_show, "POLL_S", 0.01)
    change = {"type": "remove_validator", "consensus_key": member("com-2")["consensus_key"]}
    document = proposal(7, change, status="effective", effective_ms=effective_ms)
    government.documents["/v1/governance/proposals/7"] = document
    found = wait(mbi, government, "--timeout", "0.1")
    assert found.code == code
    assert ("in force in epoch 3: remove validator com-2" in found.out) is (code == 0)


def test_an_epoch_counts_when_its_first_block_is_shown(
    mbi: Runner, government: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node's state is ahead of its blocks for a moment."""
    change = {"type": "remove_validator", "consensus_key": member("com-2")["consensus_key"]}
    document = proposal(7, change, status="effective", effective_ms=5000)
    government.documents["/v1/governance/proposals/7"] = document
    block = government.documents.pop("/v1/blocks/90")

    def come(_: float) -> None:
        government.documents["/v1/blocks/90"] = block

    monkeypatch.setattr(time, "sleep", come)
    assert wait(mbi, government).code == 0


def test_powers_are_in_force_at_once(mbi: Runner, government: FakeNode) -> None:
    document = proposal(7, POWERS, status="effective", effective_ms=9999)
    government.documents["/v1/governance/proposals/7"] = document
    assert wait(mbi, government, "--json").document["epoch"] == 3


def test_validators_tell_who_comes_and_goes(mbi: Runner, government: FakeNode) -> None:
    joining = {"type": "add_validator", "validator": member("gov-9")}
    approved = proposal(7, joining, status="approved", effective="2026-11-22T00:00:00.000Z")
    government.documents["/v1/governance/proposals"] = [approved, proposal(6, POWERS)]
    government.documents["/v1/consensus"]["scheduled"] = ["com-1", "gov-1", "gov-2", "gov-3"]
    shown = mbi("validators", "--node", government.url).out
    assert "epoch 3, since block 90" in shown
    assert "with the next boundary block: gov-3 joins, com-2 leaves" in shown
    assert "approved, from 2026-11-22 00:00:00 UTC: add validator gov-9" in shown
    found = mbi("validators", "--node", government.url, "--json").document
    assert found["epoch"] == 3
    assert [item["id"] for item in found["approved"]] == [7]


# --- Evidence -------------------------------------------------------------------------------------

VOTE = {
    "kind": "notarize",
    "era": 0,
    "epoch": 1,
    "view": 8,
    "voter": 2,
    "signature": "ab" * 64,
    "value": {"parent_view": 7, "block_hash": "01" * 32},
}
OTHER = VOTE | {"value": {"parent_view": 7, "block_hash": "02" * 32}}


def test_evidence_is_listed_in_words(mbi: Runner, government: FakeNode) -> None:
    proof = {"validator": member("com-2"), "first": VOTE, "second": OTHER}
    government.documents["/v1/evidence"] = [proof | {"height": 12}]
    pending = proof | {"validator": member("gov-2"), "height": None}
    government.documents["/v1/evidence/pending"] = [pending]
    shown = mbi("gov", "evidence", "--node", government.url).out
    assert "com-2" in shown
    assert "notarize, notarize" in shown
    assert "not on chain yet" in shown
    items = mbi("gov", "evidence", "--node", government.url, "--json").document["items"]
    assert [item["height"] for item in items] == [12, None]


def test_evidence_is_reported_from_a_file(mbi: Runner, government: FakeNode) -> None:
    Path("proof.json").write_text(json.dumps({"first": VOTE, "second": OTHER, "height": None}))
    words = ("gov", "evidence", "proof.json", "--from", "alice", "--node", government.url)
    found = mbi(*words)
    assert found.code == 0, found.err
    report = sent(government)
    assert isinstance(report, ReportEvidence)
    assert (to_json(report.first), to_json(report.second)) == (VOTE, OTHER)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"first": {}}', '{"first": 1, "second": 2}'])
def test_what_is_no_evidence_is_refused(mbi: Runner, government: FakeNode, content: str) -> None:
    Path("proof.json").write_text(content)
    found = mbi("gov", "evidence", "proof.json", "--from", "alice", "--node", government.url)
    assert found.code == 2
    assert government.submitted == []
