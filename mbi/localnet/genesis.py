"""Genesis of a local network: an organisation per validator, an issuer, funded accounts.

With a stated seed the whole genesis, its time included, is the same every time, so is the chain id.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import msgspec

from ledger.address import address_of
from ledger.block import block_hash
from ledger.genesis import (
    DEFAULT_PARAMETERS,
    GENESIS_VERSION,
    CouncilMember,
    Genesis,
    GenesisAccount,
    GenesisAsset,
    GenesisBalance,
    GenesisOrganisation,
    RecoveryCouncil,
    chain_id,
    genesis_block,
    validate_genesis,
)
from ledger.records import AssetClass, AssetPolicy, KeyWeight
from ledger.types import Address, Amount, Digest, TimeMs
from ledger.validators import Chamber, Validator
from mbi.localnet.identities import KeySource
from mbi.localnet.topology import Topology

NETWORK_NAME: Final = "local development network"

REPEATABLE_TIME_MS: Final = 1_735_689_600_000
"""2025-01-01T00:00:00Z: genesis time where a stated seed promises the same network again."""

ISSUER: Final = "issuer"
"""Organisation that issues the development asset, and its account."""
FAUCET: Final = "faucet"
"""Account that nodes of a development network give from."""
DEV_ASSET: Final = "issuer/MYR"
DEV_ASSET_DECIMALS: Final = 2

DEV_CHANGE_NOTICE_MS: Final = 1_000
"""Nobody needs a day to object to a change of a development network."""

_KIND: Final = {
    "government": Chamber.GOVERNMENT,
    "commercial": Chamber.COMMERCIAL,
}


@dataclass(frozen=True, slots=True)
class DevAccount:
    """An account that holds the development asset from the start."""

    name: str
    balance: int
    """Minor units."""

    @property
    def label(self) -> str:
        """Label of its key."""
        return f"account/{self.name}"


DEV_ACCOUNTS: Final = (
    DevAccount("alice", 100_000_000),
    DevAccount("bob", 100_000_000),
    DevAccount("carol", 100_000_000),
    DevAccount("dave", 100_000_000),
    DevAccount(ISSUER, 10**15),
    DevAccount(FAUCET, 10**15),
)
"""A million units each for trying out; enough for any benchmark for the issuer and the faucet."""


def account_address(source: KeySource, account: DevAccount) -> Address:
    """Return the address of a development account."""
    return address_of(source.key(account.label).public_key)


def admin_label(organisation: str) -> str:
    """Return the label of the key of an organisation's admin account."""
    return f"account/{organisation}" if organisation == ISSUER else f"admin/{organisation}"


def reporter_label(validator: str) -> str:
    """Return the label of the key with which a validator's node reports evidence."""
    return f"reporter/{validator}"


COUNCIL: Final = (
    ("government-1", Chamber.GOVERNMENT),
    ("government-2", Chamber.GOVERNMENT),
    ("commercial-1", Chamber.COMMERCIAL),
    ("commercial-2", Chamber.COMMERCIAL),
)
"""Names and chambers of the recovery council; three of them must sign, so both chambers."""

COUNCIL_THRESHOLD: Final = 3


def council_label(member: str) -> str:
    """Return the label of the key of a member of the recovery council."""
    return f"council/{member}"


def dev_council(source: KeySource) -> RecoveryCouncil:
    """Return the recovery council of a local network."""
    members = (
        CouncilMember(name, chamber, source.key(council_label(name)).public_key)
        for name, chamber in COUNCIL
    )
    return RecoveryCouncil(COUNCIL_THRESHOLD, tuple(members))


def dev_genesis(topology: Topology, source: KeySource, *, with_council: bool = False) -> Genesis:
    """Return the genesis of a local network."""
    validators = topology.validators
    issuer_address = address_of(source.key(admin_label(ISSUER)).public_key)
    genesis = Genesis(
        version=GENESIS_VERSION,
        network=NETWORK_NAME,
        time_ms=TimeMs(REPEATABLE_TIME_MS if source.is_repeatable else time.time_ns() // 1_000_000),
        dev=True,
        faucet=address_of(source.key(f"account/{FAUCET}").public_key),
        parameters=msgspec.structs.replace(
            DEFAULT_PARAMETERS, change_notice_ms=DEV_CHANGE_NOTICE_MS
        ),
        organisations=(
            *(
                _organisation(source, node.name, _KIND[node.chamber or "commercial"], ())
                for node in validators
            ),
            _organisation(source, ISSUER, Chamber.COMMERCIAL, tuple(AssetClass)),
        ),
        accounts=(
            *(_account(source, node.name, admin_label(node.name)) for node in validators),
            *(_account(source, node.name, reporter_label(node.name)) for node in validators),
            *(_account(source, ISSUER, account.label) for account in DEV_ACCOUNTS),
        ),
        validators=tuple(
            Validator(
                name=node.name,
                organisation=node.name,
                chamber=_KIND[node.chamber or "commercial"],
                consensus_key=source.key(f"validator/{node.name}").public_key,
                node_key=source.key(f"node/{node.name}").public_key,
            )
            for node in validators
        ),
        assets=(
            GenesisAsset(
                id=DEV_ASSET,
                name="Ringgit for development",
                asset_class=AssetClass.E_MONEY,
                decimals=DEV_ASSET_DECIMALS,
                issuer=issuer_address,
                policy=AssetPolicy(
                    holder_authorisation=False, transfer_max=None, day_max=None, memo_required=False
                ),
            ),
        ),
        balances=tuple(
            GenesisBalance(account_address(source, account), DEV_ASSET, Amount(account.balance))
            for account in DEV_ACCOUNTS
        ),
        council=dev_council(source) if with_council else None,
    )
    validate_genesis(genesis)
    return genesis


def genesis_hash(genesis: Genesis) -> Digest:
    """Return the hash of the block of height 0."""
    return block_hash(chain_id(genesis), genesis_block(genesis))


def _organisation(
    source: KeySource, name: str, kind: Chamber, licences: tuple[AssetClass, ...]
) -> GenesisOrganisation:
    return GenesisOrganisation(
        id=name,
        name=f"{name} (development)",
        kind=kind,
        weight=1,
        licences=licences,
        admin=address_of(source.key(admin_label(name)).public_key),
    )


def _account(source: KeySource, organisation: str, label: str) -> GenesisAccount:
    keys = (KeyWeight(source.key(label).public_key, 1),)
    return GenesisAccount(organisation, keys, transfer_threshold=1, admin_threshold=1)
