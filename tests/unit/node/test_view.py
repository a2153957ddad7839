"""What the API sees of a node between two epochs: one set, with the engine's report about it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from consensus.types import CertificateMessage
from ledger.validators import ValidatorSet
from node.api.render import consensus_json
from node.node import Node
from node.view import View
from tests.unit.consensus.changes import Change
from tests.unit.consensus.kit import Driven, validators
from tests.unit.node_api.fakes import FakeNode


def seen(node: Driven, following: ValidatorSet) -> View:
    """Return what the API sees of a node with this replica, whose state has the next set."""
    fake = FakeNode()
    stub: Any = SimpleNamespace(
        chain=fake.chain,
        chain_id=fake.chain_id,
        fence=None,
        home=SimpleNamespace(plans=()),
        driver=SimpleNamespace(engine=node.engine),
        network=SimpleNamespace(peers=list),
        progress=SimpleNamespace(height=0),
        epochs=SimpleNamespace(present=SimpleNamespace(validators=following)),
        validators=following,
    )
    return View(cast("Node", stub), "test", None)


@pytest.mark.parametrize("halts", [False, True])
def test_a_shrinking_set_is_not_confused_with_the_one_before(halts: bool) -> None:
    """C17: the state has three members when the engine still has four, for ever if it halts."""
    change = Change(validators(2, 1))
    node = change.node(change.before.leader(4))
    change.finish(node)
    if halts:
        other = change.before.finalization(change.before.block(2))
        node.receive(CertificateMessage((other,)), change.before.leader(2))
        change.switch(node)
        assert node.engine.status().halted is not None
    view = seen(node, change.after.validators)
    assert view.validators() == change.before.validators
    assert len(view.readiness()) == 4
    shown = consensus_json(view.consensus(), view.validators(), FakeNode().state.validators)
    assert len(shown["connected"]) == 4
