"""Queries: every object reachable by its route, in the documented form."""

from __future__ import annotations

from tests.unit.node_api.conftest import Api


async def test_status_says_who_and_where(api: Api) -> None:
    answer = await api.get("/v1/status")
    assert answer.status == 200
    assert answer.json["chain_id"] == api.node.chain_id.hex()
    assert answer.json["height"] == 0
