"""Makes proof bundles from the chain on disk (``ledger.proof`` says what they contain)."""

from __future__ import annotations

from typing import Final

from consensus.certificates import encode_certificate
from consensus.types import Certificate
from ledger.block import Header
from ledger.proof import make_transaction_bundle
from ledger.state import State
from ledger.types import Digest, Height
from storage.chain_store import ChainStore

CERTIFIED_HEADERS_MAX: Final = 256
"""Certified headers looked at; the first or second one nearly always covers the block."""


def transaction_proof(chain: ChainStore, state: State, transaction_id: Digest) -> bytes | None:
    """Return the encoded bundle of a final transaction.

    None if the transaction is not final, or if no certified header has executed its block yet.
    """
    location = chain.transaction(transaction_id)
    if location is None:
        return None
    covering = covering_header(chain, location.height)
    block = chain.block(location.height)
    if covering is None or block is None:
        return None
    header, certificate = covering
    return make_transaction_bundle(
        block.header,
        block.transactions,
        chain.receipts(location.height),
        location.index,
        Digest(chain.require_executed(location.height).state_root),
        state.history_path(header.executed_height + 1, location.height),
        header,
        encode_certificate(certificate),
    )


def covering_header(chain: ChainStore, height: Height) -> tuple[Header, Certificate] | None:
    """Return the first certified header whose ``history_root`` covers a height."""
    after = height + 1
    for _ in range(CERTIFIED_HEADERS_MAX):
        found = chain.first_certified_at_or_after(after)
        if found is None:
            return None
        certified, certificate = found
        header = chain.require_executed(certified).header
        if header.executed_height >= height:
            return header, certificate
        after = certified + 1
    return None
