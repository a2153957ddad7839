"""What the transactions of a benchmark do: a pure function of their number, so nothing is stored.

Everybody has one role. Securities go from sellers to buyers only, so their balances show that every
settlement took effect; then cash, which otherwise goes from senders to receivers only and from the
issuer to customers, shows it of everything else. No failure can hide behind another one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ledger.address import address_of, format_address
from ledger.crypto import SigningKey, sha256
from ledger.operations import Burn, Mint, Operation, RegisterAccount, Transfer
from ledger.records import KeyWeight
from ledger.types import Address, Amount, Digest

MULTI: Final = 10
"""Transfers of a transaction with several: a payroll, or a payment of ten invoices."""


@dataclass(slots=True)
class Accounts:
    """Who takes part."""

    senders: list[SigningKey]
    receivers: list[Address]
    asset: str
    funds: int
    """What every sender holds of the asset before the load, in minor units."""
    security: str | None = None
    """Second asset, of which the sellers of settlements hold ``funds``, too."""
    funder: SigningKey | None = None
    """Admin of the organisation and issuer of the asset, where the workload acts with it."""
    organisation: str = ""
    seed: bytes = b""
    """From which the keys of customers come who are registered during the load."""

    @property
    def sender_addresses(self) -> list[Address]:
        """Addresses of the senders, in their order."""
        return [address_of(key.public_key) for key in self.senders]


class Draft(NamedTuple):
    """One transaction before it is signed."""

    sender: Address
    signers: tuple[SigningKey, ...]
    operations: tuple[Operation, ...]


Compose = Callable[[int], Draft]
"""Returns the transaction of a number; the same for the same number."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A kind of load."""

    meaning: str
    compose: Callable[[Accounts], Compose]
    operations: float
    """Of a transaction, on average."""
    spent_max: int
    """Most that a sender spends in as many transactions as there are for each sender."""
    is_hot: bool = False
    """Whether one account receives everything."""
    senders_min: int = 1
    has_security: bool = False
    """Whether a second asset is needed."""
    uses_funder: bool = False
    """Whether the funder acts during the load, so that its balance and the supply change."""


@dataclass(slots=True)
class Prepared:
    """Signed transactions in sending order, in request bodies of ``batch`` each."""

    compose: Compose
    batch: int = 1
    bodies: list[bytes] = field(default_factory=list)
    ids: list[Digest] = field(default_factory=list)

    def batch_range(self, index: int) -> range:
        """Return the transaction numbers in one request body."""
        first = index * self.batch
        return range(first, min(first + self.batch, len(self.ids)))


def compose_transfers(accounts: Accounts, count: int = 1) -> Compose:
    """Return transactions of ``count`` transfers of one unit, sender after sender."""
    senders, keys = accounts.sender_addresses, accounts.senders
    pairs, turns = len(senders), len(accounts.receivers)
    transfers = [Transfer(None, to, accounts.asset, Amount(1)) for to in accounts.receivers]
    moves = [
        tuple(transfers[(turn + step) % turns] for step in range(count)) for turn in range(turns)
    ]
    signers = [(key,) for key in keys]

    def compose(number: int) -> Draft:
        sender = number % pairs
        # Each round of senders meets the receivers in another order.
        return Draft(senders[sender], signers[sender], moves[(number + number // pairs) % turns])

    return compose


def compose_settlements(accounts: Accounts) -> Compose:
    """Return deliveries versus payment: two signers, one unit of cash for one of the security.

    The first half of the senders buys, the second half sells.
    """
    if accounts.security is None:
        raise ValueError("settlements need a second asset")
    keys, addresses = accounts.senders, accounts.sender_addresses
    half = len(keys) // 2
    drafts = []
    for buyer in range(half):
        seller = half + buyer
        operations = (
            Transfer(None, addresses[seller], accounts.asset, Amount(1)),
            Transfer(addresses[seller], addresses[buyer], accounts.security, Amount(1)),
        )
        drafts.append(Draft(addresses[buyer], (keys[buyer], keys[seller]), operations))
    return lambda number: drafts[number % half]


def compose_mixed(accounts: Accounts) -> Compose:
    """Return the mix that :data:`MIX` describes."""
    funder = accounts.funder
    if funder is None:
        raise ValueError("the mix needs the key of the issuer")
    issuer, signers = address_of(funder.public_key), (funder,)
    single, multi = compose_transfers(accounts), compose_transfers(accounts, MULTI)
    settlement = compose_settlements(accounts)
    burn = Draft(issuer, signers, (Burn(None, accounts.asset, Amount(1)),))
    mints = [
        Draft(issuer, signers, (Mint(None, accounts.asset, receiver, Amount(1)),))
        for receiver in accounts.receivers
    ]

    def onboard(number: int) -> Draft:
        key = customer_key(accounts.seed, number)
        register = RegisterAccount(
            None, accounts.organisation, (KeyWeight(key.public_key, 1),), 1, 1
        )
        credit = Transfer(None, address_of(key.public_key), accounts.asset, Amount(1))
        return Draft(issuer, signers, (register, credit))

    def issue(number: int) -> Draft:
        turn = number // len(MIX)
        return burn if turn % 2 else mints[turn % len(mints)]

    parts: dict[str, Compose] = {
        "transfer": single,
        "multi": multi,
        "settlement": settlement,
        "onboard": onboard,
        "issue": issue,
    }
    turns = [parts[name] for name in MIX]
    count = len(turns)

    def compose(number: int) -> Draft:
        # Shifted by a place in each round, so that every sender does everything.
        return turns[(number + number // count) % count](number)

    return compose


def customer_key(seed: bytes, number: int) -> SigningKey:
    """Return the key of the customer whom a transaction registers."""
    return SigningKey.from_seed(sha256(seed + number.to_bytes(8)))


_PART: Final = (
    *("transfer", "transfer", "settlement"),
    *("transfer", "multi", "transfer"),
    *("transfer", "settlement", "transfer"),
)
MIX: Final = (*_PART, "onboard", *_PART, "issue")
"""Of twenty transactions twelve are single transfers, four settlements with two signers, two hold
ten transfers, one registers a customer and credits the first unit, one issues or redeems."""

_MIX_OPERATIONS: Final = (12 * 1 + 4 * 2 + 2 * MULTI + 1 * 2 + 1 * 1) / len(MIX)

WORKLOADS: Final = {
    "transfer": Workload("one transfer per transaction, many receivers", compose_transfers, 1, 1),
    "multi": Workload(
        "ten transfers per transaction, to ten receivers",
        lambda accounts: compose_transfers(accounts, MULTI),
        MULTI,
        MULTI,
    ),
    "hot": Workload(
        "one transfer per transaction, all to one account", compose_transfers, 1, 1, is_hot=True
    ),
    "settlement": Workload(
        "delivery versus payment: two assets change hands, signed by both parties",
        compose_settlements,
        2,
        # Half of the senders buy, one more in an odd number.
        3,
        senders_min=2,
        has_security=True,
    ),
    "mixed": Workload(
        "60 % transfers, 20 % settlements, 10 % ten transfers, 5 % new accounts, 5 % issuing",
        compose_mixed,
        _MIX_OPERATIONS,
        MULTI + 3,
        senders_min=2,
        has_security=True,
        uses_funder=True,
    ),
}


def address_texts(addresses: list[Address]) -> list[str]:
    """Return the text forms of addresses."""
    return [format_address(address) for address in addresses]
