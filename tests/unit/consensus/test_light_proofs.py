"""Proof files: what they prove, and that nothing in them can be changed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from consensus.errors import ConsensusError
from consensus.light.errors import (
    CheckpointMismatch,
    DamagedProof,
    ForeignHeader,
    LightError,
    NotExecuted,
    NotFinalized,
    WrongMembers,
)
from consensus.light.proofs import (
    PROOF_BYTES_MAX,
    ProofFile,
    ProvenState,
    ProvenTransaction,
    check_proof,
    sealed,
)
from ledger.encoding import encode
from ledger.errors import LedgerError, ProofError
from ledger.records import Holding
from ledger.types import ZERO_DIGEST, Epoch
from tests.unit.consensus.epochs import EpochChain
from tests.unit.consensus.proof_scene import HELD, NOT_HELD, ProofScene


@pytest.fixture(scope="module")
def scene() -> ProofScene:
    return ProofScene()


def decoded(data: bytes) -> ProofFile:
    return msgspec.msgpack.decode(data, type=ProofFile)


def changed(data: bytes, **fields: Any) -> bytes:
    """Return the file with other fields and a closing digest that fits them."""
    return sealed(encode(msgspec.structs.replace(decoded(data), **fields)))


class TestWhatIsProved:
    def test_a_transaction_with_its_outcome(self, scene: ProofScene) -> None:
        proven = check_proof(scene.transaction_file(), scene.client())
        assert isinstance(proven, ProvenTransaction)
        assert (proven.decoded.id, proven.decoded.wire) == (scene.id, scene.wires[2])
        assert proven.claim.receipt.code == "ok"
        assert (proven.header, proven.certified_header) == (scene.header, scene.certified)
        assert proven.epochs == 3

    def test_what_a_key_held(self, scene: ProofScene) -> None:
        proven = check_proof(scene.key_file(), scene.client())
        assert isinstance(proven, ProvenState)
        assert proven.claim.key == HELD
        assert proven.value is not None
        assert msgspec.msgpack.decode(proven.value, type=Holding).amount == 1_015
        assert proven.header.height == scene.height

    def test_that_a_key_held_nothing(self, scene: ProofScene) -> None:
        proven = check_proof(scene.key_file(NOT_HELD), scene.client())
        assert isinstance(proven, ProvenState)
        assert proven.value is None


class TestDamage:
    def test_every_flipped_byte_is_noticed(self, scene: ProofScene) -> None:
        for data in (scene.transaction_file(), scene.key_file(), scene.key_file(NOT_HELD)):
            client = scene.client()
            for position in range(len(data)):
                flipped = bytearray(data)
                flipped[position] ^= 1
                with pytest.raises(DamagedProof):
                    check_proof(bytes(flipped), client)

    @pytest.mark.parametrize("bit", [0, 5])
    def test_every_flipped_byte_of_a_transaction_is_noticed_behind_a_fitting_digest(
        self, scene: ProofScene, bit: int
    ) -> None:
        """Who changes a file on purpose corrects the digest, too; then the hashes catch it."""
        data = scene.transaction_file()
        for position in range(len(data) - 32):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            with pytest.raises((ConsensusError, LedgerError)):
                check_proof(sealed(bytes(flipped)), scene.client())

    @pytest.mark.parametrize("key", [HELD, NOT_HELD])
    def test_every_flipped_byte_of_a_key_is_noticed_behind_a_fitting_digest(
        self, scene: ProofScene, key: bytes
    ) -> None:
        data = scene.key_file(key)
        for position in range(len(data) - 32):
            flipped = bytearray(data)
            flipped[position] ^= 1
            try:
                proven = check_proof(sealed(bytes(flipped)), scene.client())
            except (ConsensusError, LedgerError):
                continue
            # One leaf proves every key up to its next one absent: a true claim about another key.
            assert isinstance(proven, ProvenState)
            assert proven.claim.key != key
            assert proven.value is None

    @pytest.mark.parametrize("cut", [0, 1, 33, 100, -1])
    def test_a_cut_file_is_refused(self, scene: ProofScene, cut: int) -> None:
        with pytest.raises(DamagedProof):
            check_proof(scene.transaction_file()[:cut], scene.client())

    def test_a_longer_file_is_refused(self, scene: ProofScene) -> None:
        with pytest.raises(DamagedProof):
            check_proof(scene.transaction_file() + b"\0", scene.client())

    def test_too_large_a_file_is_refused_before_it_is_decoded(self, scene: ProofScene) -> None:
        with pytest.raises(DamagedProof, match="at most"):
            check_proof(bytes(PROOF_BYTES_MAX + 1), scene.client())


class TestForgery:
    def refused(self, scene: ProofScene, error: type[Exception], **fields: Any) -> None:
        with pytest.raises(error) as caught:
            check_proof(changed(scene.transaction_file(), **fields), scene.client())
        assert type(caught.value) is error

    def test_each_set_change_is_needed_in_its_order(self, scene: ProofScene) -> None:
        first, second, third = scene.chain.changes
        self.refused(scene, ForeignHeader, changes=(second, third))
        self.refused(scene, ForeignHeader, changes=(first, third))
        self.refused(scene, ForeignHeader, changes=(first, second))
        self.refused(scene, ForeignHeader, changes=(second, first, third))
        self.refused(scene, ForeignHeader, changes=())

    def test_a_set_change_with_another_member_is_refused(self, scene: ProofScene) -> None:
        first, second, third = scene.chain.changes
        forged = msgspec.structs.replace(second, members=third.members)
        self.refused(scene, WrongMembers, changes=(first, forged, third))

    def test_another_network_is_refused(self, scene: ProofScene) -> None:
        self.refused(scene, DamagedProof, chain_id=ZERO_DIGEST)
        other = EpochChain()
        with pytest.raises(DamagedProof, match="expected a proof for network"):
            check_proof(scene.transaction_file(), other.client())

    def test_another_version_is_refused(self, scene: ProofScene) -> None:
        self.refused(scene, DamagedProof, version=2)

    def test_certificate_and_certified_header_belong_together(self, scene: ProofScene) -> None:
        other = msgspec.structs.replace(scene.certified, history_root=ZERO_DIGEST)
        self.refused(scene, NotFinalized, certified_header=other)
        early = scene.chain.certificate(scene.chain.headers[-2])
        self.refused(scene, NotFinalized, certificate=early)

    def test_every_field_of_every_header_is_bound(self, scene: ProofScene) -> None:
        data = scene.transaction_file()
        for name in scene.header.__struct_fields__:
            for holder in ("header", "certified_header"):
                header = getattr(decoded(data), holder)
                value = getattr(header, name)
                new = value + 1 if isinstance(value, int) else bytes([value[0] ^ 1]) + value[1:]
                forged = msgspec.structs.replace(header, **{name: new})
                with pytest.raises((LightError, ProofError)):
                    check_proof(changed(data, **{holder: forged}), scene.client())

    def test_a_block_that_was_not_executed_is_refused(self, scene: ProofScene) -> None:
        self.refused(scene, NotExecuted, header=msgspec.structs.replace(scene.header, view=99))
        self.refused(scene, NotExecuted, history_path=())

    def test_a_claim_about_other_bytes_is_refused(self, scene: ProofScene) -> None:
        claim = decoded(scene.transaction_file()).claim
        for fields in ({"transaction": scene.wires[0]}, {"receipt": scene.outcome.receipts[0]}):
            self.refused(scene, ProofError, claim=msgspec.structs.replace(claim, **fields))


class TestCheckpoints:
    def test_a_file_through_the_checkpoint_is_accepted(self, scene: ProofScene) -> None:
        for epoch, change in enumerate(scene.chain.changes, 1):
            trusted = {Epoch(epoch): scene.chain.hash_of(change.header)}
            check_proof(scene.transaction_file(), scene.client(trusted))

    def test_a_file_past_another_checkpoint_is_refused(self, scene: ProofScene) -> None:
        with pytest.raises(CheckpointMismatch):
            check_proof(scene.transaction_file(), scene.client({Epoch(2): ZERO_DIGEST}))

    def test_a_file_that_ends_before_the_checkpoint_is_refused(self, scene: ProofScene) -> None:
        with pytest.raises(CheckpointMismatch, match="ends in epoch 3"):
            check_proof(scene.transaction_file(), scene.client({Epoch(4): ZERO_DIGEST}))
