"""Hypothesis strategies for valid values of the ledger."""

from __future__ import annotations

from hypothesis import strategies as st

from ledger.crypto import SigningKey
from ledger.operations import (
    AuthoriseHolder,
    Burn,
    CreateAsset,
    Mint,
    Operation,
    RegisterAccount,
    SetKeys,
    SetStatus,
    Transfer,
)
from ledger.records import AccountStatus, AssetClass, AssetPolicy, KeyWeight
from ledger.types import AMOUNT_MAX, UINT64_MAX, Address, Amount
from tests.unit.ledger.builders import make_key

KEYS = [make_key(f"key {number}") for number in range(6)]

addresses = st.binary(min_size=20, max_size=20).map(Address)
sources = st.none() | addresses
amounts = st.integers(1, AMOUNT_MAX).map(Amount)
nonces = st.integers(0, UINT64_MAX)
memos = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "Zs"]), max_size=64)
organisations = st.from_regex(r"[a-z][a-z0-9-]{1,31}", fullmatch=True)
asset_ids = st.from_regex(r"[a-z][a-z0-9-]{1,31}/[A-Z][A-Z0-9.]{0,11}", fullmatch=True)
signers = st.lists(st.sampled_from(KEYS), min_size=1, max_size=6, unique=True)


def _weighted(keys: list[SigningKey]) -> tuple[KeyWeight, ...]:
    return tuple(KeyWeight(key.public_key, weight) for weight, key in enumerate(keys, 1))


key_lists = signers.map(_weighted)
policies = st.builds(
    AssetPolicy, st.booleans(), st.none() | amounts, st.none() | amounts, st.booleans()
)

operations: st.SearchStrategy[Operation] = st.one_of(
    st.builds(RegisterAccount, sources, organisations, key_lists, st.just(1), st.just(1)),
    st.builds(SetKeys, sources, key_lists, st.just(1), st.just(1)),
    st.builds(SetStatus, sources, addresses, st.sampled_from(AccountStatus)),
    st.builds(
        CreateAsset,
        sources,
        asset_ids,
        st.just("Name"),
        st.sampled_from(AssetClass),
        st.integers(0, 18),
        addresses,
        policies,
    ),
    st.builds(Mint, sources, asset_ids, addresses, amounts),
    st.builds(Burn, sources, asset_ids, amounts),
    st.builds(Transfer, sources, addresses, asset_ids, amounts),
    st.builds(AuthoriseHolder, sources, asset_ids, addresses, st.booleans()),
)
