"""Leader order (docs/protocol-consensus.md, Leader)."""

from __future__ import annotations

from collections import Counter

from consensus.leader import leader, leader_order
from ledger.types import Epoch, Era, View
from ledger.validators import Chamber
from tests.unit.consensus.kit import CHAIN_ID, validators


def test_chambers_alternate_until_the_smaller_is_used_up() -> None:
    members = validators(3, 2)
    order = leader_order(CHAIN_ID, Era(0), Epoch(0), members)
    chambers = [members[i].chamber for i in order]
    doubled = chambers + chambers
    alternating = [Chamber.GOVERNMENT, Chamber.COMMERCIAL] * 2 + [Chamber.GOVERNMENT]
    assert any(doubled[i : i + 5] == alternating for i in range(5))


def test_every_validator_leads_equally_often() -> None:
    members = validators(4, 3)
    order = leader_order(CHAIN_ID, Era(0), Epoch(0), members)
    turns = Counter(leader(order, View(view)) for view in range(1, 7 * 10 + 1))
    assert set(turns.values()) == {10}
    assert len(turns) == 7


def test_order_starts_elsewhere_in_another_epoch_or_era() -> None:
    members = validators(5, 5)
    orders = {
        leader_order(CHAIN_ID, Era(era), Epoch(epoch), members)[0]
        for era in range(3)
        for epoch in range(10)
    }
    assert len(orders) > 3


def test_one_validator_leads_always() -> None:
    order = leader_order(CHAIN_ID, Era(0), Epoch(0), validators(0, 1))
    assert [leader(order, View(v)) for v in range(3)] == [0, 0, 0]
