"""``mbi audit``: proofs are fetched, checked offline, and refused when anything differs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from consensus.light.proofs import sealed
from ledger.genesis import genesis_json
from ledger.records import account_key, organisation_key
from ledger.transaction import decode_transaction
from mbi.sync_client import Client
from node.api.context import Context
from node.api.limits import Limits
from node.api.server import ApiServer
from node.metrics import Metrics
from tests.unit.mbi.commands import Runner
from tests.unit.node_api.fakes import ALICE_ADDRESS, FakeNode

DEADLINE_S = 10

Mbi = Callable[..., tuple[int, Any]]


@dataclass
class Served:
    """A node's API in another thread, and what a user knows of it."""

    url: str
    node: FakeNode
    id: str
    genesis: Path


@contextmanager
def serving(genesis: Path) -> Iterator[Served]:
    """Serve a chain with two set changes; a block follows whenever somebody waits for one."""
    started, stop = threading.Event(), threading.Event()
    found: list[Served] = []

    async def make_chain(node: FakeNode) -> str:
        wire = node.transfer()
        await node.finalize(wire)
        for _ in range(2):
            await node.finalize()
            node.close_epoch()
        await node.finalize()
        return decode_transaction(node.chain_id, wire).id.hex()

    async def main() -> None:
        node = FakeNode()
        identifier = await make_chain(node)
        context = Context(node, Metrics(), Limits())
        server = ApiServer(context)
        host, port = await server.start("127.0.0.1", 0)
        found.append(Served(f"http://{host}:{port}", node, identifier, genesis))
        started.set()
        while not stop.is_set():
            if context.waiters.taken:
                await node.finalize()
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.to_thread(stop.wait, 0.01), DEADLINE_S)
        await server.stop()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        if not started.wait(DEADLINE_S):
            raise TimeoutError("the node did not start")
        genesis.write_bytes(genesis_json(found[0].node.genesis))
        yield found[0]
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path / "genesis.json") as found:
        yield found


@pytest.fixture
def mbi(mbi: Runner) -> Mbi:
    """The command with `--json`: exit code and document."""

    def run(*words: str) -> tuple[int, Any]:
        found = mbi(*words, "--json")
        return found.code, found.document

    return run


def proof_of(mbi: Mbi, served: Served, *words: str) -> Path:
    """Fetch a proof and return its file."""
    code, document = mbi("audit", "proof", *words, "--node", served.url, "--out", "the.proof")
    assert code == 0, document
    path = Path(document["file"])
    assert path.stat().st_size == document["bytes"]
    return path


def check(mbi: Mbi, path: Path, served: Served, *words: str) -> tuple[int, Any]:
    return mbi("audit", "check", str(path), "--genesis", str(served.genesis), *words)


class TestTransactions:
    def test_a_proof_is_checked_offline(self, mbi: Mbi, served: Served) -> None:
        path = proof_of(mbi, served, served.id)
        code, document = check(mbi, path, served)
        assert code == 0
        assert document["proven"] is True
        assert (document["id"], document["code"], document["height"]) == (served.id, "ok", 1)
        assert document["receipt"]["events"][0]["type"] == "transferred"
        assert document["set_changes"] == 0

    def test_the_latest_header_passes_every_checkpoint(self, mbi: Mbi, served: Served) -> None:
        code, listed = mbi("audit", "checkpoints", "--node", served.url)
        assert code == 0
        assert [item["epoch"] for item in listed["items"]] == [0, 1, 2]
        trusted = listed["items"][2]["checkpoint"]
        early = proof_of(mbi, served, served.id)
        code, refused = check(mbi, early, served, "--checkpoint", trusted)
        assert code == 5
        assert "light_checkpoint_mismatch" in refused["error"]["detail"]
        late = proof_of(mbi, served, served.id, "--latest")
        code, document = check(mbi, late, served, "--checkpoint", trusted)
        assert (code, document["set_changes"]) == (0, 2)

    def test_a_damaged_proof_ends_with_exit_code_5(self, mbi: Mbi, served: Served) -> None:
        path = proof_of(mbi, served, served.id)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        code, document = check(mbi, path, served)
        assert code == 5
        assert "light_damaged_proof" in document["error"]["detail"]
        path.write_bytes(sealed(bytes(data)))
        assert check(mbi, path, served)[0] == 5

    def test_another_genesis_ends_with_exit_code_5(self, mbi: Mbi, served: Served) -> None:
        path = proof_of(mbi, served, served.id)
        served.genesis.write_bytes(genesis_json(FakeNode(dev=False).genesis))
        code, document = check(mbi, path, served)
        assert code == 5
        assert "expected a proof for network" in document["error"]["detail"]

    def test_an_unknown_transaction_has_no_proof(self, mbi: Mbi, served: Served) -> None:
        code, document = mbi("audit", "proof", "00" * 32, "--node", served.url)
        assert (code, document["error"]["code"]) == (1, "api_problem")


class TestState:
    def test_what_a_key_holds(self, mbi: Mbi, served: Served) -> None:
        path = proof_of(mbi, served, "--key", account_key(ALICE_ADDRESS).hex())
        code, document = check(mbi, path, served)
        assert code == 0
        assert document["present"] is True
        assert document["record"]["organisation"] == "bank"

    def test_that_a_key_holds_nothing(self, mbi: Mbi, served: Served) -> None:
        key = organisation_key("nobody").hex()
        code, document = check(mbi, proof_of(mbi, served, "--key", key), served)
        assert code == 0
        assert (document["present"], document["record"], document["key"]) == (False, None, key)


class TestFollowing:
    def test_a_node_is_followed_through_its_set_changes(self, mbi: Mbi, served: Served) -> None:
        words = ("audit", "verify", served.url, "--genesis", str(served.genesis))
        code, document = mbi(*words)
        assert code == 0
        assert (document["intact"], document["epoch"]) == (True, 2)
        assert document["height"] == document["certified_results"] + 1
        code, document = mbi(*words, "--checkpoint", f"2:{'00' * 32}")
        assert code == 5

    def test_a_node_of_another_network_is_noticed(self, mbi: Mbi, served: Served) -> None:
        served.genesis.write_bytes(genesis_json(FakeNode(dev=False).genesis))
        code, _ = mbi("audit", "verify", served.url, "--genesis", str(served.genesis))
        assert code == 5
        words = ("audit", "checkpoints", "--node", served.url, "--genesis", str(served.genesis))
        assert mbi(*words)[0] == 5

    @pytest.mark.parametrize(
        ("field", "value"), [("index", 8), ("index", 10**12), ("index", -1), ("view", 2**70)]
    )
    def test_numbers_that_no_certificate_holds_are_noticed(
        self,
        mbi: Mbi,
        served: Served,
        monkeypatch: pytest.MonkeyPatch,
        field: str,
        value: int,
    ) -> None:
        """What a hostile node shows ends the audit with a verdict, never with a broken auditor."""
        asked = Client.get

        def lying(client: Client, path: str, **query: Any) -> Any:
            answer = asked(client, path, **query)
            if path.endswith("/certificate"):
                shown = answer["certificate"]
                (shown if field in shown else shown["signers"][0])[field] = value
            return answer

        monkeypatch.setattr(Client, "get", lying)
        code, document = mbi("audit", "verify", served.url, "--genesis", str(served.genesis))
        assert (code, document["error"]["code"]) == (5, "integrity_violation")


@pytest.mark.parametrize(
    "words",
    [
        ("audit", "proof"),
        ("audit", "proof", "00" * 32, "--key", "01"),
        ("audit", "proof", "--key", "01", "--latest"),
        ("audit", "check", "nofile", "--genesis", "nofile"),
        ("audit", "check", "nofile"),
        ("audit", "verify", "nodir", "--checkpoint", f"1:{'00' * 32}"),
        ("audit", "verify", "http://127.0.0.1:1", "--checkpoint", "1"),
        ("audit", "verify", "http://127.0.0.1:1", "--checkpoint", f"01:{'00' * 32}"),
    ],
)
def test_wrong_calls_end_with_exit_code_2(mbi: Mbi, words: tuple[str, ...]) -> None:
    assert mbi(*words)[0] == 2
