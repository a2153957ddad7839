"""Light verification: the honest chain is followed, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import msgspec
import pytest

from consensus.light import LightClient, LightError, SetChange
from consensus.light.client import DESCENDANTS_MAX, check_results
from consensus.light.errors import (
    BrokenLink,
    CheckpointMismatch,
    ForeignHeader,
    NotABoundary,
    NotExecuted,
    NotFinalized,
    WrongMembers,
)
from consensus.types import Certificate
from ledger.history import History, history_leaf, history_path
from ledger.types import ZERO_DIGEST, Digest, Epoch, Height, PublicKey, Signature
from ledger.validators import Chamber, ValidatorSet, members_of
from ledger.votes import VoteKind
from tests.unit.consensus.epochs import DEFAULT_SETS, EpochChain, members
from tests.unit.consensus.kit import verify


@pytest.fixture
def chain() -> EpochChain:
    return EpochChain().run()


def follow(chain: EpochChain, epochs: int) -> LightClient:
    client = chain.client()
    for change in chain.changes[:epochs]:
        client.apply(change)
    return client


def state_of(client: LightClient) -> tuple[object, ...]:
    return client.epoch, client.base_hash, client.validators.hash, client.base


class TestFollowing:
    def test_the_honest_chain_is_followed_through_every_set_change(self, chain: EpochChain) -> None:
        client = chain.client()
        for header in chain.headers[1:]:
            at = int(header.epoch)
            assert client.epoch == at
            digest = client.check_final(header, chain.certificate(header, by=chain.sets[at]))
            assert digest == chain.hash_of(header)
            if header.next_validator_set_hash != ZERO_DIGEST:
                client.apply(chain.changes[at])
        assert client.validators.hash == chain.sets[-1].hash
        assert client.base == chain.changes[-1].header

    def test_a_boundary_block_may_be_finalised_in_a_later_view_than_its_own(self) -> None:
        chain = EpochChain()
        chain.grow(2)
        change = chain.close(certified_view=9)
        client = chain.client()
        client.apply(change)
        assert client.epoch == 1

    def test_an_epoch_of_one_boundary_block_is_followed(self) -> None:
        chain = EpochChain()
        chain.close()
        chain.close()
        client = follow(chain, 2)
        assert (client.epoch, client.base.height) == (2, 2)

    def test_a_set_of_a_hundred_costs_one_quorum_of_signature_checks(self) -> None:
        hundred = members([f"g{i}" for i in range(50)] + [f"c{i}" for i in range(50)])
        chain = EpochChain((hundred, hundred))
        chain.grow()
        header = chain.block(next_validator_set_hash=hundred.hash)
        government = list(members_of(hundred.chamber_mask(Chamber.GOVERNMENT)))
        commercial = list(members_of(hundred.chamber_mask(Chamber.COMMERCIAL)))
        certificate = chain.certificate(header, signers=[*government[:34], *commercial[:33]])
        checks = 0

        def counting(key: PublicKey, message: bytes, signature: Signature) -> bool:
            nonlocal checks
            checks += 1
            return verify(key, message, signature)

        client = LightClient(chain.chain_id, chain.genesis, hundred, counting)
        client.advance(header, certificate, hundred.members)
        assert checks == 67


def not_a_boundary(chain: EpochChain, change: SetChange) -> SetChange:
    header = msgspec.structs.replace(change.header, next_validator_set_hash=ZERO_DIGEST)
    return SetChange(header, chain.certificate(header, by=chain.sets[1]), change.members)


def a_member_more(chain: EpochChain, change: SetChange) -> SetChange:
    grown = ValidatorSet([*change.members, *members(["c9"])])
    return msgspec.structs.replace(change, members=grown.members)


def members_of_another_order(chain: EpochChain, change: SetChange) -> SetChange:
    return msgspec.structs.replace(change, members=change.members[::-1])


def a_member_twice(chain: EpochChain, change: SetChange) -> SetChange:
    return msgspec.structs.replace(change, members=(*change.members, change.members[0]))


def too_many_members(chain: EpochChain, change: SetChange) -> SetChange:
    return msgspec.structs.replace(change, members=change.members * 40)


def no_members(chain: EpochChain, change: SetChange) -> SetChange:
    return msgspec.structs.replace(change, members=())


def signed_by_the_next_set(chain: EpochChain, change: SetChange) -> SetChange:
    by_next = chain.certificate(change.header, by=chain.sets[2])
    return msgspec.structs.replace(change, certificate=by_next)


def signed_by_the_first_set(chain: EpochChain, change: SetChange) -> SetChange:
    retired = chain.certificate(change.header, by=chain.sets[0])
    return msgspec.structs.replace(change, certificate=retired)


def of_another_epoch(chain: EpochChain, change: SetChange) -> SetChange:
    elsewhere = chain.certificate(change.header, by=chain.sets[1], epoch=2)
    return msgspec.structs.replace(change, certificate=elsewhere)


def only_notarized(chain: EpochChain, change: SetChange) -> SetChange:
    notarized = chain.certificate(change.header, VoteKind.NOTARIZE, by=chain.sets[1])
    return msgspec.structs.replace(change, certificate=notarized)


def of_another_block(chain: EpochChain, change: SetChange) -> SetChange:
    elsewhere = chain.certificate(chain.headers[change.header.height - 1], by=chain.sets[1])
    return msgspec.structs.replace(change, certificate=elsewhere)


def a_forged_signature(chain: EpochChain, change: SetChange) -> SetChange:
    assert isinstance(change.certificate, Certificate)
    signatures = change.certificate.signatures
    forged = signatures[:-1] + bytes([signatures[-1] ^ 1])
    certificate = msgspec.structs.replace(change.certificate, signatures=forged)
    return msgspec.structs.replace(change, certificate=certificate)


def a_view_below_the_blocks(chain: EpochChain, change: SetChange) -> SetChange:
    early = chain.certificate(change.header, by=chain.sets[1], view=change.header.view - 1)
    return msgspec.structs.replace(change, certificate=early)


def the_change_before(chain: EpochChain, change: SetChange) -> SetChange:
    return chain.changes[0]


def the_change_after(chain: EpochChain, change: SetChange) -> SetChange:
    return chain.changes[2]


@pytest.mark.parametrize(
    ("forge", "error"),
    [
        (not_a_boundary, NotABoundary),
        (a_member_more, WrongMembers),
        (members_of_another_order, WrongMembers),
        (a_member_twice, WrongMembers),
        (too_many_members, WrongMembers),
        (no_members, WrongMembers),
        (signed_by_the_next_set, NotFinalized),
        (signed_by_the_first_set, NotFinalized),
        (of_another_epoch, NotFinalized),
        (only_notarized, NotFinalized),
        (of_another_block, NotFinalized),
        (a_forged_signature, NotFinalized),
        (a_view_below_the_blocks, NotFinalized),
        (the_change_before, ForeignHeader),
        (the_change_after, ForeignHeader),
    ],
)
def test_a_false_hand_over_is_refused_and_changes_nothing(
    chain: EpochChain, forge: Callable[[EpochChain, SetChange], SetChange], error: type[LightError]
) -> None:
    client = follow(chain, 1)
    before = state_of(client)
    with pytest.raises(error) as caught:
        client.apply(forge(chain, chain.changes[1]))
    assert type(caught.value) is error
    assert state_of(client) == before
    client.apply(chain.changes[1])
    assert client.epoch == 2


def test_two_thirds_without_half_of_a_chamber_hand_over_nothing() -> None:
    """The chamber condition holds for light clients, too: one chamber alone installs no set."""
    sets = (members(["g1", "g2", "c1", "c2", "c3", "c4", "c5", "c6"]), DEFAULT_SETS[1])
    chain = EpochChain(sets)
    change = chain.close()
    commercial = list(members_of(sets[0].chamber_mask(Chamber.COMMERCIAL)))
    assert 3 * len(commercial) > 2 * sets[0].size
    alone = chain.certificate(change.header, by=sets[0], signers=commercial)
    client = chain.client()
    with pytest.raises(NotFinalized, match="no quorum"):
        client.advance(change.header, alone, change.members)
    government = list(members_of(sets[0].chamber_mask(Chamber.GOVERNMENT)))
    both = chain.certificate(change.header, by=sets[0], signers=[*commercial, government[0]])
    client.advance(change.header, both, change.members)


@pytest.mark.parametrize(
    "fields",
    [
        {"version": 2},
        {"era": 1},
        {"epoch": 0},
        {"epoch": 2},
        {"validator_set_hash": ZERO_DIGEST},
        {"previous_boundary_hash": ZERO_DIGEST},
        {"proposer": 99},
        {"height": 0, "executed_height": 0},
        {"height": 2, "executed_height": 1},
        {"height": 4, "executed_height": 1},
        {"executed_height": 99},
        {"executed_height": -1},
    ],
)
def test_a_header_of_another_place_is_refused_although_a_quorum_signed_it(
    chain: EpochChain, fields: dict[str, object]
) -> None:
    client = follow(chain, 1)
    header = msgspec.structs.replace(chain.headers[6], **fields)
    certificate = chain.certificate(header, by=chain.sets[1], epoch=1)
    with pytest.raises(ForeignHeader):
        client.check_final(header, certificate)


def test_an_ordinary_block_is_not_finalised_in_another_view_than_its_own(chain: EpochChain) -> None:
    client = follow(chain, 1)
    header = chain.headers[6]
    with pytest.raises(NotFinalized, match="view"):
        client.check_final(header, chain.certificate(header, by=chain.sets[1], view=7))


class TestDescendants:
    def test_a_header_below_a_certified_one_is_final(self, chain: EpochChain) -> None:
        client = follow(chain, 1)
        first, *above = chain.headers[5:8]
        digest = client.check_final(first, chain.certificate(above[-1], by=chain.sets[1]), above)
        assert digest == chain.hash_of(first)

    def test_descendants_reach_up_to_the_boundary_block(self, chain: EpochChain) -> None:
        client = follow(chain, 1)
        first, *above = chain.headers[5:9]
        assert above[-1] == chain.changes[1].header
        certificate = chain.changes[1].certificate
        assert isinstance(certificate, Certificate)
        client.check_final(first, certificate, above)

    def test_descendants_of_the_next_epoch_prove_nothing(self, chain: EpochChain) -> None:
        client = follow(chain, 1)
        first, *above = chain.headers[5:10]
        with pytest.raises(ForeignHeader):
            client.check_final(first, chain.certificate(above[-1], by=chain.sets[2]), above)

    @pytest.mark.parametrize("gap", [1, 2])
    def test_a_gap_breaks_the_link(self, chain: EpochChain, gap: int) -> None:
        client = follow(chain, 1)
        above = chain.headers[6:9]
        del above[gap - 1]
        with pytest.raises(BrokenLink):
            client.check_final(
                chain.headers[5], chain.certificate(above[-1], by=chain.sets[1]), above
            )

    def test_a_boundary_block_has_no_descendants_in_its_epoch(self) -> None:
        """A quorum that signs a child of a boundary block inside the old epoch is not believed."""
        chain = EpochChain()
        chain.grow()
        boundary = chain.block(next_validator_set_hash=chain.sets[1].hash)
        chain.headers.append(boundary)
        child = chain.block()
        client = chain.client()
        with pytest.raises(BrokenLink, match="no children"):
            client.check_final(boundary, chain.certificate(child), [child])

    def test_their_number_is_bounded(self, chain: EpochChain) -> None:
        client = chain.client()
        above = [chain.headers[2]] * (DESCENDANTS_MAX + 1)
        with pytest.raises(BrokenLink, match="at most"):
            client.check_final(chain.headers[1], chain.certificate(above[-1]), above)


class TestResults:
    def results(self, height: int) -> tuple[Digest, Digest, Digest]:
        block, state, receipts = (
            Digest(sha256(b"%s %d" % (what, height)).digest())
            for what in (b"block", b"state", b"receipts")
        )
        return block, state, receipts

    def scene(self) -> tuple[EpochChain, Callable[[int], tuple[bytes, ...]]]:
        """Return a chain whose last header commits to 31 results, and where their paths are."""
        chain = EpochChain()
        chain.grow(40)
        history, pages = History(), dict[bytes, bytes]()
        for height in range(31):
            history, writes = history.append(history_leaf(*self.results(height)))
            pages.update(writes)
        chain.headers.append(chain.block(executed_height=Height(30), history_root=history.root))
        return chain, lambda height: history_path(pages.get, 31, Height(height))

    def test_every_executed_height_is_proved_by_one_header(self) -> None:
        chain, path = self.scene()
        client, header = chain.client(), chain.headers[-1]
        certificate = chain.certificate(header)
        for height in range(31):
            client.check_executed(
                header, certificate, Height(height), self.results(height), path(height)
            )

    def test_another_result_is_not_proved(self) -> None:
        chain, path = self.scene()
        header = chain.headers[-1]
        for changed in range(3):
            results = list(self.results(7))
            results[changed] = ZERO_DIGEST
            with pytest.raises(NotExecuted, match="expected a path to"):
                check_results(header, Height(7), (results[0], results[1], results[2]), path(7))
        with pytest.raises(NotExecuted):
            check_results(header, Height(8), self.results(7), path(7))
        with pytest.raises(NotExecuted, match="does not fit"):
            check_results(header, Height(7), self.results(7), (*path(7)[:-1], b""))

    @pytest.mark.parametrize("height", [-1, 31, 2**70])
    def test_a_height_that_was_not_executed_is_not_proved(self, height: int) -> None:
        chain, path = self.scene()
        with pytest.raises(NotExecuted, match="up to 30"):
            check_results(chain.headers[-1], Height(height), self.results(1), path(1))

    def test_without_finality_nothing_is_proved(self) -> None:
        chain, path = self.scene()
        header = chain.headers[-1]
        notarized = chain.certificate(header, VoteKind.NOTARIZE)
        with pytest.raises(NotFinalized):
            chain.client().check_executed(header, notarized, Height(7), self.results(7), path(7))


class TestCheckpoints:
    def test_a_chain_through_its_checkpoints_is_accepted(self, chain: EpochChain) -> None:
        trusted = {Epoch(2): chain.hash_of(chain.changes[1].header)}
        client = chain.client(checkpoints=trusted)
        for change in chain.changes:
            client.apply(change)
        client.require_checkpoints()

    def test_a_chain_made_with_retired_keys_is_refused(self, chain: EpochChain) -> None:
        """All keys of an old set can make another future, but not through a checkpoint."""
        forged = EpochChain((DEFAULT_SETS[0], members(["g6", "g7", "c6", "c7"])))
        forged.grow(2)
        change = forged.close()
        chain.client().apply(change)
        client = chain.client(checkpoints={Epoch(1): chain.hash_of(chain.changes[0].header)})
        before = state_of(client)
        with pytest.raises(CheckpointMismatch, match="epoch 1"):
            client.apply(change)
        assert state_of(client) == before

    def test_a_chain_that_ends_before_a_checkpoint_is_refused(self, chain: EpochChain) -> None:
        client = chain.client(checkpoints={Epoch(3): ZERO_DIGEST})
        client.apply(chain.changes[0])
        with pytest.raises(CheckpointMismatch, match=r"epoch 3.*ends in epoch 1"):
            client.require_checkpoints()

    def test_a_checkpoint_of_epoch_0_is_the_genesis(self, chain: EpochChain) -> None:
        chain.client(checkpoints={Epoch(0): chain.hash_of(chain.genesis)})
        with pytest.raises(CheckpointMismatch):
            chain.client(checkpoints={Epoch(0): ZERO_DIGEST})


def test_every_error_has_a_code_of_its_own_and_is_permanent() -> None:
    leaves = LightError.__subclasses__()
    assert len({leaf.code for leaf in leaves}) == len(leaves) == 8
    assert all(leaf.permanent and leaf.code.startswith("light_") for leaf in leaves)
