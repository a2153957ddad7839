"""A node for API tests: real ledger, real chain store in memory, scripted everything else.

Submitted transactions wait in a list until the test calls :meth:`FakeNode.finalize`, which
executes them in a block. The chain's contents are as real as a node's; only consensus and network
are made up.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from consensus.certificates import certificate_hash, signers
from consensus.inputs import PeerId
from consensus.leader import leader, leader_order
from consensus.status import EngineStatus
from consensus.types import Certificate
from ledger.address import address_of
from ledger.block import Block, Header, block_hash
from ledger.block_rules import transactions_root
from ledger.crypto import SigningKey, verify_many
from ledger.encoding import encode
from ledger.errors import InvalidSignature, LedgerError
from ledger.genesis import (
    DEFAULT_PARAMETERS,
    GENESIS_VERSION,
    Genesis,
    GenesisAccount,
    GenesisAsset,
    GenesisBalance,
    GenesisOrganisation,
    chain_id,
    genesis_block,
)
from ledger.history import History
from ledger.operations import Operation, Transfer
from ledger.receipt import OK_CODE, Receipt
from ledger.records import AssetClass, AssetPolicy, KeyWeight
from ledger.state import State
from ledger.transaction import (
    DecodedTransaction,
    decode_transaction,
    sign_transaction,
)
from ledger.transition import BlockExecution, execute_genesis, simulate_explained
from ledger.types import (
    ZERO_DIGEST,
    Address,
    Amount,
    Digest,
    Epoch,
    Era,
    Height,
    TimeMs,
    View,
)
from ledger.validators import Chamber, Shortfall, Validator, ValidatorSet
from ledger.votes import Value, Vote, VoteKind, vote_signing_bytes
from node.api.ports import (
    Check,
    MempoolStatus,
    NodeStatus,
    Participation,
    StageTimes,
    SubmitResult,
    TransactionStatus,
)
from node.proofs import Prover
from p2p.peers import PeerInfo
from p2p.transport import PeerStatistics
from storage.chain_store import ChainStore
from storage.evidence_store import Evidence
from storage.memory import MemoryStore
from storage.state_store import StateStore
from tests.unit.certifying import certify

GENESIS_TIME_MS: Final = 1_700_000_000_000
BLOCK_INTERVAL_MS: Final = 100
ASSET: Final = "bank/MYR"
VALIDATOR_NAMES: Final = ("com-1", "com-2", "gov-1", "gov-2")


def key_of(name: str) -> SigningKey:
    """Return the key that belongs to a name in every test."""
    return SigningKey.from_seed(hashlib.sha256(name.encode()).digest())


ALICE: Final = key_of("alice")
BOB: Final = key_of("bob")
ALICE_ADDRESS: Final = address_of(ALICE.public_key)
BOB_ADDRESS: Final = address_of(BOB.public_key)


def make_genesis(*, dev: bool = True) -> Genesis:
    """Return a network of a ministry and a bank, with two accounts and one asset."""

    def account(organisation: str, name: str) -> GenesisAccount:
        return GenesisAccount(organisation, (KeyWeight(key_of(name).public_key, 1),), 1, 1)

    def organisation(name: str, kind: Chamber, admin: str) -> GenesisOrganisation:
        licences = (AssetClass.E_MONEY,) if kind is Chamber.COMMERCIAL else ()
        address = address_of(key_of(admin).public_key)
        return GenesisOrganisation(name, name.title(), kind, 1, licences, address)

    validators = tuple(
        Validator(
            name,
            "ministry" if name.startswith("gov") else "bank",
            Chamber.GOVERNMENT if name.startswith("gov") else Chamber.COMMERCIAL,
            key_of(f"{name} consensus").public_key,
            key_of(f"{name} node").public_key,
        )
        for name in VALIDATOR_NAMES
    )
    policy = AssetPolicy(
        holder_authorisation=False, transfer_max=None, day_max=None, memo_required=False
    )
    return Genesis(
        GENESIS_VERSION,
        "test",
        TimeMs(GENESIS_TIME_MS),
        dev,
        ALICE_ADDRESS if dev else None,
        DEFAULT_PARAMETERS,
        (
            organisation("bank", Chamber.COMMERCIAL, "alice"),
            organisation("ministry", Chamber.GOVERNMENT, "bob"),
        ),
        (account("bank", "alice"), account("ministry", "bob")),
        validators,
        (GenesisAsset(ASSET, "Ringgit", AssetClass.E_MONEY, 2, ALICE_ADDRESS, policy),),
        (GenesisBalance(ALICE_ADDRESS, ASSET, Amount(2**53 + 1)),),
        None,
    )


def double_vote(chain: Digest, validators: ValidatorSet) -> tuple[Vote, Vote]:
    """Return two votes of the first validator that exclude each other."""
    key = key_of(f"{validators[0].name} consensus")

    def vote(content: bytes) -> Vote:
        value = Value(View(0), Digest(hashlib.sha256(content).digest()))
        place = (VoteKind.NOTARIZE, Era(0), Epoch(0), View(9), value)
        return Vote(*place, 0, key.sign(vote_signing_bytes(chain, *place)))

    return vote(b"one"), vote(b"two")


@dataclass
class FakeNode:
    """Implements ``node.api.ports.NodeView``."""

    dev: bool = True
    genesis: Genesis = field(init=False)
    chain_id: Digest = field(init=False)
    chain: ChainStore = field(init=False)
    state: State = field(init=False)
    pending: dict[Digest, DecodedTransaction] = field(default_factory=dict)
    refuse_with: SubmitResult | None = None
    """Answer of ``submit`` to everything, if set."""
    checks: list[Check] = field(default_factory=lambda: [Check("quorum", True, 4, 3)])
    fail_with: Exception | None = None
    """Raised by ``status``, if set: a defect or a damaged store."""
    submitted: int = 0
    waiting: int = 0

    def __post_init__(self) -> None:
        self.genesis = make_genesis(dev=self.dev)
        self.chain_id = chain_id(self.genesis)
        self._store = MemoryStore()
        self.chain = ChainStore(self._store, self.chain_id)
        header = genesis_block(self.genesis)
        outcome = execute_genesis(self.genesis)
        batch = self._store.batch()
        self.chain.add_genesis(batch, header, outcome)
        self._store.write(batch, sync=True)
        reader = StateStore(self._store)
        history = History.load(1, reader.history_page)
        self.state = State.load(self.chain_id, reader, reader.records(), history)
        self.set = ValidatorSet(self.genesis.validators)
        self.epoch, self._base_hash = Epoch(0), block_hash(self.chain_id, header)
        self.prover = Prover(self.chain, self.chain_id)
        self._advanced = asyncio.Condition()
        self._nonce = 0

    # --- the chain ---

    def transfer(self, amount: int = 1, *, sender: SigningKey = ALICE, memo: str = "") -> bytes:
        """Return a new signed transfer from Alice to Bob, or the reverse."""
        to = BOB_ADDRESS if sender is ALICE else ALICE_ADDRESS
        return self.signed(Transfer(None, to, ASSET, Amount(amount)), sender=sender, memo=memo)

    def signed(self, operation: Operation, *, sender: SigningKey = ALICE, memo: str = "") -> bytes:
        """Return a new signed transaction of one operation."""
        self._nonce += 1
        return sign_transaction(
            self.chain_id,
            address_of(sender.public_key),
            self._nonce,
            self.now_ms + 60_000,
            [operation],
            memo,
            [sender],
        )

    @property
    def now_ms(self) -> TimeMs:
        """Time of the next block."""
        return TimeMs(GENESIS_TIME_MS + BLOCK_INTERVAL_MS * (self.state.height + 1))

    async def finalize(self, *wires: bytes) -> Header:
        """Execute a block with everything pending and these wires; wake whoever waits."""
        decoded = [*self.pending.values(), *(decode_transaction(self.chain_id, w) for w in wires)]
        self.pending.clear()
        header = self._add_block(decoded)
        async with self._advanced:
            self._advanced.notify_all()
        return header

    def close_epoch(self) -> Header:
        """Execute a boundary block, after which the same validators vote in the next epoch."""
        header = self._add_block((), self.set)
        self.epoch, self._base_hash = Epoch(self.epoch + 1), block_hash(self.chain_id, header)
        return header

    def _add_block(
        self, decoded: Sequence[DecodedTransaction], next_set: ValidatorSet | None = None
    ) -> Header:
        head = self.chain.head()
        is_first = head.block_hash == self._base_hash
        parent = None if is_first else self.chain.certificate(head.height)
        order = leader_order(self.chain_id, Era(0), self.epoch, self.set)
        header = Header(
            version=1,
            era=Era(0),
            epoch=self.epoch,
            height=Height(head.height + 1),
            view=View(head.height + 1),
            parent_hash=head.block_hash,
            proposer=leader(order, View(head.height + 1)),
            time_ms=self.now_ms,
            transactions_root=transactions_root([item.wire_hash for item in decoded]),
            transaction_count=len(decoded),
            body_bytes=sum(len(item.wire) for item in decoded),
            parent_certificate_hash=certificate_hash(parent),
            validator_set_hash=self.set.hash,
            executed_height=head.height,
            state_root=head.state_root,
            history_root=head.history_root,
            next_validator_set_hash=ZERO_DIGEST if next_set is None else next_set.hash,
            previous_boundary_hash=self._base_hash,
        )
        next_members = () if next_set is None else next_set.members
        mask = 0 if parent is None else signers(parent)
        execution = BlockExecution(self.state, header, mask, next_members)
        for item in decoded:
            execution.apply(item)
        outcome = execution.finish()
        digest = block_hash(self.chain_id, header)
        certificate = b"" if parent is None else encode(parent)
        body = Block(header, certificate, [item.wire for item in decoded], next_members)
        batch = self._store.batch()
        self.chain.add_finalized(batch, digest, body, outcome, self._certify(header, digest))
        self._store.write(batch, sync=True)
        self.state.stored(header.height)
        return header

    def _certify(self, header: Header, digest: Digest) -> Certificate:
        value = Value(View(header.view - 1), digest)
        statement = (VoteKind.FINALIZE, Era(0), header.epoch, header.view, value)
        return certify(
            self.chain_id,
            self.set,
            range(3),
            statement,
            lambda member, message: key_of(f"{member.name} consensus").sign(message),
        )

    # --- the port ---

    def status(self) -> NodeStatus:
        if self.fail_with is not None:
            raise self.fail_with
        head = self.chain.head()
        return NodeStatus(
            name="gov-1",
            role="validator",
            version="0.0.0",
            started_ms=TimeMs(GENESIS_TIME_MS),
            executed_height=head.height,
            executed_hash=head.block_hash,
            executed_time_ms=head.header.time_ms,
            state_root=head.state_root,
            history_root=head.history_root,
            finalized_height=head.height,
            network_height=head.height,
            is_syncing=False,
        )

    def readiness(self) -> Sequence[Check]:
        return self.checks

    def consensus(self) -> EngineStatus:
        head = self.chain.head()
        return EngineStatus(
            era=Era(0),
            epoch=Epoch(0),
            view=View(head.height + 1),
            leader=1,
            active=True,
            me=0,
            votes={VoteKind.NOTARIZE: (0, 1), VoteKind.NULLIFY: (), VoteKind.FINALIZE: ()},
            connected=(0, 1),
            missing=(2, 3),
            shortfall=Shortfall(1, 1, 0),
            last_heard_ms={1: 5},
            timers={},
            backoff=1000,
            finalized_height=head.height,
            finalized_view=head.header.view,
            finalized_hash=head.block_hash,
            executed_height=head.height,
            certified_view=head.header.view,
            work_pending=False,
            quarantined=False,
            halted=None,
        )

    def validators(self) -> ValidatorSet:
        return self.set

    def participation(self) -> Sequence[Participation]:
        return [Participation(index, 2 * index, 0) for index in range(len(self.set))]

    def mempool(self) -> MempoolStatus:
        return MempoolStatus(
            transactions=len(self.pending),
            bytes=sum(len(item.wire) for item in self.pending.values()),
            transactions_max=10,
            bytes_max=1000,
            oldest_age_ms=None,
            by_organisation={"bank": len(self.pending)},
            dropped=Counter(expired=1),
        )

    def peers(self) -> Sequence[PeerInfo]:
        return [
            PeerInfo(
                peer_id=PeerId(key_of("com-1 node").public_key),
                name="com-1",
                is_connected=True,
                address="127.0.0.1:26110",
                is_inbound=False,
                agent="mbi/0",
                height=3,
                round_trip_s=0.0012345,
                connected_s=10.0,
                points=0,
                banned_for_s=0.0,
                last_error="",
                statistics=PeerStatistics(),
            )
        ]

    async def submit(self, wires: Sequence[bytes]) -> Sequence[SubmitResult]:
        self.submitted += len(wires)
        return [self._submit(wire) for wire in wires]

    def _submit(self, wire: bytes) -> SubmitResult:
        if self.refuse_with is not None:
            return self.refuse_with
        try:
            decoded = decode_transaction(self.chain_id, wire)
        except LedgerError as error:
            return SubmitResult(None, "rejected", error.code, str(error))
        if not all(verify_many(decoded.signature_items())):
            return SubmitResult(decoded.id, "rejected", InvalidSignature.code, "no such signature")
        location = self.chain.transaction(decoded.id)
        if location is not None:
            return SubmitResult(decoded.id, "finalized", height=location.height)
        if decoded.id in self.pending:
            return SubmitResult(decoded.id, "known")
        self.pending[decoded.id] = decoded
        return SubmitResult(decoded.id, "accepted")

    def unreported_evidence(self) -> Sequence[tuple[Evidence, Validator]]:
        return [(Evidence(*double_vote(self.chain_id, self.set)), self.set[0])]

    async def simulate(self, wire: bytes) -> tuple[Receipt, str]:
        decoded = decode_transaction(self.chain_id, wire)
        return simulate_explained(self.state, decoded, self.now_ms)

    def transaction_status(self, transaction_id: Digest) -> TransactionStatus:
        location = self.chain.transaction(transaction_id)
        if location is not None:
            receipt = self.chain.receipt(location.height, location.index)
            block = self.chain.block(location.height)
            if receipt is None or block is None:
                raise LookupError("the chain store has lost a block")
            is_ok = receipt.code == OK_CODE
            return TransactionStatus(
                transaction_id,
                "finalized" if is_ok else "failed",
                location.height,
                location.index,
                receipt,
                None if is_ok else receipt.code,
                wire=block.transactions[location.index],
                times=StageTimes(proposed_ms=block.header.time_ms),
            )
        pending = self.pending.get(transaction_id)
        if pending is None:
            return TransactionStatus(transaction_id, "unknown")
        return TransactionStatus(transaction_id, "pending", wire=pending.wire)

    async def wait_finalized(self, transaction_id: Digest, timeout_s: float) -> TransactionStatus:
        self.waiting += 1
        try:
            async with asyncio.timeout(timeout_s), self._advanced:
                await self._advanced.wait_for(
                    lambda: self.transaction_status(transaction_id).stage != "pending"
                )
        except TimeoutError:
            pass
        finally:
            self.waiting -= 1
        return self.transaction_status(transaction_id)

    async def wait_executed(self, above: Height) -> Height:
        async with self._advanced:
            await self._advanced.wait_for(lambda: self.chain.head().height > above)
        return self.chain.head().height

    async def faucet(self, address: Address, asset: str, amount: Amount) -> SubmitResult | None:
        if not self.dev:
            return None
        return self._submit(self.transfer(amount))


def wire_hex(wire: bytes) -> dict[str, Any]:
    """Return the JSON form of a submission."""
    return {"tx": wire.hex()}
