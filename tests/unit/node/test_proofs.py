"""Proofs from a database: each transaction and key of a real chain, through three set changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from consensus.errors import ConsensusError
from consensus.light import LightClient, SetChange
from consensus.light.proofs import ProvenState, ProvenTransaction, check_proof, sealed
from ledger.encoding import encode
from ledger.errors import InvariantViolation, LedgerError
from ledger.records import (
    PARAMETERS_KEY,
    PRESENCE_KEY,
    VALIDATORS_KEY,
    account_key,
    organisation_key,
)
from ledger.types import Digest, Epoch
from node.proofs import Prover
from storage.schema import CERTIFICATE, at_height
from tests.unit.ledger.builders import address
from tests.unit.node.stored_chain import StoredChain
from tests.vectors import independent_proof


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[StoredChain]:
    with StoredChain(tmp_path / "home") as chain:
        yield chain


def prover_of(chain: StoredChain) -> Prover:
    return Prover(chain.chain, chain.chain_id)


def check(
    chain: StoredChain, data: bytes | None, checkpoints: dict[Epoch, Digest] | None = None
) -> ProvenTransaction | ProvenState:
    assert data is not None
    return check_proof(data, LightClient.from_genesis(chain.genesis, checkpoints=checkpoints))


def test_every_transaction_of_every_epoch_is_proved(chain: StoredChain) -> None:
    chain.run()
    prover = prover_of(chain)
    epochs = set()
    for identifier in chain.ids:
        for newest in (False, True):
            proven = check(chain, prover.transaction(chain.state, identifier, newest=newest))
            assert isinstance(proven, ProvenTransaction)
            assert proven.decoded.id == identifier
            epochs.add(proven.epochs)
            if newest:
                assert proven.epochs == 3
    assert epochs == {0, 1, 2, 3}


def test_proofs_that_end_with_the_latest_header_pass_every_checkpoint(chain: StoredChain) -> None:
    chain.run()
    prover = prover_of(chain)
    trusted = {Epoch(o.epoch): o.block_hash for o in prover.openings()}
    assert sorted(trusted) == [0, 1, 2, 3]
    check(chain, prover.transaction(chain.state, chain.ids[0], newest=True), trusted)


def test_what_grows_later_is_proved_by_the_same_prover(chain: StoredChain) -> None:
    prover = prover_of(chain)
    assert [opening.epoch for opening in prover.openings()] == [0]
    chain.run()
    assert [opening.epoch for opening in prover.openings()] == [0, 1, 2, 3]
    client = LightClient.from_genesis(chain.genesis)
    for epoch in range(3):
        client.apply(msgspec.msgpack.decode(prover.change(epoch) or b"", type=SetChange))
    assert client.validators.hash == chain.members.hash
    assert prover.change(3) is None
    assert prover.change(-1) is None


@pytest.mark.parametrize(
    "key", [VALIDATORS_KEY, PARAMETERS_KEY, account_key(address("gov-1")), organisation_key("x")]
)
def test_a_key_is_proved_once_a_later_header_covers_the_state(
    chain: StoredChain, key: bytes
) -> None:
    chain.run()
    prover = prover_of(chain)
    record, height = chain.state.record(key), chain.state.height
    found = prover.key(chain.state, key)
    assert prover.key_file(chain.state, found) is None
    chain.blocks(5)
    proven = check(chain, prover.key_file(chain.state, found))
    assert isinstance(proven, ProvenState)
    assert (proven.claim.key, proven.header.height) == (key, height)
    assert proven.value == (None if record is None else encode(record))


def test_a_key_proof_outlives_a_set_change(chain: StoredChain) -> None:
    chain.blocks(3)
    found = prover_of(chain).key(chain.state, VALIDATORS_KEY)
    chain.run()
    proven = check(chain, prover_of(chain).key_file(chain.state, found))
    assert proven.header.epoch == 0
    assert proven.epochs == 3


def test_the_newest_transaction_is_not_provable_yet(chain: StoredChain) -> None:
    chain.blocks(3)
    chain.ready(chain.genesis.validators[0], chain.key_of(chain.genesis.validators[0]))
    prover = prover_of(chain)
    assert prover.transaction(chain.state, chain.ids[0]) is None
    chain.blocks(1)
    assert prover.transaction(chain.state, chain.ids[0]) is None
    chain.blocks(3)
    assert prover.transaction(chain.state, chain.ids[0]) is not None
    assert prover.transaction(chain.state, Digest(bytes(32))) is None


def test_a_closing_finalization_that_is_gone_is_a_broken_invariant(chain: StoredChain) -> None:
    chain.run()
    prover = prover_of(chain)
    batch = chain.store.batch()
    batch.delete(at_height(CERTIFICATE, chain.base.height))
    chain.store.write(batch, sync=True)
    with pytest.raises(InvariantViolation, match="closing_certificates"):
        prover.openings()


class TestIdleNetworks:
    """The last block noted who was present, and no header certifies that until the next beacon."""

    KEYS = (
        PRESENCE_KEY,
        VALIDATORS_KEY,
        PARAMETERS_KEY,
        account_key(address("gov-1")),
        account_key(address("com-9")),
        organisation_key("x"),
        b"\xff",
    )

    @pytest.mark.parametrize("is_everybody_there", [True, False])
    def test_the_state_below_the_last_block_is_proved_at_once(
        self, chain: StoredChain, *, is_everybody_there: bool
    ) -> None:
        chain.lag = 0
        chain.is_everybody_there = is_everybody_there
        prover = prover_of(chain)
        chain.run()
        for _ in range(12):
            chain.blocks(1)
            height = chain.state.height - 1
            for key in self.KEYS:
                found = prover.key(chain.state, key)
                assert found.height == height
                proven = check(chain, prover.key_file(chain.state, found))
                assert isinstance(proven, ProvenState)
                assert (proven.claim.key, proven.header.height) == (key, height)
                if key != PRESENCE_KEY:
                    assert proven.value == chain.state.get(key)

    def test_from_the_first_blocks_on(self, chain: StoredChain) -> None:
        chain.lag = 0
        prover = prover_of(chain)
        assert prover.key(chain.state, VALIDATORS_KEY).height == 0
        for height in range(1, 12):
            chain.blocks(1)
            for key in self.KEYS:
                found = prover.key(chain.state, key)
                assert found.height == height - 1
                assert check(chain, prover.key_file(chain.state, found)).header.height == height - 1

    def test_what_the_last_block_changed_is_not_passed_over(self, chain: StoredChain) -> None:
        chain.lag = 0
        chain.blocks(2)
        who = chain.genesis.validators[0]
        chain.ready(who, chain.key_of(who))
        prover = prover_of(chain)
        found = prover.key(chain.state, VALIDATORS_KEY)
        assert found.height == chain.state.height
        assert prover.key_file(chain.state, found) is None

    def test_a_boundary_block_is_not_passed_over(self, chain: StoredChain) -> None:
        chain.lag = 0
        chain.run()
        chain.add_boundary(chain.state.validators.members)
        prover = prover_of(chain)
        assert prover.key(chain.state, VALIDATORS_KEY).height == chain.state.height


class TestIndependentChecker:
    """A checker that was written from the document alone comes to the same verdicts."""

    def members(self, chain: StoredChain) -> list[list[object]]:
        return [
            list(msgspec.to_builtins(m, builtin_types=(bytes,))) for m in chain.genesis.validators
        ]

    def test_both_accept_every_proof(self, chain: StoredChain) -> None:
        chain.run()
        prover = prover_of(chain)
        found = [prover.key(chain.state, key) for key in (VALIDATORS_KEY, organisation_key("x"))]
        chain.blocks(4)
        files = [prover.key_file(chain.state, each) for each in found]
        files += [prover.transaction(chain.state, identifier) for identifier in chain.ids]
        for data in files:
            proven = check(chain, data)
            height, claim = independent_proof.check(
                data or b"", chain.chain_id, self.members(chain)
            )
            assert height == proven.header.height
            assert encode(proven.claim) == encode(claim)

    def test_both_refuse_every_changed_byte(self, chain: StoredChain) -> None:
        chain.run()
        data = prover_of(chain).transaction(chain.state, chain.ids[0], newest=True) or b""
        for position in range(0, len(data) - 32, 29):
            flipped = bytearray(data)
            flipped[position] ^= 4
            with pytest.raises(independent_proof.Refused):
                independent_proof.check(sealed(bytes(flipped)), chain.chain_id, self.members(chain))
            with pytest.raises((ConsensusError, LedgerError)):
                check(chain, sealed(bytes(flipped)))
