"""Proofs about the state, and how to check them with nothing but a root.

The proof of a key's value and the proof of its absence have one form: the leaf of the greatest
key that is not above it, with the path to the root. If that leaf is the key's own, its value is
proved; if the leaf's next key lies beyond, no leaf holds the key. Normative text:
``docs/protocol.md`` section 6.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, Final

from msgspec import Meta, Struct

from ledger.crypto import tag
from ledger.encoding import StrictDecoder
from ledger.errors import ProofError
from ledger.merkle import PAGE_BYTES, PATH_LENGTH_MAX, root_from_path
from ledger.records import STATE_KEY_BYTES_MAX
from ledger.types import Digest

STATE_TAG: Final = tag("MBI-STATE-v1")

SENTINEL_KEY: Final = b""
"""Below every other key; its leaf proves absence below the smallest key."""

VALUE_BYTES_MAX: Final = 128 * 1024
"""Two sets of 128 validators with the longest names, the largest record, stay below 85 KB."""

PathField = Annotated[
    tuple[Annotated[bytes, Meta(max_length=PAGE_BYTES)], ...], Meta(max_length=PATH_LENGTH_MAX)
]
"""Siblings level by level, from the leaf up."""


class StateProof(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """The leaf of a key or of its predecessor, and its path."""

    key: Annotated[bytes, Meta(max_length=STATE_KEY_BYTES_MAX)]
    next_key: Annotated[bytes, Meta(max_length=STATE_KEY_BYTES_MAX)]
    value: Annotated[bytes, Meta(max_length=VALUE_BYTES_MAX)]
    index: Annotated[int, Meta(ge=0)]
    """Number of the leaf."""
    count: Annotated[int, Meta(ge=1)]
    """Leaves of the tree."""
    path: PathField


STATE_PROOF_DECODER: Final = StrictDecoder(StateProof, PATH_LENGTH_MAX * PAGE_BYTES + 8192)


def leaf_digest(key: bytes, next_key: bytes, value: bytes) -> Digest:
    """Return SHA-256(tag || len(key) || key || len(next key) || next key || value)."""
    return Digest(
        sha256(
            b"%b%c%b%c%b%b" % (STATE_TAG, len(key), key, len(next_key), next_key, value)
        ).digest()
    )


def verify_state_proof(root: Digest, key: bytes, proof: StateProof) -> bytes | None:
    """Return the value that the state with this root holds under ``key``, or None if it holds none.

    Raises ProofError if the proof shows neither.
    """
    leaf = leaf_digest(proof.key, proof.next_key, proof.value)
    if root_from_path(leaf, proof.index, proof.count, proof.path) != root:
        raise ProofError("the path leads to another root")
    if key == SENTINEL_KEY:
        raise ProofError("the empty key is no key of the state")
    if proof.key == key:
        return proof.value
    if proof.key < key and (key < proof.next_key or proof.next_key == SENTINEL_KEY):
        return None
    raise ProofError("the leaf is neither the key's own nor that of its predecessor")
