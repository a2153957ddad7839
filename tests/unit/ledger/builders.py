"""Builders for tests of the ledger: keys, a small network, and a chain that executes blocks."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from typing import Final

from ledger.address import address_of
from ledger.block import HEADER_VERSION, Header
from ledger.block_rules import transactions_root
from ledger.crypto import SigningKey, sha256
from ledger.genesis import (
    DEFAULT_PARAMETERS,
    GENESIS_VERSION,
    Genesis,
    GenesisAccount,
    GenesisAsset,
    GenesisBalance,
    GenesisOrganisation,
    chain_id,
)
from ledger.history import History
from ledger.operations import Operation
from ledger.receipt import Receipt
from ledger.records import AssetClass, AssetPolicy, KeyWeight, Parameters
from ledger.state import State, StateRecord
from ledger.transaction import DecodedTransaction, decode_transaction, sign_transaction
from ledger.transition import BlockExecution, BlockOutcome, execute_genesis
from ledger.types import ZERO_DIGEST, Address, Amount, Digest, Epoch, Era, Height, TimeMs, View
from ledger.validators import Chamber, Validator

GENESIS_TIME_MS: Final = 1_700_000_000_000
BLOCK_INTERVAL_MS: Final = 1_000
MYR: Final = "bank/MYR"
OPEN_POLICY: Final = AssetPolicy(
    holder_authorisation=False, transfer_max=None, day_max=None, memo_required=False
)


def make_key(name: str) -> SigningKey:
    """Return the key that belongs to a name."""
    return SigningKey.from_seed(sha256(b"test key " + name.encode()))


def address(name: str) -> Address:
    """Return the address of the account whose first key belongs to a name."""
    return address_of(make_key(name).public_key)


def key_weight(name: str, weight: int = 1) -> KeyWeight:
    """Return an account's key that belongs to a name."""
    return KeyWeight(make_key(name).public_key, weight)


def make_account(name: str, organisation: str) -> GenesisAccount:
    """Return an account with one key."""
    return GenesisAccount(organisation, (key_weight(name),), 1, 1)


def make_genesis(
    *,
    network: str = "test network",
    policy: AssetPolicy = OPEN_POLICY,
    parameters: Parameters = DEFAULT_PARAMETERS,
    holders: Sequence[str] = ("alice", "bob", "carol"),
) -> Genesis:
    """Return a network of a regulator and a bank; each holder begins with 1,000 units of MYR."""
    organisations = (
        GenesisOrganisation(
            "regulator", "Regulator", Chamber.GOVERNMENT, 1, (), address("regulator")
        ),
        GenesisOrganisation(
            "bank",
            "Bank",
            Chamber.COMMERCIAL,
            2,
            (AssetClass.E_MONEY, AssetClass.DEPOSIT),
            address("bank"),
        ),
    )
    accounts = (
        make_account("regulator", "regulator"),
        make_account("bank", "bank"),
        make_account("issuer", "bank"),
        *(make_account(name, "bank") for name in holders),
    )
    validators = tuple(
        Validator(
            f"{organisation}-1",
            organisation,
            chamber,
            make_key(f"{organisation} consensus").public_key,
            make_key(f"{organisation} node").public_key,
        )
        for organisation, chamber in (
            ("regulator", Chamber.GOVERNMENT),
            ("bank", Chamber.COMMERCIAL),
        )
    )
    asset = GenesisAsset(MYR, "Ringgit", AssetClass.E_MONEY, 2, address("issuer"), policy)
    return Genesis(
        GENESIS_VERSION,
        network,
        TimeMs(GENESIS_TIME_MS),
        dev=True,
        faucet=None,
        parameters=parameters,
        organisations=organisations,
        accounts=accounts,
        validators=validators,
        assets=(asset,),
        balances=tuple(GenesisBalance(address(name), MYR, Amount(1_000)) for name in holders),
        council=None,
    )


def make_header(
    height: int, transactions: Sequence[DecodedTransaction] = (), *, time_ms: int | None = None
) -> Header:
    """Return a header that matches a body; what consensus judges is left zero."""
    return Header(
        version=HEADER_VERSION,
        era=Era(0),
        epoch=Epoch(0),
        height=Height(height),
        view=View(height),
        parent_hash=ZERO_DIGEST,
        proposer=0,
        time_ms=TimeMs(
            GENESIS_TIME_MS + height * BLOCK_INTERVAL_MS if time_ms is None else time_ms
        ),
        transactions_root=transactions_root([item.wire_hash for item in transactions]),
        transaction_count=len(transactions),
        body_bytes=sum(len(item.wire) for item in transactions),
        parent_certificate_hash=ZERO_DIGEST,
        validator_set_hash=ZERO_DIGEST,
        executed_height=Height(height - 1),
        state_root=ZERO_DIGEST,
        history_root=ZERO_DIGEST,
        next_validator_set_hash=ZERO_DIGEST,
        previous_boundary_hash=ZERO_DIGEST,
    )


class MemoryReader:
    """Stored records and history pages in dictionaries."""

    def __init__(self) -> None:
        self.records: dict[bytes, StateRecord] = {}
        self.pages: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []

    def write(self, outcome: BlockOutcome) -> None:
        """Store what a block changed."""
        for key, record in outcome.state_writes:
            if key not in self.records:
                insort(self._keys, key)
            self.records[key] = record
        self.pages.update(outcome.history_writes)

    def get(self, key: bytes) -> StateRecord | None:
        """Return the record of a key, or None."""
        return self.records.get(key)

    def predecessor(self, key: bytes) -> tuple[bytes, StateRecord]:
        """Return the greatest stored key not above ``key``, with its record."""
        found = self._keys[bisect_right(self._keys, key) - 1]
        return found, self.records[found]

    def history_page(self, key: bytes) -> bytes | None:
        """Return a page of the history tree."""
        return self.pages.get(key)


class Chain:
    """A network's state, to which tests apply transactions block by block."""

    def __init__(self, genesis: Genesis | None = None) -> None:
        self.genesis = make_genesis() if genesis is None else genesis
        self.chain_id: Digest = chain_id(self.genesis)
        self.reader = MemoryReader()
        self.reader.write(execute_genesis(self.genesis))
        self.state = self.reopen()
        self._nonce = 0

    def reopen(self) -> State:
        """Return the state as a restarted node would load it."""
        records = self.reader.records
        count = 1 if not hasattr(self, "state") else self.state.history.count
        history = History.load(count, self.reader.history_page)
        return State.load(self.chain_id, self.reader, records.items(), history)

    @property
    def next_time_ms(self) -> TimeMs:
        """Time of the next block unless a test chooses another."""
        return TimeMs(GENESIS_TIME_MS + (self.state.height + 1) * BLOCK_INTERVAL_MS)

    def wire(
        self,
        sender: str,
        *operations: Operation,
        signers: Sequence[str] | None = None,
        memo: str = "",
        valid_until: int | None = None,
        nonce: int | None = None,
    ) -> bytes:
        """Return a transaction signed by the sender, or by the named keys."""
        self._nonce += 1
        return sign_transaction(
            self.chain_id,
            address(sender),
            self._nonce if nonce is None else nonce,
            self.next_time_ms + 60_000 if valid_until is None else valid_until,
            operations,
            memo,
            [make_key(name) for name in ([sender] if signers is None else signers)],
        )

    def transaction(
        self,
        sender: str,
        *operations: Operation,
        signers: Sequence[str] | None = None,
        memo: str = "",
        valid_until: int | None = None,
        nonce: int | None = None,
    ) -> DecodedTransaction:
        """Return a decoded transaction; see ``wire``."""
        wire = self.wire(
            sender, *operations, signers=signers, memo=memo, valid_until=valid_until, nonce=nonce
        )
        return decode_transaction(self.chain_id, wire)

    def execute(
        self, *transactions: DecodedTransaction, time_ms: int | None = None
    ) -> BlockOutcome:
        """Execute a block of these transactions and store it."""
        header = make_header(self.state.height + 1, transactions, time_ms=time_ms)
        execution = BlockExecution(self.state, header, 0)
        for transaction in transactions:
            execution.apply(transaction)
        outcome = execution.finish()
        self.reader.write(outcome)
        self.state.stored(outcome.height)
        return outcome

    def run(
        self,
        sender: str,
        *operations: Operation,
        signers: Sequence[str] | None = None,
        memo: str = "",
        time_ms: int | None = None,
    ) -> Receipt:
        """Execute one transaction in a block of its own and return its receipt."""
        transaction = self.transaction(sender, *operations, signers=signers, memo=memo)
        return self.execute(transaction, time_ms=time_ms).receipts[0]

    def balance(self, name: str, asset: str = MYR) -> int:
        """Return what the account of a name holds."""
        return self.state.balance(address(name), asset)

    def supply(self, asset: str = MYR) -> int:
        """Return the supply of an asset."""
        record = self.state.asset(asset)
        return 0 if record is None else record.supply
