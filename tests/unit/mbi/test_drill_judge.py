"""What makes a drill unsafe or late, decided from statements made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mbi.drill.judge import (
    Limits,
    Result,
    Seconds,
    Statement,
    Verdict,
    late_reasons,
    trespasses,
    unsafe_reasons,
    worst_exit_code,
)
from mbi.errors import ExitCode

LIMITS = Limits(gap_s=5.0, block_s=5.0, agree_s=10.0)
QUICK = Seconds(1.0, 0.5, 2.0)


def statement(node: str) -> Statement:
    return Statement(
        node=node,
        blocks={1: ("aa", "ra"), 2: ("bb", "rb")},
        transactions={1: ["t1"], 2: ["t2", "t3"]},
        accusations=frozenset({"old"}),
        halted=None,
    )


FINAL = {"t1": 1, "t2": 2}
ACKNOWLEDGED = frozenset({"t1", "t2", "t3"})


def reasons(*nodes: Statement, refused: frozenset[str] = frozenset()) -> list[str]:
    return unsafe_reasons(nodes, FINAL, ACKNOWLEDGED, refused, frozenset({"old"}))


def test_nodes_that_agree_and_lost_nothing_are_safe() -> None:
    assert reasons(statement("a"), statement("b"), statement("c")) == []


@pytest.mark.parametrize("block", [("xx", "rb"), ("bb", "rx")], ids=["hash", "state root"])
def test_another_block_or_state_at_one_height_is_unsafe(block: tuple[str, str]) -> None:
    other = replace(statement("b"), blocks={1: ("aa", "ra"), 2: block})
    (reason,) = reasons(statement("a"), other)
    assert reason.startswith("height 2: b has block and state")


def test_missing_height_is_unsafe() -> None:
    other = replace(statement("b"), blocks={1: ("aa", "ra")})
    assert reasons(statement("a"), other) == ["b lists other heights than a"]


def test_loss_of_what_was_called_final_is_unsafe_on_the_node_that_lost_it() -> None:
    other = replace(statement("b"), transactions={1: ["t1"], 2: ["t3"]})
    (reason,) = reasons(statement("a"), other)
    assert reason.startswith("b: 1 transactions that were called final are not at their height")


def test_final_transaction_at_another_height_is_unsafe() -> None:
    other = replace(statement("b"), transactions={1: ["t1", "t2"], 2: ["t3"]})
    (reason,) = reasons(statement("a"), other)
    assert "t2" in reason


def test_loss_of_what_was_only_acknowledged_is_unsafe() -> None:
    other = replace(statement("b"), transactions={1: ["t1"], 2: ["t2"]})
    (reason,) = reasons(statement("a"), other)
    assert reason.startswith("b: 1 acknowledged transactions are missing (the first: t3)")


def test_transaction_that_is_final_twice_is_unsafe() -> None:
    other = replace(statement("b"), transactions={1: ["t1"], 2: ["t2", "t3", "t3"]})
    assert reasons(statement("a"), other) == ["b: transaction t3 is final twice"]


def test_refused_transaction_in_the_chain_is_unsafe() -> None:
    found = reasons(statement("a"), statement("b"), refused=frozenset({"t3"}))
    assert [reason.split(" (")[0] for reason in found] == [
        "a: 1 transactions that were refused are final",
        "b: 1 transactions that were refused are final",
    ]


def test_new_evidence_against_honest_validators_is_unsafe() -> None:
    other = replace(statement("b"), accusations=frozenset({"old", "new", "newer"}))
    found = reasons(statement("a"), other)
    assert found == ["b holds 2 proofs against honest validators"]


def test_node_that_stopped_voting_is_unsafe() -> None:
    found = reasons(statement("a"), replace(statement("b"), halted="two certificates"))
    assert found == ["b has halted: two certificates"]


def test_progress_of_a_node_that_was_cut_off_is_unsafe() -> None:
    """C14: without a quorum nothing becomes final."""
    assert trespasses({"a": 0, "b": 0}) == []
    (reason,) = trespasses({"a": 0, "b": 3})
    assert reason.startswith("b: 3 blocks became final")


def test_recovery_within_all_limits_is_in_time() -> None:
    assert late_reasons(LIMITS, QUICK, 100) == []


@pytest.mark.parametrize(
    ("seconds", "word"),
    [
        (Seconds(5.1, 0.5, 2.0), "no block for 5.1 s"),
        (Seconds(1.0, 5.1, 6.0), "new block after 5.1 s"),
        (Seconds(1.0, 0.5, 10.1), "all nodes at one height after 10.1 s"),
    ],
)
def test_each_limit_is_held_or_named(seconds: Seconds, word: str) -> None:
    (reason,) = late_reasons(LIMITS, seconds, 100)
    assert reason.startswith(word)


def test_recovery_that_never_came_is_late() -> None:
    assert len(late_reasons(LIMITS, Seconds(1.0, None, None), 100)) == 2


def test_standstill_is_not_late_where_it_is_demanded() -> None:
    halting = replace(LIMITS, gap_s=None)
    assert late_reasons(halting, Seconds(60.0, 1.0, 2.0), 100) == []


def test_node_that_begins_with_nothing_has_time_for_every_block() -> None:
    growing = replace(LIMITS, agree_per_block_s=0.1)
    assert late_reasons(growing, Seconds(1.0, 1.0, 19.0), 100) == []
    assert late_reasons(growing, Seconds(1.0, 1.0, 19.0), 50)


def test_unsafe_outweighs_late_outweighs_green() -> None:
    green = Result("green", QUICK, LIMITS, 1)
    late = Result("late", QUICK, LIMITS, 1, late=["slow"])
    unsafe = Result("unsafe", QUICK, LIMITS, 1, unsafe=["fork"], late=["slow"])
    assert (green.verdict, late.verdict, unsafe.verdict) == (
        Verdict.SAFE,
        Verdict.SAFE,
        Verdict.UNSAFE,
    )
    assert worst_exit_code([]) is ExitCode.OK
    assert worst_exit_code([green]) is ExitCode.OK
    assert worst_exit_code([green, late]) is ExitCode.FAILED
    assert worst_exit_code([late, unsafe, green]) is ExitCode.INTEGRITY


def test_report_says_verdict_limits_and_reasons() -> None:
    limits = replace(LIMITS, agree_per_block_s=1.0)
    document = Result("x", QUICK, limits, 7, unsafe=["fork"], late=["slow"]).to_json()
    assert (document["verdict"], document["recovered"]) == ("UNSAFE", False)
    assert document["limits"]["agree_s"] == 17.0
    assert (document["unsafe"], document["late"]) == (["fork"], ["slow"])
