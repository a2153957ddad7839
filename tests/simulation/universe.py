"""What exists before the first block: keys, organisations, accounts, the genesis, and transactions.

A universe is the same for all nodes of a run: the genesis with its first validators, the people
that may join later, and the accounts that clients use. Decoding and verifying the bytes of a
transaction gives the same result on every node, so it is done once per run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ledger.address import address_of
from ledger.block import Header, block_hash
from ledger.errors import InvalidSignature, LedgerError
from ledger.genesis import (
    GENESIS_VERSION,
    Genesis,
    GenesisAccount,
    GenesisAsset,
    GenesisBalance,
    GenesisOrganisation,
    chain_id,
    genesis_block,
)
from ledger.operations.assets import Transfer
from ledger.records import AssetClass, AssetPolicy, KeyWeight, Parameters
from ledger.transaction import DecodedTransaction, decode_transaction, sign_transaction
from ledger.transition import execute_genesis
from ledger.types import Amount, TimeMs
from ledger.validators import Chamber, Validator, ValidatorSet
from tests.simulation.options import validator_names

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from ledger.operations import Operation
    from tests.simulation.options import Options
    from tests.simulation.signatures import KeyPair, Scheme

GENESIS_TIME_MS: Final = 1_700_000_000_000
"""Time of the genesis block; nodes' clocks start a little later."""

BLOCK_TRANSACTIONS_MAX: Final = 16
"""Transactions per block; small, so that bursts need several blocks."""

VALIDITY_WINDOW_MS: Final = 600_000
"""The longest window that a genesis may allow."""

CHANGE_NOTICE_MS: Final = 200
"""Notice of an approved change: seldom over when it is approved, soon enough for a short run."""

CHANGE_LIFETIME_MS: Final = 3_600_000
"""No proposal expires within a run."""

CLIENTS: Final = 4
"""Accounts that send transfers."""

FUNDS: Final = 2_000
"""What each client owns at first; random transfers overdraw it now and then, and fail."""

ASSET: Final = "org-g0/CASH"


class Universe:
    """Everything that all nodes of one run know, and everybody's keys."""

    def __init__(self, options: Options, scheme: Scheme) -> None:
        self.scheme = scheme
        first = validator_names(options.government, options.commercial)
        self.everybody: Final = {name: self._validator(name) for name in (*first, *options.joiners)}
        """Who is, or may become, a validator, by name."""
        self.validators = ValidatorSet(self.everybody[name] for name in first)
        """The first set."""
        self.clients = tuple(scheme.key_pair(f"client {i}") for i in range(CLIENTS))
        self.genesis: Final = self._create_genesis(options)
        self.chain_id: Final = chain_id(self.genesis)
        self.header: Final[Header] = genesis_block(self.genesis)
        self.header_hash: Final = block_hash(self.chain_id, self.header)
        self.outcome: Final = execute_genesis(self.genesis)
        self.parameters = self.genesis.parameters
        self._decoded: dict[bytes, DecodedTransaction | LedgerError] = {}

    def admin(self, organisation: str) -> KeyPair:
        """Return the key of an organisation's admin account."""
        return self.scheme.key_pair(f"admin of {organisation}")

    def sign(
        self, key: KeyPair, nonce: int, valid_until: int, operations: Sequence[Operation]
    ) -> bytes:
        """Return a transaction of the account that ``key`` gave its address."""
        sender = address_of(key.public_key)
        # A key pair of a stub scheme does what a SigningKey does here.
        return sign_transaction(
            self.chain_id,
            sender,
            nonce,
            valid_until,
            operations,
            "",
            [key],  # type: ignore[list-item]
        )

    def transfer(self, random: Random, now_ms: int) -> bytes:
        """Return a random transfer between clients; some will fail for lack of funds."""
        sender, receiver = random.sample(self.clients, 2)
        amount = Amount(random.randint(1, FUNDS if random.random() < 0.2 else FUNDS // 50))
        operation = Transfer(None, address_of(receiver.public_key), ASSET, amount)
        until = now_ms + random.randint(VALIDITY_WINDOW_MS // 4, VALIDITY_WINDOW_MS * 9 // 10)
        return self.sign(sender, random.getrandbits(63), until, (operation,))

    def decode(self, wire: bytes) -> DecodedTransaction:
        """Return a transaction whose signatures hold.

        Raises:
            LedgerError: the bytes are none.
        """
        known = self._decoded.get(wire)
        if known is None:
            known = self._decoded[wire] = self._examine(wire)
        if isinstance(known, LedgerError):
            raise known
        return known

    def _examine(self, wire: bytes) -> DecodedTransaction | LedgerError:
        try:
            decoded = decode_transaction(self.chain_id, wire)
        except LedgerError as error:
            return error
        if not all(self.scheme.verify(*item) for item in decoded.signature_items()):
            return InvalidSignature(f"transaction {decoded.id.hex()}: a signature is not valid")
        return decoded

    def _validator(self, name: str) -> Validator:
        """``g2`` is of government organisation org-g2; ``g2b`` is a new pair of keys of it."""
        return Validator(
            name=name,
            organisation=f"org-{name.rstrip('b')}",
            chamber=Chamber.GOVERNMENT if name[0] == "g" else Chamber.COMMERCIAL,
            consensus_key=self.scheme.key_pair(f"consensus {name}").public_key,
            node_key=self.scheme.key_pair(f"node {name}").public_key,
        )

    def _create_genesis(self, options: Options) -> Genesis:
        organisations = sorted({(v.organisation, v.chamber) for v in self.everybody.values()})
        addresses = [address_of(key.public_key) for key in self.clients]
        accounts = [self._account(name, self.admin(name)) for name, _ in organisations]
        accounts += [self._account("org-g0", key) for key in self.clients]
        issuer = address_of(self.admin("org-g0").public_key)
        policy = AssetPolicy(
            holder_authorisation=False, transfer_max=None, day_max=None, memo_required=False
        )
        return Genesis(
            version=GENESIS_VERSION,
            network=f"simulation {options.seed}",
            time_ms=TimeMs(GENESIS_TIME_MS),
            dev=True,
            faucet=None,
            parameters=Parameters(
                block_transactions_max=BLOCK_TRANSACTIONS_MAX,
                block_bytes_max=64 * 1024,
                transaction_bytes_max=16 * 1024,
                validity_window_ms=VALIDITY_WINDOW_MS,
                change_notice_ms=CHANGE_NOTICE_MS,
                change_lifetime_ms=CHANGE_LIFETIME_MS,
                readiness_ms=CHANGE_LIFETIME_MS,
            ),
            organisations=tuple(
                GenesisOrganisation(
                    name,
                    name,
                    kind,
                    weight=1,
                    licences=(AssetClass.E_MONEY,),
                    admin=address_of(self.admin(name).public_key),
                )
                for name, kind in organisations
            ),
            accounts=tuple(accounts),
            validators=tuple(self.validators),
            assets=(GenesisAsset(ASSET, "Cash", AssetClass.E_MONEY, 2, issuer, policy),),
            council=None,
            balances=tuple(GenesisBalance(each, ASSET, Amount(FUNDS)) for each in addresses),
        )

    @staticmethod
    def _account(organisation: str, key: KeyPair) -> GenesisAccount:
        return GenesisAccount(
            organisation,
            (KeyWeight(key.public_key, 1),),
            transfer_threshold=1,
            admin_threshold=1,
        )
