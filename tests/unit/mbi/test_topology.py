"""Names, chambers and ports of local networks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbi.errors import UsageError
from mbi.localnet.topology import advice, plan, plan_containers, quorum_text


def test_default_network_is_two_and_two_with_an_observer() -> None:
    nodes = plan(4, 1).nodes
    assert [node.name for node in nodes] == ["gov-1", "com-1", "gov-2", "com-2", "obs-1"]
    assert [node.chamber for node in nodes] == [
        "government",
        "commercial",
        "government",
        "commercial",
        None,
    ]
    assert [node.role for node in nodes] == ["validator"] * 4 + ["observer"]


def test_ports_are_ten_apart() -> None:
    nodes = plan(4, 1, 26100).nodes
    assert [node.p2p_port for node in nodes] == [26100, 26110, 26120, 26130, 26140]
    assert [node.http_port for node in nodes] == [26101, 26111, 26121, 26131, 26141]


@given(st.integers(1, 100), st.integers(0, 50))
def test_chambers_differ_by_one_at_most_and_names_are_distinct(
    validators: int, observers: int
) -> None:
    topology = plan(validators, observers)
    sizes = topology.chamber_size("government"), topology.chamber_size("commercial")
    assert sum(sizes) == validators
    assert 0 <= sizes[0] - sizes[1] <= 1
    assert len({node.name for node in topology.nodes}) == validators + observers
    assert len(set(topology.ports)) == 2 * (validators + observers)


@pytest.mark.parametrize(
    ("validators", "observers", "port", "named"),
    [
        (0, 0, 26100, "--validators"),
        (101, 0, 26100, "--validators"),
        (4, -1, 26100, "--observers"),
        (4, 1, 80, "--port"),
        (4, 1, 65_500, "--port"),
    ],
)
def test_numbers_out_of_range_are_named(
    validators: int, observers: int, port: int, named: str
) -> None:
    """O3: a negative or impossible number is refused with the option's name and its range."""
    with pytest.raises(UsageError, match=rf"{named} must be from \d+ to \d+, got"):
        plan(validators, observers, port)


def test_quorum_is_said_in_words() -> None:
    assert (
        quorum_text(2, 2) == "3 of 4 validators, at least 1 of 2 government and 1 of 2 commercial"
    )
    assert quorum_text(3, 0) == "3 of 3 validators, at least 2 of 3 government"


def test_even_chambers_are_advised_against() -> None:
    assert "commercial has 2" in (advice(3, 2) or "")
    assert advice(3, 3) is None
    assert advice(1, 0) is None


@given(st.integers(1, 32), st.integers(0, 16))
def test_containers_hold_the_same_nodes_as_one_machine(validators: int, observers: int) -> None:
    local, apart = plan(validators, observers), plan_containers(validators, observers)
    assert [(n.name, n.role, n.chamber) for n in apart.nodes] == [
        (n.name, n.role, n.chamber) for n in local.nodes
    ]
    assert {(n.p2p_port, n.http_port) for n in apart.nodes} == {(26100, 26101)}
    assert all(n.host == n.name and n.in_container for n in apart.nodes)
    assert not any(n.in_container for n in local.nodes)


@pytest.mark.parametrize(("validators", "observers"), [(0, 0), (33, 0), (4, 17)])
def test_more_containers_than_the_image_has_places_for_are_refused(
    validators: int, observers: int
) -> None:
    with pytest.raises(UsageError, match=r"must be from \d+ to \d+, got"):
        plan_containers(validators, observers)
