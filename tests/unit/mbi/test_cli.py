"""The command: exit codes, one JSON document on stdout, and errors that say what to do."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.transaction import decode_transaction
from ledger.types import Digest
from mbi import cli
from mbi.cli.tx_sign import parse_fields
from mbi.errors import UsageError
from mbi.keyfiles import encode_key, read_key
from mbi.localnet import builder
from tests.unit.mbi.commands import Outcome, Runner
from tests.unit.mbi.fake_node import CHAIN_ID, FakeNode

ADDRESS = "mbi1svwayl0l3lj6nkr4rzuyvg2pmcta4cez9260vs"


@pytest.fixture
def closed_url() -> Iterator[str]:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}"


def test_help_names_every_command_and_the_exit_codes(mbi: Runner) -> None:
    shown = mbi("--help")
    assert shown.code == 0
    for name in cli._COMMANDS:
        assert f"  {name} " in shown.out
    assert "5 integrity violation" in shown.out


@pytest.mark.parametrize("path", sorted(name for name in cli._COMMANDS))
def test_every_command_has_help(mbi: Runner, path: str) -> None:
    shown = mbi(path, "--help")
    assert shown.code == 0
    assert "--json" in shown.out
    assert "\\b" not in shown.out


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",),
        ("localnet", "nonsense"),
        ("block", "show", "--nonsense"),
        ("tx", "send"),
        ("wait", "--height", "x"),
        ("wait", "--ready", "--height", "1"),
        ("dev", "--validators", "0"),
        ("dev", "--port", "1"),
        ("--node", "ftp://x", "validators"),
        ("validators", "--timeout", "-1"),
        ("asset", "show", "MYR"),
        ("tx", "decode", "nofile"),
        ("keys", "show", "nobody"),
        ("keys", "export", "nobody"),
        ("genesis", "hash", "nofile"),
        ("node", "id"),
        ("audit", "verify", "nodir"),
        ("localnet", "status", "nodir"),
        ("bench", "run", "--rate", "1", "--closed", "1"),
        ("bench", "run", "--closed", "5", "--batch", "100"),
        ("bench", "run", "--kill-at", "9", "--duration", "5"),
        ("bench", "run", "--workload", "nonsense"),
        ("bench", "ramp", "--localnet", "nodir"),
        ("bench", "compare", "nofile", "nofile"),
    ],
)
def test_usage_errors_exit_with_2_and_one_line(mbi: Runner, words: tuple[str, ...]) -> None:
    """O3: a wrong call is refused before anything is done."""
    found = mbi(*words)
    assert found.code == 2
    assert found.out == ""
    assert found.err.startswith("error: ")
    assert found.err.count("\n") == 1


def test_json_errors_are_one_document_too(mbi: Runner) -> None:
    found = mbi("nonsense", "--json")
    assert found.code == 2
    assert found.document["error"]["exit_code"] == 2
    assert found.document["error"]["code"] == "usage"
    assert "Commands: dev, localnet" in found.document["error"]["detail"]


def test_wrong_settings_file_exits_with_2(mbi: Runner) -> None:
    """O3: an unknown key in the user's file is refused with its name."""
    path = Path("config/mbi/config.toml")
    path.parent.mkdir(parents=True)
    path.write_text("nodes = 1\n")
    found = mbi("validators")
    assert found.code == 2
    assert "nodes: unknown key; allowed: node, timeout, keys" in found.err


def test_unreachable_node_exits_with_3(mbi: Runner, closed_url: str) -> None:
    found = mbi("--node", closed_url, "node", "status")
    assert found.code == 3
    assert "cannot be reached" in found.err
    assert "mbi dev" in found.err


def test_node_that_is_not_ready_exits_with_3(mbi: Runner, node: FakeNode) -> None:
    node.ready = False
    found = mbi("wait", "--node", node.url, "--timeout", "0.3")
    assert found.code == 3
    assert "peers: 1" in found.err


def test_height_not_reached_in_time_exits_with_4(mbi: Runner, node: FakeNode) -> None:
    found = mbi("wait", "--height", "99", "--node", node.url, "--timeout", "0.3")
    assert found.code == 4
    assert "is at height 7, not 99" in found.err


def test_reached_height_exits_with_0(mbi: Runner, node: FakeNode) -> None:
    found = mbi("wait", "--height", "7", "--node", node.url, "--json")
    assert (found.code, found.document) == (0, {"height": 7})


def test_node_comes_from_the_environment_unless_flagged(
    mbi: Runner, node: FakeNode, monkeypatch: pytest.MonkeyPatch, closed_url: str
) -> None:
    monkeypatch.setenv("MBI_NODE", node.url)
    assert mbi("node", "status").code == 0
    assert mbi("node", "status", "--node", closed_url).code == 3


@pytest.mark.parametrize("words", [("--json", "node", "status"), ("node", "status", "--json")])
def test_global_options_stand_anywhere(mbi: Runner, node: FakeNode, words: tuple[str, ...]) -> None:
    found = mbi("--node", node.url, *words)
    assert found.document["chain_id"] == CHAIN_ID
    assert found.err == ""


def send(mbi: Runner, node: FakeNode, *more: str) -> Outcome:
    return mbi(
        *("tx", "send", "--from", "alice", "--to", ADDRESS, "--asset", "issuer/MYR"),
        *("--amount", "100", "--node", node.url, *more),
    )


@pytest.mark.usefixtures("keys")
def test_sending_signs_for_the_nodes_chain(mbi: Runner, node: FakeNode) -> None:
    found = send(mbi, node, "--json")
    assert found.code == 0
    assert found.document["status"] == "pending"
    decoded = decode_transaction(Digest(bytes.fromhex(CHAIN_ID)), node.submitted[0])
    assert decoded.id.hex() in found.err


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("status", "code"), [("finalized", 0), ("failed", 1), ("expired", 1), ("rejected", 1)]
)
def test_waiting_exits_by_the_outcome(mbi: Runner, node: FakeNode, status: str, code: int) -> None:
    answer = {"id": "ab" * 32, "status": status, "code": "insufficient_balance", "height": 4}
    node.on_submit = lambda _: (200, answer)
    found = send(mbi, node, "--wait")
    assert found.code == code
    assert (status in found.out) if code == 0 else ("insufficient_balance" in found.err)


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("words", [(), ("--wait",)])
def test_a_lost_answer_to_a_submission_exits_with_4(
    mbi: Runner, node: FakeNode, words: tuple[str, ...]
) -> None:
    """Exit code 3 would tell a script that it may pay once more."""
    node.cuts = {"/v1/transactions": b""}
    found = send(mbi, node, *words)
    assert found.code == 4
    assert "mbi tx status" in found.err


@pytest.mark.usefixtures("keys")
def test_waiting_in_vain_exits_with_4(mbi: Runner, node: FakeNode) -> None:
    node.statuses["ab" * 32] = {"id": "ab" * 32, "status": "pending"}
    found = send(mbi, node, "--wait", "--timeout", "0.3")
    assert found.code == 4
    assert "pending after 0.3 s" in found.err
    assert "mbi tx wait" in found.err


@pytest.mark.usefixtures("keys")
def test_refused_transaction_exits_with_1_and_the_code(mbi: Runner, node: FakeNode) -> None:
    node.on_submit = lambda _: (422, {"code": "sender_unknown"})
    found = send(mbi, node, "--json")
    assert found.code == 1
    assert "sender_unknown" in found.document["error"]["detail"]


@pytest.mark.usefixtures("keys")
def test_bad_amount_is_refused_before_anything_is_sent(mbi: Runner, node: FakeNode) -> None:
    found = mbi(
        *("tx", "send", "--from", "alice", "--to", ADDRESS, "--asset", "issuer/MYR"),
        *("--amount", "1.50", "--node", node.url),
    )
    assert found.code == 2
    assert "decimal string" in found.err
    assert node.submitted == []


@pytest.mark.usefixtures("keys")
def test_draft_is_built_signed_by_two_and_submitted(mbi: Runner, node: FakeNode) -> None:
    assert mbi("keys", "new", "bob", "--unencrypted").code == 0
    built = mbi(
        *("tx", "build", "transfer", "--to", ADDRESS, "--asset", "issuer/MYR", "--amount", "7")
    )
    Path("draft.json").write_text(built.out)
    half = mbi("tx", "sign", "draft.json", "--from", "alice", "--chain-id", CHAIN_ID)
    Path("half.json").write_text(half.out)
    both = mbi("tx", "sign", "half.json", "--from", "bob", "--chain-id", CHAIN_ID)
    Path("both.json").write_text(both.out)
    assert half.err.split(",")[0] == both.err.split(",")[0]  # the id does not depend on signatures
    assert set(both.document) == {"tx"}  # what the HTTP API takes, so that curl can post the file
    shown = mbi("tx", "decode", "both.json", "--chain-id", CHAIN_ID, "--json").document
    assert len(shown["signatures"]) == 2
    assert mbi("tx", "submit", "both.json", "--node", node.url).code == 0
    assert node.submitted == [bytes.fromhex(both.document["tx"])]


def test_fields_of_an_operation_are_listed(mbi: Runner) -> None:
    found = mbi("tx", "op", "transfer", "--json")
    assert found.document["fields"] == {
        "source": "text, optional",
        "to": "text",
        "asset": "text",
        "amount": "amount",
    }


def test_fields_are_read_in_all_their_forms() -> None:
    words = ("--to", "a", "--amount=5", "--field", "memo=x=y", "--asset-class", "voucher")
    assert parse_fields(words) == {
        "to": "a",
        "amount": "5",
        "memo": "x=y",
        "asset_class": "voucher",
    }


@pytest.mark.parametrize("words", [("to", "a"), ("--to",), ("--field", "x"), ("--a=1", "--a=2")])
def test_malformed_fields_are_usage_errors(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        parse_fields(words)


def test_keys_are_encrypted_unless_told_otherwise(mbi: Runner) -> None:
    secret = Path("passphrase")
    secret.write_text("four random words here\n")
    secret.chmod(0o600)
    made = mbi("keys", "new", "carol", "--passphrase-file", "passphrase", "--json")
    path = Path(made.document["file"])
    assert b"ENCRYPTED" in path.read_bytes()
    shown = mbi("keys", "show", "carol", "--passphrase-file", "passphrase", "--json")
    assert shown.document["public_key"] == made.document["public_key"]
    secret.write_text("four other words here\n")
    wrong = mbi("keys", "show", "carol", "--passphrase-file", "passphrase")
    assert wrong.code == 2
    assert "wrong passphrase" in wrong.err


def test_short_passphrases_are_refused(mbi: Runner) -> None:
    secret = Path("passphrase")
    secret.write_text("short\n")
    secret.chmod(0o600)
    found = mbi("keys", "new", "carol", "--passphrase-file", "passphrase")
    assert found.code == 2
    assert "at least 12 characters" in found.err


def test_secrets_are_printed_only_when_asked(mbi: Runner, keys: Path) -> None:
    """K1: no command but `export --reveal` and the development banner shows a private key."""
    canary = read_key(keys / "alice.pem", None).hex()
    for words in (("keys", "list"), ("keys", "show", "alice"), ("doctor",), ("tx", "op", "burn")):
        for form in ((), ("--json",)):
            found = mbi(*words, *form)
            assert canary not in found.out + found.err
    assert mbi("keys", "export", "alice").code == 2
    assert canary in mbi("keys", "export", "alice", "--reveal").out


def test_key_is_imported_from_hex_without_echo(mbi: Runner) -> None:
    source = Path("secret.hex")
    source.write_text("11" * 32 + "\n")
    source.chmod(0o600)
    found = mbi("keys", "import", "dan", "--file", "secret.hex", "--unencrypted", "--json")
    assert found.code == 0
    assert "11" * 32 not in found.out + found.err
    assert read_key(Path(found.document["file"]), None) == b"\x11" * 32


def test_world_readable_key_is_refused_by_every_command(mbi: Runner, keys: Path) -> None:
    """K2: the command refuses what the library refuses."""
    (keys / "alice.pem").chmod(0o644)
    for words in (("keys", "show", "alice"), ("keys", "list")):
        found = mbi(*words)
        assert found.code == 2
        assert "chmod 600" in found.err


def test_existing_key_is_never_replaced(mbi: Runner, keys: Path) -> None:
    before = (keys / "alice.pem").read_bytes()
    assert mbi("keys", "new", "alice", "--unencrypted").code == 2
    assert (keys / "alice.pem").read_bytes() == before


def test_genesis_is_made_from_member_files(mbi: Runner) -> None:
    public = mbi("keys", "new", "one", "--unencrypted", "--json").document["public_key"]
    consensus = mbi("keys", "new", "two", "--unencrypted", "--json").document["public_key"]
    channel = mbi("keys", "new", "three", "--unencrypted", "--json").document["public_key"]
    Path("member.toml").write_text(
        f'[organisation]\nid = "bank-one"\nname = "Bank One"\nkind = "commercial"\n'
        f'admin_key = "{public}"\n[[validators]]\nname = "b1"\n'
        f'consensus_key = "{consensus}"\nnode_key = "{channel}"\n'
    )
    made = mbi("genesis", "new", "member.toml", "--network", "N", "--out", "g.json", "--json")
    assert made.code == 0
    assert made.document["development"] is False
    assert mbi("genesis", "hash", "g.json").out.strip() == made.document["chain_id"]
    assert mbi("genesis", "new", "member.toml", "--network", "N", "--out", "g.json").code == 2


def test_wrong_member_file_names_the_place(mbi: Runner) -> None:
    """O3: a mistake in a member file is refused with its path."""
    Path("member.toml").write_text(f'[organisation]\nid = "B"\nadmin_key = "{"0" * 64}"\n')
    found = mbi("genesis", "new", "member.toml", "--network", "N")
    assert found.code == 2
    assert "$.organisations[0]" in found.err


def test_local_network_is_made_with_advice(mbi: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "initialise_databases", lambda _: None)
    found = mbi("localnet", "init", "net", "--json", "--seed", "x")
    assert found.code == 0
    assert [entry["name"] for entry in found.document["nodes"]][-1] == "obs-1"
    assert set(found.document["nodes"][0]) == {
        *("name", "role", "chamber", "http", "p2p", "pid", "home")
    }
    assert set(found.document["accounts"][0]) == {
        *("name", "address", "private_key", "asset", "balance")
    }
    assert "odd number" in found.err
    status = mbi("localnet", "status", "net", "--json").document["nodes"][0]
    assert (status["state"], status["height"], status["pid"]) == ("stopped", None, None)
    assert mbi("localnet", "node", "stop", "gov-1", "--dir", "net").code == 1
    assert mbi("localnet", "init", "net").code == 2


def test_network_for_containers_is_made_once(mbi: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "initialise_databases", lambda _: None)
    first = mbi("localnet", "init", "net", "--containers", "--json")
    assert first.code == 0
    assert first.document["nodes"][1]["p2p"] == "com-1:26100"
    again = mbi("localnet", "init", "net", "--containers", "--json")
    assert again.document == first.document
    assert mbi("localnet", "init", "net", "--containers", "--port", "3000").code == 2


def test_completions_are_printed(mbi: Runner) -> None:
    assert "_MBI_COMPLETE" in mbi("completions", "bash").out


def test_version_is_a_document(mbi: Runner) -> None:
    assert mbi("version", "--json").document["mbi"]


def test_colour_is_off_where_it_is_not_wanted(keys: Path) -> None:
    """NO_COLOR and pipes get plain text."""
    done = subprocess.run(
        [sys.executable, "-m", "mbi", "keys", "list", "--key-dir", str(keys)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "FORCE_COLOR": "1", "NO_COLOR": "1"},
    )
    assert "\x1b[3" not in done.stdout
    assert "alice" in done.stdout


def test_key_of_another_algorithm_is_named(mbi: Runner) -> None:
    """K2: the reason reaches the user in one line."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    path = Path("other.pem")
    key = X25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    found = mbi("keys", "show", "./other.pem")
    assert found.code == 2
    assert "holds a X25519 key; expected Ed25519" in found.err
    assert encode_key(b"x" * 32, None) != path.read_bytes()
