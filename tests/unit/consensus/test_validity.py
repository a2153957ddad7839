"""Chain rules A1-A3 and V1-V5 (docs/protocol-consensus.md, Validity of a proposal)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from consensus.certificates import CertificateStore, certificate_hash
from consensus.errors import InvalidHeader
from consensus.types import Certificate
from consensus.validity import (
    EXECUTION_LAG_MAX,
    EpochRules,
    check_header,
    check_parent_certificate,
    missing_ancestry,
)
from ledger.block import BLOCK_BYTES_MAX, BLOCK_TRANSACTIONS_MAX, Header
from ledger.types import Digest, View
from tests.unit.consensus.kit import EPOCH, ERA, Block, Net

NET = Net(3, 2)
RULES = EpochRules(ERA, EPOCH, NET.validators, NET.order, NET.base.hash)
CHAIN = NET.chain(3)
PARENT, CHILD = CHAIN[1], CHAIN[2]
OTHER = Digest(b"x" * 32)


def check(header: Header, parent: Block = PARENT) -> None:
    check_header(header, parent.header, parent.hash, RULES)


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        ("V1", {"version": 2}),
        ("V1", {"era": 1}),
        ("V1", {"epoch": 1}),
        ("V1", {"height": 2}),
        ("V1", {"height": 4}),
        ("V1", {"view": 4}),
        ("V1", {"parent_hash": OTHER}),
        ("V1", {"proposer": (CHILD.header.proposer + 1) % 5}),
        ("V1", {"validator_set_hash": OTHER}),
        ("V1", {"previous_boundary_hash": OTHER}),
        ("V1", {"transaction_count": -1}),
        ("V1", {"transaction_count": BLOCK_TRANSACTIONS_MAX + 1}),
        ("V1", {"body_bytes": -1}),
        ("V1", {"body_bytes": BLOCK_BYTES_MAX + 1}),
        ("V2", {"time_ms": PARENT.header.time_ms}),
        ("V2", {"time_ms": PARENT.header.time_ms - 1}),
        ("V3", {"executed_height": PARENT.header.executed_height - 1}),
        ("V3", {"executed_height": PARENT.header.height + 1}),
        ("V5", {"next_validator_set_hash": OTHER}),
    ],
    ids=str,
)
def test_every_field_that_is_wrong_breaks_its_rule(rule: str, changes: dict[str, Any]) -> None:
    """C8: one mutator per header field."""
    check(CHILD.header)
    with pytest.raises(InvalidHeader, match=rf"^{rule}: "):
        check(msgspec.structs.replace(CHILD.header, **changes))


@pytest.mark.parametrize("field", ["state_root", "history_root", "transactions_root"])
def test_roots_are_for_the_application_to_judge(field: str) -> None:
    check(msgspec.structs.replace(CHILD.header, **{field: OTHER}))


@pytest.mark.parametrize("executed", [PARENT.header.executed_height, PARENT.header.height])
def test_executed_height_may_stay_or_catch_up(executed: int) -> None:
    """V3."""
    check(msgspec.structs.replace(CHILD.header, executed_height=executed))


@pytest.mark.parametrize(("lag", "count", "valid"), [(8, 1, True), (9, 1, False), (9, 0, True)])
def test_blocks_far_above_execution_are_empty(lag: int, count: int, valid: bool) -> None:
    """V4: back-pressure never forbids a block, only transactions in it."""
    assert EXECUTION_LAG_MAX == 8
    parent = NET.block(20, height=30, executed_height=31 - lag)
    header = msgspec.structs.replace(
        NET.block(21, parent).header, executed_height=31 - lag, transaction_count=count
    )
    if valid:
        check(header, parent)
    else:
        with pytest.raises(InvalidHeader, match=r"^V4: "):
            check(header, parent)


def test_the_parent_certificate_gives_the_parent_view() -> None:
    assert check_parent_certificate(CHILD.header, CHILD.parent_certificate, RULES) == 2
    assert check_parent_certificate(CHAIN[0].header, None, RULES) == 0
    finalized = certified(CHILD, NET.finalization(PARENT))
    assert check_parent_certificate(finalized, NET.finalization(PARENT), RULES) == 2


def certified(block: Block, certificate: Certificate | None) -> Header:
    """Return the header naming another certificate."""
    return msgspec.structs.replace(
        block.header, parent_certificate_hash=certificate_hash(certificate)
    )


@pytest.mark.parametrize(
    ("block", "certificate"),
    [
        (CHILD, None),
        (CHILD, NET.notarization(CHAIN[0])),
        (CHILD, NET.nullification(2)),
        (CHILD, NET.certificate(PARENT.parent_certificate.kind, 3, PARENT.value)),  # type: ignore[union-attr]
        (CHAIN[0], NET.certificate(CHILD.parent_certificate.kind, 1, NET.base.value)),  # type: ignore[union-attr]
    ],
    ids=["none", "of another block", "a nullification", "not below the view", "of the base"],
)
def test_a_wrong_parent_certificate_breaks_v1(
    block: Block, certificate: Certificate | None
) -> None:
    """C8: parent, certificate."""
    with pytest.raises(InvalidHeader, match=r"^V1: "):
        check_parent_certificate(certified(block, certificate), certificate, RULES)


def test_a_certificate_that_the_header_does_not_name_breaks_v1() -> None:
    with pytest.raises(InvalidHeader, match=r"^V1: "):
        check_parent_certificate(CHILD.header, NET.notarization(PARENT, range(4)), RULES)


def ancestry(
    view: int, parent_view: int, parent: Digest, *certificates: Certificate, final: int = 0
) -> list[View]:
    store = CertificateStore()
    for certificate in certificates:
        store.add(certificate)
    final_hash = NET.base.hash if final == 0 else CHAIN[final - 1].hash
    return missing_ancestry(View(view), View(parent_view), parent, View(final), final_hash, store)


def test_a_child_of_the_finalised_block_needs_nothing_more() -> None:
    """A2."""
    assert ancestry(1, 0, NET.base.hash) == []
    assert ancestry(3, 2, PARENT.hash, final=2) == []


@pytest.mark.parametrize("parent_view", [3, 4, 1])
def test_the_parent_view_lies_between_final_and_own_view(parent_view: int) -> None:
    """A1."""
    with pytest.raises(InvalidHeader, match=r"^A1: "):
        ancestry(3, parent_view, PARENT.hash, final=2)


@pytest.mark.parametrize("certificate", [NET.notarization(PARENT), NET.finalization(PARENT)])
def test_the_parent_is_certified_in_its_view(certificate: Certificate) -> None:
    """A2: by a notarization or a finalization."""
    assert ancestry(3, 2, PARENT.hash, certificate) == []
    assert ancestry(3, 2, PARENT.hash) == [2]
    with pytest.raises(InvalidHeader, match=r"^A2: "):
        ancestry(3, 2, OTHER, certificate)


def test_every_view_between_is_nullified() -> None:
    """A3: and what else is certified there does not matter."""
    nullified = [NET.nullification(view) for view in (3, 4, 5)]
    parent = NET.notarization(PARENT)
    assert ancestry(6, 2, PARENT.hash, parent, *nullified) == []
    assert ancestry(6, 2, PARENT.hash, parent, nullified[1]) == [3, 5]
    also_notarized = NET.notarization(CHILD)
    assert ancestry(6, 2, PARENT.hash, parent, also_notarized, *nullified) == []
    assert ancestry(6, 2, PARENT.hash, parent, also_notarized, *nullified[1:]) == [3]


def test_a_finalised_block_of_another_value_is_no_parent() -> None:
    with pytest.raises(InvalidHeader, match=r"^A2: "):
        ancestry(3, 2, OTHER, final=2)
