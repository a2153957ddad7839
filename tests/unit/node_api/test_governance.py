"""Governance over HTTP: proposals with their votes, and the limits in force."""

from __future__ import annotations

from ledger.operations import ProposeChange, VoteChange
from ledger.records import AssetClass, SetPowers
from ledger.types import ProposalId
from tests.unit.node_api.conftest import Api
from tests.unit.node_api.fakes import BOB
from tests.unit.node_api.test_problems import assert_problem

PATH = "/v1/governance/proposals"
POWERS = SetPowers("bank", 5, (AssetClass.E_MONEY,))


async def test_proposal_shows_its_change_its_votes_and_its_times(api: Api) -> None:
    await api.node.finalize(api.node.signed(ProposeChange(None, POWERS)))
    found = (await api.get(f"{PATH}/1")).json
    assert found["change"] == {
        "type": "set_powers",
        "organisation": "bank",
        "weight": 5,
        "licences": ["e_money"],
    }
    assert found["votes"] == [{"organisation": "bank", "approve": True}]
    assert (found["status"], found["effective"]) == ("open", None)
    assert found["created"] < found["expires"]


async def test_approval_of_both_chambers_gives_the_proposal_a_time(api: Api) -> None:
    await api.node.finalize(api.node.signed(ProposeChange(None, POWERS)))
    vote = VoteChange(None, ProposalId(1), approve=True)
    await api.node.finalize(api.node.signed(vote, sender=BOB))
    found = (await api.get(f"{PATH}/1")).json
    assert found["status"] == "approved"
    assert found["effective"] > found["created"]


async def test_proposals_are_listed_by_number_in_both_orders(api: Api) -> None:
    for weight in (2, 3, 4):
        change = SetPowers("bank", weight, ())
        await api.node.finalize(api.node.signed(ProposeChange(None, change)))
    ascending = (await api.get(f"{PATH}?limit=2&order=asc")).json
    assert [item["id"] for item in ascending["items"]] == [1, 2]
    rest = (await api.get(f"{PATH}?limit=2&order=asc&cursor={ascending['next_cursor']}")).json
    assert [item["id"] for item in rest["items"]] == [3]
    latest = (await api.get(f"{PATH}?limit=1&order=desc")).json
    assert [item["id"] for item in latest["items"]] == [3]


async def test_unknown_proposal_is_not_found(api: Api) -> None:
    assert_problem(await api.get(f"{PATH}/1"), 404, "not_found")
    assert_problem(await api.get(f"{PATH}/0"), 404, "not_found")
    assert_problem(await api.get(f"{PATH}/{2**64}"), 400, "invalid_parameter")


async def test_parameters_are_those_in_force(api: Api) -> None:
    found = (await api.get("/v1/governance/parameters")).json
    assert found["change_notice_ms"] == api.node.genesis.parameters.change_notice_ms
    assert found["block_transactions_max"] == api.node.genesis.parameters.block_transactions_max
