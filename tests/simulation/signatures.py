"""Keys of simulated people: real Ed25519 key pairs that sign for real, or with a keyed hash.

Public keys are real in every run, because the ledger refuses strings that are no key. A stub
signature is BLAKE2b keyed with the pair's secret: inside one process, where only the scheme knows
the secrets, it is as unforgeable as a signature, and a hundred times cheaper to verify. While a
stub scheme is installed the ledger's own checks (evidence, readiness) use it, too.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import cache
from hashlib import blake2b, sha256
from typing import TYPE_CHECKING, Final, Protocol
from unittest.mock import patch

from ledger import crypto
from ledger.types import PublicKey, Signature

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class KeyPair(Protocol):
    """Signs with one key; what :func:`ledger.transaction.sign_transaction` asks for."""

    public_key: PublicKey

    def sign(self, message: bytes) -> Signature:
        """Return the deterministic signature over a message."""
        ...


class Scheme(Protocol):
    """Makes keys, signs and verifies."""

    def key_pair(self, name: str) -> KeyPair:
        """Return the key pair called ``name``; the same one every time, in every run."""
        ...

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Say whether ``signature`` was made over ``message`` by this key."""
        ...


@cache
def real_key(name: str) -> crypto.SigningKey:
    """Return the Ed25519 key of a name."""
    return crypto.SigningKey.from_seed(sha256(f"secret of {name}".encode()).digest())


class StubKey:
    """Signs by a keyed hash, under the public key of a real key pair."""

    def __init__(self, public_key: PublicKey) -> None:
        self.public_key = public_key
        self.secret = sha256(b"stub" + public_key).digest()

    def sign(self, message: bytes) -> Signature:
        """Return the tag of a message."""
        return Signature(blake2b(message, key=self.secret, digest_size=64).digest())


class StubScheme:
    """Keyed hashes."""

    def __init__(self) -> None:
        self._keys: dict[bytes, StubKey] = {}

    def key_pair(self, name: str) -> StubKey:
        """Return the key pair called ``name``."""
        public_key = real_key(name).public_key
        key = self._keys.get(public_key)
        if key is None:
            key = self._keys[public_key] = StubKey(public_key)
        return key

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Compute the tag again; a key that was not made here has signed nothing."""
        key = self._keys.get(public_key)
        return (
            key is not None
            and blake2b(message, key=key.secret, digest_size=64).digest() == signature
        )


class Ed25519Scheme:
    """The signatures of production. What several nodes verify in one run is computed once."""

    def __init__(self) -> None:
        self._verified: dict[tuple[bytes, bytes, bytes], bool] = {}

    def key_pair(self, name: str) -> crypto.SigningKey:
        """Return the key pair called ``name``."""
        return real_key(name)

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Verify under the strict rule of the ledger."""
        claim = (public_key, message, signature)
        known = self._verified.get(claim)
        if known is None:
            known = self._verified[claim] = crypto.verify(public_key, message, signature)
        return known


VERIFIES_DURING_EXECUTION: Final = ("ledger.operations.governance.verify",)
"""Names under which ledger modules know ``crypto.verify``: executing evidence and readiness."""


class _Silent:
    """Stands for the logs of production modules: what they would say is in the trace."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **fields: None


@contextmanager
def installed(scheme: Scheme) -> Iterator[None]:
    """Let the ledger's execution verify by ``scheme`` meanwhile, and let no module log."""
    with ExitStack() as stack:
        for name in VERIFIES_DURING_EXECUTION:
            stack.enter_context(patch(name, scheme.verify))
        stack.enter_context(patch("node.application.log", _Silent()))
        yield
