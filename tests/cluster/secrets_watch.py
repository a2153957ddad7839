"""Looks for private keys where none may be, in every form that text or bytes could carry."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key


class SecretsWatch:
    """Knows all private keys of a network; :meth:`check` fails on bytes that contain one."""

    def __init__(self, directory: Path) -> None:
        """``directory``: of a local network, whose key files are all unencrypted."""
        self._forms = {
            form: path.name
            for path in sorted(directory.rglob("*.pem"))
            for form in forms(_seed(path))
        }
        assert self._forms, f"no key files below {directory}"

    def check(self, data: bytes, where: str) -> None:
        """Fail, naming the key file but not the key, if ``data`` holds a private key."""
        found = sorted({name for form, name in self._forms.items() if form in data})
        assert not found, f"K1: private key of {', '.join(found)} found in {where}"


def forms(seed: bytes) -> Iterator[bytes]:
    """Yield the seed raw, in hex and in base64 at each alignment inside a longer text."""
    yield seed
    yield seed.hex().encode()
    yield seed.hex().upper().encode()
    for encode in (b64encode, urlsafe_b64encode):
        for shift in range(3):
            # Characters that mix in bits of what stands before or after the seed are left out.
            first, last = -(-8 * shift // 6), (8 * (shift + len(seed))) // 6
            yield encode(bytes(shift) + seed)[first:last]


def _seed(path: Path) -> bytes:
    key = load_pem_private_key(path.read_bytes(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    return key.private_bytes_raw()
