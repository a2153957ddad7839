"""The check after a run: what is wrong is told from what was only not awaited."""

from __future__ import annotations

import contextlib
from array import array
from typing import Any

import msgspec
import pytest
from click.exceptions import Exit

from ledger.crypto import SigningKey
from ledger.types import Address, Digest
from mbi.bench import integrity
from mbi.bench.balances import BalanceCheck, Opening
from mbi.bench.integrity import Evidence, check_integrity
from mbi.bench.load import ACCEPTED, REJECTED, Sent
from mbi.bench.target import Target, TargetNode
from mbi.bench.workload import WORKLOADS, Accounts, Prepared
from mbi.cli.bench import end_by
from mbi.cli.output import Output
from tests.unit.mbi.fake_node import FakeNode, serving

COUNT = 4
IDS = [Digest(number.to_bytes(32)) for number in range(COUNT)]


def fake(heights: dict[int, list[int]], top: int, root: str = "aa") -> FakeNode:
    """Return a node whose blocks hold transactions by number."""
    node = FakeNode(height=top)
    node.blocks = {h: [bytes(IDS[n]) for n in heights.get(h, [])] for h in range(1, top + 1)}
    node.listing = [
        {"height": h, "hash": f"{h:02x}", "state_root": root, "body_bytes": 100}
        for h in range(top, 0, -1)
    ]
    return node


def evidence(heights: list[int], seen_height: int, pending: int = 0) -> Evidence:
    accounts = Accounts([SigningKey.from_seed(bytes([1]) * 32)], [Address(bytes(20))], "o/A", 100)
    compose = WORKLOADS["transfer"].compose(accounts)
    sent = Sent(array("d", [0.0] * COUNT), array("b", [ACCEPTED] * COUNT))
    prepared = Prepared(compose, 1, [], IDS)
    return Evidence(
        accounts, Opening({}, {}), prepared, sent, array("q", heights), 1, seen_height, pending
    )


async def check(nodes: list[FakeNode], known: Evidence) -> integrity.Integrity:
    async with serving(nodes[0]) as first, serving(nodes[1]) as second:
        targets = tuple(TargetNode(f"n{i}", n.url, None) for i, n in enumerate((first, second)))
        funder = SigningKey.from_seed(bytes(32))
        return await check_integrity(
            Target(targets, Digest(bytes(32)), funder, "o", "o/A", "1"), known
        )


@pytest.fixture(autouse=True)
def no_balances(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Leave the comparison of balances out; note that it was to be made."""
    compared: list[Any] = []

    async def check_balances(*_: object) -> Any:
        compared.append(_)
        return BalanceCheck()

    monkeypatch.setattr(integrity, "check_balances", check_balances)
    monkeypatch.setattr(integrity, "CATCH_UP_S", 0.3)
    return compared


async def test_nodes_that_agree_pass(no_balances: list[Evidence]) -> None:
    blocks = {1: [0, 1], 2: [2, 3]}
    found = await check([fake(blocks, 2), fake(blocks, 2)], evidence([1, 1, 2, 2], 2))
    assert found.verdict == "passed"
    assert found.checked["found_per_node"] == {"n0": 4, "n1": 4}
    assert len(no_balances) == 1


async def test_tail_that_was_not_awaited_is_no_violation(no_balances: list[Evidence]) -> None:
    """The observer was slow: its last blocks came when nobody looked any more."""
    blocks = {1: [0, 1], 2: [2, 3]}
    found = await check([fake(blocks, 2), fake(blocks, 2)], evidence([1, 1, -1, -1], 1))
    assert (found.verdict, found.problems) == ("incomplete", [])
    assert found.checked["final_after_observation"] == 2
    assert no_balances == []


async def test_pending_transactions_leave_the_balances_open(no_balances: list[Evidence]) -> None:
    blocks = {1: [0, 1]}
    found = await check([fake(blocks, 2), fake(blocks, 2)], evidence([1, 1, -1, -1], 2, pending=2))
    assert found.verdict == "incomplete"
    assert "2 transactions pending" in found.unfinished[0]
    assert no_balances == []


async def test_node_that_is_still_behind_is_no_violation() -> None:
    blocks = {1: [0, 1]}
    found = await check([fake(blocks, 3), fake(blocks, 2)], evidence([1, 1, -1, -1], 3))
    assert (found.verdict, found.problems) == ("incomplete", [])
    assert "n1 at 2" in found.unfinished[0]


async def test_transaction_in_a_block_that_was_looked_at_is_a_violation() -> None:
    """The observer saw block 2 without it, so somebody has another block 2."""
    found = await check(
        [fake({1: [0]}, 2), fake({1: [0], 2: [1]}, 2)], evidence([1, -1, -1, -1], 2)
    )
    assert found.verdict == "violated"
    assert "n1 has 1 transactions that others do not have" in found.problems


async def test_lost_double_and_refused_transactions_are_violations() -> None:
    known = evidence([1, 1, 2, 2], 2)
    known.sent.outcome[3] = REJECTED
    good = fake({1: [0, 1], 2: [2, 3]}, 2)
    found = await check([good, fake({1: [0, 1], 2: [1, 3]}, 2)], known)
    text = "; ".join(found.problems)
    assert "final twice" in text
    assert "seen final are not there" in text
    assert "final transactions that were refused" in text


async def test_other_state_is_a_violation() -> None:
    found = await check(
        [fake({1: [0]}, 2), fake({1: [0]}, 2, root="bb")], evidence([1, -1, -1, -1], 2)
    )
    assert found.verdict == "violated"


@pytest.mark.parametrize(
    ("problems", "unfinished", "code"), [([], [], 0), (["p"], ["u"], 5), ([], ["u"], 4)]
)
def test_command_prints_one_document_and_ends_by_its_verdict(
    problems: list[str], unfinished: list[str], code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """With --json the report stands alone on stdout, whatever became of the run."""
    output = Output(is_json=True)
    result = {"integrity": {"problems": problems, "unfinished": unfinished}}
    output.document(result)
    with contextlib.nullcontext() if not code else pytest.raises(Exit) as stop:
        end_by(output, [result])
    found = stop.value.exit_code if stop else 0
    text = capfd.readouterr()
    assert msgspec.json.decode(text.out) == result
    assert found == code
    assert bool(text.err) == bool(code)
