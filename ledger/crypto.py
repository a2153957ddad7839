"""Hashes and signatures: SHA-256 with domain tags, Ed25519 under one written rule.

The strict rule: a signature is 64 bytes and a key 32; S < L; the 14 encodings of low-order points
and non-canonical y are refused both as key and as R; the equation is the cofactorless one of RFC
8032. libsodium implements exactly this. OpenSSL does not: there the key ``01 00..00`` with R =
``01 00..00`` and S = 0 verifies for every message, so two nodes on different libraries could
fork. ``self_test`` therefore checks the library against fixed vectors before a node starts.
Normative text: ``docs/protocol.md`` section 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256 as _sha256
from typing import Final

from nacl.bindings import (
    crypto_core_ed25519_is_valid_point,
    crypto_sign,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import CryptoError

from ledger.errors import InvariantViolation, WeakPublicKey
from ledger.types import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, Digest, PublicKey, Signature

TAG_BYTES: Final = 16
"""Length of every domain tag: ASCII, padded with zero bytes."""

SEED_BYTES: Final = 32

GROUP_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
"""L of RFC 8032: the order of the base point."""

_FIELD_PRIME: Final = 2**255 - 19
_ORDER_8_Y: Final = (
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
)


def _low_order_encodings() -> tuple[bytes, ...]:
    """Return seven values of y, two of them not reduced, each with either sign bit."""
    small = (0, 1, _FIELD_PRIME - 1, _FIELD_PRIME, _FIELD_PRIME + 1)
    ys = [value.to_bytes(32, "little") for value in small] + list(_ORDER_8_Y)
    return tuple(y[:31] + bytes([y[31] | sign]) for y in ys for sign in (0, 0x80))


LOW_ORDER_ENCODINGS: Final = _low_order_encodings()
"""Every encoding, canonical or not, of the eight points whose order divides 8."""


def tag(name: str) -> bytes:
    """Return the 16-byte domain tag of a kind of preimage."""
    encoded = name.encode("ascii")
    if len(encoded) > TAG_BYTES:
        raise InvariantViolation("domain_tag", f"{name} is longer than {TAG_BYTES} bytes")
    return encoded.ljust(TAG_BYTES, b"\0")


def sha256(data: bytes) -> Digest:
    """Return SHA-256 of ``data``."""
    return Digest(_sha256(data).digest())


def tagged_hash(tag16: bytes, *parts: bytes) -> Digest:
    """Return SHA-256(tag || parts)."""
    return Digest(_sha256(tag16 + b"".join(parts)).digest())


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether ``signature`` is valid under the strict rule; never raises for bad input."""
    if type(signature) is not bytes or len(signature) != SIGNATURE_BYTES:
        return False
    if type(public_key) is not bytes or len(public_key) != PUBLIC_KEY_BYTES:
        return False
    if type(message) is not bytes:
        return False
    try:
        crypto_sign_open(signature + message, public_key)
    except CryptoError:
        return False
    return True


def verify_many(items: Sequence[tuple[bytes, bytes, bytes]]) -> list[bool]:
    """Verify (public key, message, signature) items one by one; the seam for a batch verifier.

    Each check releases the interpreter lock: call it in the verifier thread, 64 to 250 at a time.
    """
    return [verify(public_key, message, signature) for public_key, message, signature in items]


def check_public_key(key: bytes) -> None:
    """Raise WeakPublicKey unless ``key`` canonically encodes a point of prime order.

    Every key is checked here where it enters the ledger. This refuses the 14 low-order encodings,
    non-canonical y, strings that are no point (nobody could ever sign for them), and points with a
    low-order component (no honest key generation yields one).
    """
    if type(key) is not bytes or len(key) != PUBLIC_KEY_BYTES:
        size = len(key) if isinstance(key, bytes) else type(key).__name__
        raise WeakPublicKey(f"expected a public key of {PUBLIC_KEY_BYTES} bytes, got {size}")
    if not crypto_core_ed25519_is_valid_point(key):
        raise WeakPublicKey(f"{key.hex()} is no Ed25519 point of prime order in canonical encoding")


class SigningKey:
    """An Ed25519 private key in memory. Its representation never shows the secret."""

    __slots__ = ("_secret", "public_key")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"expected a seed of {SEED_BYTES} bytes, got {len(seed)}")
        public_key, self._secret = crypto_sign_seed_keypair(seed)
        self.public_key = PublicKey(public_key)

    @classmethod
    def from_seed(cls, seed: bytes) -> SigningKey:
        """Return the key of a 32-byte seed (the private key of RFC 8032)."""
        return cls(seed)

    def sign(self, message: bytes) -> Signature:
        """Return the deterministic signature of RFC 8032."""
        return Signature(crypto_sign(message, self._secret)[:SIGNATURE_BYTES])

    def __repr__(self) -> str:
        return f"SigningKey(public_key={self.public_key.hex()})"

    def __reduce__(self) -> str:
        raise TypeError("a signing key is never serialised; write an encrypted key file instead")


_RFC8032_SEED: Final = bytes.fromhex(
    "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7"
)
_RFC8032_KEY: Final = bytes.fromhex(
    "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"
)
_RFC8032_MESSAGE: Final = bytes.fromhex("af82")
_RFC8032_SIGNATURE: Final = bytes.fromhex(
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
    "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
)


def add_group_order(signature: bytes) -> bytes:
    """Return the malleated twin of a signature: S + L instead of S."""
    s = int.from_bytes(signature[32:], "little") + GROUP_ORDER
    return signature[:32] + s.to_bytes(32, "little")


def self_test() -> None:
    """Check the Ed25519 library against fixed vectors; raises InvariantViolation on any difference.

    A node calls this before it starts: a library with another rule would split the network.
    """

    def expect(name: str, expected: bool, key: bytes, message: bytes, signature: bytes) -> None:
        if verify(key, message, signature) is not expected:
            raise InvariantViolation("strict_ed25519", f"{name}: expected {expected}")

    if SigningKey(_RFC8032_SEED).sign(_RFC8032_MESSAGE) != _RFC8032_SIGNATURE:
        raise InvariantViolation("strict_ed25519", "RFC 8032 test 3 signs differently")
    expect("RFC 8032 test 3", True, _RFC8032_KEY, _RFC8032_MESSAGE, _RFC8032_SIGNATURE)
    expect("other message", False, _RFC8032_KEY, b"\xaf\x83", _RFC8032_SIGNATURE)
    expect("S + L", False, _RFC8032_KEY, _RFC8032_MESSAGE, add_group_order(_RFC8032_SIGNATURE))
    for encoding in LOW_ORDER_ENCODINGS:
        # Under a lax rule, R = A and S = 0 verify for one message in eight: try enough of them.
        for attempt in range(32):
            message = bytes([attempt])
            for r in (encoding, LOW_ORDER_ENCODINGS[2]):
                expect(f"low-order {encoding.hex()}", False, encoding, message, r + bytes(32))
        expect("low-order R", False, _RFC8032_KEY, b"", encoding + bytes(32))
        if crypto_core_ed25519_is_valid_point(encoding):
            raise InvariantViolation("strict_ed25519", f"{encoding.hex()} passes as a valid point")
