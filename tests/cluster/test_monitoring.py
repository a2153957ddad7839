"""What the project's rules and board ask for is on the page of a node that runs."""

from __future__ import annotations

import pytest

from tests.cluster.cluster import Cluster
from tests.unit.deploy.monitoring import metrics_exposed, metrics_used

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]


def test_every_metric_of_rules_and_board_is_on_the_live_page(cluster: Cluster) -> None:
    for node in (cluster.validators[0], cluster.nodes[-1]):
        page = node.api.request("GET", "/metrics").body.decode()
        assert metrics_used() - metrics_exposed(page) == set()
