"""The light client under hypothesis: it follows every honest chain and nothing deceives it."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.errors import ConsensusError
from consensus.light import LightError
from consensus.light.errors import DamagedProof, NotFinalized
from consensus.light.proofs import ProvenState, check_proof, sealed
from ledger.errors import LedgerError
from ledger.validators import Chamber, ValidatorSet
from tests.unit.consensus.epochs import EpochChain, members
from tests.unit.consensus.proof_scene import HELD, ProofScene

names = st.integers(0, 9).map(str)
sets = st.builds(
    lambda government, commercial: members(
        sorted({f"g{n}" for n in government} | {f"c{n}" for n in commercial})
    ),
    st.lists(names, min_size=1, max_size=5),
    st.lists(names, min_size=1, max_size=5),
)


@given(st.lists(sets, min_size=1, max_size=4), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_every_honest_chain_is_followed(chosen: list[ValidatorSet], blocks: int) -> None:
    chain = EpochChain(chosen).run(blocks)
    client = chain.client()
    for change in chain.changes:
        client.apply(change)
    assert client.epoch == len(chosen) - 1
    assert client.validators.hash == chosen[-1].hash
    if blocks:
        last = chain.headers[-1]
        assert client.check_final(last, chain.certificate(last)) == chain.hash_of(last)


@given(sets, st.data())
@settings(max_examples=100, deadline=None)
def test_a_hand_over_needs_exactly_a_quorum(chosen: ValidatorSet, data: st.DataObject) -> None:
    """The rule is written once more here: two thirds of all and half of each chamber."""
    signers = data.draw(st.sets(st.integers(0, chosen.size - 1), min_size=1))
    chain = EpochChain((chosen, chosen))
    change = chain.close()
    certificate = chain.certificate(change.header, by=chosen, signers=sorted(signers))
    is_quorum = 3 * len(signers) > 2 * chosen.size
    for chamber in Chamber:
        inside = {i for i, member in enumerate(chosen) if member.chamber is chamber}
        is_quorum = is_quorum and 2 * len(inside & signers) >= len(inside)
    client = chain.client()
    if is_quorum:
        client.advance(change.header, certificate, change.members)
        assert client.epoch == 1
    else:
        with pytest.raises(NotFinalized):
            client.advance(change.header, certificate, change.members)
        assert client.epoch == 0


@given(st.permutations(range(3)))
def test_changes_are_accepted_in_their_order_only(order: list[int]) -> None:
    chain = EpochChain().run(1)
    client = chain.client()
    accepted = 0
    for number in order:
        try:
            client.apply(chain.changes[number])
        except LightError:
            break
        assert number == accepted
        accepted += 1
    assert (accepted == len(order)) is (order == sorted(order))


SCENE = ProofScene()
FILES = (SCENE.transaction_file(), SCENE.key_file())


@given(st.sampled_from(FILES), st.data())
@settings(max_examples=300, deadline=None)
def test_no_mutation_of_a_file_proves_anything_else(file: bytes, data: st.DataObject) -> None:
    """Bytes replaced, cut out or put in, with the closing digest put right afterwards."""
    start = data.draw(st.integers(0, len(file) - 33))
    length = data.draw(st.integers(0, 40))
    patch = data.draw(st.binary(max_size=40))
    mutated = sealed(file[:start] + patch + file[start + length :])
    if mutated == file:
        return
    try:
        proven = check_proof(mutated, SCENE.client())
    except (ConsensusError, LedgerError):
        return
    assert isinstance(proven, ProvenState)
    assert proven.claim.key != HELD


@given(st.binary(max_size=200))
def test_anything_else_is_no_proof(data: bytes) -> None:
    with pytest.raises(DamagedProof):
        check_proof(data, SCENE.client())


@given(st.recursive(st.integers() | st.binary() | st.none(), st.lists, max_leaves=30))
def test_no_other_array_is_a_proof(value: object) -> None:
    try:
        data = msgspec.msgpack.encode([1, SCENE.chain.chain_id, value])
    except (OverflowError, ValueError):
        return
    with pytest.raises(DamagedProof):
        check_proof(data, SCENE.client())
