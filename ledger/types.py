"""Names for the plain values of the ledger: digests, addresses, heights, amounts.

Each is a ``NewType`` over ``bytes`` or ``int``, so that a height cannot be passed where a view is
meant, at no run-time cost. The ``*Field`` aliases carry the exact size that the codec enforces
while decoding, or the lowest integer: none that a peer writes may be negative, and msgpack itself
ends at 2^64-1 (``docs/protocol.md`` section 1). Text forms live in ``ledger.address`` and at the
edges.
"""

from __future__ import annotations

from typing import Annotated, Final, NewType

from msgspec import Meta

Digest = NewType("Digest", bytes)
"""SHA-256 output, 32 bytes."""

Address = NewType("Address", bytes)
"""First 20 bytes of the hash of an account's first public key."""

PublicKey = NewType("PublicKey", bytes)
"""Ed25519 public key, 32 bytes (RFC 8032)."""

Signature = NewType("Signature", bytes)
"""Ed25519 signature, 64 bytes (RFC 8032)."""

Height = NewType("Height", int)
"""Position of a block; genesis is 0."""

View = NewType("View", int)
"""One attempt, by one leader, to add a block; from 1 in each epoch, 0 names the epoch's base."""

Epoch = NewType("Epoch", int)
"""Number of validator-set changes so far."""

Era = NewType("Era", int)
"""Number of emergency recoveries so far (see ``docs/protocol.md``, era change)."""

Nonce = NewType("Nonce", int)
"""Sender's choice that makes (sender, nonce) unique within the validity window; 0 to 2^64-1."""

Amount = NewType("Amount", int)
"""Minor units of an asset; 0 < amount < 2^63 in operations."""

TimeMs = NewType("TimeMs", int)
"""Milliseconds since the Unix epoch, taken from block headers only."""

ProposalId = NewType("ProposalId", int)
"""Number of a proposed change; from 1, in the order in which they were made."""

DIGEST_BYTES: Final = 32
ADDRESS_BYTES: Final = 20
PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

DigestField = Annotated[Digest, Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]
AddressField = Annotated[Address, Meta(min_length=ADDRESS_BYTES, max_length=ADDRESS_BYTES)]
PublicKeyField = Annotated[
    PublicKey, Meta(min_length=PUBLIC_KEY_BYTES, max_length=PUBLIC_KEY_BYTES)
]
SignatureField = Annotated[Signature, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]

ERA_MAX: Final = 2**32 - 1
"""Eras are four bytes in what votes sign."""

EraField = Annotated[Era, Meta(ge=0, le=ERA_MAX)]
EpochField = Annotated[Epoch, Meta(ge=0)]
ViewField = Annotated[View, Meta(ge=0)]
HeightField = Annotated[Height, Meta(ge=0)]

ZERO_DIGEST: Final = Digest(bytes(DIGEST_BYTES))
"""Stands for "none" where a digest field is not optional."""

AMOUNT_MAX: Final = 2**63 - 1
"""Largest amount and largest supply of an asset: fits a signed 64-bit integer everywhere."""

TIME_MS_MAX: Final = 2**53 - 1
"""Largest time in a transaction or genesis: an integer that every JSON reader keeps exactly."""

UINT64_MAX: Final = 2**64 - 1
"""Largest nonce, and the largest integer msgpack can carry."""
