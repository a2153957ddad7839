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
    ReportEvidence,
    SetKeys,
    SetStatus,
    Transfer,
    VoteChange,
)
from ledger.operations.governance import ProposeChange, ProveReadiness
from ledger.records import (
    AccountStatus,
    ActivateFeature,
    AddValidator,
    AssetClass,
    AssetPolicy,
    Change,
    KeyWeight,
    Parameters,
    RemoveValidator,
    RotateKey,
    SetParameters,
    SetPowers,
)
from ledger.types import (
    AMOUNT_MAX,
    TIME_MS_MAX,
    UINT64_MAX,
    Address,
    Amount,
    Digest,
    Epoch,
    Era,
    Height,
    ProposalId,
    Signature,
    TimeMs,
    View,
)
from ledger.validators import VALIDATORS_MAX, Chamber, Validator
from ledger.votes import Value, Vote, VoteKind
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

licences = st.sets(st.sampled_from(AssetClass)).map(lambda chosen: tuple(sorted(chosen)))
times = st.integers(1, TIME_MS_MAX).map(TimeMs)
signatures = st.binary(min_size=64, max_size=64).map(Signature)
key_pairs = st.permutations(KEYS).map(lambda keys: (keys[0].public_key, keys[1].public_key))

validators: st.SearchStrategy[Validator] = st.builds(
    lambda name, organisation, chamber, keys: Validator(name, organisation, chamber, *keys),
    st.from_regex(r"[a-z]{1,9}-[0-9]", fullmatch=True),
    organisations,
    st.sampled_from(Chamber),
    key_pairs,
)
parameters = st.builds(
    Parameters,
    st.integers(1, 4096),
    st.integers(1024, 1024 * 1024),
    st.integers(1024, 64 * 1024),
    st.integers(1000, 600_000),
    st.integers(0, 1_000_000_000),
    st.integers(1000, 1_000_000_000),
    st.integers(1000, 1_000_000_000),
)
changes: st.SearchStrategy[Change] = st.one_of(
    st.builds(AddValidator, validators),
    st.builds(RemoveValidator, key_pairs.map(lambda keys: keys[0])),
    st.builds(lambda keys: RotateKey(KEYS[0].public_key, *keys), key_pairs),
    st.builds(SetPowers, organisations, st.integers(1, 1000), licences),
    st.builds(SetParameters, parameters),
    st.builds(ActivateFeature, organisations, st.integers(1, TIME_MS_MAX).map(Height)),
)
votes = st.builds(
    Vote,
    st.sampled_from(VoteKind),
    st.integers(0, 9).map(Era),
    st.integers(0, TIME_MS_MAX).map(Epoch),
    st.integers(0, TIME_MS_MAX).map(View),
    st.builds(
        Value,
        st.integers(0, TIME_MS_MAX).map(View),
        st.binary(min_size=32, max_size=32).map(Digest),
    ),
    st.integers(0, VALIDATORS_MAX - 1),
    signatures,
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
    st.builds(ProposeChange, sources, changes),
    st.builds(VoteChange, sources, times.map(ProposalId), st.booleans()),
    st.builds(ProveReadiness, sources, validators, times, signatures),
    st.builds(ReportEvidence, sources, votes, votes),
)
