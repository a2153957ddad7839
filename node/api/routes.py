"""The one table of routes: what is registered and what is documented."""

from __future__ import annotations

from typing import Final

from node.api import (
    block_routes,
    dev_routes,
    governance_routes,
    node_routes,
    proof_routes,
    site_routes,
    state_routes,
    stream_routes,
    transaction_routes,
)
from node.api.routing import Route

ROUTES: Final[tuple[Route, ...]] = (
    *site_routes.ROUTES,
    *node_routes.ROUTES,
    *block_routes.ROUTES,
    *transaction_routes.ROUTES,
    *state_routes.ROUTES,
    *proof_routes.ROUTES,
    *governance_routes.ROUTES,
    *stream_routes.ROUTES,
    *dev_routes.ROUTES,
)
"""In the order of the documentation."""
