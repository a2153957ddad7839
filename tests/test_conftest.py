"""How `make test` deals tests out to its two workers."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

from tests.conftest import REAL_NODES, RealNodesTogether, scope_of


def test_tests_of_real_processes_share_one_worker() -> None:
    first = scope_of("tests/cluster/test_faults.py::test_a[uvloop]")
    assert first == scope_of("tests/cluster/test_growth.py::TestB::test_c") == REAL_NODES


def test_other_tests_share_a_worker_with_their_module_only() -> None:
    first = scope_of("tests/unit/node/test_costs.py::test_a")
    assert first == scope_of("tests/unit/node/test_costs.py::test_b[x::y]")
    assert first != scope_of("tests/unit/node/test_config.py::test_a")


def test_the_plugin_asks_for_scopes_by_this_name() -> None:
    """A release that renames it would deal tests of real processes out to both workers."""
    assert RealNodesTogether._split_scope is not LoadScopeScheduling._split_scope
