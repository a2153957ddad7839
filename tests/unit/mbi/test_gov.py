"""``mbi gov``: what is proposed and sent, what is refused before, and what people are told."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from ledger.crypto import SigningKey
from ledger.genesis import DEFAULT_PARAMETERS
from ledger.json import to_json
from ledger.operations.governance import (
    ProposeChange,
    ProveReadiness,
    VoteChange,
    readiness_preimage,
)
from ledger.records import (
    ActivateFeature,
    AddValidator,
    AssetClass,
    RemoveValidator,
    RotateKey,
    SetParameters,
    SetPowers,
)
from ledger.types import Digest, Height, ProposalId, PublicKey
from ledger.validators import Chamber, Validator
from mbi.cli.gov import CLOCK_TOLERANCE_MS
from mbi.keyfiles import write_key
from mbi.localnet.certificates import issue_certificate, make_authority
from tests.unit.mbi.commands import Outcome, Runner
from tests.unit.mbi.fake_node import CHAIN_ID, FakeNode
from tests.unit.mbi.gov_documents import (
    NOTE,
    finalized,
    member,
    sent,
    vote,
)

CONSENSUS, NODE = SigningKey.from_seed(b"c" * 32), SigningKey.from_seed(b"n" * 32)


@pytest.fixture
def home(government: FakeNode) -> Path:
    """The home of a node that could become a validator."""
    path = Path("home")
    (path / "keys").mkdir(parents=True)
    port = government.url.rpartition(":")[2]
    (path / "config.toml").write_text(f'[node]\nname = "gov-3"\n[http]\nport = {port}\n')
    write_key(path / "keys" / "validator.pem", b"c" * 32, None)
    authority = make_authority(b"a" * 32, "test")
    certificate = issue_certificate(b"a" * 32, authority, NODE.public_key, "gov-3")
    (path / "keys" / "node.crt").write_bytes(certificate)
    return path


def propose(mbi: Runner, node: FakeNode, *words: str) -> Outcome:
    return mbi("gov", "propose", *words, "--from", "alice", "--node", node.url)


def change_of(node: FakeNode) -> Any:
    operation = sent(node)
    assert isinstance(operation, ProposeChange)
    return operation.change


# --- Describing and readiness ---------------------------------------------------------------------


def describe(mbi: Runner, *words: str) -> Outcome:
    return mbi("gov", "validator", "--home", "home", *words)


def test_a_home_describes_its_validator(mbi: Runner, home: Path) -> None:
    """Name and address of the node come from its own settings, the chamber from its owner."""
    found = describe(mbi, "--organisation", "treasury")
    assert found.code == 0, found.err
    assert found.document == {
        "name": "gov-3",
        "organisation": "treasury",
        "chamber": "government",
        "consensus_key": CONSENSUS.public_key.hex(),
        "node_key": NODE.public_key.hex(),
    }


def test_a_member_keeps_name_and_organisation_with_its_next_key(
    mbi: Runner, home: Path, government: FakeNode
) -> None:
    own = member("gov-2") | {"organisation": "treasury", "node_key": NODE.public_key.hex()}
    government.documents["/v1/validators"] = [own]
    write_key(home / "keys" / "validator-next.pem", b"x" * 32, None)
    found = describe(mbi, "--out", "v.json", "--json")
    assert found.document["file"] == "v.json"
    written = json.loads(Path("v.json").read_text())
    assert (written["name"], written["organisation"]) == ("gov-2", "treasury")
    assert written["consensus_key"] == SigningKey.from_seed(b"x" * 32).public_key.hex()
    assert describe(mbi, "--out", "v.json").code == 2, "never replaces a file"


def test_a_home_without_consensus_key_is_told_how_to_make_one(mbi: Runner, home: Path) -> None:
    (home / "keys" / "validator.pem").unlink()
    found = describe(mbi, "--organisation", "treasury")
    assert found.code == 2
    assert "mbi keys new validator --key-dir home/keys" in found.err


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (None, "is this a home?"),
        ("[http]\nport = 'x'\n", "http.port: expected int"),
        ("http = 5\n", "http.host: expected str"),
        ("[", "config.toml: "),
    ],
)
def test_what_is_no_home_is_named(mbi: Runner, home: Path, config: str | None, reason: str) -> None:
    file = home / "config.toml"
    file.unlink() if config is None else file.write_text(config)
    found = describe(mbi, "--organisation", "treasury")
    assert found.code == 2
    assert reason in found.err


def test_the_node_passphrase_file_of_the_settings_opens_the_key(mbi: Runner, home: Path) -> None:
    """K2: an encrypted key opens with the file that the node itself uses."""
    secret = home / "keys" / "passphrase"
    secret.write_text("four random words here\n")
    secret.chmod(0o600)
    with (home / "config.toml").open("a") as file:
        file.write('[keys]\npassphrase_file = "keys/passphrase"\n')
    (home / "keys" / "validator.pem").unlink()
    write_key(home / "keys" / "validator.pem", b"c" * 32, b"four random words here")
    found = describe(mbi, "--organisation", "treasury")
    assert found.document["consensus_key"] == CONSENSUS.public_key.hex()


@pytest.fixture
def description(mbi: Runner, home: Path) -> str:
    assert describe(mbi, "--organisation", "treasury", "--out", "gov-3.json").code == 0
    return "gov-3.json"


def prove(mbi: Runner, *words: str) -> Outcome:
    return mbi("gov", "ready", "gov-3.json", "--home", "home", "--from", "alice", *words)


@pytest.mark.usefixtures("description")
def test_readiness_is_signed_by_the_consensus_key(mbi: Runner, government: FakeNode) -> None:
    """C17: the word is the joining key's own, over this validator on this chain."""
    found = prove(mbi)
    assert found.code == 0, found.err
    word = sent(government)
    assert isinstance(word, ProveReadiness)
    assert word.validator == Validator(
        "gov-3", "treasury", Chamber.GOVERNMENT, CONSENSUS.public_key, NODE.public_key
    )
    lasts_ms = word.expires_ms - time.time_ns() // 1_000_000
    assert 0 < DEFAULT_PARAMETERS.readiness_ms - lasts_ms < 2 * CLOCK_TOLERANCE_MS
    chain_id = Digest(bytes.fromhex(CHAIN_ID))
    assert word.signature == CONSENSUS.sign(
        readiness_preimage(chain_id, word.validator, word.expires_ms)
    )


@pytest.mark.usefixtures("description")
def test_a_node_that_is_behind_is_not_ready(mbi: Runner, government: FakeNode) -> None:
    government.ready = False
    found = prove(mbi)
    assert found.code == 3
    assert "when it is synced" in found.err
    assert government.submitted == []


@pytest.mark.usefixtures("description")
@pytest.mark.parametrize("key", ["consensus_key", "node_key"])
def test_a_description_of_other_keys_is_refused(
    mbi: Runner, government: FakeNode, key: str
) -> None:
    document = json.loads(Path("gov-3.json").read_text()) | {key: member("gov-1")[key]}
    Path("gov-3.json").write_text(json.dumps(document))
    found = prove(mbi)
    assert found.code == 2
    assert f"names {key.replace('_', ' ')} {document[key]}, home holds" in found.err
    assert government.submitted == []


@pytest.mark.parametrize("content", ["", "[]", '{"name": "x"}', '{"chamber": "upper"}'])
def test_what_is_no_description_is_named(mbi: Runner, government: FakeNode, content: str) -> None:
    Path("bad.json").write_text(content)
    found = propose(mbi, government, "add-validator", "bad.json")
    assert found.code == 2
    assert "bad.json: " in found.err
    assert propose(mbi, government, "add-validator", "nofile").code == 2
    assert government.submitted == []


# --- Proposing ------------------------------------------------------------------------------------


def test_a_validator_is_proposed(mbi: Runner, government: FakeNode, description: str) -> None:
    assert propose(mbi, government, "add-validator", description).code == 0
    change = change_of(government)
    assert isinstance(change, AddValidator)
    assert change.validator.name == "gov-3"


@pytest.mark.parametrize("given", ["com-2", member("com-2")["consensus_key"]])
def test_a_removal_names_the_member_or_its_key(
    mbi: Runner, government: FakeNode, given: str
) -> None:
    assert propose(mbi, government, "remove-validator", given).code == 0
    key = PublicKey(bytes.fromhex(member("com-2")["consensus_key"]))
    assert change_of(government) == RemoveValidator(key)


def test_an_unknown_member_lists_the_known_ones(mbi: Runner, government: FakeNode) -> None:
    found = propose(mbi, government, "remove-validator", "com-9")
    assert found.code == 2
    assert "there are: com-1, com-2, gov-1, gov-2" in found.err


def test_a_rotation_finds_the_old_key_by_name(
    mbi: Runner, government: FakeNode, description: str
) -> None:
    government.documents["/v1/validators"] = [member("gov-3")]
    assert propose(mbi, government, "rotate-key", description).code == 0
    change = change_of(government)
    assert isinstance(change, RotateKey)
    assert change.consensus_key.hex() == member("gov-3")["consensus_key"]
    assert change.new_consensus_key == CONSENSUS.public_key
    assert change.new_node_key == NODE.public_key


@pytest.mark.parametrize(
    ("words", "weight", "licences"),
    [
        (("--weight", "5"), 5, (AssetClass.E_MONEY, AssetClass.DEPOSIT)),
        (("--licence", "voucher", "--licence", "deposit"), 3, None),
        (("--no-licences",), 3, ()),
    ],
)
def test_powers_that_are_not_given_stay(
    mbi: Runner,
    government: FakeNode,
    words: tuple[str, ...],
    weight: int,
    licences: tuple[AssetClass, ...] | None,
) -> None:
    assert propose(mbi, government, "set-powers", "treasury", *words).code == 0
    expected = (AssetClass.DEPOSIT, AssetClass.VOUCHER) if licences is None else licences
    assert change_of(government) == SetPowers("treasury", weight, expected)


def test_parameters_that_are_not_given_stay(mbi: Runner, government: FakeNode) -> None:
    words = ("--set", "change_notice_ms=604800000", "--set", "readiness_ms=7200000")
    assert propose(mbi, government, "set-parameters", *words).code == 0
    change = change_of(government)
    assert isinstance(change, SetParameters)
    assert to_json(change.parameters) == to_json(DEFAULT_PARAMETERS) | {
        "change_notice_ms": 604_800_000,
        "readiness_ms": 7_200_000,
    }


def test_a_feature_of_other_versions_is_proposed_only_if_told_so(
    mbi: Runner, government: FakeNode
) -> None:
    """One does not stop the whole network at a height by a typing mistake."""
    words = ("activate-feature", "settlement-2", "--height", "250000")
    found = propose(mbi, government, *words)
    assert found.code == 2
    assert "its nodes would stop at height 250000" in found.err
    assert propose(mbi, government, *words, "--newer").code == 0
    assert change_of(government) == ActivateFeature("settlement-2", Height(250_000))


@pytest.mark.parametrize(
    "words",
    [
        ("set-powers", "treasury"),
        ("set-powers", "treasury", "--weight", "0"),
        ("set-powers", "treasury", "--weight", "1001"),
        ("set-powers", "treasury", "--licence", "gold"),
        ("set-powers", "treasury", "--licence", "deposit", "--no-licences"),
        ("set-parameters",),
        ("set-parameters", "--set", "x=1"),
        ("set-parameters", "--set", "readiness_ms"),
        ("set-parameters", "--set", "readiness_ms=-1"),
        ("set-parameters", "--set", "block_bytes_max=1"),
        ("activate-feature", "x", "--height", "0"),
        ("activate-feature", "X Y", "--height", "9", "--newer"),
        ("nonsense",),
    ],
)
def test_impossible_proposals_are_usage_errors(
    mbi: Runner, government: FakeNode, words: tuple[str, ...]
) -> None:
    """O3: refused with one line, and nothing is sent."""
    found = propose(mbi, government, *words)
    assert found.code == 2
    assert found.err.count("\n") == 1
    assert government.submitted == []


def test_what_would_fail_is_not_sent_and_says_why(mbi: Runner, government: FakeNode) -> None:
    """C17: a refusal reaches the one who proposes in words."""
    government.outcome = {"receipt": {"code": "quorum_absent"}, "detail": NOTE}
    found = propose(mbi, government, "remove-validator", "com-2")
    assert found.code == 1
    assert f"not sent, it would fail: quorum_absent: {NOTE}" in found.err
    assert government.submitted == []


def test_dry_run_sends_nothing(mbi: Runner, government: FakeNode) -> None:
    found = propose(mbi, government, "remove-validator", "com-2", "--dry-run")
    assert found.code == 0
    assert len(government.simulated) == 1
    assert government.submitted == []


def test_what_fails_in_the_block_says_why(mbi: Runner, government: FakeNode) -> None:
    """Somebody else was quicker: it fails although it would have succeeded a moment ago."""

    def fail(_: bytes) -> tuple[int, dict[str, Any]]:
        government.outcome = {"receipt": {"code": "proposal_closed"}, "detail": NOTE}
        receipt = {"code": "proposal_closed", "events": []}
        return 200, {"id": "ab" * 32, "status": "failed", "receipt": receipt}

    government.on_submit = fail
    found = vote(mbi, government, "--approve", "--wait")
    assert found.code == 1
    assert f"failed: proposal_closed: {NOTE}" in found.err


def test_the_number_of_a_new_proposal_is_told(mbi: Runner, government: FakeNode) -> None:
    event = {"type": "change_proposed", "proposal": 12, "status": "open"}
    government.on_submit = lambda _: finalized(event)
    words = ("remove-validator", "com-2", "--wait")
    assert "mbi gov vote 12 --approve" in propose(mbi, government, *words).out
    assert propose(mbi, government, *words, "--json").document["receipt"]["events"] == [event]


def test_a_draft_waits_for_its_signers(mbi: Runner, government: FakeNode) -> None:
    """An organisation that needs two keys signs where they are."""
    words = ("gov", "vote", "7", "--approve", "--draft", "vote.json", "--node", government.url)
    assert mbi(*words).code == 0
    assert government.submitted == []
    assert mbi("keys", "new", "bob", "--unencrypted").code == 0
    both = mbi(
        *("tx", "sign", "vote.json", "--from", "alice", "--from", "bob", "--chain-id", CHAIN_ID)
    )
    Path("signed.json").write_text(both.out)
    assert mbi("tx", "submit", "signed.json", "--node", government.url).code == 0
    assert sent(government) == VoteChange(None, ProposalId(7), approve=True)


def test_without_a_key_nothing_is_done(mbi: Runner, government: FakeNode) -> None:
    found = mbi("gov", "vote", "7", "--approve", "--node", government.url)
    assert found.code == 2
    assert "--from KEY" in found.err
