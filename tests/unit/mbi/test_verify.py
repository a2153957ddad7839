"""The verifier of a served chain: an honest chain passes, each single change is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from consensus.certificates import certificate_hash
from consensus.leader import leader_order
from consensus.light import SetChange
from consensus.types import Certificate
from ledger.address import address_of
from ledger.block import Header, block_hash
from ledger.block_rules import transactions_root
from ledger.crypto import SigningKey
from ledger.genesis import chain_id, genesis_block
from ledger.history import History, history_leaf
from ledger.merkle import dense_root
from ledger.operations import Transfer
from ledger.transaction import decode_transaction, sign_transaction
from ledger.types import ZERO_DIGEST, Amount, Digest, Epoch, Era, Height, Signature, TimeMs, View
from ledger.validators import Validator, ValidatorSet
from ledger.votes import Value, VoteKind
from mbi.cli.audit import certificate_of
from mbi.errors import IntegrityViolation
from mbi.localnet.genesis import DEV_ASSET, dev_genesis
from mbi.localnet.identities import KeySource
from mbi.localnet.topology import plan
from mbi.verify import ChainVerifier, Roots
from tests.unit import certifying
from tests.unit.node.stored_chain import StoredChain

SOURCE = KeySource("verify")
GENESIS = dev_genesis(plan(4, 0), SOURCE)
CHAIN = chain_id(GENESIS)
VALIDATORS = ValidatorSet(GENESIS.validators)
ORDER = leader_order(CHAIN, Era(0), Epoch(0), VALIDATORS)
KEYS = {
    SOURCE.key(f"validator/{node.name}").public_key: SOURCE.key(f"validator/{node.name}")
    for node in plan(4, 0).validators
}
FIRST_HISTORY, _ = History().append(
    history_leaf(
        block_hash(CHAIN, genesis_block(GENESIS)), genesis_block(GENESIS).state_root, dense_root([])
    )
)
ALICE, BOB = SOURCE.key("account/alice"), SOURCE.key("account/bob")


class Served(msgspec.Struct):
    """A block as a node serves it."""

    header: Header
    wires: list[bytes]
    certificate: Certificate
    roots: Roots
    change: SetChange | None = None


def transfer(nonce: int, key: SigningKey = ALICE, valid_for_ms: int = 60_000) -> bytes:
    operation = Transfer(None, address_of(BOB.public_key), DEV_ASSET, Amount(1))
    until = GENESIS.time_ms + 10_000 + valid_for_ms
    sender = address_of(ALICE.public_key)
    return sign_transaction(CHAIN, sender, nonce, until, (operation,), "", [key])


def certify(
    digest: Digest, view: int, parent_view: int, kind: VoteKind, count: int = 3
) -> Certificate:
    statement = (kind, Era(0), Epoch(0), View(view), Value(View(parent_view), digest))

    def sign(member: Validator, message: bytes) -> Signature:
        return KEYS[member.consensus_key].sign(message)

    return certifying.certify(CHAIN, VALIDATORS, range(count), statement, sign)


def chain_of(bodies: list[list[bytes]]) -> list[Served]:
    parent = genesis_block(GENESIS)
    base = parent_hash = block_hash(CHAIN, parent)
    parent_certificate: Certificate | None = None
    served = []
    for view, wires in enumerate(bodies, 1):
        header = Header(
            version=1,
            era=Era(0),
            epoch=Epoch(0),
            height=Height(view),
            view=View(view),
            parent_hash=parent_hash,
            proposer=ORDER[view % len(ORDER)],
            time_ms=TimeMs(GENESIS.time_ms + 1000 * view),
            transactions_root=transactions_root(
                [decode_transaction(CHAIN, wire).wire_hash for wire in wires]
            ),
            transaction_count=len(wires),
            body_bytes=sum(map(len, wires)),
            parent_certificate_hash=certificate_hash(parent_certificate),
            validator_set_hash=VALIDATORS.hash,
            executed_height=Height(0),
            state_root=parent.state_root,
            history_root=FIRST_HISTORY.root,
            next_validator_set_hash=ZERO_DIGEST,
            previous_boundary_hash=base,
        )
        digest = block_hash(CHAIN, header)
        final = certify(digest, view, view - 1, VoteKind.FINALIZE)
        served.append(Served(header, wires, final, Roots(ZERO_DIGEST, ZERO_DIGEST)))
        parent_certificate = certify(digest, view, view - 1, VoteKind.NOTARIZE)
        parent, parent_hash = header, digest
    return served


def verify(served: list[Served]) -> ChainVerifier:
    verifier = ChainVerifier(GENESIS)
    for block in served:
        verifier.add(block.header, block.wires, block.roots)
        verifier.cover(block.certificate)
    verifier.finish()
    return verifier


def bodies() -> list[list[bytes]]:
    return [[transfer(1), transfer(2)], [], [transfer(3)]]


def test_an_honest_chain_is_intact() -> None:
    verifier = verify(chain_of(bodies()))
    progress = verifier.progress
    assert (progress.height, progress.transactions, progress.certificates) == (3, 3, 3)
    assert verifier.uncovered == 0


def test_a_certificate_covers_its_ancestors_too() -> None:
    served = chain_of(bodies())
    verifier = ChainVerifier(GENESIS)
    for block in served:
        verifier.add(block.header, block.wires, block.roots)
    assert verifier.uncovered == 3
    verifier.cover(served[1].certificate)
    assert verifier.uncovered == 1
    with pytest.raises(IntegrityViolation, match="no finalization covers"):
        verifier.finish()


def change_header(**fields: Any) -> Callable[[list[Served]], None]:
    def change(served: list[Served]) -> None:
        served[1].header = msgspec.structs.replace(served[1].header, **fields)

    return change


def drop_transaction(served: list[Served]) -> None:
    served[0].wires.pop()


def swap_transactions(served: list[Served]) -> None:
    served[0].wires.reverse()


def forge_signature(served: list[Served]) -> None:
    wire = served[0].wires[0]
    served[0].wires[0] = wire[:-1] + bytes([wire[-1] ^ 1])


def drop_block(served: list[Served]) -> None:
    del served[1]


def swap_certificates(served: list[Served]) -> None:
    served[1].certificate = served[2].certificate


def forge_vote(served: list[Served]) -> None:
    certificate = served[1].certificate
    forged = certificate.signatures[:-1] + bytes([certificate.signatures[-1] ^ 1])
    served[1].certificate = msgspec.structs.replace(certificate, signatures=forged)


def too_few_votes(served: list[Served]) -> None:
    header = served[1].header
    served[1].certificate = certify(block_hash(CHAIN, header), 2, 1, VoteKind.FINALIZE, count=2)


def only_notarized(served: list[Served]) -> None:
    header = served[1].header
    served[1].certificate = certify(block_hash(CHAIN, header), 2, 1, VoteKind.NOTARIZE)


@pytest.mark.parametrize(
    "change",
    [
        change_header(time_ms=TimeMs(GENESIS.time_ms)),
        change_header(parent_hash=ZERO_DIGEST),
        change_header(height=Height(7)),
        change_header(proposer=ORDER[3]),
        change_header(transaction_count=1),
        change_header(state_root=ZERO_DIGEST),
        change_header(history_root=ZERO_DIGEST),
        change_header(next_validator_set_hash=VALIDATORS.hash),
        drop_transaction,
        swap_transactions,
        forge_signature,
        drop_block,
        swap_certificates,
        forge_vote,
        too_few_votes,
        only_notarized,
    ],
)
def test_every_single_change_is_found(change: Callable[[list[Served]], None]) -> None:
    served = chain_of(bodies())
    change(served)
    with pytest.raises(IntegrityViolation) as caught:
        verify(served)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("wires", "reason"),
    [
        ([[transfer(1)], [transfer(1)]], "used its sender's nonce"),
        ([[transfer(1, valid_for_ms=-9_500)]], "valid_until"),
    ],
)
def test_a_well_signed_block_that_breaks_a_rule_is_found(
    wires: list[list[bytes]], reason: str
) -> None:
    with pytest.raises(IntegrityViolation, match=reason):
        verify(chain_of(wires))


def test_a_transaction_signed_by_a_forged_signature_with_a_matching_root_is_found() -> None:
    wire = transfer(1)
    forged = wire[:-1] + bytes([wire[-1] ^ 1])
    with pytest.raises(IntegrityViolation, match="does not verify"):
        verify(chain_of([[forged]]))


def test_certificate_is_read_from_the_form_of_the_api() -> None:
    certificate = chain_of(bodies())[0].certificate
    shown = {
        "kind": "finalize",
        "era": 0,
        "epoch": 0,
        "view": certificate.view,
        "parent_view": certificate.value.parent_view,
        "block_hash": certificate.value.block_hash.hex(),
        "signers": [
            {
                "index": index,
                "signature": certificate.signatures[64 * index : 64 * index + 64].hex(),
            }
            for index in range(3)
        ],
    }
    assert certificate_of(shown, 4) == certificate


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoredChain]:
    with StoredChain(tmp_path_factory.mktemp("chain") / "home") as chain:
        yield chain.run()


class TestSetChanges:
    """A real chain whose set changes three times, as a node serves it."""

    def served(self, chain: StoredChain) -> list[Served]:
        blocks = []
        for executed in chain.chain.executed_blocks(1, chain.chain.head().height):
            block = chain.chain.block(executed.height)
            certificate = chain.chain.certificate(executed.height)
            assert block is not None
            assert certificate is not None
            roots = Roots(Digest(executed.state_root), Digest(executed.receipts_root))
            members = block.next_validators
            change = SetChange(block.header, certificate, members) if members else None
            blocks.append(Served(block.header, block.transactions, certificate, roots, change))
        return blocks

    def follow(self, chain: StoredChain, served: list[Served], **options: Any) -> ChainVerifier:
        verifier = ChainVerifier(chain.genesis, **options)
        for block in served:
            verifier.add(block.header, block.wires, block.roots)
            if block.change is None:
                verifier.cover(block.certificate)
            else:
                verifier.hand_over(block.change)
        verifier.finish()
        return verifier

    def test_the_chain_is_followed_through_every_change(self, chain: StoredChain) -> None:
        served = self.served(chain)
        verifier = self.follow(chain, served)
        progress = verifier.progress
        assert (progress.epoch, progress.height) == (3, served[-1].header.height)
        assert progress.certified_results == served[-1].header.executed_height
        assert progress.transactions == len(chain.ids)
        assert verifier.validators.hash == chain.members.hash

    def test_an_epoch_that_is_not_handed_over_is_found(self, chain: StoredChain) -> None:
        served = self.served(chain)
        for block in served:
            block.change = None
        with pytest.raises(IntegrityViolation, match="was not handed over"):
            self.follow(chain, served)

    def test_another_hand_over_is_found(self, chain: StoredChain) -> None:
        served = self.served(chain)
        first, second = [block for block in served if block.change is not None][:2]
        first.change = second.change
        with pytest.raises(IntegrityViolation, match="has another header"):
            self.follow(chain, served)

    def test_a_forged_hand_over_is_found(self, chain: StoredChain) -> None:
        served = self.served(chain)
        first, second = [block for block in served if block.change is not None][:2]
        assert first.change is not None
        assert second.change is not None
        first.change = msgspec.structs.replace(first.change, members=second.change.members)
        with pytest.raises(IntegrityViolation, match="light_wrong_members"):
            self.follow(chain, served)

    def test_results_that_no_header_certifies_are_found(self, chain: StoredChain) -> None:
        """The node shows another state than the one that a quorum certified."""
        for field in Roots._fields:
            served = self.served(chain)
            served[4].roots = served[4].roots._replace(**{field: ZERO_DIGEST})
            with pytest.raises(IntegrityViolation, match="as the node shows results"):
                self.follow(chain, served)

    def test_checkpoints_are_respected(self, chain: StoredChain) -> None:
        served = self.served(chain)
        self.follow(chain, served, checkpoints={Epoch(3): block_hash(chain.chain_id, chain.base)})
        for epoch, reason in ((0, "mismatch"), (3, "mismatch"), (4, "ends in epoch 3")):
            with pytest.raises(IntegrityViolation, match=reason):
                self.follow(chain, served, checkpoints={Epoch(epoch): ZERO_DIGEST})
