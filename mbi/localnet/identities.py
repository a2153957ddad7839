"""Keys of a local network, derived from one root: a stated seed gives the same network again.

Each key has a label; its seed is SHA-256 over a domain tag, the root and the label. Without a
stated seed the root comes from the operating system and is forgotten after the network is made.
"""

from __future__ import annotations

import secrets
from hashlib import sha256
from typing import Final

from ledger.crypto import SigningKey

ROOT_BYTES: Final = 32
ROOT_TAG: Final = b"MBI-LOCALNET-v1".ljust(16, b"\0")


class KeySource:
    """Derives the keys of one network; ``seed`` is any text, None draws an unpredictable root."""

    def __init__(self, seed: str | None = None) -> None:
        self.is_repeatable = seed is not None
        self._root = (
            secrets.token_bytes(ROOT_BYTES)
            if seed is None
            else sha256(ROOT_TAG + seed.encode()).digest()
        )

    def seed(self, label: str) -> bytes:
        """Return the 32-byte private seed with this label."""
        return sha256(ROOT_TAG + self._root + label.encode()).digest()

    def key(self, label: str) -> SigningKey:
        """Return the signing key with this label."""
        return SigningKey.from_seed(self.seed(label))

    def __repr__(self) -> str:
        return f"KeySource(repeatable={self.is_repeatable})"
