"""Keys of simulated validators: a keyed hash instead of Ed25519, or the real thing.

A stub signature is BLAKE2b keyed with the validator's secret. Inside one process, where only the
scheme knows the secrets, it is as unforgeable as a signature, and thirty times cheaper to verify.
"""

from __future__ import annotations

from hashlib import blake2b, sha256
from typing import TYPE_CHECKING, Protocol

from ledger import crypto
from ledger.types import PublicKey, Signature

if TYPE_CHECKING:
    from collections.abc import Callable


class Scheme(Protocol):
    """Makes keys, signs and verifies."""

    def public_key(self, name: str) -> PublicKey:
        """Return the public key of the key pair called ``name``, making it at the first call."""
        ...

    def signer(self, public_key: PublicKey) -> Callable[[bytes], Signature]:
        """Return the signing function of a key pair made here."""
        ...

    def verify(self, public_key: PublicKey, message: bytes, signature: Signature) -> bool:
        """Say whether ``signature`` was made over ``message`` by this key."""
        ...


class StubScheme:
    """Keyed hashes; deterministic in the seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._secrets: dict[PublicKey, bytes] = {}

    def public_key(self, name: str) -> PublicKey:
        secret = sha256(f"secret {self._seed} {name}".encode()).digest()
        public = PublicKey(sha256(b"public" + secret).digest())
        self._secrets[public] = secret
        return public

    def signer(self, public_key: PublicKey) -> Callable[[bytes], Signature]:
        secret = self._secrets[public_key]
        return lambda message: Signature(blake2b(message, key=secret, digest_size=64).digest())

    def verify(self, public_key: PublicKey, message: bytes, signature: Signature) -> bool:
        secret = self._secrets.get(public_key)
        return (
            secret is not None
            and blake2b(message, key=secret, digest_size=64).digest() == signature
        )


class Ed25519Scheme:
    """The signatures of production."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._keys: dict[PublicKey, crypto.SigningKey] = {}

    def public_key(self, name: str) -> PublicKey:
        key = crypto.SigningKey.from_seed(sha256(f"secret {self._seed} {name}".encode()).digest())
        self._keys[key.public_key] = key
        return key.public_key

    def signer(self, public_key: PublicKey) -> Callable[[bytes], Signature]:
        return self._keys[public_key].sign

    def verify(self, public_key: PublicKey, message: bytes, signature: Signature) -> bool:
        return crypto.verify(public_key, message, signature)
