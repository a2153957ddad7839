"""Random schedules of epochs: the chain goes through all of them, and nobody is left behind."""

from __future__ import annotations

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from consensus.types import CertificateMessage, ConsensusMessage, Status
from ledger.types import Height
from ledger.votes import Vote, VoteKind
from tests.property.epoch_world import KEYS, Node, World

members = st.sets(st.integers(0, KEYS - 1), min_size=3, max_size=5).map(sorted)
plans = st.lists(members, min_size=2, max_size=4)

SAFETY_MS = 12_000
HEALED_MS = 120_000


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32),
    plan=plans,
    length=st.integers(1, 4),
    loss=st.sampled_from([0.0, 0.1, 0.4]),
    crashes=st.integers(0, 12),
)
def test_the_chain_goes_through_all_epochs(
    seed: int, plan: list[list[int]], length: int, loss: float, crashes: int
) -> None:
    """Bugs 14-17, 37 and 43: losses and crashes at any moment, then a healed network."""
    world = World(seed, plan, length)
    world.loss = loss
    for _ in range(crashes):
        world.run(world.random.randint(0, SAFETY_MS // max(crashes, 1)))
        node = world.random.choice(world.nodes)
        if node.is_up:
            node.crash()
        else:
            node.boot()
    world.loss = 0.0
    for node in world.nodes:
        if not node.is_up:
            node.boot()
    wanted = Height(length * (len(plan) - 1) + 2)
    for _ in range(HEALED_MS // 1_000):
        world.run(1_000)
        if all(len(node.disk.chain) > wanted for node in world.nodes):
            break
    heights = [len(node.disk.chain) - 1 for node in world.nodes]
    assert min(heights) >= wanted, f"heights {heights}, wanted {wanted}"
    assert {node.replica.epoch for node in world.nodes} == {len(plan) - 1}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), knower=st.integers(0, 3))
def test_one_node_that_knows_the_end_brings_all_others_over(seed: int, knower: int) -> None:
    """Bug 43: the end reaches one node only, and then all hear only that one."""
    world = World(seed, [[0, 1, 2, 3], [1, 2, 3, 4]], 2)
    one = world.nodes[knower]

    def hides_the_end(_source: Node, target: Node, message: ConsensusMessage) -> bool:
        tells = isinstance(message, Vote) and message.kind is VoteKind.FINALIZE
        return target is not one and (tells or isinstance(message, CertificateMessage | Status))

    world.cut = hides_the_end
    while one.replica.epoch == 0:
        world.run(1)
        assert world.now_ms < HEALED_MS
    # In rare worlds another node fetches the end together with the boundary block.
    assume({node.replica.epoch for node in world.nodes if node is not one} == {0})
    world.cut = lambda source, target, _: one not in (source, target)
    world.run(5_000)
    assert {node.replica.epoch for node in world.nodes} == {1}
